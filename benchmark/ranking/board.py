"""From outcomes to a leaderboard: a value, computed without files, clock or TensorFlow."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmark.errors import ArgumentError
from benchmark.ranking.metrics import Counts, decide, default_average, f1_of_counts, scores
from benchmark.ranking.resampling import Mistakes, Sample, resample
from benchmark.ranking.statements import Findings, at_chance, notes_of, statements_of
from benchmark.ranking.ties import Comparison, TieGroup, above, compare, tie_groups
from benchmark.records import Average, Float64, Int64, Leaderboard, Outcome, Status, Task, Truth

BOARD_COLUMNS = (
    "rank",
    "backbone",
    "family",
    "source",
    "status",
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
_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardOptions:
    """How a leaderboard is computed.

    Attributes:
        average: of F1 over classes; None means BINARY for two classes, MACRO for more and for multi-label.
        max_loss: the first tie group keeps only backbones that give away at most this much F1 to the best
            (upper 95 % bound); None keeps all.
        seed: of resampling, mixed with the data.
        resamples: of the bootstrap.
        ungrouped: outcomes of the same backbones when related images may stand on both sides of a split; they
            fill the column ``val_f1_ungrouped`` and decide nothing.
    """

    average: Average | None = None
    max_loss: float | None = None
    seed: int = 0
    resamples: int = 2000
    ungrouped: Sequence[Outcome] = ()

    def __post_init__(self) -> None:
        if self.max_loss is not None and not 0 <= self.max_loss <= 1:
            raise ArgumentError(
                "the F1 to give away is out of range", where="max_loss", expected="0 to 1", got=self.max_loss
            )
        if self.resamples < 100:
            raise ArgumentError(
                "too few resamples for an interval", where="resamples", expected=">= 100", got=self.resamples
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """Everything that is computed over the scored backbones, in their order."""

    outcomes: tuple[Outcome, ...]
    sample: Sample
    mistakes: tuple[Mistakes, ...]
    comparison: Comparison
    intervals: Float64
    groups: tuple[TieGroup, ...]
    better_than_chance: tuple[bool, ...]

    def order(self) -> list[tuple[int, int]]:
        """(tie group from 1, position), by tie group, size and name: the ranking."""
        return [
            (number, position)
            for number, group in enumerate(self.groups, start=1)
            for position in sorted(group.members.tolist(), key=self._size_and_name)
        ]

    def _size_and_name(self, position: int) -> tuple[int, str]:
        return self.outcomes[position].size_bytes, self.outcomes[position].backbone

    def loss_bounds(self) -> dict[int, float]:
        """Position -> what choosing it may give away, for the first tie group."""
        first = self.groups[0]
        return dict(zip(first.members.tolist(), first.loss_bounds.tolist(), strict=True))


def build_leaderboard(
    outcomes: Sequence[Outcome], truth: Truth, options: BoardOptions | None = None
) -> Leaderboard:
    """Rank backbones by tie group, then size, then name; say what the data can and cannot tell.

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
    ranked = _score(scored, truth, options) if scored else None
    rows = [] if ranked is None else _scored_rows(ranked, truth, average)
    rows += [_unscored_row(outcome) for outcome in rest]
    for row in rows:
        if ungrouped:
            row[UNGROUPED_COLUMN] = ungrouped.get(row["backbone"], _NAN)
    findings = _findings(ranked, rest, rows, truth, options)
    picked = bool(findings.names) and not at_chance(findings)
    return Leaderboard(
        columns=columns,
        rows=tuple({column: row[column] for column in columns} for row in rows),
        winner=findings.names[0] if picked else None,
        loss_bound=findings.loss_bound if picked else _NAN,
        statements=statements_of(findings),
        notes=notes_of(findings),
    )


def _check_names(ordered: Sequence[Outcome]) -> None:
    for one, other in pairwise(ordered):
        if one.backbone == other.backbone:
            raise ArgumentError("two outcomes have one name", where=one.backbone, expected="one per backbone")


def _score(scored: Sequence[Outcome], truth: Truth, options: BoardOptions) -> _Scored:
    rows = _common_rows(scored)
    average = default_average(truth.task, options.average)
    groups = None if truth.groups is None else truth.groups[rows]
    sample = Sample.of(truth.targets[rows], average, groups)
    mistakes = tuple(_mistakes(outcome, sample, truth.task) for outcome in scored)
    comparison = compare(sample, mistakes)
    seed = data_seed(truth, rows, options.seed)
    intervals = resample(sample, mistakes, resamples=options.resamples, seed=seed).intervals()
    levels = np.array([chance_f1(sample, each) for each in mistakes])
    return _Scored(
        outcomes=tuple(scored),
        sample=sample,
        mistakes=mistakes,
        comparison=comparison,
        intervals=np.stack(
            [np.minimum(intervals[:, 0], comparison.f1), np.maximum(intervals[:, 1], comparison.f1)], -1
        ),
        groups=tie_groups(comparison, max_loss=options.max_loss, seed=seed),
        better_than_chance=tuple(above(comparison, levels, seed=seed).tolist()),
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


def chance_f1(sample: Sample, mistakes: Mistakes) -> float:
    """The best F1 that needs no look at the images.

    That is a constant answer, each class alone or all labels together, or this backbone's own decisions
    dealt out at random, for whose F1 their expected counts stand.
    """
    positives, total = sample.positives, len(sample.targets)
    answers = np.vstack([np.eye(len(positives)), np.ones(len(positives))])
    if len(positives) == 1:
        answers = np.array([[0.0], [1.0]])
    missed, alarms = mistakes.totals
    decided_share = ((positives - missed + alarms) / max(total, 1)).mean(0)
    shares = np.vstack([answers, decided_share])
    counts = Counts(
        tp=shares * positives,
        fp=shares * sample.negatives,
        fn=(1 - shares) * positives,
        tn=(1 - shares) * sample.negatives,
    )
    return float(f1_of_counts(counts, sample.average).max())


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


def _scored_rows(ranked: _Scored, truth: Truth, average: Average) -> list[dict[str, Any]]:
    rows = []
    bounds = ranked.loss_bounds()
    for rank, (group, position) in enumerate(ranked.order(), start=1):
        outcome = ranked.outcomes[position]
        each_repeat = ranked.mistakes[position].f1(ranked.sample)
        row = _facts(outcome)
        row |= {
            "rank": rank,
            "tie_group": group,
            "val_f1": float(ranked.comparison.f1[position]),
            "val_f1_low": float(ranked.intervals[position, 0]),
            "val_f1_high": float(ranked.intervals[position, 1]),
            "val_f1_spread": float(np.std(each_repeat, ddof=1)) if len(each_repeat) > 1 else _NAN,
            "loss_bound": bounds.get(position, _NAN),
        }
        row |= _test_scores(outcome, truth, average)
        rows.append(row)
    return rows


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


def _test_scores(outcome: Outcome, truth: Truth, average: Average) -> Mapping[str, float]:
    assert outcome.predictions is not None
    predictions = outcome.predictions
    threshold = _NAN if truth.task is Task.MULTICLASS else predictions.test_threshold
    names = ("f1", "accuracy", "precision", "recall")
    if not len(predictions.test_rows):
        return {f"test_{name}": _NAN for name in names} | {"threshold": threshold}
    decided = decide(predictions.test, predictions.test_threshold, truth.task)
    found = scores(decided, truth.targets[predictions.test_rows], average)
    return {f"test_{name}": found[name] for name in names} | {"threshold": threshold}


def _unscored_row(outcome: Outcome) -> dict[str, Any]:
    empty = ("val_f1", "val_f1_low", "val_f1_high", "val_f1_spread", "loss_bound", "threshold")
    tests = ("test_f1", "test_accuracy", "test_precision", "test_recall")
    blank: dict[str, Any] = {"rank": None, "tie_group": None}
    return blank | dict.fromkeys(empty + tests, _NAN) | _facts(outcome)


def _findings(
    ranked: _Scored | None,
    rest: Sequence[Outcome],
    rows: Sequence[Mapping[str, Any]],
    truth: Truth,
    options: BoardOptions,
) -> Findings:
    unscored = tuple((each.backbone, each.status) for each in rest)
    if ranked is None:
        return Findings(truth=truth, unscored=unscored)
    positions = [position for _, position in ranked.order()]
    first = ranked.groups[0]
    comparison = ranked.comparison.only(np.array(positions))
    return Findings(
        truth=truth,
        unscored=unscored,
        sample=ranked.sample,
        names=tuple(ranked.outcomes[position].backbone for position in positions),
        weights=tuple(ranked.outcomes[position].weights for position in positions),
        f1=comparison.f1,
        statistics=comparison.statistics,
        first_group=len(first.members),
        tied=first.tied,
        critical=first.critical,
        loss_bound=ranked.loss_bounds()[positions[0]],
        max_loss=options.max_loss,
        chance=max(chance_f1(ranked.sample, each) for each in ranked.mistakes),
        any_better_than_chance=any(ranked.better_than_chance),
        test_f1=float(rows[0]["test_f1"]),
        ungrouped_f1=float(rows[0].get(UNGROUPED_COLUMN, math.nan)),
    )
