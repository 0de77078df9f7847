"""What F1 becomes when a model is exported: the board's own probabilities, moved as the export moves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.ranking.board import data_seed, sample_at
from benchmark.records import Average, Float32, Float64, Int64, Scored, Targets, Task
from benchmark.statistics import ErrorCounts, Interval, decide, estimates

# The output of an int8 export has 256 steps: nearer to 0 or 1 it cannot tell how far it is.
_STEP = 1 / 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedF1:
    """F1 with an export, on the validated images that it was run on.

    Attributes:
        f1: with its 95 % interval.
        lost: F1 that the export costs: that of the same images without it, less ``f1``. Of a sample of the
            images, ``f1`` differs from ``val_f1`` by chance, too, and only this says what the export does.
        images: their number.
    """

    f1: Interval
    lost: float
    images: int


def exported_f1(
    outcome: Scored,
    targets: Targets,
    positions: Int64,
    before: Float32,
    after: Float32,
    *,
    temperature: float = 1.0,
    average: Average | None = None,
    seed: int = 0,
) -> ExportedF1:
    """What ``val_f1`` becomes with an export.

    The head that is exported was trained on the validated images, and its score on them would flatter. So
    the logits of the heads that had not seen an image, those behind ``val_f1``, are moved by as much as the
    export moves the logit of the exported head on that image. An export that changes nothing, run on all
    images, gives ``val_f1`` and its interval.

    Args:
        outcome: of the backbone on the board.
        targets: labels, classes and groups of all images.
        positions: int64 (N,), of images in the data set; those that were not validated are not looked at.
        before: float32 (N, C), probabilities of the model before the export.
        after: float32 (N, C), of the export.
        temperature: that the logits of both were divided by, and those of the board were not.
        average: of F1; None takes the task's usual one.
        seed: of the board.
    """
    found = outcome.predictions
    order = np.argsort(positions)
    kept = np.isin(found.val_rows, positions)
    rows = found.val_rows[kept]
    at = order[np.searchsorted(positions, rows, sorter=order)]
    held_out = found.val[:, kept]
    moved = _moved(held_out, before[at], after[at], targets.task, temperature)
    sample = sample_at(targets, rows, average)
    moved_errors, errors = (
        ErrorCounts.of(decide(each, found.val_thresholds[:, kept], targets.task), sample)
        for each in (moved, held_out)
    )
    value, low, high = estimates(sample, [moved_errors], seed=data_seed(targets, rows, seed))[0].tolist()
    lost = float(errors.score(sample).mean()) - value
    return ExportedF1(f1=Interval(value=value, low=low, high=high), lost=lost, images=len(rows))


def _moved(
    probabilities: Float32, before: Float32, after: Float32, task: Task, temperature: float
) -> Float64:
    """Probabilities (R, N, C) moved on the scale of logits; of exclusive classes not summing to 1."""
    with np.errstate(divide="ignore"):  # a probability of 0 or 1 stays what it is
        logits = _logit(probabilities.astype(np.float64), task)
        ends = (np.clip(each.astype(np.float64), _STEP, 1 - _STEP) for each in (before, after))
        start, end = (_logit(each, task) for each in ends)
        moved = logits + temperature * (end - start)
    if task is Task.MULTICLASS:
        return np.asarray(moved)
    # What is not moved keeps its probability to the last bit.
    return np.where(end == start, probabilities, 1 / (1 + np.exp(-moved)))


def _logit(probabilities: Float64, task: Task) -> Float64:
    logarithm: Float64 = np.log(probabilities)
    return logarithm if task is Task.MULTICLASS else logarithm - np.log1p(-probabilities)
