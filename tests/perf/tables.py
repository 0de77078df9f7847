"""Figures as a table on the screen, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmark.storage import write_whole
from tests.perf.figures import Figure

_NUMBERS = {"ours", "theirs", "ratio [min, max]", "target"}


def screen_table(figures: Sequence[Figure]) -> Table:
    """All figures; ``ratio`` is how many times as fast, or ours over theirs where nothing is timed."""
    table = Table(title="Ours against the straightforward way", title_justify="left")
    rows = [figure.row() for figure in figures]
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table


def write_figures(folder: Path, name: str, figures: Sequence[Figure], facts: Mapping[str, Any]) -> None:
    """Write ``<name>.csv`` (plain numbers) and ``<name>.md`` (the table and the machine)."""
    write_whole(folder / f"{name}.csv", csv_text(figures).encode(), root=folder)
    write_whole(folder / f"{name}.md", markdown(figures, facts).encode(), root=folder)


def csv_text(figures: Sequence[Figure]) -> str:
    """One line per figure; ratios of the pairs are separated by spaces."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["work", "against", "unit", "ours", "theirs", "ratio", "ratios", "target", "met", "note"])
    for one in figures:
        ratios = " ".join(f"{ratio:.4g}" for ratio in one.ratios)
        target = one.target.text(one.unit) if one.target else ""
        numbers = [f"{value:.6g}" for value in (one.ours, one.theirs, one.ratio)]
        writer.writerow([one.work, one.against, one.unit.value, *numbers, ratios, target, one.met, one.note])
    return buffer.getvalue()


def markdown(figures: Sequence[Figure], facts: Mapping[str, Any]) -> str:
    """A Markdown table, and below it the machine."""
    rows = [figure.row() for figure in figures]
    columns = list(rows[0]) if rows else []
    lines = [_line(columns), _line(["---:" if name in _NUMBERS else "---" for name in columns])]
    lines += [_line(row.values()) for row in rows]
    about = "; ".join(f"{name}: {value}" for name, value in facts.items())
    return "\n".join([*lines, "", about, ""])


def _line(cells: Any) -> str:  # noqa: ANN401 - any iterable of texts
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
