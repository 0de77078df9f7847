"""Budgeted search: which backbones need not see all the images. Pure decisions; the caller embeds and trains.

Successive halving over growing subsets (Jamieson and Talwalkar, Non-stochastic best arm identification,
AISTATS 2016), except that nobody leaves for being in the lower half. A backbone leaves for one of two
reasons:

* It is unlikely to reach the leader's tie group. On a share f of the images the statistic of the leader's
lead is t.
  What it becomes on all images, given the first ones, varies with standard deviation sqrt(1 - f) in units of
  today's deviation, and must be under c * sqrt(f) for a tie. So it leaves when t > z * sqrt(1 - f) + c *
  sqrt(f). The normal quantile z spends the error evenly over rounds and backbones; c separates any pair of
  all backbones.
* It is too large to win: a smaller backbone is sure of its place in the first tie group, and among tied
backbones
  the smaller wins. Sure are a backbone that ties with a perfect score on all images, and one that nobody
  left in the race is likely to get ahead of (the same formula from the other side).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from benchmark.errors import ArgumentError
from benchmark.ranking.board import BoardOptions, build_leaderboard
from benchmark.ranking.metrics import decide, default_average
from benchmark.ranking.resampling import Mistakes, Sample
from benchmark.ranking.ties import FAMILY_LEVEL, Comparison, compare
from benchmark.records import Average, Bool, Int64, Outcome, Status, Task, Truth

_PAIR_QUANTILE = 1.96
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
        average: of F1 over classes; None means the task's own.
        seed: of the subsets.
    """

    minimum: int = 96
    fewest_per_class: int = 20
    growth: float = 2.0
    error: float = 0.05
    average: Average | None = None
    seed: int = 0

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
    """A backbone that left the search.

    Attributes:
        backbone: its name.
        kind: behind, or too large to win.
        reason: for the board, one clause.
        round: number of the round that it left in or before, from 0.
        images: that it was run on.
    """

    backbone: str
    kind: DropKind
    reason: str
    round: int
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """How a search went.

    Attributes:
        finished: outcomes on all images, by name.
        unfinished: the last outcome of backbones that failed or were dropped on the way, by name; who was
            dropped before its first run has none.
        dropped: who left and why, in order.
        subset_sizes: images of each round.
        spent_flops: images x FLOPs of all backbones, the test part of the finished ones included.
        exhaustive_flops: the same for a search that drops nobody.
    """

    finished: Mapping[str, Outcome]
    unfinished: Mapping[str, Outcome]
    dropped: tuple[Dropped, ...]
    subset_sizes: tuple[int, ...]
    spent_flops: float
    exhaustive_flops: float

    @property
    def share(self) -> float:
        """What was spent of an exhaustive search, 0 to 1."""
        return self.spent_flops / self.exhaustive_flops if self.exhaustive_flops else 1.0

    def outcomes(self) -> tuple[Outcome, ...]:
        """One outcome per backbone that ran, by name; dropped ones are ``pruned``, with the reason."""
        reasons = {each.backbone: each for each in self.dropped}
        partial = [
            replace(
                outcome,
                status=Status.PRUNED,
                reason=reasons[name].reason,
                images_embedded=reasons[name].images,
            )
            if name in reasons
            else outcome
            for name, outcome in self.unfinished.items()
        ]
        return tuple(sorted([*self.finished.values(), *partial], key=lambda outcome: outcome.backbone))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAudit:
    """What halving would have done, beside what an exhaustive search found.

    Attributes:
        same_winner: both searches have one winner.
        same_tie_group: both have one first tie group, backbones that were pruned for size aside.
        lost: members of the exhaustive first tie group that halving dropped as behind.
        share: images x FLOPs of halving over exhaustive.
        report: of the replayed search.
    """

    same_winner: bool
    same_tie_group: bool
    lost: tuple[str, ...]
    share: float
    report: SearchReport


def search_subsets(truth: Truth, rows: Int64, options: SearchOptions) -> tuple[Int64, ...]:
    """The growing subsets: nested, stratified by class, groups whole; the last one is everything.

    Args:
        truth: labels and groups of all images.
        rows: int64 (M,) train and val positions, ascending.
        options: minimum, growth, seed.

    Returns:
        int64 arrays of positions, ascending. A single one when the images are too few to search with less.
    """
    order, strata = _drawing_order(truth, rows, options.seed)
    first = _first_share(truth, rows, options)
    shares = []
    share = first
    while share * _LAST_STEP < 1:
        shares.append(share)
        share *= options.growth
    subsets = [np.sort(rows[_prefix(order, strata, truth, rows, each)]) for each in shares]
    return (*subsets, np.asarray(rows))


def _first_share(truth: Truth, rows: Int64, options: SearchOptions) -> float:
    groups = None if truth.groups is None else truth.groups[rows]
    sample = Sample.of(truth.targets[rows], Average.MACRO, groups)
    fewest = float(sample.side_units.min()) if len(rows) else 0.0
    if fewest < 1:
        return 1.0
    return max(options.minimum / len(rows), options.fewest_per_class / fewest)


def _drawing_order(truth: Truth, rows: Int64, seed: int) -> tuple[list[Int64], Int64]:
    """Units, as arrays of positions in ``rows``, in the order they are drawn; the class of each."""
    targets = truth.targets[rows]
    groups = np.arange(len(rows)) if truth.groups is None else truth.groups[rows]
    units = np.unique(groups, return_inverse=True)[1]
    by_unit = np.argsort(units, kind="stable")
    members = np.split(by_unit, np.cumsum(np.bincount(units))[:-1])
    columns = targets if targets.shape[1] > 1 else np.hstack([1 - targets, targets])
    multilabel = truth.task is Task.MULTILABEL
    strata = np.array([0 if multilabel else int(columns[each].sum(0).argmax()) for each in members])
    shuffled = np.random.default_rng([seed, 4]).permutation(len(members))
    return [members[unit] for unit in shuffled], strata[shuffled]


def _prefix(order: list[Int64], strata: Int64, truth: Truth, rows: Int64, share: float) -> Int64:
    """Positions in ``rows`` of the first units of each class, up to a share of the class's images."""
    taken: list[Int64] = []
    for stratum in np.unique(strata):
        own = [order[position] for position in np.flatnonzero(strata == stratum)]
        sizes = np.cumsum([len(each) for each in own])
        count = int(np.searchsorted(sizes, math.ceil(share * sizes[-1] - 1e-9))) + 1
        taken += own[:count]
    return np.concatenate(taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The race after a round, or within the last one.

    Attributes:
        outcomes: scored on this round's subset.
        candidates: every backbone that started, by name.
        share: this subset's share of the images, 0 to 1.
        round: number of the round, from 0.
        rounds: how many there are.
        pending: backbones in the race that have no outcome on this subset yet.
    """

    outcomes: Sequence[Outcome]
    candidates: Mapping[str, Candidate]
    share: float
    round: int
    rounds: int
    pending: tuple[str, ...] = field(default=())


def next_round(standing: Standing, truth: Truth, options: SearchOptions) -> tuple[Dropped, ...]:
    """Who need not go on.

    Args:
        standing: the race now.
        truth: labels and groups of all images.
        options: error and average.

    Returns:
        The backbones that leave, with reasons; never all of them.
    """
    if not standing.outcomes:
        return ()
    evidence = _evidence(standing, truth, options)
    images = len(evidence.sample.targets)
    dropped = [
        Dropped(
            backbone=name,
            kind=DropKind.BEHIND,
            reason=_behind_reason(evidence, position),
            round=standing.round,
            images=images,
        )
        for position, name in enumerate(evidence.names)
        if evidence.behind[position]
    ]
    return (*dropped, *_too_large(evidence, standing, options))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """What a round says: K backbones by name, compared, and which of them are behind, bool (K,)."""

    names: tuple[str, ...]
    sample: Sample
    comparison: Comparison
    behind: Bool


def _evidence(standing: Standing, truth: Truth, options: SearchOptions) -> _Evidence:
    scored = sorted(standing.outcomes, key=lambda outcome: outcome.backbone)
    first = scored[0].predictions
    if first is None:
        raise ArgumentError("a scored backbone without predictions", where=scored[0].backbone)
    rows = first.val_rows
    groups = None if truth.groups is None else truth.groups[rows]
    sample = Sample.of(truth.targets[rows], default_average(truth.task, options.average), groups)
    mistakes = [_mistakes(outcome, rows, sample, truth.task) for outcome in scored]
    comparison = compare(sample, mistakes)
    return _Evidence(
        names=tuple(outcome.backbone for outcome in scored),
        sample=sample,
        comparison=comparison,
        behind=_behind(comparison, standing, options),
    )


def _mistakes(outcome: Outcome, rows: Int64, sample: Sample, task: Task) -> Mistakes:
    found = outcome.predictions
    if found is None or not np.array_equal(found.val_rows, rows):
        raise ArgumentError(
            "backbones of one round were validated on different images", where=outcome.backbone
        )
    return Mistakes.of(decide(found.val, found.val_thresholds, task), sample)


def _unlikely(standing: Standing, options: SearchOptions) -> float:
    """How far, in today's deviations, a lead may still move at the spent error."""
    spent = options.error / (standing.rounds * max(len(standing.candidates), 1))
    return NormalDist().inv_cdf(1 - spent) * math.sqrt(1 - standing.share)


def _behind(comparison: Comparison, standing: Standing, options: SearchOptions) -> Bool:
    if standing.share >= 1:  # nothing is left to save
        return np.zeros(len(comparison.f1), bool)
    pairs = max(len(standing.candidates) * (len(standing.candidates) - 1), 2)
    separates = NormalDist().inv_cdf(1 - (1 - FAMILY_LEVEL) / pairs)
    limit = _unlikely(standing, options) + separates * math.sqrt(standing.share)
    return np.asarray((comparison.statistics > limit).any(0))


def _behind_reason(evidence: _Evidence, position: int) -> str:
    f1 = evidence.comparison.f1
    leader = int(np.argmax(evidence.comparison.statistics[:, position]))
    return (
        f"unlikely to reach the leaders: F1 {f1[position]:.3f} against {f1[leader]:.3f} of "
        f"{evidence.names[leader]} on {len(evidence.sample.targets)} images"
    )


def _too_large(evidence: _Evidence, standing: Standing, options: SearchOptions) -> list[Dropped]:
    sure = _sure_of_a_tie(evidence, standing, options)
    winners = [standing.candidates[name] for name, safe in zip(evidence.names, sure, strict=True) if safe]
    if not winners:
        return []
    smallest = min(winners, key=_size_and_name)
    running = [name for name, gone in zip(evidence.names, evidence.behind, strict=True) if not gone]
    images = dict.fromkeys(running, len(evidence.sample.targets)) | dict.fromkeys(standing.pending, 0)
    return [
        Dropped(
            backbone=name,
            kind=DropKind.SIZE,
            reason=f"larger than {smallest.backbone}, which ties with the best F1 that can still be reached",
            round=standing.round,
            images=images[name],
        )
        for name in sorted(images)
        if _size_and_name(standing.candidates[name]) > _size_and_name(smallest)
    ]


def _size_and_name(candidate: Candidate) -> tuple[int, str]:
    return candidate.size_bytes, candidate.backbone


def _sure_of_a_tie(evidence: _Evidence, standing: Standing, options: SearchOptions) -> Bool:
    """Whose place in the first tie group nobody is likely to take, bool (K,)."""
    behind, comparison = evidence.behind, evidence.comparison
    if standing.share >= 1:
        return _ties_with_perfect(evidence.sample, comparison)
    if standing.pending:
        return np.zeros(len(behind), bool)
    limit = _PAIR_QUANTILE * math.sqrt(standing.share) - _unlikely(standing, options)
    rivals = np.where(np.eye(len(behind), dtype=bool), -np.inf, comparison.statistics)
    return np.asarray((rivals[~behind] < limit).all(0)) & ~behind


def _ties_with_perfect(sample: Sample, comparison: Comparison) -> Bool:
    """Who could not be told from a backbone without mistakes by any tie rule: not even as the only pair."""
    perfect = Comparison(
        f1=np.append(
            comparison.f1, sample.f1(np.zeros(sample.targets.shape[1]), np.zeros(sample.targets.shape[1]))
        ),
        covariance=np.pad(comparison.covariance, ((0, 1), (0, 1))),
        mistake_cost=np.append(comparison.mistake_cost, 0.0),
        losses=np.vstack([comparison.losses, np.zeros(comparison.losses.shape[1])]),
        side_units=comparison.side_units,
    )
    return np.asarray(perfect.statistics[-1, :-1] <= _PAIR_QUANTILE)


Score = Callable[[str, Int64], Outcome]
Prepare = Callable[[Sequence[str], Int64], None]


def run_search(
    candidates: Sequence[Candidate],
    score: Score,
    truth: Truth,
    subsets: Sequence[Int64],
    options: SearchOptions | None = None,
    *,
    prepare: Prepare | None = None,
) -> SearchReport:
    """Run a budgeted search; the same code replays one for an audit.

    Args:
        candidates: the backbones.
        score: ``score(backbone, rows)`` embeds the rows where needed, trains heads on them (and, when they
            are all of train and val, scores the test part) and returns the outcome.
        truth: labels and groups of all images.
        subsets: of ``search_subsets``.
        options: the same as for the subsets.
        prepare: ``prepare(backbones, rows)`` is told who is about to be scored on a subset, so that they can
            be run together; not before the last round, in which each result may spare the next backbone.

    Returns:
        Who finished, who left and why, and what it cost.
    """
    race = _Race(candidates, truth, subsets, options or SearchOptions())
    for number, rows in enumerate(subsets):
        if prepare is not None and number < len(subsets) - 1:
            prepare(race.running, rows)
        race.run_round(number, score)
    return race.report()


class _Race:
    """The state of one search."""

    def __init__(
        self, candidates: Sequence[Candidate], truth: Truth, subsets: Sequence[Int64], options: SearchOptions
    ) -> None:
        self._candidates = {each.backbone: each for each in candidates}
        self._truth, self._subsets, self._options = truth, subsets, options
        self._running = sorted(self._candidates, key=self._cost)
        self._images = dict.fromkeys(self._candidates, 0)
        self._finished: dict[str, Outcome] = {}
        self._unfinished: dict[str, Outcome] = {}
        self._dropped: list[Dropped] = []

    @property
    def running(self) -> tuple[str, ...]:
        """Who is in the race, cheapest first."""
        return tuple(self._running)

    def _cost(self, name: str) -> tuple[int, int, str]:
        candidate = self._candidates[name]
        return candidate.flops, candidate.size_bytes, name

    def run_round(self, number: int, score: Score) -> None:
        """Score everyone who is still in the race on one subset, the cheapest first."""
        rows, last = self._subsets[number], number == len(self._subsets) - 1
        scored: list[Outcome] = []
        waiting = list(self._running)
        while waiting:
            name = waiting.pop(0)
            outcome = score(name, rows)
            self._images[name] = len(rows)
            if outcome.status is not Status.SCORED:
                self._unfinished[name] = outcome
                self._running.remove(name)
                continue
            scored.append(outcome)
            (self._finished if last else self._unfinished)[name] = outcome
            if last:
                self._unfinished.pop(name, None)
                self._drop(number, scored, tuple(waiting))
                waiting = [each for each in waiting if each in self._running]
        if not last:
            self._drop(number, scored, ())

    def _drop(self, number: int, scored: Sequence[Outcome], pending: tuple[str, ...]) -> None:
        standing = Standing(
            outcomes=scored,
            candidates=self._candidates,
            share=len(self._subsets[number]) / len(self._subsets[-1]),
            round=number,
            rounds=len(self._subsets),
            pending=pending,
        )
        for each in next_round(standing, self._truth, self._options):
            if each.backbone in self._finished:
                continue  # it is paid for: it stays on the board
            images = self._images[each.backbone]
            self._dropped.append(replace(each, images=images))
            self._running.remove(each.backbone)

    def report(self) -> SearchReport:
        """What became of the search."""
        everything = len(self._truth.targets)
        images = {name: everything if name in self._finished else own for name, own in self._images.items()}
        flops = {name: max(each.flops, 1) for name, each in self._candidates.items()}
        return SearchReport(
            finished=self._finished,
            unfinished=self._unfinished,
            dropped=tuple(self._dropped),
            subset_sizes=tuple(len(rows) for rows in self._subsets),
            spent_flops=float(sum(flops[name] * images[name] for name in flops)),
            exhaustive_flops=float(sum(each * everything for each in flops.values())),
        )


def audit_search(
    exhaustive: Sequence[Outcome],
    score: Score,
    truth: Truth,
    options: SearchOptions | None = None,
    board: BoardOptions | None = None,
) -> SearchAudit:
    """Replay halving on backbones that were all scored on everything.

    Args:
        exhaustive: their outcomes; those that were not scored take no part.
        score: as for ``run_search``; it is called for the smaller subsets only.
        truth: labels and groups of all images.
        options: of the search.
        board: of the leaderboards that are compared.

    Returns:
        Whether halving would have found the same.

    Raises:
        ArgumentError: nothing was scored.
    """
    full = {each.backbone: each for each in exhaustive if each.status is Status.SCORED and each.predictions}
    if not full:
        raise ArgumentError("no scored backbone to replay a search on")
    options = options or SearchOptions()
    rows = next(iter(full.values())).predictions.val_rows  # type: ignore[union-attr]
    subsets = search_subsets(truth, rows, options)

    def score_or_recall(name: str, subset: Int64) -> Outcome:
        return full[name] if len(subset) == len(rows) else score(name, subset)

    candidates = [
        Candidate(backbone=each.backbone, size_bytes=each.size_bytes, flops=each.flops)
        for each in full.values()
    ]
    report = run_search(candidates, score_or_recall, truth, subsets, options)
    return _compared(list(full.values()), report, truth, board)


def _compared(
    exhaustive: Sequence[Outcome], report: SearchReport, truth: Truth, board: BoardOptions | None
) -> SearchAudit:
    wanted, winner = _first_group(exhaustive, truth, board)
    found, found_winner = _first_group(list(report.finished.values()), truth, board)
    for_size = {each.backbone for each in report.dropped if each.kind is DropKind.SIZE}
    behind = {each.backbone for each in report.dropped if each.kind is DropKind.BEHIND}
    return SearchAudit(
        same_winner=winner == found_winner,
        same_tie_group=wanted - for_size == found,
        lost=tuple(sorted(wanted & behind)),
        share=report.share,
        report=report,
    )


def _first_group(
    outcomes: Sequence[Outcome], truth: Truth, options: BoardOptions | None
) -> tuple[set[str], str | None]:
    board = build_leaderboard(outcomes, truth, options)
    return {row["backbone"] for row in board.rows if row["tie_group"] == 1}, board.winner
