"""From outcomes to a leaderboard: a value, computed without files, clock or TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from benchmark.cells import missing
from benchmark.errors import ArgumentError
from benchmark.heads import FewerImages
from benchmark.ranking.columns import COLUMNS, Scores
from benchmark.ranking.statements import Findings, notes_of, statements_of
from benchmark.records import (
    DEFAULT_MARGIN,
    Average,
    Float64,
    HeadProtocol,
    Int64,
    Leaderboard,
    Outcome,
    Predictions,
    Scored,
    Targets,
    Task,
)
from benchmark.statistics import (
    METRICS,
    Assessment,
    ErrorCounts,
    LearningCurve,
    Sample,
    assess,
    decide,
    default_average,
    estimates,
    final_head_estimates,
    fit_curve,
    scores,
)

_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardOptions:
    """How a leaderboard is computed.

    Attributes:
        metric: what ranks, ties and picks go by, of ``METRICS``.
        average: of it over classes; None means BINARY for two classes, MACRO for more and for multi-label.
        max_loss: score that the winner may give away to the best for being smaller (upper 95 % bound).
        seed: of resampling, mixed with the data.
        resamples: of the bootstrap.
        ungrouped: outcomes of the same backbones when related images may stand on both sides of a split; they
            fill the column ``val_f1_ungrouped`` and decide nothing.
    """

    metric: str = "f1"
    average: Average | None = None
    max_loss: float = DEFAULT_MARGIN
    seed: int = 0
    resamples: int = 2000
    ungrouped: Sequence[Outcome] = ()

    def __post_init__(self) -> None:
        known = [name for name, metric in METRICS.items() if metric.ranks]
        if self.metric not in known:
            raise ArgumentError(
                "no metric to rank by", where="`rank_by`", expected=", ".join(known), got=self.metric
            )
        if not 0 <= self.max_loss <= 1:
            raise ArgumentError(
                "the loss is out of range", where="max_loss", expected="0 to 1", got=self.max_loss
            )
        if self.resamples < 100:
            raise ArgumentError(
                "too few resamples for an interval", where="resamples", expected=">= 100", got=self.resamples
            )


def build_leaderboard(
    outcomes: Sequence[Outcome], targets: Targets, options: BoardOptions | None = None
) -> Leaderboard:
    """Rank backbones by F1 (or another metric), then size, then name; pick; say what the data can tell.

    The order of ``outcomes`` does not matter, and the test part decides nothing.

    Args:
        outcomes: one per backbone. Scored ones were validated on the same images.
        targets: labels, classes and groups of all images.
        options: average, tolerated loss, seed.

    Returns:
        The board. Backbones that were not scored come last, by name, without rank.

    Raises:
        ArgumentError: backbones validated on different images, or two outcomes of one name.
    """
    options = options or BoardOptions()
    ordered = sorted(outcomes, key=lambda outcome: outcome.backbone)
    _check_names(ordered)
    scored = [each for each in ordered if isinstance(each, Scored)]
    rest = [each for each in ordered if not isinstance(each, Scored)]
    average = default_average(targets.task, options.average)
    ungrouped = {
        each.backbone: float(validation_f1(each, targets, average).mean())
        for each in options.ungrouped
        if isinstance(each, Scored)
    }
    found, entries = None, list[tuple[Outcome, Scores | None]]()
    if scored:
        found, validated = _validated(scored, targets, options)
        new = _new_f1(scored, found, targets, options)
        for position in found.order.tolist():
            one = scored[position]
            own = Scores(
                found=found,
                position=position,
                val={name: values[position] for name, values in validated.items()},
                new=new[position],
                test=_test_scores(one.predictions, targets, options),
                threshold=_NAN if targets.task is Task.MULTICLASS else one.predictions.test_threshold,
                ungrouped_f1=ungrouped.get(one.backbone, _NAN),
            )
            entries.append((one, own))
    entries += [(outcome, None) for outcome in rest]
    rows = [{column.name: column.cell(*entry) for column in COLUMNS} for entry in entries]
    columns = [
        column.name
        for column in COLUMNS
        if not (column.optional and all(missing(row[column.name]) for row in rows))
    ]
    findings = Findings(targets=targets, found=found, entries=entries)
    picks = None if found is None else found.picks
    return Leaderboard(
        columns=tuple(columns),
        rows=tuple({name: row[name] for name in columns} for row in rows),
        metric=options.metric,
        winner=None if found is None or picks is None else found.names[picks.winner],
        loss_bound=_NAN if found is None or picks is None else float(found.loss_bounds[picks.winner]),
        statements=statements_of(findings),
        notes=notes_of(findings),
    )


def _check_names(ordered: Sequence[Outcome]) -> None:
    for one, other in pairwise(ordered):
        if one.backbone == other.backbone:
            raise ArgumentError("two outcomes have one name", where=one.backbone, expected="one per backbone")


def _validated(
    scored: Sequence[Scored], targets: Targets, options: BoardOptions
) -> tuple[Assessment, dict[str, Float64]]:
    """The assessment, and every metric with its interval, float64 (K, 3)."""
    sample, errors = validation_errors(scored, targets, options.average, options.metric)
    seed = data_seed(targets, scored[0].predictions.val_rows, options.seed)
    found = assess(
        sample,
        errors,
        names=[outcome.backbone for outcome in scored],
        sizes=[max(outcome.size_bytes, 1) for outcome in scored],
        margin=options.max_loss,
        resamples=options.resamples,
        seed=seed,
    )
    validated = {
        name: estimates(replace(sample, metric=metric), errors, resamples=options.resamples, seed=seed)
        for name, metric in METRICS.items()
        if name != options.metric
    }
    return found, validated | {options.metric: np.column_stack([found.score, found.intervals])}


def _new_f1(scored: Sequence[Scored], found: Assessment, targets: Targets, options: BoardOptions) -> Float64:
    """F1 on new images of heads trained on all, float64 (K, 3): expected, low, high; nan where unknown."""
    new = np.full((len(scored), 3), _NAN)
    known, heads, smaller = [], [], []
    for position, outcome in enumerate(scored):
        predictions = outcome.predictions
        if predictions.val_smaller is not None:
            decided = decide(predictions.val_smaller, predictions.val_thresholds, targets.task)
            known.append(position)
            heads.append(_error_counts(predictions, found.sample, targets.task))
            smaller.append(ErrorCounts.of(decided, found.sample))
            sizes = predictions.train_sizes
    if known:
        seed = data_seed(targets, _common_rows(scored), options.seed)
        sample = replace(found.sample, metric=METRICS["f1"])
        assert sizes is not None
        new[known] = final_head_estimates(
            sample, heads, smaller, sizes, resamples=options.resamples, seed=seed
        )
    return new


def validation_errors(
    scored: Sequence[Scored], targets: Targets, average: Average | None = None, metric: str = "f1"
) -> tuple[Sample, list[ErrorCounts]]:
    """The images that outcomes were validated on, and the errors of each of them there.

    Raises:
        ArgumentError: they were validated on different images.
    """
    sample = sample_at(targets, _common_rows(scored), average, metric)
    return sample, [_error_counts(outcome.predictions, sample, targets.task) for outcome in scored]


def sample_at(targets: Targets, rows: Int64, average: Average | None = None, metric: str = "f1") -> Sample:
    """The images of some rows, with their groups, to be scored by a metric."""
    groups = None if targets.groups is None else targets.groups[rows]
    return Sample.of(targets.targets[rows], default_average(targets.task, average), groups, METRICS[metric])


def _common_rows(scored: Sequence[Scored]) -> Int64:
    first = scored[0]
    for outcome in scored[1:]:
        if not np.array_equal(outcome.predictions.val_rows, first.predictions.val_rows):
            raise ArgumentError(
                "backbones were validated on different images",
                where=outcome.backbone,
                expected=f"the {len(first.predictions.val_rows)} images of {first.backbone}",
                got=f"{len(outcome.predictions.val_rows)} images",
            )
    return first.predictions.val_rows


def _error_counts(predictions: Predictions, sample: Sample, task: Task) -> ErrorCounts:
    return ErrorCounts.of(decide(predictions.val, predictions.val_thresholds, task), sample)


def validation_f1(outcome: Scored, targets: Targets, average: Average | None = None) -> Float64:
    """Pooled out-of-fold F1 of each repeat, float64 (R,); its mean is ``val_f1``."""
    sample, (errors,) = validation_errors([outcome], targets, average)
    return errors.score(sample)


def curve_of(outcome: Scored, fewer: FewerImages, targets: Targets, protocol: HeadProtocol) -> LearningCurve:
    """The learning curve of one backbone, to twice its training images; its last point is ``val_f1``.

    Args:
        outcome: scored, of heads on all images.
        fewer: the same heads on fewer images, of one size at least.
        targets: labels, classes and groups of all images.
        protocol: average and seed.
    """
    rows = outcome.predictions.val_rows
    sample = sample_at(targets, rows, protocol.average)
    found = {**fewer.predictions, fewer.images: outcome.predictions}
    return fit_curve(
        sample,
        {images: _error_counts(each, sample, targets.task) for images, each in found.items()},
        images=2 * fewer.images,
        seed=data_seed(targets, rows, protocol.seed),
    )


def data_seed(targets: Targets, rows: Int64, seed: int) -> int:
    """A seed that depends on nothing but the scored images, their labels and groups, and the user's seed."""
    digest = hashlib.sha256(f"{seed}|{targets.task}|".encode())
    digest.update(np.ascontiguousarray(rows, "<i8").tobytes())
    digest.update(np.ascontiguousarray(targets.targets[rows], "<f4").tobytes())
    if targets.groups is not None:
        digest.update(np.ascontiguousarray(targets.groups[rows], "<i8").tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def _test_scores(predictions: Predictions, targets: Targets, options: BoardOptions) -> dict[str, float]:
    """Scores on the test part, with the intervals of the metrics; nothing where there is none."""
    rows = predictions.test_rows
    if not len(rows):
        return {}
    sample = sample_at(targets, rows, options.average)
    decided = decide(predictions.test, predictions.test_threshold, targets.task)
    reached = scores(decided, targets.targets[rows], sample.average)
    errors, seed = [ErrorCounts.of(decided[None], sample)], data_seed(targets, rows, options.seed)
    for name in {"f1", options.metric}:
        scored_by = replace(sample, metric=METRICS[name])
        (ends,) = estimates(scored_by, errors, resamples=options.resamples, seed=seed).tolist()
        reached |= {f"{name}_low": ends[1], f"{name}_high": ends[2]}
    return reached
