"""The columns of a board, each written once: what it holds, where it stands, how it reads.

The files for programs (CSV, JSON) have every column, in the order of ``COLUMNS``. New ones go behind
``reason``, the last of those whose order is promised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import Literal

import numpy as np

from benchmark.records import Float64, Outcome
from benchmark.statistics import METRICS, Assessment, Metric

# How the values of a column are read and shown. An interval stands beside columns of its name and _low and
# _high; a speed is marked where the machine was too busy for a steady one.
Format = Literal[
    "text", "flag", "whole", "bytes", "count", "score", "interval", "seconds", "speed", "ms", "unknown"
]
_REAL = ("score", "interval", "seconds", "speed", "ms")


class Surface(Flag):
    """Where people meet a column."""

    NONE = 0
    TERMINAL = auto()
    MARKDOWN = auto()
    PAGE = auto()
    PHONE = auto()  # the page on a narrow screen
    COMPARE = auto()  # two runs side by side


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the cells of a scored backbone are made of."""

    found: Assessment  # all scored backbones
    position: int  # of this one in ``found``
    val: Mapping[str, Float64]  # every metric on validation by name (3,): mean over repeats, low, high
    new: Float64  # (3,) F1 on new images of the final head: expected, low, high; nan where not known
    test: Mapping[str, float]  # by metric, with ``f1_low`` and ``f1_high``; empty without a test part
    threshold: float  # of the decisions on the test part; nan where classes exclude each other
    ungrouped_f1: float  # when related images may stand on both sides of a split; nan when not known


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the board.

    Attributes:
        name: in CSV, JSON and ``Leaderboard.frame``.
        format: how its values are read and shown.
        help: what it means, in one clause: the tooltip of the page.
        surfaces: where people see it; programs always do.
        title: its heading for people.
        unit: of the values in files.
        priority: in a narrow terminal 1 goes first, then 2 and so on; 0 never goes, nor does what ranks.
        more_is_better: a click on its heading sorts from the top.
        optional: it stands on boards that have a value for it.
        value: the cell of a scored backbone, left empty for others; None copies the field of this name from
            any outcome.
    """

    name: str
    format: Format
    help: str
    surfaces: Surface = Surface.NONE
    title: str = ""
    unit: str = ""
    priority: int = 0
    more_is_better: bool = False
    optional: bool = False
    value: Callable[[Scores], object] | None = None

    @staticmethod
    def named(name: str) -> Column:
        """The column of a name; one that ``COLUMNS`` does not have is seen by programs alone."""
        return _BY_NAME.get(name) or Column(name, "unknown", "")

    @property
    def blank(self) -> object:
        """What an empty cell holds."""
        return {"text": "", "flag": False}.get(self.format, math.nan if self.format in _REAL else None)

    @property
    def heading(self) -> str:
        """Its heading for people."""
        return self.title or self.name

    @property
    def is_number(self) -> bool:
        """Whether it is aligned to the right and sorted by value."""
        return self.format not in {"text", "flag", "unknown"}

    def cell(self, outcome: Outcome, scores: Scores | None) -> object:
        """The value for one backbone; ``scores`` are None where it was not scored."""
        if self.value is not None:
            return self.blank if scores is None else self.value(scores)
        copied = getattr(outcome, self.name, self.blank)
        if isinstance(copied, tuple):
            return "; ".join(copied)
        return copied.value if isinstance(copied, StrEnum) else self.blank if copied is None else copied


_NONE = Surface.NONE
_TABLES = Surface.TERMINAL | Surface.MARKDOWN | Surface.PAGE
_SMALL = _TABLES | Surface.PHONE
_TERMINAL = Surface.TERMINAL
_SCREENS = _TERMINAL | Surface.PAGE
_COMPARE = Surface.COMPARE
_BOTH = _SCREENS | _COMPARE


def _rank(scores: Scores) -> int:
    return int(np.flatnonzero(scores.found.order == scores.position)[0]) + 1


def _pick(scores: Scores) -> str:
    picks = scores.found.picks
    if picks is None:
        return ""
    named = {"winner": picks.winner, "best score": picks.best, "best value": picks.value}
    return ", ".join(name for name, position in named.items() if position == scores.position)


def _tie(scores: Scores) -> int:
    groups = enumerate(scores.found.groups, start=1)
    return next(number for number, group in groups if scores.position in group.members)


def _spread(found: Assessment, position: int) -> float:
    repeats = found.repeats[position]
    return float(np.std(repeats, ddof=1)) if len(repeats) > 1 else math.nan


def _found(get: Callable[[Assessment, int], float]) -> Callable[[Scores], float]:
    """A number of the assessment; ``get`` takes it and the backbone's position."""
    return lambda scores: float(get(scores.found, scores.position))


def _val(metric: Metric, shown: Surface = _NONE, compared: Surface = _NONE) -> tuple[Column, ...]:
    """The columns of a metric on validation: ``val_<name>``, ``val_<name>_low``, ``val_<name>_high``."""

    def value(end: int) -> Callable[[Scores], float]:
        return lambda scores: float(scores.val[metric.name][end])

    name, title = f"val_{metric.name}", f"val {metric.title} [95 %]"
    meaning = f"{metric.title} on images that trained no head, mean over repeats: {metric.meaning}"
    low, high = (f"{which} end of the 95 % interval of {name}" for which in ("lower", "upper"))
    return (
        Column(name, "interval", meaning, shown | compared, title, "", 15, True, value=value(0)),
        Column(f"{name}_low", "score", low, compared, value=value(1)),
        Column(f"{name}_high", "score", high, compared, value=value(2)),
    )


def _new(name: str, format_: Format, end: int, meaning: str, shown: Surface = _NONE) -> Column:
    def value(scores: Scores) -> float:
        return float(scores.new[end])

    return Column(name, format_, meaning, shown | _COMPARE, "new F1 [95 %]", more_is_better=True, value=value)


def _test(name: str, meaning: str, surfaces: Surface = _NONE, title: str = "", priority: int = 0) -> Column:
    def value(scores: Scores) -> float:
        return scores.test.get(name, math.nan)

    return Column(f"test_{name}", "score", meaning, surfaces, title, "", priority, True, value=value)


def _later(
    name: str,
    format_: Format,
    meaning: str,
    surfaces: Surface = _NONE,
    title: str = "",
    unit: str = "",
    priority: int = 0,
) -> Column:
    """A column of exports, or of what was measured on a user's device: a finished board is given them."""
    higher = name in {"device_f1", "export_f1"}
    return Column(name, format_, meaning, surfaces, title, unit, priority, higher, optional=True)


COLUMNS = (
    Column(
        "rank",
        "whole",
        "place by val_f1 (or the metric that was asked for), then size, then name",
        _SMALL | _COMPARE,
        value=_rank,
    ),
    Column("backbone", "text", "pretrained network; what follows an @ are its own weights", _SMALL),
    Column("family", "text", "networks of one design", _TERMINAL, priority=2),
    Column("source", "text", "collection that it comes from"),
    Column("status", "text", "scored, pruned, skipped or failed", _COMPARE),
    Column("pick", "text", "worth a look, and why", _SMALL | _COMPARE, priority=13, value=_pick),
    Column(
        "tie_group",
        "whole",
        "backbones of one number cannot be told apart",
        _TABLES | _COMPARE,
        "tie",
        value=_tie,
    ),
    *_val(METRICS["f1"], _SMALL, _COMPARE),
    _test("f1", "F1 on the test part, which decided nothing", _SMALL | _COMPARE, "test F1", 12),
    _test("accuracy", "share of right answers on the test part", _COMPARE),
    _test("precision", "share of right ones in what was found in the test part", _BOTH, "precision", 8),
    _test("recall", "share found of what there is to find in the test part", _BOTH, "recall", 7),
    Column("threshold", "score", "probability that decides", _COMPARE, value=lambda scores: scores.threshold),
    Column("size_bytes", "bytes", "backbone and head in float32", _SMALL | _COMPARE, "size", "bytes"),
    Column("params", "count", "weights of the backbone", _TERMINAL | Surface.MARKDOWN, priority=9),
    Column(
        "embedding_dim",
        "whole",
        "length of an image's vector",
        _TERMINAL | Surface.MARKDOWN,
        "dim",
        priority=6,
    ),
    Column(
        "input_size",
        "whole",
        "side of the square that images are resized to",
        _TERMINAL,
        "input",
        "pixels",
        3,
    ),
    Column(
        "images_per_second",
        "speed",
        "embeddings of one core (or of the GPU) of this machine",
        _SMALL,
        "images/s",
        "1/s",
        11,
        more_is_better=True,
    ),
    Column("latency_ms", "speed", "median time of a single image", _SMALL, "ms/image", "ms", 10),
    Column(
        "embed_seconds",
        "seconds",
        "time of one core for the images of this board",
        _TERMINAL,
        "embed",
        "s",
        4,
    ),
    Column("head_seconds", "seconds", "time spent on heads", _TERMINAL, "heads", "s", 1),
    Column("weights", "text", "imagenet, random, or a path", _SMALL, priority=5),
    Column("weights_sha256", "text", "digest of the weights that were really loaded"),
    Column("reason", "text", "why it was not scored"),
    Column("val_f1_spread", "score", "standard deviation of F1 between repeats", value=_found(_spread)),
    _new(
        "new_f1",
        "interval",
        0,
        "F1 to expect on new images of the model you will get, its head trained on all of train and val",
        Surface.MARKDOWN | Surface.PAGE,
    ),
    _new("new_f1_low", "score", 1, "lower end of the 95 % interval of new_f1, training included"),
    _new("new_f1_high", "score", 2, "upper end of the 95 % interval of new_f1, training included"),
    _test("f1_low", "lower end of the 95 % interval of test_f1"),
    _test("f1_high", "upper end of the 95 % interval of test_f1"),
    Column(
        "loss_bound",
        "score",
        "F1 that choosing it may give away to the best, upper 95 % bound",
        value=_found(lambda found, k: found.loss_bounds[k]),
    ),
    Column("engine", "text", "what executed it"),
    Column("precision", "text", "arithmetic of the engine"),
    Column("latency_p95_ms", "speed", "95th percentile of the time of a single image", unit="ms"),
    Column("noisy", "flag", "whether the machine was too busy for steady timings"),
    Column("images_embedded", "whole", "images that were run through it for this board"),
    Column("flops", "count", "operations for one image, multiply and add counted as two"),
    Column("notes", "text", "remarks: fallbacks, retries"),
    Column(
        "agreement",
        "score",
        "lowest cosine of an embedding with that of its own library in float32, over the images compared",
    ),
    Column("year", "whole", "year that the design was published; empty where unknown"),
    Column(
        "pretraining",
        "text",
        "data that the published weights were trained on; empty where unknown",
        Surface.PAGE,
    ),
    Column("licence", "text", "of the published weights; empty where unknown", Surface.PAGE),
    *(each for name, metric in METRICS.items() if name != "f1" for each in _val(metric)),
    *(
        _test(name, f"{metric.meaning}, on the test part", title=f"test {metric.title}", priority=14)
        for name, metric in METRICS.items()
        if name not in {"f1", "precision", "recall"}
    ),
    Column(
        "val_f1_ungrouped",
        "score",
        "val_f1 when related images may stand on both sides of a split",
        optional=True,
        value=lambda scores: scores.ungrouped_f1,
    ),
    _later("export_target", "text", "format that the picks were exported to"),
    _later("export_f1", "interval", "val_f1 as that export changes it", _SMALL, "exported F1 [95 %]", "", 20),
    _later("export_f1_low", "score", "lower end of the 95 % interval of export_f1"),
    _later("export_f1_high", "score", "upper end of the 95 % interval of export_f1"),
    _later("export_bytes", "bytes", "the model's file in that format", _TABLES, "exported", "bytes", 16),
    _later("export_reason", "text", "what speaks against shipping it so"),
    _later("device", "text", "device that the columns of this name were measured on"),
    _later("device_target", "text", "fastest export that passed there", _TABLES, "on device", "", 16),
    _later("device_latency_ms", "ms", "median time of a single image there", _SMALL, "device ms", "ms", 18),
    _later("device_latency_p95_ms", "ms", "95th percentile of the time of a single image there", unit="ms"),
    _later(
        "device_memory_bytes",
        "bytes",
        "memory that it took there, beyond Python and its runtime",
        _TABLES,
        "device memory",
        "bytes",
        17,
    ),
    _later("device_f1", "interval", "val_f1 as that export changes it", _SMALL, "device F1 [95 %]", "", 19),
    _later("device_f1_low", "score", "lower end of the 95 % interval of device_f1"),
    _later("device_f1_high", "score", "upper end of the 95 % interval of device_f1"),
)
_BY_NAME = {each.name: each for each in COLUMNS}
