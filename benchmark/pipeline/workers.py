"""Running tasks in worker processes: joblib does the work, a killed worker costs its task a retry.

Tasks are idempotent functions of one picklable argument that return small dictionaries and turn their own
errors into data. Whatever backend ``joblib.parallel_config`` names (loky, dask, ...) runs them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any

from benchmark.errors import BenchmarkError
from benchmark.machine import mute_native_stderr

_ROUNDS_TOGETHER = 2
_WATCH = "parent-watch"
_pool_begun = threading.Event()
Task = Callable[[Any], dict[str, Any]]


def run_tasks(
    task: Task, arguments: Sequence[Any], workers: int
) -> Generator[tuple[int, dict[str, Any] | None]]:
    """Run ``task`` on every argument. Use it in ``with closing(...)``, so that Ctrl-C ends it in order.

    Args:
        task: module-level function of one picklable argument.
        arguments: one per call.
        workers: processes at once; 0 runs in this process.

    Yields:
        (position, result) as they finish; the result is None for a task whose process died each time.
    """
    if not workers:
        yield from ((position, task(argument)) for position, argument in enumerate(arguments))
        return
    waiting = dict(enumerate(arguments))
    for _ in range(_ROUNDS_TOGETHER):
        try:
            yield from _round(task, waiting, workers)
        except BrokenProcessPool:  # joblib's TerminatedWorkerError is one
            end_workers()  # a broken pool that is still ending would be used again
            continue
        return
    yield from _one_by_one(task, waiting)


def _round(task: Task, waiting: dict[int, Any], workers: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    import joblib

    _pool_begun.set()
    # A worker that holds on to memory is replaced by the pool, as it should be. The pool warns of it in a
    # thread that would die if warnings were errors, and everybody would wait for ever.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    # Who leaves early (Ctrl-C) knows it.
    warnings.filterwarnings("ignore", message=r"\d+ tasks (have been|which were)", category=UserWarning)
    parallel = joblib.Parallel(
        n_jobs=max(2, workers),  # one alone would be this process
        return_as="generator_unordered",
        pre_dispatch=workers,
        batch_size=1,
        initializer=_start_watching,
        initargs=(os.getpid(),),
    )
    calls = (
        joblib.delayed(_call)(task, position, argument, os.getpid())
        for position, argument in [*waiting.items()]
    )
    with closing(parallel(calls)) as results:
        for position, result in results:
            del waiting[position]
            yield position, result


def _one_by_one(task: Task, waiting: dict[int, Any]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The rest alone, so that the one that kills its process is told from its neighbours."""
    for position, argument in [*waiting.items()]:
        try:
            yield from _round(task, {position: argument}, 1)
        except BrokenProcessPool:
            end_workers()
            yield position, None


def end_workers() -> None:
    """End the worker processes of this process now, if it has any; the next tasks get new ones.

    Idle workers take a second to leave by themselves.
    """
    if _pool_begun.is_set():
        from joblib.externals.loky import get_reusable_executor

        _pool_begun.clear()

        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _call(task: Task, position: int, argument: Any, parent: int) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
    _become_worker(parent)
    return position, task(argument)


def _become_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone."""
    if os.getpid() == parent or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not any(thread.name == _WATCH for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(os.getppid(),), name=_WATCH, daemon=True).start()


def _start_watching(parent: int) -> None:
    """End with the parent from the start: a worker without a task would wait for one for minutes.

    What native libraries have to say is of use only to who asked TensorFlow to log everything.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        mute_native_stderr()
    threading.Thread(target=_watch, args=(parent,), name=_WATCH, daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def quiet_environment(threads: int) -> None:
    """Settings that TensorFlow reads when it is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(threads))


def failure(error: Exception) -> dict[str, Any]:
    """An error as data: our own errors speak for themselves, others name their type."""
    text = str(error) if isinstance(error, BenchmarkError) else f"{type(error).__name__}: {error}"
    return {"error": " ".join(text.split()), "trace": traceback.format_exc()}
