"""Decisions and the scores that follow from them: F1, accuracy, precision, recall, thresholds.

A decision is a bool array (..., N, C) beside targets (N, C), as ``ImageSet.head_targets`` gives them.
One column stands for two classes (the positive class is decided or not); averages other than BINARY then
look at both.

The precision of a class that was never decided is 0, as in scikit-learn with ``zero_division=0``. A class
without a true image among the scored ones has no score: it is left out of a macro average (scikit-learn's
with ``labels`` of the classes that occur), and ``per_class_f1`` says nan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.errors import ArgumentError
from benchmark.records import Average, Bool, Float64, Int64, Targets, Task, ThresholdKind, ThresholdRule

_MOST_CUTS = 10_001
_NOTHING = float(np.nextafter(1.0, 2.0))  # a threshold that no probability reaches
_SAME_SCORE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of images per class, (..., C) each; in a resample they are weighted."""

    tp: Float64  # decided and true
    fp: Float64  # decided and not true
    fn: Float64  # not decided and true
    tn: Float64  # neither

    def both_classes(self) -> Counts:
        """One column spread to two: the negative class first, the positive class second."""
        return Counts(
            tp=np.concatenate([self.tn, self.tp], -1),
            fp=np.concatenate([self.fn, self.fp], -1),
            fn=np.concatenate([self.fp, self.fn], -1),
            tn=np.concatenate([self.tp, self.tn], -1),
        )


def default_average(task: Task, average: Average | None = None) -> Average:
    """The average that was asked for, else BINARY for two classes and MACRO for more and for multi-label."""
    if average is not None:
        return average
    return Average.BINARY if task is Task.BINARY else Average.MACRO


def scored_class_names(targets: Targets) -> tuple[str, ...]:
    """Class names in the order of ``per_class_f1``: (negative, positive) for BINARY, else all in order."""
    if targets.task is not Task.BINARY or targets.positive is None:
        return targets.classes
    return targets.classes[1 - targets.positive], targets.classes[targets.positive]


def decide(probabilities: npt.ArrayLike, thresholds: npt.ArrayLike, task: Task) -> Bool:
    """Turn probabilities (..., C), C = 1 for BINARY, into decisions, bool (..., C).

    BINARY and MULTILABEL compare with the thresholds, broadcastable to (...): a probability at its threshold
    is decided. MULTICLASS takes the largest, the first of equals.
    """
    values = np.asarray(probabilities)
    if task is Task.MULTICLASS:
        return np.asarray(values.argmax(-1)[..., None] == np.arange(values.shape[-1]))
    # A float64 array, not a Python number: otherwise the threshold would be rounded to float32 first.
    return np.asarray(values.astype(np.float64) >= np.asarray(thresholds, np.float64)[..., None])


def count(decided: npt.ArrayLike, targets: npt.ArrayLike) -> Counts:
    """Count right and wrong decisions per class, (..., C).

    Args:
        decided: bool (..., N, C), or the shares of repeats that decide so, which count for as much.
        targets: (N, C) of 0 and 1.

    Raises:
        ArgumentError: the shapes do not fit.
    """
    found = np.asarray(decided, np.float64)
    true = np.asarray(targets, np.float64)
    if true.ndim != 2 or found.shape[-2:] != true.shape:
        raise ArgumentError(
            "decisions and targets differ in shape", expected=f"(..., {true.shape})", got=str(found.shape)
        )
    tp = np.einsum("...nc,nc->...c", found, true)
    fp, fn = found.sum(-2) - tp, true.sum(0) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=len(true) - tp - fp - fn)


def _ratio(part: Float64, whole: Float64) -> Float64:
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)


def class_f1(counts: Counts) -> Float64:
    """F1 per class, float64 (..., C): 2 tp / (2 tp + fp + fn)."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def class_precision(counts: Counts) -> Float64:
    """Precision per class, float64 (..., C): tp / (tp + fp)."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def class_recall(counts: Counts) -> Float64:
    """Recall per class, float64 (..., C): tp / (tp + fn)."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def averaged(score: Callable[[Counts], Float64], counts: Counts, average: Average) -> Float64:
    """A per-class score of counts (..., C), averaged over classes as scikit-learn does; float64 (...).

    BINARY needs one column, MACRO is over the classes that occur, WEIGHTED by their numbers of true images.

    Raises:
        ArgumentError: BINARY with several columns.
    """
    columns = counts.tp.shape[-1]
    if average is Average.BINARY:
        if columns != 1:
            raise ArgumentError("the binary average needs two classes", got=f"{columns} classes or labels")
        return score(counts)[..., 0]
    if columns == 1:
        counts = counts.both_classes()
    if average is Average.MICRO:
        sums = [values.sum(-1, keepdims=True) for values in (counts.tp, counts.fp, counts.fn, counts.tn)]
        return score(Counts(tp=sums[0], fp=sums[1], fn=sums[2], tn=sums[3]))[..., 0]
    support = counts.tp + counts.fn
    if average is Average.MACRO:
        support = (support > 0).astype(np.float64)
    return _ratio((score(counts) * support).sum(-1), support.sum(-1))


def f1_of_counts(counts: Counts, average: Average) -> Float64:
    """F1 of counts (..., C), float64 (...)."""
    return averaged(class_f1, counts, average)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A score of decisions, 0 to 1, the higher the better.

    It takes weighted numbers of images, and everything else follows from that: its interval from resampled
    numbers, what a mistake costs (for ties and loss bounds) from half a mistake more and half a mistake less.

    Attributes:
        name: of its columns, ``val_<name>`` and ``test_<name>``.
        title: in headings and sentences.
        meaning: in one clause.
        of_counts: float64 (...) of counts (..., C) and the average over classes that was asked for.
        ranks: whether boards can be ranked by it: not where some answer without a look at the image is best.
    """

    name: str
    title: str
    meaning: str
    of_counts: Callable[[Counts, Average], Float64]
    ranks: bool = True


F1 = Metric(
    name="f1",
    title="F1",
    meaning="harmonic mean of precision and recall",
    of_counts=f1_of_counts,
)
METRICS = {
    metric.name: metric
    for metric in (
        F1,
        Metric(
            name="precision",
            title="precision",
            meaning="share of right ones in what was found",
            of_counts=lambda counts, average: averaged(class_precision, counts, average),
        ),
        Metric(
            name="recall",
            title="recall",
            meaning="share found of what there is to find",
            of_counts=lambda counts, average: averaged(class_recall, counts, average),
            ranks=False,  # calling everything positive finds all
        ),
        Metric(
            name="balanced_accuracy",
            title="balanced accuracy",
            meaning="mean recall of the classes, however rare",
            of_counts=lambda counts, average: averaged(class_recall, counts, Average.MACRO),
        ),
    )
}


def f1(decided: npt.ArrayLike, targets: npt.ArrayLike, average: Average) -> Float64:
    """F1 of decisions bool (..., N, C) against targets (N, C); float64 (...)."""
    return f1_of_counts(count(decided, targets), average)


def accuracy(decided: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """Share of images whose every column is right (for MULTILABEL the subset accuracy); 0 for no images."""
    right = (np.asarray(decided, bool) == (np.asarray(targets) > 0.5)).all(-1)
    return _ratio(right.sum(-1), np.asarray(right.shape[-1]))


def per_class_f1(decided: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """F1 of every class, float64 (..., C), named by ``scored_class_names``; one column gives two.

    It is nan for a class without a true image.
    """
    counts = count(decided, targets)
    return per_class_scores(counts.both_classes() if counts.tp.shape[-1] == 1 else counts)["f1"]


def per_class_scores(counts: Counts) -> dict[str, Float64]:
    """Precision, recall, F1 and support (true images) of every class, float64 (..., C).

    Recall and F1 are nan for a class without a true image: there is nothing to find.
    """
    support = counts.tp + counts.fn
    return {
        "precision": class_precision(counts),
        "recall": np.where(support > 0, class_recall(counts), np.nan),
        "f1": np.where(support > 0, class_f1(counts), np.nan),
        "support": support,
    }


def scores(decided: npt.ArrayLike, targets: npt.ArrayLike, average: Average) -> dict[str, float]:
    """Every metric of one set of decisions bool (N, C) against targets (N, C) by name, and ``accuracy``."""
    counts = count(decided, targets)
    found = {name: float(metric.of_counts(counts, average)) for name, metric in METRICS.items()}
    return {"f1": found["f1"], "accuracy": float(accuracy(decided, targets)), **found}


def is_threshold(value: float) -> bool:
    """Whether a number can be a decision threshold: from 0 to 1, or just above, where nothing is decided."""
    return 0.0 <= value <= _NOTHING


def best_threshold(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    rule: ThresholdRule,
    average: Average = Average.BINARY,
) -> float:
    """The decision threshold of sigmoid outputs that a rule asks for, on these images.

    FIXED returns its value. TUNED maximises F1 over the cuts between neighbouring probabilities; of several
    best cuts it takes the one in the widest gap, and in it the midpoint, so that a new image has to move far
    to cross it. Beyond 10,001 distinct probabilities of several labels, that many evenly ranked ones are
    tried. RECALL takes the largest probability whose recall as a threshold is at least the wanted one,
    PRECISION the smallest whose precision is, and the best of them where none is; both return the midpoint
    between it and the next lower one. No threshold but a fixed one lies on a probability of these images,
    where the rounding of an exported model would decide. Without a single true image nothing can be tuned:
    all three return 0.5.

    Args:
        probabilities: (n,) of the positive class, or (n, C) of C labels that share the threshold.
        targets: of the same shape, 0 and 1.
        rule: what to look for.
        average: over classes; BINARY needs one column.

    Returns:
        The threshold: a probability at or above it is decided.

    Raises:
        ArgumentError: a wanted recall or precision outside 0..1, or shapes that differ.
    """
    if rule.kind is ThresholdKind.FIXED:
        return rule.value
    values, true = _columns(probabilities), _columns(targets) > 0.5
    if values.shape != true.shape:
        raise ArgumentError(
            "probabilities and targets differ in shape", expected=true.shape, got=values.shape
        )
    if not true.any():
        return 0.5
    if rule.kind is ThresholdKind.TUNED:
        return _tuned(values, true, average)
    if not 0.0 <= rule.value <= 1.0:
        raise ArgumentError(f"the wanted {rule.kind} is out of range", expected="0 to 1", got=rule.value)
    if rule.kind is ThresholdKind.PRECISION:
        return _reaching_precision(values, true, rule.value, average)
    return _reaching_recall(values, true, rule.value, average)


def _columns(values: npt.ArrayLike) -> Float64:
    array = np.asarray(values, np.float64)
    return array[:, None] if array.ndim == 1 else array


def _counts_at(cuts: Float64, values: Float64, true: Bool) -> Counts:
    """Counts (K, C) when everything at or above each of K cuts is decided."""

    def above(column: Float64) -> Float64:
        return (len(column) - np.searchsorted(np.sort(column), cuts)).astype(np.float64)

    tp = np.stack([above(values[true[:, c], c]) for c in range(values.shape[1])], -1)
    fp = np.stack([above(values[~true[:, c], c]) for c in range(values.shape[1])], -1)
    positives = true.sum(0)
    return Counts(tp=tp, fp=fp, fn=positives - tp, tn=len(true) - positives - fp)


def _tuned(values: Float64, true: Bool, average: Average) -> float:
    every, levels = _levels(values)
    edges = np.concatenate([[min(0.0, levels[0])], levels, [max(1.0, levels[-1])]])
    # A cut at a level decides what is at or above it, so it stands for the whole gap below that level.
    reached = f1_of_counts(_counts_at(np.append(levels, np.inf), values, true), average)
    best = reached >= reached.max() - _SAME_SCORE
    chosen = int(np.argmax(np.where(best, np.diff(edges), -1.0)))
    low, high = float(edges[chosen]), float(edges[chosen + 1])
    if chosen == len(levels) and low == high:  # nothing is decided, although a probability is 1
        return max(_NOTHING, float(np.nextafter(high, np.inf)))
    return _below(high, every)


def _levels(values: Float64) -> tuple[Float64, Float64]:
    """All distinct probabilities, ascending, and those of them that are tried as cuts."""
    every = np.unique(values)
    if values.shape[1] == 1 or len(every) <= _MOST_CUTS:
        return every, every
    return every, every[np.linspace(0, len(every) - 1, _MOST_CUTS).astype(int)]


def _below(level: float, levels: Float64) -> float:
    """The middle of the gap below one of all levels, or below 1: it decides as that does."""
    at = int(np.searchsorted(levels, level))
    low = float(levels[at - 1]) if at else min(0.0, level)
    middle = (low + level) / 2
    # Neighbouring floats have nothing between them: a midpoint that rounds down would decide the lower one.
    return middle if at == 0 or middle > low else level


def _reaching_precision(values: Float64, true: Bool, wanted: float, average: Average) -> float:
    every, levels = _levels(values)
    reached = averaged(class_precision, _counts_at(levels, values, true), average)
    return _below(float(levels[_enough(reached, wanted)[0]]), every)


def _enough(reached: Float64, wanted: float) -> Int64:
    """Positions of the scores that reach the wanted one, or the best where none does."""
    return np.flatnonzero(reached >= min(wanted, float(reached.max())) - _SAME_SCORE)


def _reaching_recall(values: Float64, true: Bool, wanted: float, average: Average) -> float:
    levels = np.unique(values)

    def reached(cuts: Float64) -> Float64:
        return averaged(class_recall, _counts_at(cuts, values, true), average)

    if values.shape[1] == 1:
        # Averages other than BINARY look at both classes: that recall rises and falls, so all cuts are tried.
        return _below(float(levels[_enough(reached(levels), wanted)[-1]]), levels)
    low, high = 0, len(levels) - 1  # at the lowest level every label is decided: nothing is missed
    while low < high:
        middle = (low + high + 1) // 2
        if float(reached(levels[middle : middle + 1])[0]) >= wanted - _SAME_SCORE:
            low = middle
        else:
            high = middle - 1
    return _below(float(levels[low]), levels)
