"""Tasks run in processes of their own; a killed process costs its task a retry, not the run."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from cluster_tasks import as_named, sleeps

from benchmark.errors import JobError, WeightsError
from benchmark.execution import Call, LocalRunner, end_workers, failure, quiet_environment
from benchmark.execution.runner import Function
from benchmark.pipeline.progress import Poller, ProgressTable, Stage

# Worker processes cannot import test modules; their functions travel whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def run(function: Function, arguments: Sequence[Any], jobs: int) -> Generator[tuple[int, Any]]:
    return LocalRunner(jobs).run(function, [Call(name="call", argument=one) for one in arguments])


def one_by_one(function: Function, arguments: Sequence[Any]) -> Generator[tuple[int, Any]]:
    return LocalRunner().run(function, [Call(name="call", argument=one) for one in arguments], alone=True)


def double(number: int, _: int) -> dict[str, Any]:
    return {"value": 2 * number, "pid": os.getpid()}


def die_once(path: str, _: int) -> dict[str, Any]:
    """Kill the own process the first time; say how often it was tried the second."""
    file = Path(path)
    if file.suffix == ".deadly" or (file.suffix == ".once" and not file.exists()):
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"path": path}


def test_one_job_is_this_process() -> None:
    results = dict(run(double, [1, 2, 3], 1))
    assert [results[row]["value"] for row in range(3)] == [2, 4, 6]  # type: ignore[index]
    assert {result["pid"] for result in results.values() if result} == {os.getpid()}


def quiet(threads: int, _: int) -> dict[str, Any]:
    quiet_environment(threads)
    return {"threads": os.environ["TF_NUM_INTRAOP_THREADS"]}


def test_a_task_in_this_process_does_not_decide_the_threads_of_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")
    assert [result for _, result in run(quiet, [1, 3], 1)] == [{"threads": "1"}, {"threads": "3"}]
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ
    assert os.environ["TF_NUM_INTEROP_THREADS"] == "7"


def test_more_jobs_are_other_processes() -> None:
    results = dict(run(double, [1, 2, 3], 2))
    assert [results[row]["value"] for row in range(3)] == [2, 4, 6]  # type: ignore[index]
    assert os.getpid() not in {result["pid"] for result in results.values() if result}


def times(_: object, threads: int) -> dict[str, Any]:
    begun = time.monotonic()
    time.sleep(0.2)
    return {"begun": begun, "ended": time.monotonic(), "pid": os.getpid()}


def test_one_worker_is_one_other_process_at_a_time() -> None:
    results = sorted((result for _, result in one_by_one(times, [1, 2, 3, 4]) if result), key=repr)
    assert os.getpid() not in {result["pid"] for result in results}
    for before, after in itertools.pairwise(sorted(results, key=lambda one: float(one["begun"]))):
        assert before["ended"] <= after["begun"]


def test_workers_end_when_told_and_new_ones_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def pids() -> set[int]:
        return {result["pid"] for _, result in run(double, [1, 2], 2) if result}

    first = pids()
    end_workers()
    assert not any(psutil.pid_exists(pid) for pid in first)
    assert pids().isdisjoint(first)
    end_workers()
    monkeypatch.setattr("joblib.externals.loky.get_reusable_executor", None)
    end_workers()  # no workers, nothing to end and nothing begun for it


def variable(name: str, threads: int) -> dict[str, Any]:
    return {"value": os.environ.get(name)}


def test_workers_know_the_environment_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who was refused, and says who they are in the same session, is believed."""

    def told() -> set[str | None]:
        return {result["value"] for _, result in run(variable, ["AWS_PROFILE"] * 2, 2) if result}

    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert told() == {None}
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert told() == {"mine"}
    monkeypatch.delenv("AWS_PROFILE")
    assert told() == {None}


def test_a_caller_who_leaves_early_is_not_lectured() -> None:
    """Warnings are errors here; after a Ctrl-C one would take the place of the exception.

    It comes while tasks are at work: in the moment in which a result arrives, the pool's thread may stumble
    over the task that it had just taken on (loky, add_call_item_to_queue), and say so.
    """

    def interrupted() -> None:
        with closing(run(sleeps, [0.0, *[60.0] * 19], 2)) as results:
            for _ in results:
                time.sleep(0.5)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(dict(run(double, [1, 2, 3], 2))) == 3


def where(name: str, _: int) -> dict[str, Any]:
    return {"value": os.environ.get(name), "pid": os.getpid()}


def test_work_apart_is_done_in_an_environment_of_its_own() -> None:
    """By processes that began with it, and by none that did anything else before or does afterwards."""
    before = {result["pid"] for _, result in run(where, ["PLACE"] * 2, 2) if result}
    calls = [Call(name="call", argument="PLACE")] * 2
    apart = [result for _, result in LocalRunner(2).run(where, calls, apart={"PLACE": "apart"}) if result]
    after = [result for _, result in run(where, ["PLACE"] * 2, 2) if result]
    assert [one["value"] for one in (*apart, *after)] == ["apart", "apart", None, None]
    assert not before & {one["pid"] for one in apart}
    assert not {one["pid"] for one in after} & {one["pid"] for one in apart}
    assert "PLACE" not in os.environ


@pytest.mark.parametrize("name", ["raise", "leave"])
def test_work_apart_says_why_its_process_died_each_time(name: str) -> None:
    calls = [Call(name="call", argument=one) for one in (name, "other")]
    results = dict(LocalRunner(2).run(as_named, calls, apart={}))
    assert results[1] is not None
    assert results[1]["name"] == "other"
    told = results[0]
    assert told is not None
    reason = {"raise": "ValueError: what nobody expected", "leave": "status 3: working on leave"}[name]
    assert told["error"].startswith("tried 3 times in a process of its own; the last time the process ended")
    assert told["error"].endswith(reason)
    assert f"working on {name}" in told["trace"]
    assert not told["elsewhere"]


def test_work_apart_that_cannot_be_begun_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    calls = [Call(name="call", argument=name) for name in ("one", "two")]
    results = dict(LocalRunner(2).run(as_named, calls, apart={}))
    assert sorted(results) == [0, 1]
    assert all(one and "no process could be started: [Errno 2]" in one["error"] for one in results.values())


def test_a_killed_worker_costs_a_retry_only(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "a.once"), str(tmp_path / "b"), str(tmp_path / "c")]
    results = dict(run(die_once, arguments, 2))
    assert {row: result and result["path"] for row, result in results.items()} == dict(enumerate(arguments))


def test_a_task_that_always_kills_its_process_is_named_and_its_neighbours_finish(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "a"), str(tmp_path / "b.deadly"), str(tmp_path / "c")]
    results = dict(run(die_once, arguments, 2))
    assert results[1]["dead"]
    assert [row for row in (0, 2) if results[row] == {"path": arguments[row]}] == [0, 2]


def test_errors_become_data() -> None:
    assert failure(WeightsError("no file", where="X"))["error"] == "X: no file"
    assert failure(ZeroDivisionError("by\nzero"))["error"] == "ZeroDivisionError: by zero"


def test_progress_is_shared_through_a_file(tmp_path: Path) -> None:
    table = ProgressTable(tmp_path / "progress", 2)
    ProgressTable(tmp_path / "progress").update(1, Stage.WORKING, 7)
    assert table.read() == [(Stage.WAITING, 0), (Stage.WORKING, 7)]


def test_a_poller_looks_once_more_at_the_end() -> None:
    seen: list[int] = []
    with Poller(lambda: seen.append(1)):
        pass
    assert seen


def hoard(megabytes: int, _: int) -> dict[str, Any]:
    """Keep memory, slowly enough for the pool's look at it (once a second)."""
    # This module travels anew with every call; one that the worker imported stays.
    vars(time).setdefault("hoard", []).append(b"x" * (megabytes << 20))
    time.sleep(1.1)
    return {"pid": os.getpid()}


def test_a_worker_that_keeps_memory_is_replaced_and_nothing_waits() -> None:
    # Warnings are errors here, and one of the pool's would end the thread that everybody waits for.
    results = dict(run(hoard, [1, 1, 1, 1, 400, 400, *[1] * 6], 2))
    assert len({result["pid"] for result in results.values() if result}) > 2
    assert sorted(results) == list(range(12))


def test_workers_that_never_had_a_task_end_with_their_parent() -> None:
    code = (
        "import psutil, time; from benchmark.execution import Call, LocalRunner\n"
        "if __name__ == '__main__':\n"
        "    list(LocalRunner(2).run(pow, [Call(name='square', argument=2)] * 2))\n"
        "    print(*(one.pid for one in psutil.Process().children()), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) >= 2
    _, left = psutil.wait_procs(children, timeout=20)
    assert left == []


def test_an_error_keeps_its_notes_and_its_trace_when_it_is_told_elsewhere_and_later() -> None:
    try:
        raise JobError("its process died", where="a task")
    except JobError as error:
        error.add_note("the last that it said")
        stored = error
    for error in (stored, pickle.loads(pickle.dumps(stored))):
        assert failure(error)["trace"].endswith(f"JobError: {stored}\nthe last that it said\n")
    assert failure(stored)["trace"].startswith("Traceback")
