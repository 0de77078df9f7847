"""Results on the screen: a table for people, CSV or JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.cells import guarded, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from benchmark.records import Leaderboard

_PIPED_WIDTH = 240
_Rows = Sequence[Mapping[str, Any]]


def print_rows(rows: _Rows, style: str) -> None:
    """Print rows as a table, CSV or JSON; their keys are the columns."""
    if style == "table":
        _print_table(rows)
    else:
        print(rows_text(rows, style), end="")


def rows_text(rows: _Rows, style: str) -> str:
    """What ``print_rows`` prints as ``csv`` or ``json``."""
    if style == "json":
        return json.dumps([_strict(row) for row in rows], indent=1) + "\n"
    columns = _columns(rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return buffer.getvalue()


def _columns(rows: _Rows) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _strict(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: object) -> object:
    """A CSV cell: numbers as they are, what is not known empty, text on one line that no spreadsheet runs."""
    if _unknown(value):
        return ""
    if isinstance(value, int | float):
        return value
    return guarded(printable(str(value)), raw=str(value))


def _print_table(rows: _Rows) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = _columns(rows)
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(
            Text(printable(name)),
            justify="right" if numeric else "left",
            no_wrap=numeric or name == "name",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(_shown(row.get(name))) for name in columns))
    console().print(table)


def _shown(value: object) -> str:
    """A cell of a table: names of files can neither break a line nor write to the terminal."""
    if _unknown(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def console() -> Console:
    """A console for results: as wide as the terminal, or wide enough for every column when piped."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)


def print_board(board: Leaderboard, style: str) -> None:
    """Print a leaderboard: for people with its statements and notes, for programs every column."""
    if style != "table":
        print_rows([dict(row) for row in board.rows], style)
        return
    from benchmark.reporting import board_table

    print_renderable(board_table(board))


def print_renderable(what: RenderableType) -> None:
    """Print what rich can show; text is taken as it is, not as markup."""
    console().print(what, markup=False, highlight=False)
