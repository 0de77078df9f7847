"""The statistics of the leaderboard for predictions of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.errors import ArgumentError
from benchmark.records import DEFAULT_MARGIN, Average, Bool, Float64, Int64
from benchmark.statistics.assessment import assess
from benchmark.statistics.metrics import METRICS
from benchmark.statistics.resampling import ErrorCounts, Sample, estimates
from benchmark.statistics.sentences import sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and its interval.

    Attributes:
        value: the figure, for example an F1.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one set of labelled images says of several classifiers.

    Attributes:
        intervals: F1 with its 95 % interval, by name.
        tie_groups: names that cannot be told from the best; then the same among the others, and so on.
        losses: F1 that choosing each gives away to the best, with 95 % intervals, all together, so that the
            interval of whoever is chosen holds, however the choice was made. The value is shrunk: 0 where
            sampling explains the differences.
        loss_bounds: the upper ends of ``losses``.
        winner: the smallest whose loss bound is within the margin, the highest F1 where none is; None at
            chance level and where a class has fewer than 10 images (or groups).
        statements: the same in sentences.
    """

    intervals: Mapping[str, Interval]
    tie_groups: tuple[tuple[str, ...], ...]
    losses: Mapping[str, Interval]
    loss_bounds: Mapping[str, float]
    winner: str | None
    statements: tuple[str, ...]


def f1_interval(
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike,
    *,
    average: str = "binary",
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """F1 with an interval that also holds for few images, rare classes, perfect scores and related images.

    It is a statement about these decisions on new images like these; class counts are random, too. The
    method is a smoothed Bayesian bootstrap (Rubin 1981) with its bias taken off; docs/statistics.md has the
    simulations.

    Args:
        targets: int (N,) true classes; for ``binary`` 0 and 1.
        decisions: int (N,) or (R, N) decided classes; R repeats, for example of cross-validation.
        average: ``binary`` (class 1), ``macro``, ``micro`` or ``weighted``.
        groups: int (N,) which images are related; they are drawn together.
        level: of the interval, 0 to 1.
        seed: of the draws.

    Raises:
        ArgumentError: shapes that do not fit, an unknown average, a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ArgumentError("not a level", where="level", expected="between 0 and 1", got=level)
    sample, (found,) = sample_of(targets, [decisions], average, groups)
    value, low, high = estimates(sample, [found], level=level, seed=seed)[0].tolist()
    return Interval(value=value, low=low, high=high)


def metric_intervals(
    decided: npt.ArrayLike,
    targets: npt.ArrayLike,
    average: Average,
    groups: Int64 | None = None,
    *,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every metric of one set of decisions, with its 95 % interval, by name.

    Args:
        decided: bool (N, C).
        targets: (N, C) of 0 and 1.
        average: over classes; BINARY needs one column.
        groups: int (N,) which images are related.
        seed: of the draws.
    """
    found = {}
    for name, metric in METRICS.items():
        sample = Sample.of(targets, average, groups, metric)
        errors = ErrorCounts.of(np.asarray(decided)[None], sample)
        value, low, high = estimates(sample, [errors], seed=seed)[0].tolist()
        found[name] = Interval(value=value, low=low, high=high)
    return found


def compare(
    targets: npt.ArrayLike,
    decisions_by_name: Mapping[str, npt.ArrayLike],
    *,
    sizes: Mapping[str, float] | None = None,
    margin: float = DEFAULT_MARGIN,
    average: str = "binary",
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare classifiers that decided about the same images, all comparisons taken together.

    This is what the leaderboard runs.

    Args:
        targets: int (N,) true classes; for ``binary`` 0 and 1.
        decisions_by_name: of each classifier int (N,) or (R, N); R the same for all or not.
        sizes: of each classifier, in any unit; None for equal ones, and the best score wins.
        margin: F1 that may be given away for a smaller one, 0 to 1.
        average: ``binary`` (class 1), ``macro``, ``micro`` or ``weighted``.
        groups: int (N,) which images are related.
        seed: of the draws.

    Raises:
        ArgumentError: nothing to compare, shapes that do not fit, unknown names in ``sizes``, a size that is
            not a number above 0, a margin outside 0 to 1.
    """
    names = sorted(decisions_by_name)
    if not names:
        raise ArgumentError("nothing to compare", where="decisions_by_name", expected="at least one")
    if not 0 <= margin <= 1:
        raise ArgumentError("not an F1", where="margin", expected="0 to 1", got=margin)
    if sizes is not None and (
        set(sizes) != set(names) or not all(0 < size < math.inf for size in sizes.values())
    ):
        raise ArgumentError(
            "sizes do not fit", where="sizes", expected=f"one above 0 for each of {', '.join(names)}"
        )
    sample, errors = sample_of(targets, [decisions_by_name[name] for name in names], average, groups)
    found = assess(
        sample,
        errors,
        names=names,
        sizes=None if sizes is None else [sizes[name] for name in names],
        margin=margin,
        seed=seed,
    )
    order = {position: place for place, position in enumerate(found.order.tolist())}
    return Comparison(
        intervals={
            name: Interval(value=float(value), low=float(low), high=float(high))
            for name, value, (low, high) in zip(names, found.score, found.intervals, strict=True)
        },
        tie_groups=tuple(
            tuple(names[k] for k in sorted(group.members.tolist(), key=order.__getitem__))
            for group in found.groups
        ),
        losses={
            name: Interval(value=value, low=low, high=high)
            for name, (value, low, high) in zip(names, found.losses.tolist(), strict=True)
        },
        loss_bounds=dict(zip(names, found.loss_bounds.tolist(), strict=True)),
        winner=None if found.picks is None else names[found.picks.winner],
        statements=sentences(found, grouped=groups is not None),
    )


def sample_of(
    targets: npt.ArrayLike,
    decisions: Sequence[npt.ArrayLike],
    average: str,
    groups: npt.ArrayLike | None,
) -> tuple[Sample, list[ErrorCounts]]:
    """Checked arguments of ``f1_interval`` as the sample and what was got wrong on it."""
    try:
        kind = Average(average)
    except ValueError as error:
        expected = ", ".join(each.value for each in Average)
        raise ArgumentError("unknown", where="average", expected=expected, got=average) from error
    true = np.asarray(targets)
    decided = [np.atleast_2d(np.asarray(each)) for each in decisions]
    if true.ndim != 1 or not len(true) or any(each.shape[1:] != true.shape for each in decided):
        shapes = ", ".join(str(each.shape) for each in decided)
        raise ArgumentError(
            "targets and decisions do not fit",
            expected="(N,) and (N,) or (R, N)",
            got=f"{true.shape} and {shapes}",
        )
    classes = np.unique(np.concatenate([true, *(each.ravel() for each in decided)]))
    if kind is Average.BINARY and not set(classes.tolist()) <= {0, 1}:
        raise ArgumentError(
            "the binary average is of 0 and 1",
            where="targets and decisions",
            got=", ".join(map(str, classes[:5].tolist())),
            next_step="Use the average macro, micro or weighted.",
        )
    names = np.array([1]) if kind is Average.BINARY else classes
    related = None if groups is None else np.asarray(groups)
    if related is not None and related.shape != true.shape:
        raise ArgumentError("groups do not fit", expected=true.shape, got=related.shape)
    sample = Sample.of(_columns(true, names), kind, related)
    return sample, [ErrorCounts.of(_columns(each, names), sample) for each in decided]


def _columns(values: Int64 | Float64, names: Int64) -> Bool:
    return np.asarray(values[..., None] == names)
