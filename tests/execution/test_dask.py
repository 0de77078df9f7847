"""Tasks on a Dask cluster of real processes on loopback: what is lost comes back, what cannot is told."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import re
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import numpy as np
import psutil
import pytest

from benchmark.errors import ArgumentError, CacheDamaged, JobError
from benchmark.execution import Call, LocalRunner, Runner, open_runner
from benchmark.execution.dask import _LOOK_SECONDS, DaskRunner
from benchmark.execution.payload import pack, unpack
from benchmark.execution.runner import Describe, Function, dead
from benchmark.locations import Kind, folder_of
from benchmark.options import EmbedOptions

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
from cluster_tasks import (
    adds_up,
    answers_what_cannot_be_read,
    as_named,
    describe,
    describe_and_die_when_fetched,
    dies,
    dies_when_fetched,
    hangs_once,
    needs_room,
    sleeps,
    times,
)
from clusters import Cluster, cluster

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that nobody kills."""
    with cluster(tmp_path_factory.mktemp("pair"), 2) as made:
        yield made


@contextmanager
def runner_of(
    made: Cluster, told: list[str] | None = None, describing: Describe = describe
) -> Iterator[Runner]:
    tell = (told if told is not None else []).append
    with open_runner(made.address, 0, shared=made.folder, describe=describing, tell=tell) as runner:
        yield runner


def wait_for_workers(runner: Runner, count: int) -> None:
    """On a busy machine each takes half a minute to start."""
    deadline = time.monotonic() + 240
    while runner.workers < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def words_of(process: psutil.Process) -> str:
    """The words that it was started with; none of one that has just ended."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def run(runner: Runner, function: Function, arguments: Sequence[Any]) -> dict[int, Any]:
    calls = [Call(name="call", argument=one) for one in arguments]
    with closing(runner.run(function, calls)) as results:
        return dict(results)


def test_results_come_with_their_positions_from_other_processes(pair: Cluster) -> None:
    with runner_of(pair) as runner:
        assert not runner.is_local
        results = run(runner, times, [0.1] * 3)
    assert sorted(results) == [0, 1, 2]
    assert os.getpid() not in {one["pid"] for one in results.values()}


def test_four_workers_keep_four_tasks_busy(tmp_path: Path) -> None:
    with cluster(tmp_path, 4) as made, runner_of(made) as runner:
        wait_for_workers(runner, 4)
        results = run(runner, times, [3.0] * 8).values()
    assert len({one["pid"] for one in results}) == 4
    middles = [(one["begun"] + one["ended"]) / 2 for one in results]
    at_once = [sum(one["begun"] <= at <= one["ended"] for one in results) for at in middles]
    assert max(at_once) == 4
    by_process = {one["pid"]: 0 for one in results}
    for one in results:
        by_process[one["pid"]] += 1
    assert set(by_process.values()) == {2}


def test_costly_calls_go_first_and_those_that_need_another_wait(pair: Cluster) -> None:
    calls = [
        Call(name="cheap", argument=0.5, cost=1),
        Call(name="first", argument=0.5, cost=3),
        Call(name="second", argument=0.5, cost=5, after=1),
    ]
    with runner_of(pair) as runner, closing(runner.run(times, calls)) as found:
        results = dict(found)
    assert results[1]["ended"] <= results[2]["begun"]  # type: ignore[index]


def test_timing_has_the_machine_for_itself(pair: Cluster) -> None:
    calls = [Call(name="timed", argument=0.5) for _ in range(3)]
    with runner_of(pair) as runner, closing(runner.run(times, calls, alone=True)) as found:
        results = sorted((one for _, one in found if one), key=lambda one: float(one["begun"]))
    assert all(one["ended"] <= two["begun"] for one, two in itertools.pairwise(results))


def test_a_killed_worker_costs_a_retry_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "tries").mkdir()
    with cluster(tmp_path, 2) as made, runner_of(made) as runner:
        assert run(runner, dies, [(str(tmp_path / "tries"), 1)]) == {0: {"tried": 2}}


def test_a_call_that_kills_three_workers_is_given_up_and_the_others_finish(tmp_path: Path) -> None:
    (tmp_path / "deadly").mkdir()
    (tmp_path / "harmless").mkdir()
    with cluster(tmp_path, 4) as made, runner_of(made) as runner:
        results = run(runner, dies, [(str(tmp_path / "deadly"), 99), (str(tmp_path / "harmless"), 0)])
    assert results == {0: dead(), 1: {"tried": 1}}
    assert len(list((tmp_path / "deadly").iterdir())) == 3


def test_a_worker_that_dies_between_its_answer_and_whoever_fetches_it_costs_a_retry_elsewhere(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path, 0) as made:
        for _ in range(3):
            made.add(DIED=str(tmp_path / "died"))
        with runner_of(made, describing=describe_and_die_when_fetched) as runner:
            wait_for_workers(runner, 2)
            assert (tmp_path / "died").exists(), "one died when it was introduced"
            (tmp_path / "died").unlink()
            begun = time.monotonic()
            results = run(runner, dies_when_fetched, [0])
            assert time.monotonic() - begun < 40
            assert (tmp_path / "died").exists()
    assert results == {0: {"text": "told"}}


def test_an_answer_that_cannot_be_read_is_a_failure_with_its_reason(pair: Cluster) -> None:
    with runner_of(pair) as runner:
        results = run(runner, answers_what_cannot_be_read, [0])
    assert "cannot be read" in results[0]["error"]


async def breaks() -> None:
    raise OSError("the connection broke")


async def hangs() -> None:
    await asyncio.sleep(600)


@pytest.mark.parametrize("happens", [breaks, hangs])
def test_an_answer_that_cannot_be_fetched_from_a_living_worker_costs_a_retry(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[None]]
) -> None:
    with runner_of(pair) as runner:
        assert isinstance(runner, DaskRunner)
        fetch, lost = runner._client.scheduler.gather, []

        async def lose_the_first(*given: object, **named: object) -> object:
            if not lost:
                lost.append(given)
                await happens()
            return await fetch(*given, **named)

        monkeypatch.setattr(runner._client.scheduler, "gather", lose_the_first, raising=False)
        monkeypatch.setattr("benchmark.execution.dask._PATIENCE_SECONDS", 10)
        assert run(runner, sleeps, [0.0]) == {0: {"slept": 0.0}}
        assert lost


def test_a_worker_that_dask_would_pause_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with cluster(tmp_path, 0) as made:
        made.add("--memory-limit", "4GB")
        with runner_of(made, told) as runner:
            assert run(runner, sleeps, [0.0, 0.0]) == {place: {"slept": 0.0} for place in range(2)}
    (text,) = told
    assert re.match(r"Dask pauses worker tcp://\S+ when it holds more than 3\.2 GB", text)


def test_a_worker_that_left_need_not_be_started_anew(pair: Cluster) -> None:
    with runner_of(pair) as runner:
        assert isinstance(runner, DaskRunner)
        (there, *_) = runner.able()
        runner.replace(replace(there, address=f"{there.host}:1", nanny=True), held=10**15)


def test_a_hung_worker_costs_a_retry_elsewhere(tmp_path: Path) -> None:
    with cluster(tmp_path, 2, patience=40) as made, runner_of(made) as runner:
        wait_for_workers(runner, 2)
        begun = time.monotonic()
        (result,) = run(runner, hangs_once, [str(tmp_path)]).values()
    assert result["pid"] != int((tmp_path / "stopped").read_text())
    assert time.monotonic() - begun < 150


def test_a_worker_with_a_full_disk_costs_a_retry_elsewhere(tmp_path: Path) -> None:
    with cluster(tmp_path, 0) as made:
        made.add(DISK="full")
        made.add()
        with runner_of(made) as runner:
            wait_for_workers(runner, 2)
            results = run(runner, needs_room, [None] * 6)
    assert [one for one in results.values() if "error" in one] == []


def test_where_every_disk_is_full_the_reason_is_told(tmp_path: Path) -> None:
    with cluster(tmp_path, 0) as made:
        made.add(DISK="full")
        with runner_of(made) as runner:
            told = run(runner, needs_room, [None])[0]["error"]
    assert "on worker tcp://127.0.0.1:" in told
    assert "no room left" in told


def test_a_worker_with_another_cache_is_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    shared = folder_of("memory://bench/cache", Kind.CACHE)  # of this process alone, but for copies
    told: list[str] = []
    with cluster(tmp_path, 0) as made:
        made.add(XDG_CACHE_HOME=str(tmp_path / "there"))
        made.add()
        with open_runner(made.address, 0, shared=shared, describe=describe, tell=told.append) as runner:
            while not told:
                runner.workers  # noqa: B018 - looks
                time.sleep(0.1)
            assert "slept" in run(runner, sleeps, [0.0])[0]
    assert "memory://bench/cache: not the folder that the command sees" in told[0]


def test_a_worker_that_was_started_again_with_the_right_cache_takes_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    shared = folder_of("memory://bench/cache", Kind.CACHE)
    told: list[str] = []
    with cluster(tmp_path, 1) as made:
        with socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        wrong = made.add(port=port, XDG_CACHE_HOME=str(tmp_path / "there"))
        with open_runner(made.address, 0, shared=shared, describe=describe, tell=told.append) as runner:
            while not told:
                assert runner.workers == 1
                time.sleep(0.1)
            wrong.terminate()
            wrong.wait()
            time.sleep(2 * _LOOK_SECONDS)
            assert runner.workers == 1, "which looks"
            made.add(port=port)
            wait_for_workers(runner, 2)


def test_a_process_apart_that_dies_each_time_is_told_as_on_this_machine(pair: Cluster) -> None:
    with runner_of(pair) as runner:
        calls = [Call(name=name, argument=name) for name in ("leave", "stay")]
        with closing(runner.run(as_named, calls, apart={})) as results:
            found = dict(results)
    assert found[0] is not None
    assert "tried 3 times" in found[0]["error"]
    assert "status 3" in found[0]["error"]
    assert not found[0]["elsewhere"], "it is this task's own"
    assert found[1] is not None
    assert found[1]["name"] == "stay"


def test_workers_of_another_arithmetic_stay_idle_and_that_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    with cluster(tmp_path, 0) as made:
        first, second, _ = made.add(), made.add(), made.add(ARITHMETIC="old")
        with runner_of(made, told) as runner:
            while not any("otherwise" in one for one in told) or runner.workers < 2:
                runner.workers  # noqa: B018 - looks
                time.sleep(0.1)
            results = run(runner, needs_room, [None] * 6)
        assert {one["arithmetic"] for one in results.values()} == {"usual"}
        assert {first.poll(), second.poll()} == {None}
    assert "instructions old" in " ".join(told)


def test_workers_may_join_in_the_middle(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as made, runner_of(made) as runner:
        pids: set[int] = set()
        calls = [Call(name="call", argument=0.5) for _ in range(500)]
        with closing(runner.run(times, calls)) as results:
            for count, (_, one) in enumerate(results):
                pids.add(one["pid"])
                if count == 0:
                    made.add()
                if len(pids) == 2:
                    break
    assert len(pids) == 2


def test_a_lost_scheduler_is_one_clear_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("distributed.client"), "handlers", [caplog.handler])
    with cluster(tmp_path, 1) as made, runner_of(made) as runner:
        assert made.scheduler is not None
        threading.Timer(1.0, made.scheduler.kill).start()
        begun = time.monotonic()
        with pytest.raises(JobError, match="scheduler is gone"):
            run(runner, sleeps, [60.0])
        assert time.monotonic() - begun < 30
    assert not caplog.records


def test_a_scheduler_that_does_not_answer_any_more_is_the_same_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(tmp_path, 1) as made, runner_of(made) as runner:
        monkeypatch.setattr("benchmark.execution.dask._PATIENCE_SECONDS", 5)
        assert made.scheduler is not None
        threading.Timer(1.0, made.scheduler.send_signal, (signal.SIGSTOP,)).start()
        begun = time.monotonic()
        with pytest.raises(JobError, match="scheduler is gone"):
            run(runner, sleeps, [60.0])
        assert time.monotonic() - begun < 30


def test_no_scheduler_is_one_clear_error(pair: Cluster, tmp_path: Path) -> None:
    from distributed import Client

    with Client(pair.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=240)
        worker, *_ = client.nthreads()
    told = {
        "tcp://127.0.0.1:9": "Timed out",
        worker: "a Dask worker has this address",
        pair.address.replace("tcp", "tls"): "TLS configuration",
    }
    for address, reason in told.items():
        with (
            pytest.raises(JobError, match=f"no Dask scheduler answers.*{reason}"),
            open_runner(address, 0, shared=tmp_path, describe=describe, tell=print),
        ):
            pass


def test_who_leaves_early_leaves_nothing_queued(pair: Cluster) -> None:
    calls = [Call(name="call", argument=0.3) for _ in range(50)]
    with runner_of(pair) as runner:
        with closing(runner.run(sleeps, calls)) as results:
            next(results)
        begun = time.monotonic()
        assert run(runner, sleeps, [0.0])[0] == {"slept": 0.0}
        assert time.monotonic() - begun < 10


def test_who_takes_time_with_a_result_has_not_waited_for_workers(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runner_of(pair) as runner:
        monkeypatch.setattr("benchmark.execution.dask._PATIENCE_SECONDS", 4.0)
        for _ in runner.run(sleeps, [Call(name="call", argument=0.0)]):
            time.sleep(6)


def test_code_does_not_travel(pair: Cluster) -> None:
    """A task is names and numbers: what only this process knows cannot be sent."""
    with runner_of(pair) as runner, pytest.raises((pickle.PicklingError, AttributeError)):
        run(runner, lambda argument, threads: {}, [1])


def test_large_arrays_lie_on_shared_storage_once_and_leave_with_the_run(pair: Cluster) -> None:
    numbers = np.arange(100_000)
    with runner_of(pair) as runner:
        assert run(runner, adds_up, [{"numbers": numbers, "add": one} for one in range(4)]) == {
            one: {"sum": int(numbers.sum()) + one} for one in range(4)
        }
        assert len(list(pair.folder.glob(".tmp-*/*.array"))) == 1
    assert not list(pair.folder.glob(".tmp-*"))


def test_arrays_of_equal_bytes_keep_their_types(tmp_path: Path) -> None:
    sent = [np.zeros(400_000, kind) for kind in (np.int64, np.float64, np.float32)] + [
        np.zeros(3_200_000, bool)
    ]
    taken = [unpack(pack(array, tmp_path / "handed")) for array in sent]
    for before, after in zip(sent, taken, strict=True):
        np.testing.assert_array_equal(before, after, strict=True)


def test_a_handed_over_array_that_changed_is_refused(tmp_path: Path) -> None:
    content = pack({"numbers": np.arange(100_003)}, tmp_path / "handed")
    (path,) = (tmp_path / "handed").iterdir()
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CacheDamaged):
        unpack(content)


def test_a_runner_that_travels_works_where_it_arrives(pair: Cluster) -> None:
    with runner_of(pair) as runner:
        assert pickle.loads(pickle.dumps(runner)) == LocalRunner(1)


def test_a_local_cluster_listens_to_this_machine_alone_and_ends(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    with open_runner("local:2", 0, shared=tmp_path, describe=describe, tell=print) as runner:
        results = run(runner, times, [3.0] * 4)
        family = [psutil.Process(), *set(psutil.Process().children(recursive=True)) - others]
        listening = {
            one.laddr.ip
            for process in family
            for one in process.net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}
    assert len({one["pid"] for one in results.values()}) == 2
    _, left = psutil.wait_procs([one for one in family[1:] if one.is_running()], timeout=20)
    assert [one for one in left if "spawn_main" in words_of(one)] == []


@pytest.mark.parametrize("text", ["local:4", "tcp://backbones-scheduler:8786", "tls://gpus.example:1"])
def test_clusters_have_names(text: str) -> None:
    assert EmbedOptions.check({"data": "photos", "cluster": text}).cluster == text


@pytest.mark.parametrize(
    "text", ["local:0", "local", "host:8786", "tcp://host", "http://host:1", "tcp://ho t:8786"]
)
def test_what_is_no_cluster_is_refused(text: str) -> None:

    with pytest.raises(ArgumentError, match=r"tcp://host:8786.*local:N"):
        EmbedOptions.check({"data": ".", "cluster": text})
