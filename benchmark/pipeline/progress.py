"""How workers tell the parent how far they are: a small shared table in a memory-mapped file.

A table needs no extra process, works with every way of running tasks that shares a disk, and loses nothing
but the display when a worker dies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import numpy as np

from benchmark.records import Observer

PROGRESS_FILE = "progress.i64"
_POLL_SECONDS = 0.25


class Stage(IntEnum):
    """What a task is doing."""

    WAITING = 0
    PREPARING = 1
    WORKING = 2
    DONE = 3


class ProgressTable:
    """One row per task: its stage and the units done.

    Args:
        path: file of the table.
        tasks: number of rows; None opens an existing table.
    """

    def __init__(self, path: Path, tasks: int | None = None) -> None:
        if tasks is not None:
            path.write_bytes(bytes(16 * tasks))
        self._cells = np.memmap(path, dtype=np.int64, mode="r+").reshape(-1, 2)

    def update(self, row: int, stage: Stage, done: int = 0) -> None:
        """Say what a task is doing."""
        self._cells[row] = (stage, done)

    def read(self) -> list[tuple[Stage, int]]:
        """Stage and units done of every task."""
        return [(Stage(int(stage)), int(done)) for stage, done in self._cells]


class Poller:
    """Calls a function every quarter of a second while its ``with`` block runs, and once at its end.

    The function runs in one thread at a time, so that an observer behind it sees calls one by one.
    """

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._poll()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._poll()


class OneAtATime:
    """Hands calls on to an observer one by one, whatever thread they come from."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()

    def started(self, task: str, total: int) -> None:
        """Hand on."""
        with self._lock:
            self._observer.started(task, total)

    def advanced(self, task: str, done: int, note: str = "") -> None:
        """Hand on."""
        with self._lock:
            self._observer.advanced(task, done, note)

    def finished(self, task: str, note: str = "") -> None:
        """Hand on."""
        with self._lock:
            self._observer.finished(task, note)

    def message(self, text: str) -> None:
        """Hand on."""
        with self._lock:
            self._observer.message(text)
