"""What one validated sample can say of some classifiers: intervals, ties, what a choice may cost, the picks.

The leaderboard and ``benchmark.statistics.compare`` are both made of this; nothing here reads files, knows a
clock or imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from benchmark.records import DEFAULT_MARGIN, Float64, Int64
from benchmark.statistics.metrics import F1, Counts, Metric
from benchmark.statistics.resampling import ErrorCounts, Sample, estimates
from benchmark.statistics.ties import Pairs, TieGroup, above, losses, tie_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """Positions of the classifiers that are worth a look, each for a reason of its own."""

    best: int  # the highest F1 (the smaller of equals)
    winner: int  # the smallest whose loss bound is within the margin; the best where none is
    value: int | None  # the knee of the front of F1 over the logarithm of size, where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """K classifiers on one sample.

    Attributes:
        sample: the validated images.
        names: of the classifiers.
        sizes: float64 (K,) bytes or any other price; equal where it is not known.
        margin: F1 that may be given away for a smaller one.
        repeats: F1 of each repeat, K arrays float64 (R,).
        intervals: float64 (K, 2) central 95 % intervals of ``score``, as a statement about these decisions.
        pairs: all pairwise comparisons.
        groups: tie groups, best first.
        losses: float64 (K, 3) F1 that each gives away to the best: estimate, low and high end at 95 %, all
            together.
        guessing: what tells from guessing: the sample's metric, but F1 where an answer that takes no look at
            the images has all of it, as calling every label has all of recall.
        reached: float64 (K,) the score of each by ``guessing``.
        chance: float64 (K,) what each would reach of it without a look at the images.
        beats_chance: bool (K,) which are shown to be above it.
        order: int64 (K,) positions by F1, then size, then name.
        picks: None at chance level, or where a class has fewer than ``FEWEST_PER_CLASS`` images or groups.
    """

    # Below this many images (groups) of the rarest class no interval is known to hold.
    FEWEST_PER_CLASS: ClassVar[int] = 10

    sample: Sample
    names: tuple[str, ...]
    sizes: Float64
    margin: float
    repeats: tuple[Float64, ...]
    intervals: Float64
    pairs: Pairs
    groups: tuple[TieGroup, ...]
    losses: Float64
    guessing: Metric
    reached: Float64
    chance: Float64
    beats_chance: tuple[bool, ...]
    order: Int64
    picks: Picks | None

    @property
    def score(self) -> Float64:
        """F1, or what else the sample is scored by, the mean over repeats, float64 (K,)."""
        return self.pairs.score

    @property
    def loss_bounds(self) -> Float64:
        """Upper 95 % bounds of the F1 that each gives away to the best, all together, float64 (K,)."""
        return self.losses[:, 2]

    @property
    def tied(self) -> tuple[int, ...]:
        """Positions of the first tie group, in board order."""
        first = set(self.groups[0].members.tolist())
        return tuple(position for position in self.order.tolist() if position in first)

    @property
    def is_too_few(self) -> bool:
        """Whether some class has too few images for its score to be known."""
        return self.sample.fewest_units < self.FEWEST_PER_CLASS

    @property
    def is_at_chance(self) -> bool:
        """Whether the scores are those of guessing, rather than too few to show that they are not."""
        return not any(self.beats_chance) and not self.is_too_few

    def units(self, *, grouped: bool) -> str:
        """``398 images``, or with groups ``398 images in 41 groups``."""
        images = f"{len(self.sample.targets):,} images"
        return f"{images} in {self.sample.unit_count:,} groups" if grouped else images


def assess(
    sample: Sample,
    errors: Sequence[ErrorCounts],
    *,
    names: Sequence[str],
    sizes: Sequence[float] | None = None,
    margin: float = DEFAULT_MARGIN,
    resamples: int = 2000,
    seed: int = 0,
) -> Assessment:
    """Assess K classifiers, at least one, on one sample; without sizes they are taken as equal."""
    pairs = Pairs.of(sample, errors)
    seen, by = pairs, sample
    chance = np.array([chance_score(by, each) for each in errors])
    if chance.max() >= 1 and by.metric is not F1:
        by = replace(sample, metric=F1)
        seen, chance = Pairs.of(by, errors), np.array([chance_score(by, each) for each in errors])
    prices = np.ones(len(names)) if sizes is None else np.asarray(sizes, np.float64)
    found = Assessment(
        sample=sample,
        names=tuple(names),
        sizes=prices,
        margin=margin,
        repeats=tuple(each.score(sample) for each in errors),
        intervals=estimates(sample, errors, resamples=resamples, seed=seed)[:, 1:],
        pairs=pairs,
        groups=tie_groups(pairs, seed=seed),
        losses=losses(pairs, seed=seed),
        guessing=by.metric,
        reached=seen.score,
        chance=chance,
        beats_chance=tuple(above(seen, chance, seed=seed).tolist()),
        order=np.array(
            sorted(range(len(names)), key=lambda k: (-pairs.score[k], prices[k], names[k])), np.int64
        ),
        picks=None,
    )
    return found if found.is_too_few or found.is_at_chance else _with_picks(found)


def _with_picks(found: Assessment) -> Assessment:
    best = int(found.order[0])
    within = [k for k in found.order.tolist() if found.loss_bounds[k] <= found.margin]
    # Among equally small ones the first in order, that is the best, stays.
    winner = min(within, key=lambda k: found.sizes[k], default=best)
    return replace(found, picks=Picks(best=best, winner=winner, value=knee(found.score, found.sizes)))


def knee(score: Float64, sizes: Float64) -> int | None:
    """The point of the front of F1 over the logarithm of size that lies farthest above its chord.

    That is the knee of Satopää, Albrecht, Irwin and Raghavan (Finding a "Kneedle" in a Haystack, 2011)
    without smoothing. None for a front of fewer than three points, or one that bends nowhere upwards.
    """
    front: list[int] = []
    for k in sorted(range(len(score)), key=lambda k: (sizes[k], -score[k])):
        if not front or score[k] > score[front[-1]]:
            front.append(k)
    if len(front) < 3:
        return None
    price, value = np.log(sizes[front]), score[front]
    rise = (value - value[0]) / (value[-1] - value[0]) - (price - price[0]) / (price[-1] - price[0])
    return front[int(rise.argmax())] if rise.max() > 0 else None


def chance_score(sample: Sample, errors: ErrorCounts) -> float:
    """The best score that needs no look at the images.

    That is a constant answer, each class alone or (unless every image has one label) all labels together, or
    this classifier's own decisions dealt out at random, for whose score their expected counts stand.
    """
    positives, total = sample.positives, len(sample.targets)
    answers = np.eye(len(positives))
    if (sample.targets.sum(1) != 1).any():
        answers = np.vstack([answers, np.ones(len(positives))])
    if len(positives) == 1:
        answers = np.array([[0.0], [1.0]])
    missed, alarms = errors.totals
    decided_share = ((positives - missed + alarms) / max(total, 1)).mean(0)
    shares = np.vstack([answers, decided_share])
    counts = Counts(
        tp=shares * positives,
        fp=shares * sample.negatives,
        fn=(1 - shares) * positives,
        tn=(1 - shares) * sample.negatives,
    )
    return float(sample.metric.of_counts(counts, sample.average).max())
