"""The board in a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.ranking import Column, Surface
from benchmark.records import Leaderboard
from benchmark.reporting.formats import by_rank, display, shown_columns, text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

_WIDEST_CELL = 34
# What rich puts between two columns of this kind of table.
_BETWEEN = 3


@dataclass(frozen=True, slots=True)
class BoardTable:
    """A board for ``rich.console.Console.print``, which fits itself to the width that it is given.

    Notes come first, then the ranked table, what was not scored and why, what the data can and cannot tell.
    """

    board: Leaderboard

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.padding import Padding
        from rich.text import Text

        if self.board.summary:
            yield Text(text(self.board.summary))
            yield Text()
        for note in self.board.notes:
            yield Text.assemble((" NOTE ", "bold black on yellow"), " ", text(note))
        if self.board.notes:
            yield Text()
        scored, left_out = by_rank(self.board)
        if scored:
            yield _ranked(self.board, scored, options.max_width)
        if left_out:
            yield Text()
            yield _not_scored(left_out)
        if self.board.statements:
            yield Text()
        for statement in self.board.statements:
            yield Padding(Text(f"• {text(statement)}"), (0, 0, 0, 0))


def _ranked(board: Leaderboard, rows: Sequence[Mapping[str, Any]], width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = {
        column: [_short(display(row, column)) for row in rows]
        for column in shown_columns(board, rows, Surface.TERMINAL)
    }
    columns = fitting_columns(cells, width, ranked_by=f"val_{board.metric}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, no_wrap=True, justify="right" if column.is_number else "left")
    for position, row in enumerate(rows):
        table.add_row(
            *(Text(cells[column][position]) for column in columns),
            style="bold green" if row.get("backbone") == board.winner else "",
        )
    return table


def _short(cell: str) -> str:
    """A cell that leaves room for others: the middle of very long names goes."""
    if len(cell) <= _WIDEST_CELL:
        return cell
    keep = (_WIDEST_CELL - 1) // 2
    return f"{cell[:keep]}…{cell[-keep:]}"


def fitting_columns(cells: Mapping[Column, Sequence[str]], width: int, *, ranked_by: str) -> list[Column]:
    """Which columns fit, least important ones dropped first.

    Args:
        cells: column -> its cells as shown.
        width: of the terminal, in characters.
        ranked_by: name of a column that always stays, as those of priority 0 do.
    """
    columns = list(cells)
    widths = {each: _BETWEEN + max(len(each.heading), *map(len, cells[each])) for each in columns}
    droppable = [each for each in columns if each.priority and each.name != ranked_by]
    for column in sorted(droppable, key=lambda each: each.priority):
        if sum(widths[each] for each in columns) <= width:
            break
        columns.remove(column)
    return columns


def _not_scored(rows: Sequence[Mapping[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("not scored", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("reason", overflow="fold", ratio=1)
    for row in rows:
        status = text(row.get("status"))
        style = "red" if status == "failed" else "dim"
        table.add_row(
            Text(_short(text(row.get("backbone")))), Text(status, style=style), Text(text(row.get("reason")))
        )
    return table
