"""One table over all fault drivers: fault, injected, survived, rows lost, rows wrong.

A driver calls ``add_row`` (or takes the ``torture_row`` fixture) once per fault; rows of one fault add up.
They go as JSON lines to the file that the environment variable ``TORTURE_TABLE`` names, so that drivers in
other processes can add theirs; ``tests/conftest.py`` adds the tests that are marked ``faults`` and prints the
table when the tests end.

Lost: a row that was finished before the fault and cannot be had after it, not even by running again.
Wrong: a row that was handed out with other bits than an undisturbed run gives.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

TABLE_VARIABLE = "TORTURE_TABLE"


@dataclass(frozen=True)
class Row:
    """One fault: how often injected, how often survived, and what it cost."""

    fault: str
    injected: int
    survived: int
    rows_lost: int
    rows_wrong: int

    def plus(self, other: Row) -> Row:
        return Row(
            self.fault,
            self.injected + other.injected,
            self.survived + other.survived,
            self.rows_lost + other.rows_lost,
            self.rows_wrong + other.rows_wrong,
        )


def add_row(fault: str, *, injected: int, survived: int, rows_lost: int = 0, rows_wrong: int = 0) -> None:
    """Append one row to the table of this run; without a table, nothing happens."""
    path = os.environ.get(TABLE_VARIABLE)
    if path:
        line = json.dumps(asdict(Row(fault, injected, survived, rows_lost, rows_wrong))) + "\n"
        with Path(path).open("a") as file:  # one write of one short line: appends of processes do not mix
            file.write(line)


def load_rows(path: Path) -> list[Row]:
    """Rows of a table, one per fault, in the order of their first appearance."""
    merged: dict[str, Row] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        row = Row(**json.loads(line))
        merged[row.fault] = merged[row.fault].plus(row) if row.fault in merged else row
    return list(merged.values())


def format_table(rows: list[Row]) -> str:
    """The table as text, with a total."""
    total = Row("total", 0, 0, 0, 0)
    for row in rows:
        total = total.plus(row)
    titles = ("fault", "injected", "survived", "rows lost", "rows wrong")
    cells = [titles, *(tuple(map(str, asdict(row).values())) for row in (*rows, total))]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
