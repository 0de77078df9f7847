"""From outcomes to a leaderboard: a value, computed without files, clock or TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmark.errors import ArgumentError
from benchmark.ranking.statements import Findings, notes_of, statements_of
from benchmark.records import Average, Float64, Int64, Leaderboard, Outcome, Status, Task, Truth, WeightsKind
from benchmark.statistics import (
    DEFAULT_MARGIN,
    Assessment,
    Mistakes,
    Sample,
    assess,
    decide,
    default_average,
    resample,
    scores,
)

BOARD_COLUMNS = (
    "rank",
    "backbone",
    "family",
    "source",
    "status",
    "pick",
    "tie_group",
    "val_f1",
    "val_f1_low",
    "val_f1_high",
    "test_f1",
    "test_accuracy",
    "test_precision",
    "test_recall",
    "threshold",
    "size_bytes",
    "params",
    "embedding_dim",
    "input_size",
    "images_per_second",
    "latency_ms",
    "embed_seconds",
    "head_seconds",
    "weights",
    "weights_sha256",
    "reason",
)
EXTRA_COLUMNS = (
    "val_f1_spread",
    "test_f1_low",
    "test_f1_high",
    "loss_bound",
    "engine",
    "precision",
    "latency_p95_ms",
    "noisy",
    "images_embedded",
    "flops",
    "notes",
)
UNGROUPED_COLUMN = "val_f1_ungrouped"
_TEST_COLUMNS = (
    "test_f1",
    "test_f1_low",
    "test_f1_high",
    "test_accuracy",
    "test_precision",
    "test_recall",
)
_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardOptions:
    """How a leaderboard is computed.

    Attributes:
        average: of F1 over classes; None means BINARY for two classes, MACRO for more and for multi-label.
        max_loss: F1 that the winner may give away to the best for being smaller (upper 95 % bound).
        seed: of resampling, mixed with the data.
        resamples: of the bootstrap.
        ungrouped: outcomes of the same backbones when related images may stand on both sides of a split; they
            fill the column ``val_f1_ungrouped`` and decide nothing.
    """

    average: Average | None = None
    max_loss: float = DEFAULT_MARGIN
    seed: int = 0
    resamples: int = 2000
    ungrouped: Sequence[Outcome] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.max_loss <= 1:
            raise ArgumentError(
                "the F1 to give away is out of range", where="max_loss", expected="0 to 1", got=self.max_loss
            )
        if self.resamples < 100:
            raise ArgumentError(
                "too few resamples for an interval", where="resamples", expected=">= 100", got=self.resamples
            )


def build_leaderboard(
    outcomes: Sequence[Outcome], truth: Truth, options: BoardOptions | None = None
) -> Leaderboard:
    """Rank backbones by F1, then size, then name; pick, and say what the data can and cannot tell.

    The order of ``outcomes`` does not matter, and the test part decides nothing.

    Args:
        outcomes: one per backbone. Scored ones were validated on the same images.
        truth: labels, classes and groups of all images.
        options: average, tolerated loss, seed.

    Returns:
        The board. Backbones that were not scored come last, by name, without rank.

    Raises:
        ArgumentError: backbones validated on different images, or two outcomes of one name.
    """
    options = options or BoardOptions()
    ordered = sorted(outcomes, key=lambda outcome: outcome.backbone)
    _check_names(ordered)
    scored = [each for each in ordered if each.status is Status.SCORED and each.predictions is not None]
    rest = [each for each in ordered if not (each.status is Status.SCORED and each.predictions is not None)]
    average = default_average(truth.task, options.average)
    ungrouped = {each.backbone: _own_f1(each, truth, average) for each in options.ungrouped}
    columns = BOARD_COLUMNS + EXTRA_COLUMNS + ((UNGROUPED_COLUMN,) if ungrouped else ())
    found = _assess(scored, truth, options) if scored else None
    rows = [] if found is None else _scored_rows(scored, found, truth, options)
    rows += [_unscored_row(outcome) for outcome in rest]
    for row in rows:
        if ungrouped:
            row[UNGROUPED_COLUMN] = ungrouped.get(row["backbone"], _NAN)
    findings = _findings(found, scored, rest, rows, truth)
    picks = None if found is None else found.picks
    return Leaderboard(
        columns=columns,
        rows=tuple({column: row[column] for column in columns} for row in rows),
        winner=None if found is None or picks is None else found.names[picks.winner],
        loss_bound=_NAN if found is None or picks is None else float(found.loss_bounds[picks.winner]),
        statements=statements_of(findings),
        notes=notes_of(findings),
    )


def _check_names(ordered: Sequence[Outcome]) -> None:
    for one, other in pairwise(ordered):
        if one.backbone == other.backbone:
            raise ArgumentError("two outcomes have one name", where=one.backbone, expected="one per backbone")


def _assess(scored: Sequence[Outcome], truth: Truth, options: BoardOptions) -> Assessment:
    rows = _common_rows(scored)
    groups = None if truth.groups is None else truth.groups[rows]
    sample = Sample.of(truth.targets[rows], default_average(truth.task, options.average), groups)
    return assess(
        sample,
        [_mistakes(outcome, sample, truth.task) for outcome in scored],
        names=[outcome.backbone for outcome in scored],
        sizes=[max(outcome.size_bytes, 1) for outcome in scored],
        margin=options.max_loss,
        resamples=options.resamples,
        seed=data_seed(truth, rows, options.seed),
    )


def _common_rows(scored: Sequence[Outcome]) -> Int64:
    first = scored[0]
    assert first.predictions is not None
    for outcome in scored[1:]:
        assert outcome.predictions is not None
        if not np.array_equal(outcome.predictions.val_rows, first.predictions.val_rows):
            raise ArgumentError(
                "backbones were validated on different images",
                where=outcome.backbone,
                expected=f"the {len(first.predictions.val_rows)} images of {first.backbone}",
                got=f"{len(outcome.predictions.val_rows)} images",
            )
    return first.predictions.val_rows


def _mistakes(outcome: Outcome, sample: Sample, task: Task) -> Mistakes:
    assert outcome.predictions is not None
    predictions = outcome.predictions
    return Mistakes.of(decide(predictions.val, predictions.val_thresholds, task), sample)


def validation_f1(outcome: Outcome, truth: Truth, average: Average | None = None) -> Float64:
    """Pooled out-of-fold F1 of each repeat, float64 (R,); its mean is ``val_f1``.

    Raises:
        ArgumentError: the outcome holds no predictions.
    """
    if outcome.predictions is None:
        raise ArgumentError("no predictions to score", where=outcome.backbone)
    targets = truth.targets[outcome.predictions.val_rows]
    sample = Sample.of(targets, default_average(truth.task, average))
    return _mistakes(outcome, sample, truth.task).f1(sample)


def _own_f1(outcome: Outcome, truth: Truth, average: Average) -> float:
    if outcome.predictions is None:
        return _NAN
    return float(validation_f1(outcome, truth, average).mean())


def data_seed(truth: Truth, rows: Int64, seed: int) -> int:
    """A seed that depends on nothing but the scored images, their labels and groups, and the user's seed.

    Args:
        truth: labels and groups of all images.
        rows: int64 (V,), the scored images.
        seed: the user's.
    """
    digest = hashlib.sha256(f"{seed}|{truth.task}|".encode())
    digest.update(np.ascontiguousarray(rows, "<i8").tobytes())
    digest.update(np.ascontiguousarray(truth.targets[rows], "<f4").tobytes())
    if truth.groups is not None:
        digest.update(np.ascontiguousarray(truth.groups[rows], "<i8").tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def _scored_rows(
    scored: Sequence[Outcome], found: Assessment, truth: Truth, options: BoardOptions
) -> list[dict[str, Any]]:
    group_of = {
        position: number
        for number, group in enumerate(found.groups, start=1)
        for position in group.members.tolist()
    }
    tested = _test_scores(scored, truth, options)
    rows = []
    for rank, position in enumerate(found.order.tolist(), start=1):
        each_repeat = found.repeats_f1[position]
        row = _facts(scored[position])
        row |= {
            "rank": rank,
            "pick": _pick(found, position),
            "tie_group": group_of[position],
            "val_f1": float(found.f1[position]),
            "val_f1_low": float(found.intervals[position, 0]),
            "val_f1_high": float(found.intervals[position, 1]),
            "val_f1_spread": float(np.std(each_repeat, ddof=1)) if len(each_repeat) > 1 else _NAN,
            "loss_bound": float(found.loss_bounds[position]),
        }
        rows.append(row | tested[position])
    return rows


def _pick(found: Assessment, position: int) -> str:
    if found.picks is None:
        return ""
    named = (
        ("winner", found.picks.winner),
        ("best score", found.picks.best),
        ("best value", found.picks.value),
    )
    return ", ".join(name for name, picked in named if picked == position)


def _facts(outcome: Outcome) -> dict[str, Any]:
    """The columns that are copied from an outcome."""
    return {
        "backbone": outcome.backbone,
        "family": outcome.family,
        "source": outcome.source,
        "status": outcome.status.value,
        "size_bytes": outcome.size_bytes,
        "params": outcome.params,
        "embedding_dim": outcome.embedding_dim,
        "input_size": outcome.input_size,
        "images_per_second": outcome.images_per_second,
        "latency_ms": outcome.latency_ms,
        "embed_seconds": outcome.embed_seconds,
        "head_seconds": outcome.head_seconds,
        "weights": outcome.weights,
        "weights_sha256": outcome.weights_sha256,
        "reason": outcome.reason,
        "engine": "" if outcome.engine is None else outcome.engine.value,
        "precision": "" if outcome.precision is None else outcome.precision.value,
        "latency_p95_ms": outcome.latency_p95_ms,
        "noisy": outcome.noisy,
        "images_embedded": outcome.images_embedded,
        "flops": outcome.flops,
        "notes": "; ".join(outcome.notes),
    }


def _test_scores(scored: Sequence[Outcome], truth: Truth, options: BoardOptions) -> list[dict[str, float]]:
    """Scores on the test part, with the interval of F1; nan where there is none."""
    found = []
    for outcome in scored:
        predictions = outcome.predictions
        assert predictions is not None
        threshold = _NAN if truth.task is Task.MULTICLASS else predictions.test_threshold
        found.append(dict.fromkeys(_TEST_COLUMNS, _NAN) | {"threshold": threshold})
        rows = predictions.test_rows
        if len(rows):
            average = default_average(truth.task, options.average)
            groups = None if truth.groups is None else truth.groups[rows]
            sample = Sample.of(truth.targets[rows], average, groups)
            decided = decide(predictions.test, predictions.test_threshold, truth.task)
            reached = scores(decided, truth.targets[rows], average)
            drawn = resample(
                sample,
                [Mistakes.of(decided[None], sample)],
                resamples=options.resamples,
                seed=data_seed(truth, rows, options.seed),
            )
            low, high = drawn.intervals()[0].tolist()
            found[-1] |= {f"test_{name}": value for name, value in reached.items()}
            found[-1] |= {
                "test_f1_low": min(low, reached["f1"]),
                "test_f1_high": max(high, reached["f1"]),
            }
    return found


def _unscored_row(outcome: Outcome) -> dict[str, Any]:
    empty = ("val_f1", "val_f1_low", "val_f1_high", "val_f1_spread", "loss_bound", "threshold")
    blank: dict[str, Any] = {"rank": None, "tie_group": None, "pick": ""}
    return blank | dict.fromkeys(empty + _TEST_COLUMNS, _NAN) | _facts(outcome)


def _findings(
    found: Assessment | None,
    scored: Sequence[Outcome],
    rest: Sequence[Outcome],
    rows: Sequence[Mapping[str, Any]],
    truth: Truth,
) -> Findings:
    picks = None if found is None else found.picks
    picked = {} if found is None or picks is None else rows[found.order.tolist().index(picks.winner)]
    return Findings(
        truth=truth,
        unscored=tuple((each.backbone, each.status) for each in rest),
        found=found,
        random=tuple(each.backbone for each in scored if each.weights == WeightsKind.RANDOM.value),
        test_f1=tuple(float(picked.get(f"test_f1{end}", _NAN)) for end in ("", "_low", "_high")),
        ungrouped_f1=float(picked.get(UNGROUPED_COLUMN, _NAN)),
    )
