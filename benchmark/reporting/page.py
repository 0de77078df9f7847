"""The board as one self-contained web page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.cells import columns_of, figure, missing
from benchmark.ranking import Column, Surface, column
from benchmark.records import Leaderboard, Rejected
from benchmark.reporting.formats import display, number, ranking_columns, score, shown_columns, text
from benchmark.reporting.plots import Plot
from benchmark.statistics import METRICS

_REJECTED_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What stands on the page below the board.

    Attributes:
        title: heading, for example the data set's name.
        baselines: rows of ``baselines.csv``.
        has_baseline_scores: whether ``baseline_scores.csv`` lies beside the page.
        rejected: files that were left out.
        plots: pictures.
    """

    title: str = "Leaderboard"
    baselines: Sequence[Mapping[str, Any]] = ()
    has_baseline_scores: bool = False
    rejected: Sequence[Rejected] = ()
    plots: Sequence[Plot] = ()


def html_bytes(board: Leaderboard, extras: Extras) -> bytes:
    """One page without external resources: styles, script and pictures stand inside; all text is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmark.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scored = [row for row in board.rows if not missing(row.get("rank"))]
    columns = shown_columns(board, scored, Surface.PAGE)
    page = environment.get_template("board.html.jinja").render(
        title=text(extras.title),
        winner=_winner(board, scored),
        summary=text(board.summary),
        notes=[text(note) for note in board.notes],
        statements=[text(statement) for statement in board.statements],
        columns=[(each, _class(each, board)) for each in columns],
        rows=[_cells(row, columns, scored, board) for row in scored],
        left_out=[
            {key: text(row.get(key)) for key in ("backbone", "status", "reason")}
            for row in board.rows
            if missing(row.get("rank"))
        ],
        plots=[(plot, base64.b64encode(plot.png).decode()) for plot in extras.plots],
        baseline_columns=columns_of(extras.baselines),
        baselines=[
            [_plain(row.get(key)) for key in columns_of(extras.baselines)] for row in extras.baselines
        ],
        has_baseline_scores=extras.has_baseline_scores,
        rejected=[(text(file.path), text(file.reason)) for file in extras.rejected[:_REJECTED_SHOWN]],
        rejected_more=max(len(extras.rejected) - _REJECTED_SHOWN, 0),
    )
    return page.encode()


def _winner(board: Leaderboard, scored: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    row = next((row for row in scored if row["backbone"] == board.winner), None)
    if row is None:
        return None
    return {
        "name": text(row["backbone"]),
        "lead": "Winner:",
        "metric": METRICS[board.metric].title,
        "score": display(row, column(f"val_{board.metric}")),
        "test": display(row, column(f"test_{board.metric}")),
        "new": display(row, column("new_f1")),
        "size": display(row, column("size_bytes")),
        "loss": "" if math.isnan(board.loss_bound) else score(board.loss_bound),
    }


def _plain(value: object) -> str:
    return figure(value, 4) if isinstance(value, float) else text(value)


def _cells(
    row: Mapping[str, Any], columns: Sequence[Column], scored: Sequence[Mapping[str, Any]], board: Leaderboard
) -> dict[str, Any]:
    """One table row: shown text, sort value and the drawing of the interval."""
    ends = (f"val_{board.metric}_low", f"val_{board.metric}", f"val_{board.metric}_high")
    known = [value for other in scored for end in ends if not math.isnan(value := number(other, end))]
    low, span = min(known, default=0.0), max(max(known, default=1.0) - min(known, default=0.0), 1e-9)
    drawn = [f"{100 * (number(row, end) - low) / span:.2f}" for end in ends]
    return {
        "winner": row["backbone"] == board.winner,
        "first": row.get("tie_group") == scored[0].get("tie_group"),
        "bar": None if any(math.isnan(number(row, end)) for end in ends) else drawn,
        "barred": ends[1],
        "cells": [
            (each, _class(each, board), display(row, each), _sort_value(row, each)) for each in columns
        ],
    }


def _class(column: Column, board: Leaderboard) -> str:
    """The classes of a column's cells in the page's style sheet."""
    is_wide = Surface.PHONE not in column.surfaces and column not in ranking_columns(board)
    kinds = {"number": column.is_number, "wide": is_wide}
    return " ".join([f"c-{column.name}", *(kind for kind, applies in kinds.items() if applies)])


def _sort_value(row: Mapping[str, Any], column: Column) -> str:
    if not column.is_number:
        return text(row.get(column.name)).lower()
    value = number(row, column.name)
    return "" if math.isnan(value) else repr(value)
