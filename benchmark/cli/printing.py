"""Results on the screen: a table for people, CSV or JSON for programs."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmark.cells import columns_of, csv_bytes, missing, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from benchmark.records import Leaderboard

_PIPED_WIDTH = 240
_Rows = Sequence[Mapping[str, Any]]


def say(text: object) -> None:
    """Tell a person something, on stderr; names of files can neither break a line nor steer the terminal."""
    print("\n".join(map(printable, str(text).split("\n"))).rstrip(), file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Write a result to stdout, line by line as safe as ``say``."""
    print("\n".join(map(printable, text.split("\n"))), end="")


def print_rows(rows: _Rows, style: str) -> None:
    """Print rows as a table, CSV or JSON; their keys are the columns."""
    if style == "table":
        _print_table(rows)
    else:
        put(rows_text(rows, style))


def rows_text(rows: _Rows, style: str) -> str:
    """What ``print_rows`` prints as ``csv`` or ``json``."""
    if style == "json":
        return json.dumps([_strict(row) for row in rows], indent=1) + "\n"
    return csv_bytes(columns_of(rows), rows).decode()


def _strict(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _print_table(rows: _Rows) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = columns_of(rows)
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
    print_renderable(table)


def _shown(value: object) -> str:
    """A cell of a table: names of files can neither break a line nor write to the terminal."""
    if missing(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def print_board(board: Leaderboard, style: str) -> None:
    """Print a leaderboard: for people with its statements and notes, for programs every column."""
    from benchmark.cli.parser import as_flags

    rows = [{**row, "reason": as_flags(str(row["reason"]))} for row in board.rows]
    if style != "table":
        print_rows(rows, style)
        return
    from benchmark.reporting import BoardTable

    print_renderable(BoardTable(replace(board, rows=tuple(rows), notes=tuple(map(as_flags, board.notes)))))


def print_renderable(what: RenderableType) -> None:
    """Print what rich can show, as wide as the terminal; piped, with every column and without padding."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(what, markup=False, highlight=False)
        return
    buffer = io.StringIO()
    Console(file=buffer, width=_PIPED_WIDTH).print(what, markup=False, highlight=False)
    print("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))
