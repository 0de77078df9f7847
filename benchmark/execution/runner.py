"""What executes tasks: processes of this machine, or a cluster.

A task is an idempotent function of one picklable argument and a number of threads. It returns a small
dictionary and turns its own errors into data (``failure``; one for several things has such a dictionary for
``each``); what is large goes to shared storage where there is one.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmark.errors import BenchmarkError, CacheError, DataError, JobError, WeightsError
from benchmark.locations import without_secrets
from benchmark.machine import cores

Result = dict[str, Any]
Function = Callable[[Any, int], Result]
"""A module-level function: (argument, threads to use) -> a small dictionary."""
Machine = tuple[tuple[str, str], ...]
"""What decides the arithmetic of a machine, as sorted (name, value) pairs."""
Describe = Callable[[], Machine]
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables of the environment that say how many threads TensorFlow starts with."""
_NUMPY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a task.

    Attributes:
        name: for logs and dashboards.
        argument: picklable by name: names and numbers.
        cost: arithmetic, in any unit; calls that run together are shared out by it.
        memory: bytes that it takes with one thread, and with each further one.
        after: position of the call that should be finished before, because it prepares what both need.
    """

    name: str
    argument: Any
    cost: float = 0.0
    memory: tuple[float, float] = (0.0, 0.0)
    after: int | None = None


class Runner(Protocol):
    """Executes calls, and gives those whose process was lost to another one."""

    @property
    def is_local(self) -> bool:
        """Whether tasks run on this machine, so that files of this process's own reach them."""

    @property
    def handed_over(self) -> Path | None:
        """Folder through which caller and tasks hand on files until the runner ends; None on this machine."""

    @property
    def threads(self) -> int:
        """Of all processes together."""

    def computes_as(self, machine: Machine) -> bool:
        """Whether tasks compute in the arithmetic of a machine, so that what suits it suits them."""

    @property
    def workers(self) -> int:
        """Processes that work at once, as far as that is known before there is work; at least 1."""

    def run(
        self,
        function: Function,
        calls: Sequence[Call],
        *,
        at_once: int = 0,
        alone: bool = False,
        apart: Mapping[str, str] | None = None,
    ) -> Generator[tuple[int, Result]]:
        """Call a function with every argument. In ``with closing(...)`` Ctrl-C ends it in order.

        Args:
            function: a task.
            calls: one per call.
            at_once: calls at once where the user asked for no number; 0 shares out what the machine has.
            alone: one after the other with one thread each, while nothing else runs: for timing.
            apart: variables of the environment that decide the arithmetic of processes: none works on the
                calls that began with others. None: it does not matter.

        Yields:
            (position, result) as they finish; of a call whose process died each time, ``dead()`` or, where it
            is known why, what ``failure`` makes of that.
        """


def quiet_environment(threads: int) -> None:
    """Settings that TensorFlow reads when it is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    for name in THREADS:
        os.environ.setdefault(name, str(threads))


def thread_environment() -> dict[str, str]:
    """What decides the arithmetic of a process, as in this one.

    Sums are taken in another order by other numbers of threads: every process has those of this machine,
    however many share it.
    """
    return {name: os.environ.get(name) or str(cores()) for name in (*THREADS, *_NUMPY_THREADS)}


def dead() -> Result:
    """The result of a call whose process died each time: what ``failure`` makes of that, and ``dead``."""
    lost = JobError("its process died each time that it was tried; it may need more memory than there is")
    return {**failure(lost), "dead": True}


# What another machine may have: room, memory, the images, the weights, a network, a package.
_OF_THE_MACHINE = (CacheError, WeightsError, DataError, MemoryError, OSError, ImportError)


def failure(error: BaseException) -> dict[str, Any]:
    """An error as data: our own errors speak for themselves, others name their type.

    Returns:
        ``error``, ``trace``, and ``elsewhere``: whether it may go better on another machine.
    """
    foreign = without_secrets(f"{type(error).__name__}: {error}")
    text = str(error) if isinstance(error, BenchmarkError) else foreign
    return {
        "error": " ".join(text.split()),
        "trace": without_secrets("".join(traceback.format_exception(error))),
        "elsewhere": isinstance(error, _OF_THE_MACHINE) or isinstance(error.__cause__, _OF_THE_MACHINE),
    }
