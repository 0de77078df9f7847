"""How far a validation F1 can be trusted: a paired, smoothed bootstrap over images or groups.

The resample is Rubin's Bayesian bootstrap (The Bayesian Bootstrap, Annals of Statistics 1981): every unit, an
image or a whole group, gets an exponential weight, the same for all backbones (paired). It is not stratified:
how many images of a class there are is as random as which ones, and F1 depends on it. It is smoothed:
every class side gets a share of one more image, partly wrong and partly right, the same for all backbones;
the shares of all classes make one image, or the mean over many classes would hold many images that nobody
saw. The low end of an interval takes that image as wrong to 3/4, the high end as right to 3/4. For one
proportion these are the Beta(x + 3/4, n - x + 1/4) and mirrored quantiles, half way between Jeffreys'
interval, which covers 92 % where one error is expected, and Clopper and Pearson's, which covers 98 to 99 %;
combining several proportions this way follows Fay, Proschan and Brittain (Combining one-sample confidence
procedures, Biometrics 2015). So a perfect sample has an interval, and equal backbones have equal ones.

F1 of few images is biased (a ratio), and resamples of a biased estimate are biased once more: twice the bias
that the resamples show is taken off both ends (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 10 and 14). docs/statistics.md has the simulations. What is said of F1 here is done for every metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import ArgumentError
from benchmark.records import Average, Bool, Float64, Int64
from benchmark.statistics.metrics import F1, Counts, Metric

_UNITS_PER_BLOCK = 2048
_ACCUMULATOR_BYTES = 256 * 2**20
# The extra image of a side, in Gamma shapes: wrong at both ends, wrong at the low end only, never wrong.
_ALWAYS_WRONG, _LOW_WRONG, _ALWAYS_RIGHT = 0.25, 0.5, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The images that backbones are compared on.

    Attributes:
        targets: bool (V, C) as ``Targets.targets`` at the validated rows; C = 1 for two classes.
        units: int64 (V,) what is drawn together, numbered 0..U-1: images, or groups where there are groups.
        average: over classes.
        metric: what decisions are scored by.
    """

    targets: Bool
    units: Int64
    average: Average
    metric: Metric = F1

    @classmethod
    def of(
        cls, targets: npt.ArrayLike, average: Average, groups: Int64 | None = None, metric: Metric = F1
    ) -> Sample:
        """The sample of targets (V, C), 0 and 1, with group numbers int64 (V,) or None."""
        true = np.asarray(targets) > 0.5
        numbers = np.arange(len(true)) if groups is None else np.unique(groups, return_inverse=True)[1]
        return cls(targets=true, units=numbers.astype(np.int64), average=average, metric=metric)

    @property
    def unit_count(self) -> int:
        """U, the number of images or groups."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    @property
    def positives(self) -> Float64:
        """Number of true images per class, float64 (C,)."""
        return np.asarray(self.targets.sum(0), np.float64)

    @property
    def negatives(self) -> Float64:
        """Number of other images per class, float64 (C,)."""
        return np.asarray((~self.targets).sum(0), np.float64)

    @property
    def class_units(self) -> Int64:
        """Units that hold each class, int64 (C,); for one column the positive, then the negative."""
        true = self.targets.T
        columns = true if len(true) > 1 else np.vstack([true, ~true])
        return np.array([len(np.unique(self.units[column])) for column in columns], np.int64)

    @property
    def fewest_units(self) -> int:
        """Units of the rarest class that occurs."""
        units = self.class_units
        return int(units[units > 0].min(initial=len(self.units)))

    def true_by_unit(self) -> Any:  # noqa: ANN401 - scipy ships no types
        """True images of each class per unit, scipy CSR float64 (C, U)."""
        from scipy.sparse import csr_array

        image, column = np.nonzero(self.targets)
        entries = (np.ones(len(image)), (column, self.units[image]))
        return csr_array(entries, shape=(self.targets.shape[1], self.unit_count))

    @property
    def side_units(self) -> Float64:
        """Units that hold a true image of each class, then units that hold another, float64 (2 * C,)."""
        true = self.true_by_unit()
        sizes = np.bincount(self.units, minlength=self.unit_count)
        wholly_true = np.bincount(
            np.repeat(np.arange(true.shape[0]), np.diff(true.indptr))[true.data == sizes[true.indices]],
            minlength=true.shape[0],
        )
        return np.concatenate([np.diff(true.indptr), self.unit_count - wholly_true]).astype(np.float64)

    @property
    def side_scores(self) -> Float64:
        """What a perfect score loses where all images of one of those sides are wrong, float64 (2 * C,)."""
        sizes = np.stack([self.positives, self.negatives])
        lost = np.zeros(sizes.shape)
        perfect = float(self.score(*np.zeros(sizes.shape)))
        for side, column in np.ndindex(*sizes.shape):
            wrong = np.zeros(sizes.shape)
            wrong[side, column] = sizes[side, column]
            lost[side, column] = perfect - float(self.score(*wrong))
        return np.maximum(lost, 0.0).ravel()

    def score(self, missed: Float64, alarms: Float64) -> Float64:
        """The metric (...) of missed images and false alarms (..., C), class sizes as they are."""
        counts = Counts(tp=self.positives - missed, fp=alarms, fn=missed, tn=self.negatives - alarms)
        return self.metric.of_counts(counts, self.average)


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """What one backbone's heads got wrong.

    Attributes:
        repeats: R.
        by_unit: scipy CSR float64 (2 * R * C, U): missed images, then false alarms, of each (repeat,
            class), per unit.
    """

    repeats: int
    by_unit: Any

    @classmethod
    def of(cls, decided: npt.ArrayLike, sample: Sample) -> ErrorCounts:
        """The errors of decisions bool (R, V, C) on a sample.

        Raises:
            ArgumentError: the shapes do not fit.
        """
        from scipy.sparse import csr_array

        found = np.asarray(decided, bool)
        if found.ndim != 3 or found.shape[1:] != sample.targets.shape:
            raise ArgumentError(
                "decisions do not fit the sample", expected=sample.targets.shape, got=found.shape
            )
        repeats, _, classes = found.shape
        side_rows = repeats * classes
        repeat, image, column = np.nonzero(found != sample.targets)
        alarm = ~sample.targets[image, column]
        rows = alarm * side_rows + repeat * classes + column
        entries = (np.ones(len(rows)), (rows, sample.units[image]))
        return cls(repeats=repeats, by_unit=csr_array(entries, shape=(2 * side_rows, sample.unit_count)))

    @cached_property
    def totals(self) -> Float64:
        """Missed images and false alarms, float64 (2, R, C)."""
        return np.asarray(self.by_unit.sum(1), np.float64).reshape(2, self.repeats, -1)

    def score(self, sample: Sample) -> Float64:
        """The metric of each repeat, float64 (R,)."""
        missed, alarms = self.totals
        return sample.score(missed, alarms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Bootstrap scores, the mean over repeats, of K backbones in B resamples."""

    low: Float64  # (B, K) with the extra images mostly wrong: read lower ends from it
    high: Float64  # (B, K) with the extra images mostly right: read upper ends from it
    bias: Float64  # (K,) mean of the resamples without extra images, less the score of the sample itself

    def intervals(self, level: float = 0.95) -> Float64:
        """Central intervals, float64 (K, 2), within 0 and 1."""
        tail = (1 - level) / 2
        low, high = np.quantile(self.low, tail, axis=0), np.quantile(self.high, 1 - tail, axis=0)
        return np.clip(np.stack([low, high], -1) - 2 * self.bias[:, None], 0.0, 1.0)


def resample(
    sample: Sample, errors: Sequence[ErrorCounts], *, resamples: int = 2000, seed: int = 0
) -> Resampled:
    """Draw the bootstrap. Backbones share the draws; a backbone's numbers do not depend on the others.

    Memory is flat in the number of images: weights are drawn for a block of units at a time.
    """
    weights = _Weights(sample, resamples, seed)
    low, high = np.zeros((resamples, len(errors))), np.zeros((resamples, len(errors)))
    bias = np.zeros(len(errors))
    for batch in _batches(errors, resamples):
        totals, *sums = weights.sums([errors[k].by_unit for k in batch])
        for k, summed in zip(batch, sums, strict=True):
            by_repeat = summed.reshape(resamples, 2, errors[k].repeats, -1)
            low[:, k], high[:, k], plain = weights.scores(by_repeat, totals)
            bias[k] = plain.mean() - errors[k].score(sample).mean()
    return Resampled(low=low, high=high, bias=bias)


def estimates(
    sample: Sample,
    errors: Sequence[ErrorCounts],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Float64:
    """Scores of K backbones with intervals, float64 (K, 3): the mean over repeats, low and high end."""
    score = np.array([each.score(sample).mean() for each in errors])
    low, high = resample(sample, errors, resamples=resamples, seed=seed).intervals(level).T
    return np.stack([score, np.minimum(low, score), np.maximum(high, score)], -1)


def _batches(errors: Sequence[ErrorCounts], resamples: int) -> Iterator[range]:
    """Positions of backbones whose running sums fit in memory together."""
    if errors:
        widest = max(each.by_unit.shape[0] for each in errors)
        step = max(1, _ACCUMULATOR_BYTES // (8 * resamples * widest))
        for start in range(0, len(errors), step):
            yield range(start, min(start + step, len(errors)))


class _Weights:
    """The weights of a sample's units, drawn by block, and what they make of a score."""

    def __init__(self, sample: Sample, resamples: int, seed: int) -> None:
        from scipy.sparse import csr_array

        self._sample, self._resamples, self._seed = sample, resamples, seed
        images = csr_array(np.bincount(sample.units, minlength=sample.unit_count)[None].astype(np.float64))
        self._sides = [sample.true_by_unit(), images]
        # The extra image of a class side weighs as much as an average unit that has such images.
        sizes = np.concatenate([sample.positives, sample.negatives])
        self._extra_size = sizes / np.maximum(sample.side_units, 1.0)
        self._classes = max(1, int(np.count_nonzero(sample.positives)))

    def sums(self, matrices: Sequence[Any]) -> list[Float64]:
        """Weighted sums over units: images of each class side (B, 2 * C), then (B, rows) of each matrix."""
        columns = [matrix.tocsc() for matrix in (*self._sides, *matrices)]
        sums = [np.zeros((matrix.shape[0], self._resamples)) for matrix in columns]
        for block, start in enumerate(range(0, self._sample.unit_count, _UNITS_PER_BLOCK)):
            stop = min(start + _UNITS_PER_BLOCK, self._sample.unit_count)
            generator = np.random.default_rng([self._seed, 1, block])
            drawn = generator.standard_exponential((stop - start, self._resamples))
            for total, matrix in zip(sums, columns, strict=True):
                total += matrix[:, start:stop] @ drawn
        true, images, *rest = (total.T for total in sums)
        return [np.hstack([true, images - true]), *rest]

    def scores(self, sums: Float64, totals: Float64) -> tuple[Float64, Float64, Float64]:
        """Mean score over repeats, float64 (B,): extra images mostly wrong, mostly right, and without them.

        ``sums`` are weighted errors (B, 2, R, C), ``totals`` weighted images of each class side (B, 2 * C).
        """
        generator = np.random.default_rng([self._seed, 2])
        shape = (self._resamples, 2, 1, sums.shape[-1])
        extra_size = self._extra_size.reshape(1, 2, 1, -1)
        wrong, low_wrong, right = (
            extra_size * generator.gamma(alpha / self._classes, size=shape)
            for alpha in (_ALWAYS_WRONG, _LOW_WRONG, _ALWAYS_RIGHT)
        )
        drawn = totals.reshape(shape)
        sides = drawn + wrong + low_wrong + right
        return (
            self._mean_score(sums + wrong + low_wrong, sides),
            self._mean_score(sums + wrong, sides),
            self._mean_score(sums, drawn),
        )

    def _mean_score(self, errors: Float64, sides: Float64) -> Float64:
        """Mean score over repeats of weighted errors (B, 2, R, C) among weighted images (B, 2, 1, C)."""
        right = np.maximum(sides - errors, 0.0)  # rounding can take a sum of weights below nothing
        counts = Counts(tp=right[:, 0], fp=errors[:, 1], fn=errors[:, 0], tn=right[:, 1])
        return np.asarray(self._sample.metric.of_counts(counts, self._sample.average).mean(-1))
