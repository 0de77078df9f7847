"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Examples may take as long as a busy machine makes them: no test has a clock.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
