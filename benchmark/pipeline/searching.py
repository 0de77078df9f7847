"""Which backbones get a full score: all of them, or those that successive halving keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmark.embeddings import EmbeddingStore
from benchmark.pipeline.boards import board_options
from benchmark.pipeline.embedding import Embedded, embed_images
from benchmark.pipeline.heads import HeadJob, train_all
from benchmark.pipeline.limits import too_slow
from benchmark.pipeline.planning import Plan, make_plan, plan_facts
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.subsets import take_rows
from benchmark.ranking import (
    Candidate,
    SearchAudit,
    SearchOptions,
    SearchReport,
    audit_search,
    run_search,
    search_subsets,
)
from benchmark.records import Backbone, ImageSet, Int64, Observer, Outcome, Pruned, Scored, Skipped, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search left.

    Attributes:
        embedded: the backbones that are fully embedded, or stopped.
        pruned: outcomes of the backbones that were dropped on the way, or skipped because they are too slow.
        statements: what was spent, in whole sentences.
    """

    embedded: Embedded
    pruned: tuple[Outcome, ...] = ()
    statements: tuple[str, ...] = ()


def search_by_halving(request: RankRequest, job: HeadJob, observer: Observer) -> Searched:
    """Embed and score on growing subsets, dropping backbones that are unlikely to win.

    Args:
        request: all backbones, and what limits the winner.
        job: the heads, on all images.
        observer: told of the progress.
    """
    store = EmbeddingStore(request.options.cache, observer=observer)
    plans = {
        backbone.name: make_plan(request, backbone, job.images.image_ids, store)
        for backbone in request.backbones
    }
    scorer = SubsetScorer(request=request, job=job, observer=observer)
    targets, options = Targets.of(job.images), SearchOptions(board=board_options(request))
    candidates = [_candidate(plan, targets) for plan in plans.values() if plan.stopped is None]
    subsets = search_subsets(targets, scorer.rows, options)
    report = run_search(candidates, scorer.score, targets, subsets, options, prepare=scorer.prepare)
    slow = [outcome for outcome in report.unfinished.values() if isinstance(outcome, Skipped)]
    gone = {one.backbone for one in report.dropped} | {outcome.backbone for outcome in slow}
    kept = tuple(backbone for backbone in request.backbones if backbone.name not in gone)
    return Searched(
        embedded=embed_images(replace(request, backbones=kept), job.images, observer),
        pruned=(*_pruned(report, plans), *slow),
        statements=(_spent(report, len(candidates)),),
    )


def replay_halving(
    request: RankRequest, job: HeadJob, outcomes: Sequence[Outcome], observer: Observer
) -> tuple[str, ...]:
    """What halving would have done where everything was computed, in whole sentences."""
    if not any(isinstance(outcome, Scored) for outcome in outcomes):
        return ()
    scorer = SubsetScorer(request=request, job=job, observer=observer)
    targets, options = Targets.of(job.images), SearchOptions(board=board_options(request))
    audit = audit_search(outcomes, scorer.score, targets, options, rows=scorer.rows)
    return (_audited(audit), _spent(audit.report, len(audit.report.finished) + len(audit.report.unfinished)))


@dataclass(kw_only=True)
class SubsetScorer:
    """Scores backbones on parts of the images.

    Attributes:
        request: all backbones, weights, cache, limits.
        job: the heads, on all images.
        observer: told of the progress.
    """

    request: RankRequest
    job: HeadJob
    observer: Observer
    _known: dict[tuple[str, int], Outcome] = field(default_factory=dict)

    @property
    def rows(self) -> Int64:
        """int64 (M,): train and val positions, ascending."""
        split = self.job.images.split
        return np.sort(np.concatenate([split.train, split.val]))

    def prepare(self, names: Sequence[str], rows: Int64) -> None:
        """Embed and score several backbones on the same rows together."""
        images, positions = self._images(rows)
        chosen = tuple(self._backbone(name) for name in names)
        embedded = embed_images(
            replace(self.request, backbones=chosen),
            images,
            self.observer,
            planned_images=len(self.job.images),
        )
        job = replace(self.job, images=images)
        slow, fit = too_slow(self.request, embedded.embedded)
        outcomes = [*embedded.stopped, *slow, *train_all(job, fit, self.observer)]
        for outcome in outcomes:
            self._known[outcome.backbone, len(rows)] = _in_all(outcome, positions)

    def score(self, name: str, rows: Int64) -> Outcome:
        """The outcome of one backbone on some rows, its positions those of all images."""
        if (name, len(rows)) not in self._known:
            self.prepare([name], rows)
        return self._known[name, len(rows)]

    def _images(self, rows: Int64) -> tuple[ImageSet, Int64]:
        """The images of a subset and their positions among all; the whole brings its test part along."""
        everything = self.job.images
        if len(rows) == len(self.rows):
            return everything, np.arange(len(everything), dtype=np.int64)
        return take_rows(everything, rows), np.asarray(rows)

    def _backbone(self, name: str) -> Backbone:
        return next(backbone for backbone in self.request.backbones if backbone.name == name)


def _in_all(outcome: Outcome, positions: Int64) -> Outcome:
    if not isinstance(outcome, Scored):
        return outcome
    found = outcome.predictions
    moved = replace(found, val_rows=positions[found.val_rows], test_rows=positions[found.test_rows])
    return replace(outcome, predictions=moved)


def _candidate(plan: Plan, targets: Targets) -> Candidate:
    backbone = plan.backbone
    head = (backbone.embedding_dim + 1) * targets.targets.shape[1]
    return Candidate(
        backbone=backbone.name,
        size_bytes=4 * (backbone.params + head),
        flops=backbone.flops_at(plan.input_size),
    )


def _pruned(report: SearchReport, plans: dict[str, Plan]) -> tuple[Outcome, ...]:
    """Outcomes of dropped backbones, those that never ran included."""
    dropped = {one.backbone: one for one in report.dropped}
    ran = [outcome for outcome in report.outcomes() if outcome.backbone in dropped]
    known = {outcome.backbone for outcome in ran}
    idle = [
        Pruned(**plan_facts(plans[name]), reason=one.reason)
        for name, one in dropped.items()
        if name not in known
    ]
    return (*ran, *idle)


def _spent(report: SearchReport, candidates: int) -> str:
    sizes = ", ".join(str(size) for size in report.subset_sizes)
    return (
        f"Halving over subsets of {sizes} images finished {len(report.finished)} of {candidates} backbones "
        f"and spent {100 * report.share:.0f} % of the images x FLOPs of an exhaustive search."
    )


def _audited(audit: SearchAudit) -> str:
    winner = "the same winner" if audit.same_winner else "ANOTHER winner"
    group = "the same tie group" if audit.same_tie_group else "ANOTHER tie group"
    lost = f" (lost: {', '.join(audit.lost)})" if audit.lost else ""
    return f"Halving would have found {winner} and, backbones pruned for size aside, {group}{lost}."
