"""Tasks in a process of their own: begun afresh, ended with whoever wanted them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import psutil
import pytest
from cluster_tasks import (
    as_named,
    dies,
    dies_as_a_parent,
    environment_of,
    hangs_once,
    has_a_child,
    raises_while_a_thread_works,
    waits_for_ever,
    waits_inside,
)

from benchmark.errors import JobError
from benchmark.execution.apart import _POLL_SECONDS, run_apart, run_in_turn

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
    with pytest.raises(JobError, match=f"the process ended with status -{signal.SIGKILL:d} .*more memory.*"):
        run_apart(dies, (str(tmp_path / "tries"), 1), 1, environment={})


def test_one_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(JobError, match="not wanted any more"):
        run_apart(waits_for_ever, str(told), 1, environment={}, is_wanted=lambda: not told.exists())
    assert not psutil.pid_exists(int(told.read_text()))


def test_one_that_never_reads_its_work_is_ended_when_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmark.execution.apart._PROGRAM", "import time; time.sleep(600)")
    begun = time.monotonic()
    with pytest.raises(JobError, match="not wanted any more"):
        run_apart(as_named, "x" * 1_000_000, 1, environment={}, is_wanted=lambda: False)
    assert time.monotonic() - begun < 30


def test_the_next_one_survives_whatever_one_does(temporary: Path) -> None:
    names = ["one", "two", "abort", "three", "hang", "leave", "raise", "four"]
    answers = list(run_in_turn(as_named, names, 1, environment={}, timeout_seconds=15.0))
    found = {answer["name"]: answer for answer in answers if isinstance(answer, dict)}
    assert list(found) == ["one", "two", "three", "four"]
    assert found["one"]["pid"] == found["two"]["pid"]
    assert len({answer["pid"] for answer in found.values()}) == 3
    failed = [(name, str(one)) for name, one in zip(names, answers, strict=True) if isinstance(one, JobError)]
    reasons = dict(failed)
    assert "status -6: " in reasons["abort"]
    assert "working on abort" in reasons["abort"], "the last that it said"
    assert reasons["hang"] == "not finished after 15 seconds"
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
    assert has_ended(child)
    assert not list(temporary.iterdir())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock that limits are looked up on: a busy machine needs any time to start a process."""
    passed = [0.0]
    moved = SimpleNamespace(sleep=time.sleep, monotonic=lambda: time.monotonic() + sum(passed))
    monkeypatch.setattr("benchmark.execution.apart.time", moved)
    return passed.append


def test_who_reads_slowly_costs_nobody_time(clock: Callable[[float], None]) -> None:
    answers = run_in_turn(as_named, ["one", "two"], 1, environment={}, timeout_seconds=120.0)
    with closing(answers):
        first = next(answers)
        clock(1000)
        time.sleep(4 * _POLL_SECONDS)
        second = next(answers)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["pid"] == second["pid"]


def test_a_task_that_is_done_just_at_its_limit_is_not_the_fault_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    """The first is done, but its time is over before that is known; the process is ended within the next."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "stopped").touch()
    found: list[dict[str, Any]] = []

    def load(source: IO[bytes]) -> dict[str, Any]:
        found.append(real(source))
        if len(found) == 1:
            while not (second / "stopped").is_file():  # the next is under way
                time.sleep(0.05)
            clock(1000)
            time.sleep(4 * _POLL_SECONDS)
        return found[-1]

    real = pickle.load
    monkeypatch.setattr("benchmark.execution.apart.pickle.load", load)
    folders = [str(first), str(second)]
    answers = list(run_in_turn(hangs_once, folders, 1, environment={}, timeout_seconds=120.0))
    assert answers == found
    assert (second / "stopped").is_file(), "it was under way"
    assert found[0]["pid"] != found[1]["pid"]


def test_a_task_that_failed_is_not_waited_for_because_of_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.execution.apart._LEAVE_SECONDS", 1.0)
    begun = time.monotonic()
    with pytest.raises(JobError, match=r"the task failed, and its .*ValueError: what nobody expected"):
        run_apart(raises_while_a_thread_works, 0, 1, environment={})
    assert time.monotonic() - begun < 60


def test_the_end_of_the_log_is_in_the_trace() -> None:
    with pytest.raises(JobError) as caught:
        run_apart(as_named, "raise", 1, environment={})
    (note,) = caught.value.__notes__
    assert note.startswith("working on raise")
    assert "cluster_tasks.py" in note


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def gone(process: psutil.Process) -> bool:
    """Whether it is within some seconds."""
    for _ in range(300):
        if has_ended(process):
            return True
        time.sleep(0.1)
    return False


def test_one_that_is_killed_takes_with_it_what_works_for_it(tmp_path: Path, temporary: Path) -> None:
    told = tmp_path / "pid"
    inner: list[psutil.Process] = []

    def kill_the_middle() -> bool:
        if told.exists() and not inner:
            inner.append(psutil.Process(int(told.read_text())))
            middle = inner[0].parent()
            assert middle is not None
            assert middle.pid != os.getpid()
            middle.kill()
        return True

    with pytest.raises(JobError, match=f"status -{signal.SIGKILL:d}"):
        run_apart(waits_inside, str(told), 1, environment={}, is_wanted=kill_the_middle)
    assert gone(inner[0])
    assert not list(temporary.iterdir())


def test_one_that_is_killed_takes_with_it_any_process_that_it_began(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(JobError, match=f"status -{signal.SIGKILL:d}"):
        run_apart(dies_as_a_parent, str(told), 1, environment={})
    assert not psutil.pid_exists(pid := int(told.read_text())) or gone(psutil.Process(pid))


def test_the_next_one_clears_up_after_those_that_were_killed(tmp_path: Path, temporary: Path) -> None:
    """And takes nothing from whoever still works, or is none of ours."""
    told = tmp_path / "pid"
    code = (
        "import sys; from benchmark.execution.apart import run_apart\n"
        "from cluster_tasks import waits_for_ever\n"
        "run_apart(waits_for_ever, sys.argv[1], 1, environment={})"
    )
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)}
    foreign = temporary / "backbones-apart-0123abcd.1.1.left"
    foreign.mkdir()
    with subprocess.Popen([sys.executable, "-c", code, str(told)], env=variables) as parent:
        while not told.exists():
            assert parent.poll() is None
            time.sleep(0.1)
        (scratch,) = set(temporary.iterdir()) - {foreign}
        run_apart(environment_of, "PLACE", 1, environment={})
        assert scratch.is_dir(), "its process works there"
        parent.kill()
    assert gone(psutil.Process(int(told.read_text())))
    assert scratch.is_dir()
    run_apart(environment_of, "PLACE", 1, environment={})
    assert list(temporary.iterdir()) == [foreign]
