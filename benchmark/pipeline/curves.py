"""Learning curves of a board's picks: what more images would bring. They are kept, like outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from benchmark.embeddings import EmbeddingStore
from benchmark.heads import train_on_fewer
from benchmark.pipeline.heads import HeadJob, outcome_digest
from benchmark.pipeline.planning import Plan
from benchmark.pipeline.progress import OneAtATime
from benchmark.pipeline.workers import failure, quiet_environment, run_tasks
from benchmark.ranking import curve_of
from benchmark.records import Leaderboard, Observer, Outcome, ProtocolName, Scored, Truth
from benchmark.statistics import LearningCurve
from benchmark.storage import Memo

# Raised whenever a change of the code changes a curve; older stored ones are not reused.
_CURVE_VERSION = 2
_CURVES = "learning curves"
_DIED = "its process died; it may need more memory than there is"


@dataclass(frozen=True, slots=True, kw_only=True)
class _CurveTask:
    """Train the heads of one backbone on fewer images.

    Attributes:
        job: images, protocol, embedding cache.
        plan: of the backbone; its key addresses the embeddings.
        outcome: of the heads on all images.
    """

    job: HeadJob
    plan: Plan
    outcome: Scored


def train_curves(
    job: HeadJob,
    plans: Sequence[Plan],
    board: Leaderboard,
    outcomes: Sequence[Outcome],
    observer: Observer,
) -> tuple[str, ...]:
    """Compute and keep the curves of a board's picks that are not there yet.

    Args:
        job: images, protocol and the folder of stored outcomes.
        plans: embedded backbones, the picks among them.
        board: with its picks.
        outcomes: of its backbones.
        observer: told of the progress.

    Returns:
        A note for each that could not be computed.
    """
    plan_of = {plan.backbone.name: plan for plan in plans}
    tasks = [
        _CurveTask(job=job, plan=plan_of[one.backbone], outcome=one)
        for one in _picked(board, outcomes)
        if job.protocol.name is not ProtocolName.REFERENCE and _recall(job, one) is None
    ]
    notes = []
    if tasks:
        watch = OneAtATime(observer)
        watch.started(_CURVES, len(tasks))
        with closing(run_tasks(_curve_task, tasks, 1)) as results:
            for done, (place, result) in enumerate(results, start=1):
                name = tasks[place].outcome.backbone
                error = _DIED if result is None else result.get("error", "")
                notes += [f"The learning curve of {name} could not be computed: {error}."] if error else []
                watch.advanced(_CURVES, done, name)
        watch.finished(_CURVES)
    return tuple(notes)


def stored_curves(job: HeadJob, board: Leaderboard, outcomes: Sequence[Outcome]) -> dict[str, LearningCurve]:
    """Kept curves of a board's picks by backbone, best first."""
    found = {one.backbone: _recall(job, one) for one in _picked(board, outcomes)}
    return {name: curve for name, curve in found.items() if curve is not None}


def _picked(board: Leaderboard, outcomes: Sequence[Outcome]) -> list[Scored]:
    by_name = {outcome.backbone: outcome for outcome in outcomes if isinstance(outcome, Scored)}
    return [by_name[row["backbone"]] for row in board.rows if row["pick"]]


def _curve_task(task: _CurveTask) -> dict[str, Any]:
    """Compute and keep one curve.

    Returns:
        Nothing of note, or ``error`` and ``trace``.
    """
    quiet_environment(1)
    try:
        images = task.job.images
        if task.plan.key is None:
            raise ValueError("heads need embedded images")
        embeddings = EmbeddingStore(task.job.cache).read(task.plan.key, images.image_ids)
        truth = Truth.of(images)
        fewer = train_on_fewer(embeddings, truth, images.split, task.job.protocol, task.outcome.chosen)
        if fewer.predictions:
            curve = curve_of(task.outcome, fewer, truth, task.job.protocol)
            _memo(task.job).keep(task.outcome.backbone, _question(task.job, task.outcome), curve)
        return {}
    except Exception as error:
        return failure(error)


def _memo(job: HeadJob) -> Memo[LearningCurve]:
    return Memo(folder=job.folder, kind=LearningCurve, suffix=".curve.json")


def _question(job: HeadJob, outcome: Scored) -> list[object]:
    return [outcome_digest(outcome.key_digest, job.images, job.protocol), _CURVE_VERSION]


def _recall(job: HeadJob, outcome: Scored) -> LearningCurve | None:
    return _memo(job).recall(outcome.backbone, _question(job, outcome))
