"""A task in a process of its own: begun afresh, ended with whoever wanted it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from benchmark.errors import JobError
from benchmark.execution.apart import run_apart

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
from cluster_tasks import dies, environment_of, waits_for_ever

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


def test_it_begins_with_its_environment_and_its_prints_are_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLACE", "here")
    found = run_apart(environment_of, "PLACE", 3, environment={"PLACE": "apart"})
    assert found["value"] == "apart"
    assert found["threads"] == 3
    assert found["pid"] != os.getpid()


def test_one_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=f"its process died.*-{signal.SIGKILL:d}"):
        run_apart(dies, (str(tmp_path), 1), 1, environment={})


def test_one_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(JobError, match="its process died"):
        run_apart(waits_for_ever, str(told), 1, environment={}, is_wanted=lambda: not told.exists())
    assert not psutil.pid_exists(int(told.read_text()))
