"""Learning curves of a board's picks: what more images would bring. They are kept, like outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from benchmark.embeddings import EmbeddingStore
from benchmark.errors import StorageError
from benchmark.execution import Call, failure, quiet_environment
from benchmark.heads import train_on_fewer
from benchmark.pipeline.heads import HeadJob, outcome_digest
from benchmark.pipeline.planning import Plan
from benchmark.ranking import curve_of
from benchmark.records import Leaderboard, Observer, Outcome, ProtocolName, Scored, Targets
from benchmark.statistics import LearningCurve
from benchmark.storage import Memo

# Raised whenever a change of the code changes a curve; older stored ones are not reused.
_CURVE_VERSION = 2
_CURVES = "learning curves"


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
        observer.started(_CURVES, len(tasks))
        calls = [Call(name=f"curve-{task.outcome.backbone}", argument=task) for task in tasks]
        with closing(job.runner.run(_curve_task, calls, alone=True)) as results:
            for done, (place, result) in enumerate(results, start=1):
                outcome = tasks[place].outcome
                name = outcome.backbone
                error = _keep(job, outcome, result)
                notes += [f"The learning curve of {name} could not be computed: {error}."] if error else []
                observer.advanced(_CURVES, done, name)
        observer.finished(_CURVES)
    return tuple(notes)


def stored_curves(job: HeadJob, board: Leaderboard, outcomes: Sequence[Outcome]) -> dict[str, LearningCurve]:
    """Kept curves of a board's picks by backbone, best first."""
    found = {one.backbone: _recall(job, one) for one in _picked(board, outcomes)}
    return {name: curve for name, curve in found.items() if curve is not None}


def _picked(board: Leaderboard, outcomes: Sequence[Outcome]) -> list[Scored]:
    by_name = {outcome.backbone: outcome for outcome in outcomes if isinstance(outcome, Scored)}
    return [by_name[row["backbone"]] for row in board.rows if row["pick"]]


def _curve_task(task: _CurveTask, _: int) -> dict[str, Any]:
    """Compute one curve.

    Returns:
        ``curve``; nothing where there are too few images for one; or ``error`` and ``trace``.
    """
    quiet_environment(1)
    try:
        images = task.job.images
        if task.plan.key is None:
            raise ValueError("heads need embedded images")
        embeddings = EmbeddingStore(task.job.cache).read(task.plan.key, images.image_ids)
        targets = Targets.of(images)
        fewer = train_on_fewer(embeddings, targets, images.split, task.job.protocol, task.outcome.chosen)
        if fewer.predictions:
            return {"curve": curve_of(task.outcome, fewer, targets, task.job.protocol)}
        return {}
    except Exception as error:
        return failure(error)


def _keep(job: HeadJob, outcome: Scored, result: dict[str, Any]) -> str:
    """Keep the curve of a task; why there is none to keep, or empty."""
    if "curve" in result:
        try:
            _memo(job).keep(outcome.backbone, _question(job, outcome), result["curve"])
        except StorageError as error:
            return str(error)
    return str(result.get("error", ""))


def _memo(job: HeadJob) -> Memo[LearningCurve]:
    return Memo(folder=job.folder, kind=LearningCurve, suffix=".curve.json")


def _question(job: HeadJob, outcome: Scored) -> list[object]:
    return [outcome_digest(outcome.key_digest, job.images, job.protocol), _CURVE_VERSION]


def _recall(job: HeadJob, outcome: Scored) -> LearningCurve | None:
    return _memo(job).recall(outcome.backbone, _question(job, outcome))
