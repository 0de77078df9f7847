"""What stands in a notebook's cell: a board as HTML without a script, and one line while work goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from html import escape
from types import TracebackType
from typing import Any, Self

from benchmark.ranking import Surface
from benchmark.records import Leaderboard
from benchmark.reporting.formats import by_rank, display, shown_columns, text

_PATIENCE, _PAUSE = 0.5, 0.2  # seconds: what is done sooner needs no line; between two changes of it
_FIRST_KEPT = 10  # columns that a terminal drops before go: a cell of a notebook is no wider


def board_html(board: Leaderboard) -> str:
    """A board as HTML; names of files and classes are escaped."""
    scored, left_out = by_rank(board)
    shown = shown_columns(board, scored, Surface.TERMINAL)
    columns = [one for one in shown if not 0 < one.priority < _FIRST_KEPT]
    lines = [_row("th", (column.heading for column in columns))]
    lines += [_row("td", (display(row, column) for column in columns)) for row in scored]
    reasons = [f"{row['backbone']} ({row['status']}): {row['reason']}" for row in left_out]
    return "".join(
        [
            _paragraphs([board.summary] if board.summary else []),
            _paragraphs(f"NOTE: {note}" for note in board.notes),
            f"<table>{''.join(lines)}</table>" if scored else "",
            _paragraphs(reasons),
            _paragraphs(board.statements),
        ]
    )


def _row(tag: str, cells: Iterable[str]) -> str:
    whole = (f"<{tag} style='white-space: nowrap'>{escape(text(cell))}</{tag}>" for cell in cells)
    return f"<tr>{''.join(whole)}</tr>"


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text(line))}</p>" for line in lines)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. Imports nothing: a kernel has IPython already."""
    loaded = sys.modules.get("IPython")
    shell = loaded.get_ipython() if loaded is not None and hasattr(loaded, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


class CellLine:
    """An observer that shows one line in a notebook's cell while work goes on.

    It says how far the outermost task is, then what was told last inside it (how far an inner task is, or a
    message), then what was told last between tasks, such as the cost of all of it. The line is of the cell
    that began it, whichever thread tells of the work.
    """

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._tasks: dict[str, int] = {}
        self._done: tuple[int, str] = (0, "")  # of the outermost task: how much, and its note
        self._inside = self._between = ""
        self._handle: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            how = "done in" if kind is None else "stopped after"
            self._show(f"{how} {time.monotonic() - self._began:.0f} s")

    def started(self, task: str, total: int) -> None:
        """Remember how much there is to do."""
        if not self._tasks:
            self._done, self._inside = (0, ""), ""
        self._tasks[task] = total

    def advanced(self, task: str, done: int, note: str = "") -> None:
        """Change the line, if it is not too soon."""
        if task == next(iter(self._tasks), task):
            self._tasks.setdefault(task, 0)
            self._done, self._inside = (done, note), ""
        else:
            self._inside = _how_far(task, done, self._tasks.get(task, 0), note)
        self._refresh()

    def finished(self, task: str, note: str = "") -> None:
        """The next task's turn."""
        self._tasks.pop(task, None)
        if note:
            self.message(note)

    def message(self, text: str) -> None:
        """Keep it in the line until the next one: of those inside a task, or of those between tasks."""
        if self._tasks:
            self._inside = text
        else:
            self._between = text
        self._refresh()

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - max(self._said, self._began + _PATIENCE) < _PAUSE:
            return
        self._said = now
        outer, bar = "", None
        for task, total in list(self._tasks.items())[:1]:
            outer = _how_far(task, self._done[0], total, self._done[1])
            bar = f"max={total} value={self._done[0]}" if total else ""
        inside = self._inside if self._tasks else ""
        self._show("; ".join(filter(None, (outer, inside, self._between))), bar)

    def _show(self, line: str, bar: str | None = None) -> None:
        drawn = "" if bar is None else f"<progress {bar} style='width: 12em'></progress> "
        shown = {"text/plain": text(line), "text/html": f"{drawn}{escape(text(line))}"}
        if self._handle is None:
            self._handle = sys.modules["IPython.display"].display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def _how_far(task: str, done: int, total: int, note: str) -> str:
    told = f"{task}: {done:,} of {total:,}" if total else f"{task}: {done:,}"
    return ", ".join(filter(None, (told, note)))
