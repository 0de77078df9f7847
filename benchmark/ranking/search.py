"""Budgeted search: which backbones need not see all the images. Pure decisions; ``halving`` carries them out.

Successive halving over growing subsets (Jamieson and Talwalkar, Non-stochastic best arm identification,
AISTATS 2016), except that nobody leaves for being in the lower half. A backbone leaves for one of two
reasons.

It is unlikely to reach the leader's tie group. On a share f of the images the statistic of the leader's lead
is t. What it becomes on all images, given the first ones, varies with standard deviation sqrt(1 - f) in units
of today's deviation, and must be under c * sqrt(f) for a tie. So it leaves when
t > z * sqrt(1 - f) + c * sqrt(f). The normal quantile z spends the error evenly over rounds and backbones; c
separates any pair of all backbones.

It is too large to win. The smallest backbone wins whose loss bound is within the margin. Take a small one
that has finished: its loss on all images is known. A larger rival that has not finished will lose at least
the lower bound of its loss so far (Wilson and Hilferty's Gamma quantile at the spent error), times sqrt(f),
because heads trained on more images are better and learning curves rarely fall faster than with the square
root of the images. If against every larger rival, all of whose mistakes the small one shares, its loss bound
would still be within the margin, larger ones leave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist
from typing import Self

import numpy as np

from benchmark.errors import ArgumentError
from benchmark.ranking.board import BoardOptions, sample_at, validation_errors
from benchmark.records import Average, Float64, Int64, Scored, Targets, Task
from benchmark.statistics import (
    FAMILY_LEVEL,
    METRICS,
    Pairs,
    Sample,
    hidden_loss,
    range_quantile,
)

_LAST_STEP = 1.5  # a subset that is nearly everything is left out


class DropKind(StrEnum):
    """Why a backbone left the search."""

    BEHIND = "behind"
    SIZE = "size"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How a budgeted search goes.

    Attributes:
        minimum: images in the first subset, at least.
        fewest_per_class: images (or groups) of every class in the first subset, at least.
        growth: factor from one subset to the next.
        error: chance of dropping, over all rounds and backbones, one that would have been in the first tie
            group.
        board: what decides, and what the winner may give away for being smaller; its seed draws the subsets.
    """

    minimum: int = 96
    fewest_per_class: int = 20
    growth: float = 2.0
    error: float = 0.05
    board: BoardOptions = field(default_factory=BoardOptions)

    def __post_init__(self) -> None:
        if self.minimum < 1 or self.fewest_per_class < 1:
            raise ArgumentError("a subset needs images", where="minimum", expected=">= 1", got=self.minimum)
        if self.growth <= 1:
            raise ArgumentError("subsets must grow", where="growth", expected="> 1", got=self.growth)
        if not 0 < self.error < 1:
            raise ArgumentError(
                "the error is a probability", where="error", expected="0 to 1", got=self.error
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a search must know of a backbone before it runs.

    Attributes:
        backbone: name on the board.
        size_bytes: backbone and head, what ties are broken by.
        flops: per image; where unknown, give a number in proportion to its cost.
    """

    backbone: str
    size_bytes: int
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A backbone that left the search."""

    backbone: str
    kind: DropKind
    reason: str  # for the board, one clause
    round: int  # that it left in or before, from 0
    images: int  # that it was run on


def search_subsets(targets: Targets, rows: Int64, options: SearchOptions) -> tuple[Int64, ...]:
    """The growing subsets: nested, stratified by class, groups whole; the last one is everything.

    Args:
        targets: labels and groups of all images.
        rows: int64 (M,) train and val positions, ascending.
        options: minimum, growth, seed.

    Returns:
        int64 arrays of positions, ascending. A single one when the images are too few to search with less.
    """
    order, strata = _drawing_order(targets, rows, options.board.seed)
    first = _first_share(targets, rows, options)
    shares = []
    share = first
    while share * _LAST_STEP < 1:
        shares.append(share)
        share *= options.growth
    subsets = [np.sort(rows[_prefix(order, strata, targets, rows, each)]) for each in shares]
    return (*subsets, np.asarray(rows))


def _first_share(targets: Targets, rows: Int64, options: SearchOptions) -> float:
    fewest = sample_at(targets, rows, Average.MACRO).fewest_units
    if not fewest:
        return 1.0
    return max(options.minimum / len(rows), options.fewest_per_class / fewest)


def _drawing_order(targets: Targets, rows: Int64, seed: int) -> tuple[list[Int64], Int64]:
    """Units, as arrays of positions in ``rows``, in the order they are drawn; the class of each."""
    wanted = targets.targets[rows]
    groups = np.arange(len(rows)) if targets.groups is None else targets.groups[rows]
    units = np.unique(groups, return_inverse=True)[1]
    by_unit = np.argsort(units, kind="stable")
    members = np.split(by_unit, np.cumsum(np.bincount(units))[:-1])
    columns = wanted if wanted.shape[1] > 1 else np.hstack([1 - wanted, wanted])
    multilabel = targets.task is Task.MULTILABEL
    strata = np.array([0 if multilabel else int(columns[each].sum(0).argmax()) for each in members])
    shuffled = np.random.default_rng([seed, 4]).permutation(len(members))
    return [members[unit] for unit in shuffled], strata[shuffled]


def _prefix(order: list[Int64], strata: Int64, targets: Targets, rows: Int64, share: float) -> Int64:
    """Positions in ``rows`` of the first units of each class, up to a share of the class's images."""
    taken: list[Int64] = []
    for stratum in np.unique(strata):
        own = [order[position] for position in np.flatnonzero(strata == stratum)]
        sizes = np.cumsum([len(each) for each in own])
        count = int(np.searchsorted(sizes, math.ceil(share * sizes[-1] - 1e-9))) + 1
        taken += own[:count]
    return np.concatenate(taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchState:
    """The search at one moment."""

    candidates: Mapping[str, Candidate]  # every backbone that started, by name
    scored: Sequence[Scored]  # on this round's subset, of running and of finished backbones; may be empty
    running: Mapping[str, Scored | None]  # who has not finished: its latest outcome, None before its first
    finished: Mapping[str, Scored]  # outcomes on all images, by name
    images: int  # train and val together
    seen: int  # of them, what the running ones were last trained and validated on; 0 before the first
    round: int  # from 0
    rounds: int  # how many there are

    @property
    def share(self) -> float:
        """What of all images the running backbones have seen, 0 to 1; of given parts, train and val alike."""
        return self.seen / self.images

    def chance_quantile(self, error: float) -> float:
        """Normal quantile of the error, spent evenly over rounds and backbones."""
        return NormalDist().inv_cdf(1 - error / (self.rounds * max(len(self.candidates), 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseComparison:
    """K backbones compared on the same images."""

    names: tuple[str, ...]  # in name order
    sample: Sample
    comparison: Pairs  # of the backbones in that order

    @classmethod
    def of(cls, outcomes: Sequence[Scored], targets: Targets, options: SearchOptions) -> Self:
        """Compare outcomes on the images that all of them were validated on.

        Raises:
            ArgumentError: they were validated on different images.
        """
        scored = sorted(outcomes, key=lambda outcome: outcome.backbone)
        sample, errors = validation_errors(scored, targets, options.board.average, options.board.metric)
        names = tuple(outcome.backbone for outcome in scored)
        return cls(names=names, sample=sample, comparison=Pairs.of(sample, errors))

    @property
    def losses(self) -> Float64:
        """What each F1 lacks to a backbone without mistakes, float64 (K,)."""
        nothing = np.zeros(self.sample.targets.shape[1])
        return np.asarray(np.maximum(self.sample.score(nothing, nothing) - self.comparison.score, 0.0))


def next_round(state: SearchState, targets: Targets, options: SearchOptions) -> tuple[Dropped, ...]:
    """The running backbones that leave, with reasons."""
    behind = _behind(state, targets, options)
    gone = {each.backbone for each in behind}
    return (*behind, *_too_large(state, gone, targets, options))


def _behind(state: SearchState, targets: Targets, options: SearchOptions) -> list[Dropped]:
    if not state.scored:
        return []
    found = PairwiseComparison.of(state.scored, targets, options)
    share = state.share
    if share >= 1:  # nothing is left to save
        return []
    pairs = max(len(state.candidates) * (len(state.candidates) - 1), 2)
    separates = NormalDist().inv_cdf(1 - (1 - FAMILY_LEVEL) / pairs)
    unlikely = state.chance_quantile(options.error) * math.sqrt(1 - share)
    limit = unlikely + separates * math.sqrt(share)
    lagging = found.comparison.beaten(limit)
    return [
        Dropped(
            backbone=name,
            kind=DropKind.BEHIND,
            reason=_behind_reason(found, position),
            round=state.round,
            images=state.seen,
        )
        for position, name in enumerate(found.names)
        if lagging[position] and name in state.running
    ]


def _behind_reason(found: PairwiseComparison, position: int) -> str:
    score, title = found.comparison.score, found.sample.metric.title
    leader = int(np.argmax(found.comparison.statistics[:, position]))
    return (
        f"unlikely to reach the leaders: {title} {score[position]:.3f} against {score[leader]:.3f} of "
        f"{found.names[leader]} on {len(found.sample.targets)} images"
    )


def _too_large(state: SearchState, gone: set[str], targets: Targets, options: SearchOptions) -> list[Dropped]:
    safe = _smallest_safe(state, gone, targets, options)
    if safe is None:
        return []
    loss = f"{options.board.max_loss:g} {METRICS[options.board.metric].title}"
    others = "whatever larger ones may still reach"
    reason = f"larger than {safe.backbone}, which gives away at most {loss} to {others}"
    return [
        Dropped(
            backbone=name,
            kind=DropKind.SIZE,
            reason=reason,
            round=state.round,
            images=state.seen,
        )
        for name in sorted(state.running)
        if name not in gone and _size_and_name(state.candidates[name]) > _size_and_name(safe)
    ]


def _size_and_name(candidate: Candidate) -> tuple[int, str]:
    return candidate.size_bytes, candidate.backbone


def _smallest_safe(
    state: SearchState, gone: set[str], targets: Targets, options: SearchOptions
) -> Candidate | None:
    """The smallest finished backbone that is within the margin of whatever larger ones may reach."""
    if not state.finished:
        return None
    finished = PairwiseComparison.of(list(state.finished.values()), targets, options)
    z = state.chance_quantile(options.error)
    rivals = {
        name: 0.0 if outcome is None else _least_loss(outcome, state.share, z, (targets, options))
        for name, outcome in state.running.items()
        if name not in gone
    }
    by_size = sorted(
        range(len(finished.names)), key=lambda k: _size_and_name(state.candidates[finished.names[k]])
    )
    critical = range_quantile(max(len(state.candidates), 2))
    bounds = finished.comparison.bounds_at(critical)
    for position in by_size:
        candidate = state.candidates[finished.names[position]]
        own = _size_and_name(candidate)
        larger = {name for name, other in state.candidates.items() if _size_and_name(other) > own}
        least = min((loss for name, loss in rivals.items() if name in larger), default=math.inf)
        gap = max(float(finished.losses[position]) - least, 0.0)
        cost = float(finished.comparison.error_cost[position])
        unseen = 0.0 if math.isinf(least) else hidden_loss(gap, cost, critical)
        if max(float(bounds[position]), unseen) <= options.board.max_loss:
            return candidate
    return None


def _least_loss(outcome: Scored, share: float, z: float, data: tuple[Targets, SearchOptions]) -> float:
    """What a running backbone will at least lose to one without mistakes when it has seen all images.

    Its outcome is that of a share of them.
    """
    found = PairwiseComparison.of([outcome], *data)
    loss, variance = float(found.losses[0]), float(found.comparison.covariance[0, 0])
    cost = float(found.comparison.error_cost[0])
    if loss <= 0:
        return 0.0
    # As many Poisson mistakes as give this loss its variance, at most as many as there were.
    errors = min(loss**2 / variance if variance > 0 else math.inf, loss / cost if cost > 0 else math.inf)
    lower = max(1 - 1 / (9 * errors) - z / (3 * math.sqrt(errors)), 0.0) ** 3
    return loss * lower * math.sqrt(share)
