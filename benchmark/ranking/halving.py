"""Carry a budgeted search out, and replay one: the caller's ``score`` embeds images and trains heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmark.errors import ArgumentError
from benchmark.ranking.board import BoardOptions, build_leaderboard
from benchmark.ranking.search import (
    Candidate,
    DropKind,
    Dropped,
    PairwiseComparison,
    SearchOptions,
    SearchState,
    next_round,
    search_subsets,
)
from benchmark.records import Int64, Outcome, Pruned, Scored, Targets


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

    finished: Mapping[str, Scored]
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
            Pruned(**outcome.facts() | {"images_embedded": reasons[name].images}, reason=reasons[name].reason)
            if name in reasons
            else outcome
            for name, outcome in self.unfinished.items()
        ]
        return tuple(sorted([*self.finished.values(), *partial], key=lambda outcome: outcome.backbone))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAudit:
    """What halving would have done, beside what an exhaustive search found."""

    same_winner: bool  # whether both searches have one winner
    same_tie_group: bool  # whether both have one first tie group, backbones pruned for size aside
    lost: tuple[str, ...]  # members of the exhaustive first tie group that halving dropped as behind
    share: float  # images x FLOPs of halving over exhaustive
    report: SearchReport  # of the replayed search


Score = Callable[[str, Int64], Outcome]  # (backbone, rows)
Prepare = Callable[[Sequence[str], Int64], None]  # (backbones, rows)


def run_search(
    candidates: Sequence[Candidate],
    score: Score,
    targets: Targets,
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
        targets: labels and groups of all images.
        subsets: of ``search_subsets``.
        options: the same as for the subsets.
        prepare: ``prepare(backbones, rows)`` is told who is about to be scored on a subset, so that they can
            be run together; not before the last round, in which each result may spare the next backbone.

    Returns:
        Who finished, who left and why, and what it cost.
    """
    search = _Halving(candidates, targets, subsets, options or SearchOptions())
    for number, rows in enumerate(subsets):
        if prepare is not None and number < len(subsets) - 1:
            prepare(search.running, rows)
        search.run_round(number, score)
    return search.report()


class _Halving:
    """The state of one search."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        targets: Targets,
        subsets: Sequence[Int64],
        options: SearchOptions,
    ) -> None:
        self._candidates = {each.backbone: each for each in candidates}
        self._targets, self._subsets, self._options = targets, subsets, options
        self._latest: dict[str, Scored | None] = dict.fromkeys(sorted(self._candidates, key=self._cost))
        self._images = dict.fromkeys(self._candidates, 0)
        self._finished: dict[str, Scored] = {}
        self._unfinished: dict[str, Outcome] = {}
        self._dropped: list[Dropped] = []

    @property
    def running(self) -> tuple[str, ...]:
        """Who is in the search and not finished, cheapest first."""
        return tuple(self._latest)

    def _cost(self, name: str) -> tuple[int, int, str]:
        candidate = self._candidates[name]
        return candidate.flops, candidate.size_bytes, name

    def run_round(self, number: int, score: Score) -> None:
        """Score everyone in the search on one subset, the cheapest first, and see who leaves."""
        if number == len(self._subsets) - 1:
            for name in list(self._latest):
                self._finish(name, number, score)
            return
        rows = self._subsets[number]
        scored: list[Outcome | None] = [self._run(name, rows, score) for name in list(self._latest)]
        # Finished ones are judged on the subset too: their embeddings are there, and the others' heads saw
        # no more.
        scored += [score(name, rows) for name in self._finished]
        kept = [outcome for outcome in scored if isinstance(outcome, Scored)]
        self._drop(number, kept)
        for name in self._worth_finishing(number, kept):
            self._finish(name, number, score)

    def _run(self, name: str, rows: Int64, score: Score) -> Scored | None:
        """One backbone on some rows; None when it cannot be scored and left the search."""
        outcome = score(name, rows)
        self._images[name] = len(rows)
        if isinstance(outcome, Scored):
            self._latest[name] = outcome
            return outcome
        self._unfinished[name] = outcome
        del self._latest[name]
        return None

    def _finish(self, name: str, number: int, score: Score) -> None:
        """One backbone on everything, unless it left meanwhile or is no longer worth it."""
        if name not in self._latest:
            return
        outcome = self._run(name, self._subsets[-1], score)
        if outcome is not None:
            self._finished[name] = outcome
            del self._latest[name]
            self._drop(number, ())

    def _worth_finishing(self, number: int, scored: Sequence[Scored]) -> Iterator[str]:
        """Contenders that finish for less than the next subset costs for all larger ones, cheapest first."""
        if not scored:
            return
        found = PairwiseComparison.of(scored, self._targets, self._options)
        beaten = found.comparison.beaten()
        contenders = {name for name, lags in zip(found.names, beaten, strict=True) if not lags}
        seen, following = len(self._subsets[number]), len(self._subsets[number + 1])
        for name in sorted(contenders & set(self._latest), key=self._cost):
            own = self._candidates[name]
            larger = [
                self._candidates[other].flops
                for other in self._latest
                if self._candidates[other].size_bytes > own.size_bytes
            ]
            if own.flops * (len(self._targets.targets) - seen) < sum(larger) * (following - seen):
                yield name

    def _drop(self, number: int, scored: Sequence[Scored]) -> None:
        state = SearchState(
            candidates=self._candidates,
            scored=scored,
            running=self._latest,
            finished=self._finished,
            images=len(self._subsets[-1]),
            seen=max((self._images[name] for name in self._latest), default=0),
            round=number,
            rounds=len(self._subsets),
        )
        for each in next_round(state, self._targets, self._options):
            self._dropped.append(each)
            partial = self._latest.pop(each.backbone)
            if partial is not None:
                self._unfinished[each.backbone] = partial

    def report(self) -> SearchReport:
        """What became of the search."""
        everything = len(self._targets.targets)
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
    targets: Targets,
    options: SearchOptions | None = None,
    *,
    rows: Int64 | None = None,
) -> SearchAudit:
    """Replay halving on backbones that were all scored on everything.

    Args:
        exhaustive: their outcomes; those that were not scored take no part.
        score: as for ``run_search``; it is called for the smaller subsets only.
        targets: labels and groups of all images.
        options: of the search.
        rows: int64 (M,) train and val positions, ascending; None where all of them were validated.

    Returns:
        Whether halving would have found the same.

    Raises:
        ArgumentError: nothing was scored.
    """
    full = {each.backbone: each for each in exhaustive if isinstance(each, Scored)}
    if not full:
        raise ArgumentError("no scored backbone to replay a search on")
    options = options or SearchOptions()
    rows = next(iter(full.values())).predictions.val_rows if rows is None else rows
    subsets = search_subsets(targets, rows, options)

    def score_or_recall(name: str, subset: Int64) -> Outcome:
        return full[name] if len(subset) == len(rows) else score(name, subset)

    candidates = [
        Candidate(backbone=each.backbone, size_bytes=each.size_bytes, flops=each.flops)
        for each in full.values()
    ]
    report = run_search(candidates, score_or_recall, targets, subsets, options)
    return _compared(list(full.values()), report, targets, options.board)


def _compared(
    exhaustive: Sequence[Outcome], report: SearchReport, targets: Targets, board: BoardOptions
) -> SearchAudit:
    wanted, winner = _first_group(exhaustive, targets, board)
    found, found_winner = _first_group(list(report.finished.values()), targets, board)
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
    outcomes: Sequence[Outcome], targets: Targets, options: BoardOptions
) -> tuple[set[str], str | None]:
    board = build_leaderboard(outcomes, targets, options)
    return {row["backbone"] for row in board.rows if row["tie_group"] == 1}, board.winner
