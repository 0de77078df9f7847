"""A long board and repeated runs in one process: memory, open files and temporary files return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("soak_worker.py")
pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(os.name != "posix", reason="counts file descriptors"),
]


def soak(folder: Path, networks: int, runs: int) -> list[dict[str, Any]]:
    """What the worker held after each backbone and each run."""
    temporary = folder / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder), str(networks), str(runs)],
        capture_output=True,
        text=True,
        timeout=2900,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(temporary.iterdir()) == [], "temporary files return"
    assert not list(folder.rglob(".tmp-*"))
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_fifty_two_backbones_in_one_run(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    seen = [facts for facts in soak(tmp_path, 52, 1) if facts["task"].startswith("Tiny")]
    assert len(seen) == 52
    fifth, last = seen[4], seen[-1]
    torture_row("52 backbones in one process", injected=1, survived=1)
    assert last["bytes"] < 1.1 * fifth["bytes"], (fifth, last)
    assert last["files"] <= fifth["files"] + 4, (fifth, last)


def test_repeated_runs_in_one_process(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    seen = [facts for facts in soak(tmp_path, 3, 8) if facts["task"].startswith("run")]
    assert len(seen) == 8
    second, last = seen[1], seen[-1]
    torture_row("8 runs in one process", injected=1, survived=1)
    assert last["bytes"] < 1.1 * second["bytes"], (second, last)
    assert last["files"] <= second["files"] + 4, (second, last)
