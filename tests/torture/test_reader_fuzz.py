"""Whatever bytes stand in a record or a model: our error or a sound value, never a crash or a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_FEWEST_READERS = 25


def fuzzed(fuzzer: str, seed: int, count: int) -> list[tuple[str, int]]:
    """What was fuzzed, and how many mutants it survived."""
    done = subprocess.run(
        [sys.executable, str(_HERE / fuzzer), str(seed), str(count)],
        capture_output=True, text=True, timeout=3500, check=False,
        env=os.environ | {"PYTHONPATH": str(_HERE.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, f"seed {seed}, status {done.returncode}: {done.stderr[-3000:]}"
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(name, int(refused) + int(taken)) for name, refused, taken in lines]


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 20), *(pytest.param(seed, 1900, marks=pytest.mark.torture) for seed in range(1, 7))],
)
def test_mutated_records(seed: int, count: int, torture_row: Callable[..., None]) -> None:
    counts = fuzzed("fuzz_readers.py", seed, count)
    assert len(counts) >= _FEWEST_READERS
    assert {survived for _, survived in counts} == {count}
    torture_row("fuzzed records, lists and notes", injected=count * len(counts), survived=count * len(counts))


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 2), *(pytest.param(seed, 50, marks=pytest.mark.torture) for seed in range(1, 7))],
)
def test_mutated_models(seed: int, count: int, torture_row: Callable[..., None]) -> None:
    counts = dict(fuzzed("fuzz_models.py", seed, count))
    assert counts == {
        "config.json": 5 * count,
        **dict.fromkeys(("metadata.json", "model.weights.h5", "bytes", "members"), count),
    }
    total = sum(counts.values())
    torture_row("fuzzed .keras models", injected=total, survived=total)
