"""Which backbones cannot be told from the best, all comparisons taken together.

One comparison per pair: the difference of two validation F1, over its standard deviation. What one image (or
group) moves an F1 is its influence: the cost of a mistake times whether it was made, less the class's
mean. The standard deviation is the one that holds if the two are equal (a score test): the squared
influence differences within classes, plus the squares of the means so far as these make up the difference.
So the statistic of n images that all speak for one side is at most the square root of n, as in McNemar's
test, and few images never separate anything.

How large the largest of all those statistics gets when all backbones are equal is drawn by the Gaussian
multiplier bootstrap (Chernozhukov, Chetverikov and Kato, Gaussian approximations and multiplier bootstrap for
maxima of sums, Annals of Statistics 2013), which keeps the correlation of backbones that err on the same
images. Who is beaten by anyone beyond the 95 % quantile of that maximum leaves; the quantile is drawn
again for those who stay (Westfall and Young, Resampling-Based Multiple Testing, 1993; Hansen, Lunde and
Nason, The Model Confidence Set, Econometrica 2011) until nobody leaves. Those who stay are multiple
comparisons with the best (Hsu, Annals of Statistics 1981; Multiple Pairss, 1996). docs/statistics.md
has the simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.records import Bool, Float64, Int64
from benchmark.statistics.resampling import ErrorCounts, Sample

FAMILY_LEVEL = 0.95
DRAWS = 10_000
_UNITS_PER_BLOCK = 65_536
PAIR_QUANTILE = 1.9600  # two-sided 95 % for a single pair
_SINGLE_QUANTILE = 1.6449  # one-sided 95 % for a single backbone
_NOTHING = 1e-24  # a variance below this is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """All pairwise comparisons of K backbones on one sample.

    Attributes:
        score: float64 (K,) validation F1 (or another metric), the mean over repeats.
        covariance: float64 (K, K) of the score.
        error_cost: float64 (K,) score that one more wrong unit costs on average.
        losses: float64 (K, 2 * C) F1 lost to missed images and to false alarms, per class.
        side_units: float64 (2 * C,) images or groups that could be missed, or be false alarms, per class.
        side_scores: float64 (2 * C,) score that each of those sides is worth: lost where all of it is wrong.
    """

    score: Float64
    covariance: Float64
    error_cost: Float64
    losses: Float64
    side_units: Float64
    side_scores: Float64

    @classmethod
    def of(cls, sample: Sample, errors: Sequence[ErrorCounts]) -> Pairs:
        """Compare backbones on one sample; memory is flat in the number of images."""
        costs = [_costs(sample, each) for each in errors]
        covariance = np.zeros((len(errors), len(errors)))
        columns = [each.by_unit.tocsc() for each in errors]
        centres = [_centres(sample, each, cost) for each, cost in zip(errors, costs, strict=True)]
        for start in range(0, sample.unit_count, _UNITS_PER_BLOCK):
            stop = min(start + _UNITS_PER_BLOCK, sample.unit_count)
            sides = _sides(sample, start, stop)
            influences = np.stack(
                [
                    cost.ravel() @ column[:, start:stop] - centre @ sides
                    for cost, column, centre in zip(costs, columns, centres, strict=True)
                ]
            )
            covariance += influences @ influences.T
        units = sample.unit_count
        return cls(
            score=np.array([each.score(sample).mean() for each in errors]),
            covariance=covariance * units / max(units - 1, 1),
            error_cost=np.array([_mean_cost(sample, cost) for cost in costs]),
            losses=np.array(
                [-(cost * each.totals).sum(1).ravel() for cost, each in zip(costs, errors, strict=True)]
            ),
            side_units=sample.side_units,
            side_scores=sample.side_scores,
        )

    @property
    def gaps(self) -> Float64:
        """float64 (K, K): how far the row's F1 is above the column's."""
        return self.score[:, None] - self.score[None, :]

    @property
    def variances(self) -> Float64:
        """Variances of the gaps, float64 (K, K)."""
        own = np.diag(self.covariance)
        variances = np.maximum(own[:, None] + own[None, :] - 2 * self.covariance, 0.0)
        return np.where(variances < _NOTHING, 0.0, variances)

    @property
    def null_variances(self) -> Float64:
        """Variances of the gaps that hold if they are 0, float64 (K, K)."""
        return np.asarray(self.variances + self._squared_means())

    @property
    def statistics(self) -> Float64:
        """Gaps over the standard deviation that holds if they are 0, float64 (K, K)."""
        gaps, null = self.gaps, self.null_variances
        return np.divide(gaps, np.sqrt(null), out=np.zeros_like(gaps), where=null > _NOTHING)

    def beaten(self, critical: float = PAIR_QUANTILE) -> Bool:
        """Whom another one beats by a statistic above ``critical``, bool (K,)."""
        return np.asarray((self.statistics > critical).any(0))

    def told_apart(self) -> Bool:
        """Whether the row is shown to be above the column, all pairs together (95 %), bool (K, K)."""
        everyone = np.arange(len(self.score))
        return np.asarray(self.statistics > _Maxima(self, DRAWS, 0).quantile(everyone))

    def bounds_at(self, critical: float) -> Float64:
        """The upper ends of ``losses`` for a given quantile, float64 (K,)."""
        if len(self.score) < 2:
            return np.zeros(len(self.score))
        cost = np.maximum(self.error_cost[:, None], self.error_cost[None, :])
        bounds = self.gaps + _reach(critical, cost, self.variances)
        np.fill_diagonal(bounds, 0.0)
        return np.asarray(np.clip(bounds.max(0), 0.0, 1.0))

    def _squared_means(self) -> Float64:
        """What subtracting the means took from the variances, so far as the means made the gap, (K, K).

        A gap comes from the class sides that speak for it; each of them has only so many units.
        """
        gaps = self.gaps
        for_row = (self.losses[None, :, :] - self.losses[:, None, :]) * np.sign(gaps)[:, :, None]
        support = np.maximum(for_row, 0.0)
        total = support.sum(-1)
        squares = (support**2 / np.maximum(self.side_units, 1.0)).sum(-1)
        share = np.divide(gaps, total, out=np.zeros_like(gaps), where=total > 0)
        # Without any side that speaks for it, a gap is second-order: let a single unit carry it.
        return np.where(total > 0, share**2 * squares, gaps**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class TieGroup:
    """Backbones that cannot be told from the best of those that earlier groups left over."""

    members: Int64  # positions in the comparison, ascending
    critical: float  # what a statistic must exceed to separate two members


def _costs(sample: Sample, errors: ErrorCounts) -> Float64:
    """F1 that one more missed image or false alarm costs (half less to half more), float64 (2, R, C)."""
    totals = errors.totals
    costs = np.zeros_like(totals)
    for side in range(2):
        for column in range(totals.shape[2]):
            half = np.zeros_like(totals)
            half[side, :, column] = 0.5
            costs[side, :, column] = sample.score(*(totals + half)) - sample.score(*(totals - half))
    return costs / errors.repeats


def _centres(sample: Sample, errors: ErrorCounts, costs: Float64) -> Float64:
    """Mean influence of an image of each class side, float64 (2 * C,)."""
    sizes = np.stack([sample.positives, sample.negatives])[:, None, :]
    centres: Float64 = (costs * errors.totals / np.maximum(sizes, 1)).sum(1).ravel()
    return centres


def _sides(sample: Sample, start: int, stop: int) -> Float64:
    """Images of each class side in units start..stop, float64 (2 * C, stop - start)."""
    within = (sample.units >= start) & (sample.units < stop)
    true = sample.targets[within]
    classes = true.shape[1]
    sides = np.zeros((2 * classes, stop - start))
    rows = np.where(true, 0, classes) + np.arange(classes)
    np.add.at(sides, (rows, (sample.units[within] - start)[:, None]), 1.0)
    return sides


def _mean_cost(sample: Sample, costs: Float64) -> float:
    """F1 that an average wrong unit costs; with several classes, a miss here and an alarm elsewhere."""
    images, classes = sample.targets.shape
    sizes = np.stack([sample.positives, sample.negatives])
    per_decision = float((-costs.sum(1) * sizes).sum()) / max(images * classes, 1)
    return float(per_decision * min(classes, 2) * images / max(sample.unit_count, 1))


def tie_groups(
    comparison: Pairs,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[TieGroup, ...]:
    """Split backbones into tie groups: those tied with the best, then the same among the rest, and so on.

    If all are equal, all stay in one group in 95 % of data sets. The groups come best first;
    together they hold every position once.
    """
    maxima = _Maxima(comparison, draws, seed)
    left = np.arange(len(comparison.score))
    groups: list[TieGroup] = []
    while len(left):
        groups.append(_tied_with_best(comparison, left, maxima))
        left = np.setdiff1d(left, groups[-1].members)
    return tuple(groups)


class _Maxima:
    """Draws of the largest statistic among equal backbones."""

    def __init__(self, comparison: Pairs, draws: int, seed: int) -> None:
        own = np.maximum(np.diag(comparison.covariance), 0.0)
        # In an order of their own, so that the order of the backbones does not move the draws.
        order = np.lexsort((own, comparison.score))
        values, vectors = np.linalg.eigh(comparison.covariance[np.ix_(order, order)])
        root = np.empty_like(vectors)
        root[order] = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = np.random.default_rng([seed, 3]).standard_normal((draws, len(order)))
        self._drawn = normal @ root.T
        self._deviations = np.sqrt(comparison.variances)
        self._own_deviations = np.sqrt(own)

    def quantile(self, members: Int64) -> float:
        """The 95 % quantile of the largest statistic of any pair of members, at least that of one pair."""
        largest = np.zeros(len(self._drawn))
        for position, one in enumerate(members[:-1]):
            others = members[position + 1 :]
            others = others[self._deviations[one, others] > 0]
            differences = self._drawn[:, others] - self._drawn[:, [one]]
            np.abs(differences, out=differences)
            differences /= self._deviations[one, others]
            if len(others):
                np.maximum(largest, differences.max(1), out=largest)
        return max(float(np.quantile(largest, FAMILY_LEVEL)), PAIR_QUANTILE)

    def against(self, one: int) -> float:
        """The 95 % quantile of the largest statistic of anybody over ``one``, at least that of a single pair.

        That of a single pair is the two-sided one: three images that all speak for one side exceed the
        one-sided one, and would by chance in one of eight cases.
        """
        spread = self._deviations[one] > 0
        differences = (self._drawn[:, spread] - self._drawn[:, [one]]) / self._deviations[one, spread]
        return max(float(np.quantile(differences.max(1, initial=0.0), FAMILY_LEVEL)), PAIR_QUANTILE)

    def one_sided(self) -> float:
        """The 95 % quantile of the largest F1 over its deviation, at least that of one standard normal."""
        own = self._own_deviations
        largest = (self._drawn[:, own > 0] / own[own > 0]).max(1, initial=0.0)
        return max(float(np.quantile(largest, FAMILY_LEVEL)), _SINGLE_QUANTILE)


def range_quantile(count: int) -> float:
    """What the largest statistic among ``count`` equally spread equals stays below (Tukey's range)."""
    nothing = np.zeros(count)
    equal = Pairs(
        score=nothing,
        covariance=np.eye(count),
        error_cost=nothing,
        losses=nothing[:, None],
        side_units=np.ones(1),
        side_scores=np.ones(1),
    )
    return _Maxima(equal, DRAWS, 0).quantile(np.arange(count))


def hidden_loss(gap: float, cost: float, critical: float) -> float:
    """The loss bound against one of whom nothing is known but that it is ``gap`` better.

    The gap is made of wrong units, each of which costs ``cost`` F1.
    """
    return gap + float(_reach(critical, np.asarray(cost), np.asarray(gap * cost)))


def _reach(critical: float, cost: Float64, variance: Float64) -> Float64:
    """How far a true gap may be beyond the observed one; a larger one needs more wrong units."""
    slack = critical**2 * cost
    return np.asarray((slack + np.sqrt(slack**2 + 4 * critical**2 * variance)) / 2)


def above(comparison: Pairs, levels: Float64, *, draws: int = DRAWS, seed: int = 0) -> Bool:
    """Which backbones are shown to be above a level of F1 each, all together (family-wise 95 %), bool (K,).

    The levels, float64 (K,), are taken as known.
    """
    gaps = comparison.score - levels
    null = np.maximum(np.diag(comparison.covariance) + _squared_parts(comparison, gaps), _NOTHING)
    critical = _Maxima(comparison, draws, seed).one_sided()
    return np.asarray(gaps / np.sqrt(null) > critical)


def _squared_parts(comparison: Pairs, gaps: Float64) -> Float64:
    """What subtracting the means took from the variances at most, float64 (K,) of gaps above a level, (K,).

    Which class sides a gap above a level comes from is not known. So the smallest come first, each with as
    much as it is worth: a side of two units must not carry a gap that it cannot make, and one without any
    carries nothing.
    """
    held = np.flatnonzero(comparison.side_units > 0)
    order = held[np.argsort(comparison.side_units[held], kind="stable")]
    worth = comparison.side_scores[order]
    before = np.cumsum(worth) - worth
    worth[-1] = np.inf  # scores do not quite add up: the largest side carries what is left
    parts = np.clip(gaps[:, None] - before, 0.0, worth)
    return np.asarray((parts**2 / comparison.side_units[order]).sum(1))


def gains(comparison: Pairs) -> Float64:
    """The F1 that each classifier gains over the first: observed, low and high bound, float64 (K, 3).

    Each bound holds with 95 % for all classifiers together (one-sided comparisons of many with one:
    Dunnett, Journal of the American Statistical Association 1955, with the drawn quantile of this module). So
    that of the best of several checkpoints holds although these images picked it. The low bound is above 0
    exactly where the statistic of ``Pairs`` exceeds that quantile; other bounds are widened as those of
    ``losses`` are, so that equal decisions on few images do not look like a sure 0.
    """
    critical = _Maxima(comparison, DRAWS, 0).against(0)
    gaps, null = comparison.gaps[:, 0], comparison.null_variances[:, 0]
    cost = np.maximum(comparison.error_cost, comparison.error_cost[0])
    reach = _reach(critical, cost, comparison.variances[:, 0])
    shown = comparison.statistics[:, 0] > critical
    low = np.where(shown, gaps - critical * np.sqrt(null), np.minimum(gaps - reach, 0.0))
    found = np.stack([gaps, np.clip(low, -1.0, 1.0), np.clip(gaps + reach, -1.0, 1.0)], -1)
    found[0] = 0.0
    return found


def _tied_with_best(comparison: Pairs, left: Int64, maxima: _Maxima) -> TieGroup:
    statistics = comparison.statistics
    while True:
        critical = maxima.quantile(left)
        beaten = np.asarray((statistics[np.ix_(left, left)] > critical).any(0))
        if not beaten.any():
            return TieGroup(members=left, critical=critical)
        left = left[~beaten]


def losses(comparison: Pairs, *, draws: int = DRAWS, seed: int = 0) -> Float64:
    """The F1 that each backbone gives away to the best: estimate, low and high end, float64 (K, 3).

    The intervals hold together in 95 % of data sets, so that of whoever is chosen holds, however the choice
    was made: the quantile is that of all pairs, not of those who are left after a selection.

    The upper end of a gap is the true gap at which the observed one would just be surprising. A larger true
    gap needs more wrong units, each of which adds its cost's square to the variance, as in Wilson's interval;
    so equal decisions on few images still have an upper end above 0. The lower end is above 0 for those
    alone whom another one beats, by the rule of ``tie_groups``.

    The highest of several equal F1 is above the others by luck. So the estimate is the observed loss times
    the share of the F1's spread that sampling does not explain, 0 where it explains all (the positive part of
    James and Stein 1961, with the moment estimate of DerSimonian and Laird 1986).
    """
    count = len(comparison.score)
    if count < 2:
        return np.zeros((count, 3))
    critical = _Maxima(comparison, draws, seed).quantile(np.arange(count))
    shown = (comparison.gaps - critical * np.sqrt(comparison.null_variances)).max(0)
    sampling = comparison.variances[np.triu_indices(count, 1)].mean() / 2
    spread = comparison.score.var(ddof=1)
    share = max(0.0, 1 - sampling / spread) if spread > _NOTHING else 0.0
    low, high = np.clip(shown, 0.0, 1.0), comparison.bounds_at(critical)
    estimate = np.clip(share * comparison.gaps.max(0), low, np.maximum(low, high))
    return np.stack([estimate, low, high], -1)
