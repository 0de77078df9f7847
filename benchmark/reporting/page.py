"""The board as one self-contained web page."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmark.cells import columns_of, figure
from benchmark.ranking import Column, Surface
from benchmark.records import Leaderboard, Rejected
from benchmark.reporting.commands import next_commands
from benchmark.reporting.formats import by_rank, display, number, ranking_columns, score, shown_columns, text
from benchmark.reporting.pick_errors import PickErrors
from benchmark.reporting.plots import Plot
from benchmark.statistics import METRICS

if TYPE_CHECKING:
    import jinja2

_REJECTED_SHOWN = 200
_MOST_ROWS_IN_FULL = 300
_CHARTED = "f1_vs_size"  # the page draws it itself, where scripts run


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What stands on the page below the board.

    Attributes:
        title: heading, for example the data set's name.
        baselines: rows of ``baselines.csv``.
        has_baseline_scores: whether ``baseline_scores.csv`` lies beside the page.
        rejected: files that were left out.
        errors: how the picks err.
        plots: pictures.
        facts: what the board was made of, by heading.
        source: the data set as a command names it; without it no command is shown.
        options: that the board was ranked with.
    """

    title: str = "Leaderboard"
    baselines: Sequence[Mapping[str, Any]] = ()
    has_baseline_scores: bool = False
    rejected: Sequence[Rejected] = ()
    errors: Sequence[PickErrors] = ()
    plots: Sequence[Plot] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def environment() -> jinja2.Environment:
    """The templates of all pages; text is escaped, a name that is not given is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("benchmark.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html_bytes(board: Leaderboard, extras: Extras) -> bytes:
    """One page without external resources: styles, script and pictures stand inside; all text is escaped."""
    scored, left_out = by_rank(board)
    usual = shown_columns(board, scored, Surface.PAGE)
    columns = [*usual, *_extra_columns(board, scored, usual)]
    plots = [(plot, base64.b64encode(plot.png).decode()) for plot in extras.plots]
    page = (
        environment()
        .get_template("board.html.jinja")
        .render(
            title=text(extras.title),
            picks=_picks(board, scored, extras),
            metric=METRICS[board.metric].title,
            summary=text(board.summary),
            notes=[(text(note), is_alarm(note)) for note in board.notes],
            statements=[text(statement) for statement in board.statements],
            columns=[(each, _class(each, board, extra=each not in usual)) for each in columns],
            rows=[_cells(row, columns, usual, scored, board) for row in scored],
            left_out=[
                {key: text(row.get(key)) for key in ("backbone", "status", "reason")} for row in left_out
            ],
            errors=extras.errors,
            plots=[each for each in plots if each[0].name != _CHARTED],
            charted=[each for each in plots if each[0].name == _CHARTED],
            baseline_columns=columns_of(extras.baselines),
            baselines=[
                [_plain(row.get(key)) for key in columns_of(extras.baselines)] for row in extras.baselines
            ],
            has_baseline_scores=extras.has_baseline_scores,
            rejected=[(text(file.path), text(file.reason)) for file in extras.rejected[:_REJECTED_SHOWN]],
            rejected_more=max(len(extras.rejected) - _REJECTED_SHOWN, 0),
            facts=[(heading, text(value)) for heading, value in extras.facts.items()],
        )
    )
    return page.encode()


def is_alarm(note: str) -> bool:
    """Notes that nobody may miss are led by capitals."""
    return note.partition(":")[0].isupper()


def _extra_columns(
    board: Leaderboard, scored: Sequence[Mapping[str, Any]], usual: Sequence[Column]
) -> list[Column]:
    """Columns that the page shows when asked to; a board of very many backbones has them in its files."""
    if len(scored) > _MOST_ROWS_IN_FULL:
        return []
    taken = {each.name for each in usual}
    taken |= {f"{each.name}{end}" for each in usual if each.format == "interval" for end in ("_low", "_high")}
    others = [Column.named(name) for name in board.columns if name not in taken]
    return [each for each in others if each.help and any(display(row, each) for row in scored)]


def _picks(board: Leaderboard, scored: Sequence[Mapping[str, Any]], extras: Extras) -> list[dict[str, Any]]:
    """A card for each backbone that is picked, the winner first."""
    rows = sorted((row for row in scored if row.get("pick")), key=lambda row: row["backbone"] != board.winner)
    return [_pick(board, row, extras) for row in rows if board.winner is not None]


def _pick(board: Leaderboard, row: Mapping[str, Any], extras: Extras) -> dict[str, Any]:
    source, metric, name = extras.source, METRICS[board.metric].title, text(row["backbone"])
    names, bound = (
        text(row["pick"]).split(", "),
        f"at most {score(board.loss_bound)} {metric} to the best (95 %)",
    )
    winner = f"The smallest that gives away little: {bound}."
    if "best score" in names:
        winner = f"No smaller one is sure to give away little; itself {bound}."
    why = {
        "winner": winner,
        "best score": f"The highest {metric} on images that trained no head.",
        "best value": "The knee of score against size: what is larger gains less for its bytes.",
    }
    facts = {
        f"validation {metric}, 95 % interval": display(row, Column.named(f"val_{board.metric}")),
        "F1 to expect on new images, 95 % interval": display(row, Column.named("new_f1")),
        f"test {metric}": display(row, Column.named(f"test_{board.metric}")),
        "size (float32)": display(row, Column.named("size_bytes")),
        "time of an image here": (ms := display(row, Column.named("latency_ms"))) and f"{ms} ms",
    }
    return {
        "name": name,
        "title": " and ".join(names),
        "winner": row["backbone"] == board.winner,
        "reasons": [why[each] for each in names if each in why],
        "facts": [(heading, value) for heading, value in facts.items() if value],
        "commands": [text(shlex.join(words)) for words in next_commands(board, source, extras.options)]
        if source and row["backbone"] == board.winner
        else [],
    }


def _plain(value: object) -> str:
    return figure(value, 4) if isinstance(value, float) else text(value)


def _cells(
    row: Mapping[str, Any],
    columns: Sequence[Column],
    usual: Sequence[Column],
    scored: Sequence[Mapping[str, Any]],
    board: Leaderboard,
) -> dict[str, Any]:
    """One table row: shown text, sort value, the drawing of the interval, and its point in the chart."""
    ends = (f"val_{board.metric}_low", f"val_{board.metric}", f"val_{board.metric}_high")
    known = [value for other in scored for end in ends if not math.isnan(value := number(other, end))]
    low, span = min(known, default=0.0), max(max(known, default=1.0) - min(known, default=0.0), 1e-9)
    drawn = [f"{100 * (number(row, end) - low) / span:.2f}" for end in ends]
    first = row.get("tie_group") == scored[0].get("tie_group")
    return {
        "winner": row["backbone"] == board.winner,
        "first": first,
        "point": {
            "name": text(row["backbone"]),
            "family": text(row.get("family")),
            "pick": text(row.get("pick")) if board.winner is not None else "",
            "tied": first,
            "shown": display(row, Column.named(ends[1])),
            "low": _rounded(number(row, ends[0])),
            "score": _rounded(number(row, ends[1])),
            "high": _rounded(number(row, ends[2])),
            "size": _rounded(number(row, "size_bytes") / 1e6),
            "latency": _rounded(number(row, "latency_ms")),
        },
        "bar": None if any(math.isnan(number(row, end)) for end in ends) else drawn,
        "barred": ends[1],
        "cells": [
            (each, _class(each, board, extra=each not in usual), display(row, each), _sort_value(row, each))
            for each in columns
        ],
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def _class(column: Column, board: Leaderboard, *, extra: bool) -> str:
    """The classes of a column's cells in the page's style sheet."""
    is_wide = Surface.PHONE not in column.surfaces and column not in ranking_columns(board)
    kinds = {"number": column.is_number, "wide": is_wide, "extra": extra}
    return " ".join([f"c-{column.name}", *(kind for kind, applies in kinds.items() if applies)])


def _sort_value(row: Mapping[str, Any], column: Column) -> str:
    if not column.is_number:
        return text(row.get(column.name)).lower()
    value = number(row, column.name)
    return "" if math.isnan(value) else repr(value)
