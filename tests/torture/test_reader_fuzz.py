"""Whatever bytes stand in a record: our error or a sound value, no crash, hang or other exception."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_FUZZER = Path(__file__).with_name("fuzz_readers.py")
_FEWEST_READERS = 25


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 20), *(pytest.param(seed, 1900, marks=pytest.mark.torture) for seed in range(1, 7))],
)
def test_mutated_records(seed: int, count: int, torture_row: Callable[..., None]) -> None:
    done = subprocess.run(
        [sys.executable, str(_FUZZER), str(seed), str(count)],
        capture_output=True, text=True, timeout=3500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"seed {seed}, status {done.returncode}: {done.stderr[-3000:]}"
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) >= _FEWEST_READERS
    for name, refused, taken in lines:
        assert int(refused) + int(taken) == count, name
    torture_row("fuzzed records, lists and notes", injected=count * len(lines), survived=count * len(lines))
