"""Tasks in processes of this machine: joblib does the work, a killed process costs its task a retry."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from benchmark.errors import JobError
from benchmark.execution.apart import run_apart
from benchmark.execution.runner import THREADS, Call, Function, Machine, Result, dead, failure
from benchmark.execution.scheduling import Shift, shifts
from benchmark.machine import cores, end_with_parent, mute_native_stderr

_ROUNDS_TOGETHER = 2
_TRIES_APART = 3
# What the workers of this process were begun with: they outlive a run, and would go by it in the next.
_pool_environment: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Worker processes of this machine, which share its cores and memory.

    Attributes:
        jobs: processes that the user asked for; 0 picks, 1 works in this process.
    """

    jobs: int = 0

    @property
    def is_local(self) -> bool:
        """Yes."""
        return True

    @property
    def handed_over(self) -> None:
        """None: tasks write where the caller wants it."""
        return None

    @property
    def threads(self) -> int:
        """All cores."""
        return cores()

    def computes_as(self, machine: Machine) -> bool:
        """Yes, of whatever machine the caller speaks: it is this one."""
        return True

    @property
    def workers(self) -> int:
        """Those asked for, else one a core."""
        return self.jobs or cores()

    def run(
        self,
        function: Function,
        calls: Sequence[Call],
        *,
        at_once: int = 0,
        alone: bool = False,
        apart: Mapping[str, str] | None = None,
    ) -> Generator[tuple[int, Result]]:
        """As ``Runner.run``: calls that fit side by side run side by side, larger ones after them."""
        for shift in self._shifts(calls, at_once, alone=alone):
            if apart is not None:
                with closing(_run_apart(function, calls, shift, apart)) as results:
                    yield from results
                continue
            if not shift.workers:
                for position in shift.positions:
                    # What comes after it in this process may have more threads.
                    with _as_it_was(THREADS):
                        own = function(calls[position].argument, shift.threads)
                    yield position, own
                continue
            arguments = [calls[position].argument for position in shift.positions]
            with closing(_run_shift(function, arguments, shift)) as results:
                for place, result in results:
                    yield shift.positions[place], result

    def _shifts(self, calls: Sequence[Call], at_once: int, *, alone: bool) -> tuple[Shift, ...]:
        if alone:
            workers = 0 if self.jobs == 1 else 1
            return (Shift(positions=tuple(range(len(calls))), workers=workers, threads=1),)
        needs, costs = [call.memory for call in calls], [call.cost for call in calls]
        return shifts(self.jobs or at_once, needs, costs)


def _run_apart(
    function: Function, calls: Sequence[Call], shift: Shift, environment: Mapping[str, str]
) -> Generator[tuple[int, Result]]:
    """Each call in a new process, as many at once as fit."""
    left = threading.Event()

    def result_of(position: int) -> Result:
        told: Result = {}
        for _ in range(_TRIES_APART):
            try:
                return run_apart(
                    function,
                    calls[position].argument,
                    shift.threads,
                    environment=environment,
                    is_wanted=lambda: not left.is_set(),
                )
            except JobError as error:
                told = failure(error)
            if left.is_set():
                break
        tried = f"tried {_TRIES_APART} times in a process of its own; the last time "
        return {**told, "error": tried + told["error"]}

    with ThreadPoolExecutor(max(1, shift.workers), thread_name_prefix="apart") as pool:
        try:
            pending = {pool.submit(result_of, position): position for position in shift.positions}
            for done in as_completed(pending):
                yield pending[done], done.result()
        finally:
            left.set()
            pool.shutdown(cancel_futures=True)


@contextmanager
def _as_it_was(names: Iterable[str]) -> Iterator[None]:
    """Give variables of the environment back what they had, whatever was set meanwhile."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_shift(task: Function, arguments: Sequence[Any], shift: Shift) -> Generator[tuple[int, Result]]:
    waiting = dict(enumerate(arguments))
    for _ in range(_ROUNDS_TOGETHER):
        try:
            yield from _round(task, waiting, shift)
        except BrokenProcessPool:  # joblib's TerminatedWorkerError is one
            end_workers()  # a broken pool that is still ending would be used again
            continue
        return
    yield from _one_by_one(task, waiting, shift)


def _round(task: Function, waiting: dict[int, Any], shift: Shift) -> Iterator[tuple[int, Result]]:
    global _pool_environment
    import joblib

    if _pool_environment != (environment := dict(os.environ)):
        end_workers()
    _pool_environment = environment
    # A worker that holds on to memory is replaced by the pool, as it should be. The pool warns of it in a
    # thread that would die if warnings were errors, and everybody would wait for ever.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    # Who leaves early (Ctrl-C) knows it.
    warnings.filterwarnings("ignore", message=r"\d+ tasks (have been|which were)", category=UserWarning)
    parallel = joblib.Parallel(
        n_jobs=max(2, shift.workers),  # one alone would be this process
        return_as="generator_unordered",
        pre_dispatch=shift.workers,
        batch_size=1,
        initializer=_start_watching,
        initargs=(os.getpid(),),
    )
    calls = (
        joblib.delayed(_call)(task, position, argument, shift.threads, os.getpid())
        for position, argument in [*waiting.items()]
    )
    with closing(parallel(calls)) as results:
        for position, result in results:
            del waiting[position]
            yield position, result


def _one_by_one(task: Function, waiting: dict[int, Any], shift: Shift) -> Iterator[tuple[int, Result]]:
    """The rest alone, so that the one that kills its process is told from its neighbours."""
    for position, argument in [*waiting.items()]:
        try:
            yield from _round(task, {position: argument}, replace(shift, workers=1))
        except BrokenProcessPool:
            end_workers()
            yield position, dead()


def end_workers() -> None:
    """End the worker processes of this process now, if it has any; the next tasks get new ones.

    Idle workers take a second to leave by themselves.
    """
    global _pool_environment
    if _pool_environment is not None:
        from joblib.externals.loky import get_reusable_executor

        _pool_environment = None
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _call(
    task: Function,
    position: int,
    argument: Any,  # noqa: ANN401 - whatever the task takes
    threads: int,
    parent: int,
) -> tuple[int, Result]:
    _become_worker(parent)
    return position, task(argument, threads)


def _become_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone."""
    if os.getpid() == parent or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(os.getppid())


def _start_watching(parent: int) -> None:
    """End with the parent from the start: a worker without a task would wait for one for minutes.

    What native libraries have to say is of use only to who asked TensorFlow to log everything.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        mute_native_stderr()
    end_with_parent(parent)
