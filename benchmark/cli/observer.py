"""Progress for a person: bars on a terminal, plain lines everywhere else. All of it goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from benchmark.cells import printable
from benchmark.cli.printing import say
from benchmark.records import Observer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 10.0


class Terminal(Observer, Protocol):
    """An observer that is open for the time of a ``with`` block."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""


def make_observer(*, quiet: bool, held: list[str] | None = None) -> Terminal:
    """Bars on a terminal, lines otherwise, only messages when quiet.

    Args:
        quiet: no progress.
        held: when quiet, messages are put here, not said, for a command whose result says most of them; an
            error says them all.
    """
    if quiet:
        return Lines(quiet=True, held=held)
    return Bars() if sys.stderr.isatty() else Lines()


class Lines:
    """A line when a task starts or ends, and every ten seconds between.

    Args:
        quiet: messages only.
        held: collects the messages, said where an error ends the block; None says them at once.
    """

    def __init__(self, *, quiet: bool = False, held: list[str] | None = None) -> None:
        self._quiet = quiet
        self._held = held
        self._totals: dict[str, int] = {}
        self._begun: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for text in self._held or ():
                say(text)

    def started(self, task: str, total: int) -> None:
        """Remember when."""
        self._totals[task] = total
        self._begun[task] = self._said[task] = time.monotonic()

    def advanced(self, task: str, done: int, note: str = "") -> None:
        """Say so every ten seconds."""
        now = time.monotonic()
        if now - self._said.get(task, now) >= _LINE_SECONDS:
            self._said[task] = now
            total = self._totals.get(task, 0)
            self._say(", ".join(filter(None, (f"{task}: {done:,}{f' of {total:,}' if total else ''}", note))))

    def finished(self, task: str, note: str = "") -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self._begun.pop(task, time.monotonic())
        self._say(f"{task}: done in {seconds:.1f} s {note}")

    def message(self, text: str) -> None:
        """Say it, even when quiet."""
        if self._held is None:
            say(text)
        else:
            self._held.append(text)

    def _say(self, text: str) -> None:
        if not self._quiet:
            say(text)


class Bars:
    """A bar per running task; finished tasks leave a line."""

    def __init__(self) -> None:
        self._progress = _make_progress()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._progress.stop()

    def started(self, task: str, total: int) -> None:
        """Add a bar."""
        self._tasks[task] = self._progress.add_task(printable(task), total=total or None, note="")

    def advanced(self, task: str, done: int, note: str = "") -> None:
        """Move the bar."""
        if task in self._tasks:
            self._progress.update(self._tasks[task], completed=done, note=printable(note))

    def finished(self, task: str, note: str = "") -> None:
        """Replace the bar by a line."""
        bar = self._tasks.pop(task, None)
        if bar is None:
            return
        elapsed = self._progress.tasks[self._progress.task_ids.index(bar)].elapsed or 0.0
        self._progress.remove_task(bar)
        self._print(f"  {task}: {elapsed:.1f} s {note}".rstrip())

    def message(self, text: str) -> None:
        """A line above the bars."""
        self._print(text)

    def _print(self, text: str) -> None:
        self._progress.console.print(printable(text), highlight=False, markup=False)


def _make_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
