"""Tasks in a process of their own: begun afresh, ended with whoever wanted them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from cluster_tasks import as_named, dies, environment_of, has_a_child, waits_for_ever

from benchmark.errors import JobError
from benchmark.execution.apart import run_apart, run_in_turn

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, of this process as of others."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_it_begins_with_its_environment_and_its_prints_are_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLACE", "here")
    found = run_apart(environment_of, "PLACE", 3, environment={"PLACE": "apart"})
    assert found["value"] == "apart"
    assert found["threads"] == 3
    assert found["pid"] != os.getpid()


def test_one_that_dies_is_told(tmp_path: Path) -> None:
    (tmp_path / "tries").mkdir()
    with pytest.raises(JobError, match=f"the process ended with status -{signal.SIGKILL:d}$"):
        run_apart(dies, (str(tmp_path / "tries"), 1), 1, environment={})


def test_one_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(JobError, match="not wanted any more"):
        run_apart(waits_for_ever, str(told), 1, environment={}, is_wanted=lambda: not told.exists())
    assert not psutil.pid_exists(int(told.read_text()))


def test_the_next_one_survives_whatever_one_does(temporary: Path) -> None:
    names = ["one", "two", "abort", "three", "hang", "leave", "raise", "four"]
    answers = list(run_in_turn(as_named, names, 1, environment={}, timeout_seconds=4.0))
    found = {answer["name"]: answer for answer in answers if isinstance(answer, dict)}
    assert list(found) == ["one", "two", "three", "four"]
    assert found["one"]["pid"] == found["two"]["pid"]
    assert len({answer["pid"] for answer in found.values()}) == 3
    failed = [(name, str(one)) for name, one in zip(names, answers, strict=True) if isinstance(one, JobError)]
    reasons = dict(failed)
    assert "status -6: " in reasons["abort"]
    assert "working on abort" in reasons["abort"], "the last that it said"
    assert reasons["hang"] == "not finished after 4 seconds"
    assert "status 3" in reasons["leave"]
    assert "ValueError: what nobody expected" in reasons["raise"]
    assert all(answer["temporary"].startswith(str(temporary)) for answer in found.values())
    assert not list(temporary.iterdir()), "temporary files go with the process, however it ends"


def test_whoever_stops_reading_ends_the_process_and_what_it_began(temporary: Path) -> None:
    with closing(run_in_turn(has_a_child, [0, 0], 1, environment={})) as answers:
        answer = next(answers)
        assert isinstance(answer, dict)
        child = psutil.Process(answer["pid"])
        parent = child.parent()
        assert parent is not None
        assert parent.is_running()
    assert not psutil.pid_exists(parent.pid)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not list(temporary.iterdir())


def test_who_reads_slowly_costs_nobody_time() -> None:
    answers = run_in_turn(as_named, ["one", "two"], 1, environment={}, timeout_seconds=3.0)
    with closing(answers):
        first = next(answers)
        time.sleep(3.5)
        second = next(answers)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["pid"] == second["pid"]
