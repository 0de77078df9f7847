"""The front doors of the heads and ranking rooms: cheap to import, complete."""

from __future__ import annotations

import subprocess
import sys

from benchmark import heads, ranking

HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "pandas", "matplotlib")


def test_every_public_name_is_there() -> None:
    for room in (heads, ranking):
        for name in room.__all__:
            assert getattr(getattr(room, name), "__name__", name) == name


def test_the_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, benchmark.ranking as room\n"
        "for name in room.__all__: getattr(room, name)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
