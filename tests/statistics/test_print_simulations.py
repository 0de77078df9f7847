"""Tables of simulations are the same whoever draws them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("print_simulations.py")


def printed(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--only", "gains,temperatures", *words],
        capture_output=True,
        text=True,
        cwd=SCRIPT.parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_side_by_side_and_on_a_cluster() -> None:
    pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    alone = printed()
    assert alone.count("\n| ---") == 2
    assert printed("--jobs", "2") == alone
    assert printed("--cluster", "local:2") == alone
