"""How values look to people and programs: missing values, sizes, scores with their intervals, safe text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.cells import figure, missing, printable
from benchmark.ranking import COLUMNS, Column, Surface
from benchmark.records import Leaderboard


def number(row: Mapping[str, Any], column: str) -> float:
    """A numeric cell as float; nan where it is missing or no number."""
    value = row.get(column)
    if missing(value) or isinstance(value, str):
        return math.nan
    return float(value)  # type: ignore[arg-type]


def by_rank(board: Leaderboard) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rows that have a rank, and those that were not scored."""
    ranked = [row for row in board.rows if not missing(row.get("rank"))]
    return ranked, [row for row in board.rows if missing(row.get("rank"))]


def text(value: object) -> str:
    """Text on one line that any screen and page can show; enums their value."""
    return "" if missing(value) else printable(str(value))


def megabytes(size_bytes: float) -> str:
    """Bytes for people: 1.9 MB, 23 MB, 1.4 GB (powers of ten)."""
    if math.isnan(size_bytes) or size_bytes <= 0:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            value = size_bytes / scale
            return f"{figure(value)} {unit}"
    return f"{size_bytes:.0f} B"


def count(value: float) -> str:
    """A count for people: 431k, 14.7M."""
    if math.isnan(value) or value <= 0:
        return ""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{figure(value / scale)}{unit}"
    return f"{value:.0f}"


def score(value: float) -> str:
    """A score with three digits; empty when missing."""
    return "" if math.isnan(value) else f"{value:.3f}"


def with_interval(row: Mapping[str, Any], column: str) -> str:
    """A score as ``0.968 [0.951, 0.981]``."""
    value, low, high = (number(row, f"{column}{end}") for end in ("", "_low", "_high"))
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return score(value)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def seconds(value: float) -> str:
    """A duration for people: 0.4 s, 12 s, 3:05, 1:02:03."""
    if math.isnan(value):
        return ""
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_SHOWN: dict[str, Callable[[float], str]] = {
    "whole": figure,
    "bytes": megabytes,
    "count": count,
    "score": score,
    "seconds": seconds,
    "speed": figure,
    "ms": figure,
}


def display(row: Mapping[str, Any], column: Column) -> str:
    """A cell as people read it."""
    if column.format == "interval":
        return with_interval(row, column.name)
    if column.format not in _SHOWN:
        return text(row.get(column.name))
    shown = _SHOWN[column.format](number(row, column.name))
    # The machine was too busy for a steady figure.
    is_noisy = column.format == "speed" and shown and row.get("noisy")
    return f"{shown} (noisy)" if is_noisy else shown


def ranking_columns(board: Leaderboard) -> list[Column]:
    """The metric that ranks a board, on validation and on the test part."""
    return [Column.named(f"{part}_{board.metric}") for part in ("val", "test")]


def shown_columns(board: Leaderboard, rows: Sequence[Mapping[str, Any]], surface: Surface) -> list[Column]:
    """The columns of a surface that have something to show for these rows; what ranks stands behind ties."""
    ranking = ranking_columns(board)
    others = [each for each in COLUMNS if surface in each.surfaces and each not in ranking]
    place = others.index(Column.named("tie_group")) + 1
    ordered = [*others[:place], *ranking, *others[place:]]
    return [each for each in ordered if any(display(row, each) for row in rows)]
