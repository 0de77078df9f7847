"""The room's public names load, and importing it stays cheap."""

from __future__ import annotations

import subprocess
import sys

import benchmark.reporting as room


def test_every_public_name_loads() -> None:
    assert sorted(room.__all__) == room.__all__
    for name in room.__all__:
        assert getattr(room, name) is not None


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("tensorflow", "matplotlib", "pandas", "sklearn", "jinja2", "rich")
    code = f"import sys, benchmark.reporting; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
