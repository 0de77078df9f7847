"""The board in a notebook's cell: notes, table and statements as a piece of HTML without a script."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from benchmark.ranking import Surface
from benchmark.records import Leaderboard
from benchmark.reporting.formats import by_rank, display, shown_columns, text

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
