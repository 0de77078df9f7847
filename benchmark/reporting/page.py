"""The board as one self-contained web page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.cells import figure
from benchmark.records import Leaderboard, Rejected
from benchmark.reporting.board_files import columns_of
from benchmark.reporting.formats import COLUMN_TITLES, display, missing, number, numeric, score, text
from benchmark.reporting.plots import Plot

_PAGE_COLUMNS = (
    "rank",
    "backbone",
    "pick",
    "tie_group",
    "val_f1",
    "test_f1",
    "test_precision",
    "test_recall",
    "size_bytes",
    "params",
    "embedding_dim",
    "input_size",
    "images_per_second",
    "latency_ms",
    "weights",
)
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
    columns = [column for column in _PAGE_COLUMNS if any(display(row, column) for row in scored)]
    page = environment.get_template("board.html.jinja").render(
        title=text(extras.title),
        winner=_winner(board, scored),
        summary=text(board.summary),
        notes=[text(note) for note in board.notes],
        statements=[text(statement) for statement in board.statements],
        columns=[(column, COLUMN_TITLES[column], numeric(column)) for column in columns],
        rows=[_cells(row, columns, scored, board.winner) for row in scored],
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
        "f1": display(row, "val_f1"),
        "test": display(row, "test_f1"),
        "size": display(row, "size_bytes"),
        "loss": "" if math.isnan(board.loss_bound) else score(board.loss_bound),
    }


def _plain(value: object) -> str:
    return figure(value, 4) if isinstance(value, float) else text(value)


def _cells(
    row: Mapping[str, Any], columns: Sequence[str], scored: Sequence[Mapping[str, Any]], winner: str | None
) -> dict[str, Any]:
    """One table row: shown text, sort value and the drawing of the interval."""
    ends = [number(other, column) for other in scored for column in ("val_f1_low", "val_f1_high", "val_f1")]
    known = [value for value in ends if not math.isnan(value)] or [0.0, 1.0]
    low, span = min(known), max(max(known) - min(known), 1e-9)
    value, left, right = (number(row, column) for column in ("val_f1", "val_f1_low", "val_f1_high"))
    bar = None
    if not any(map(math.isnan, (value, left, right))):
        bar = [f"{100 * (place - low) / span:.2f}" for place in (left, value, right)]
    return {
        "winner": row["backbone"] == winner,
        "first": row.get("tie_group") == scored[0].get("tie_group"),
        "bar": bar,
        "interval": display(row, "val_f1")[5:].strip(),
        "cells": [(column, display(row, column), _sort_value(row, column)) for column in columns],
    }


def _sort_value(row: Mapping[str, Any], column: str) -> str:
    if not numeric(column):
        return text(row.get(column)).lower()
    value = number(row, column)
    return "" if math.isnan(value) else repr(value)
