"""The front door of the ranking room: cheap to import, complete."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark import ranking

HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "pandas", "matplotlib")


def test_every_public_name_is_there() -> None:
    assert sorted(ranking.__all__) == sorted(ranking._HOME_OF)
    for name in ranking.__all__:
        assert getattr(getattr(ranking, name), "__name__", name) == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ranking.nothing  # noqa: B018


def test_the_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, benchmark.ranking as room\n"
        "for name in room.__all__: getattr(room, name)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
