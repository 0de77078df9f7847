"""Results on the screen: a table for people, CSV or JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from benchmark.records import Leaderboard

_PIPED_WIDTH = 240
_Rows = Sequence[Mapping[str, Any]]


def print_rows(rows: _Rows, style: str) -> None:
    """Print rows of one shape as a table, CSV or JSON."""
    if style == "json":
        print(json.dumps([_strict(row) for row in rows], indent=1))
    elif style == "csv":
        print(_csv(rows), end="")
    else:
        _print_table(rows)


def _strict(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _csv(rows: _Rows) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _print_table(rows: _Rows) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(
            name, justify="right" if numeric else "left", no_wrap=numeric or name == "name", overflow="fold"
        )
    for row in rows:
        table.add_row(
            *(Text(f"{value:,}" if isinstance(value, int) else str(value)) for value in row.values())
        )
    console().print(table)


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
