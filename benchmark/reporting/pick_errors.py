"""How the picks of a board err on the images that judged them: taken for what, and at which threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.records import Bool, Float32, Float64, Leaderboard, Outcome, Scored, Targets, Task
from benchmark.reporting.charts import Drawing, draw
from benchmark.reporting.formats import text
from benchmark.reporting.judged_images import ConfusionTable, confusion_table, hardest_columns, recall_chart
from benchmark.statistics import count as count_errors
from benchmark.statistics import decide, per_class_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PickErrors:
    """What one pick's heads said of images that did not train them.

    Attributes:
        backbone: name on the board.
        title: what it is picked as.
        images: how many were judged.
        repeats: how often each.
        recall: precision against recall, the decisions marked; None where no class has images inside and
            outside.
        confusion: what is taken for what, counts as means over repeats; None for MULTILABEL.
    """

    backbone: str
    title: str
    images: int
    repeats: int
    recall: Drawing | None
    confusion: ConfusionTable | None


def pick_errors(board: Leaderboard, outcomes: Sequence[Outcome], targets: Targets) -> tuple[PickErrors, ...]:
    """The errors of each pick, the winner's first; none where no winner is named."""
    if board.winner is None:
        return ()
    picked = {str(row["backbone"]): text(row["pick"]) for row in board.rows if row.get("pick")}
    found = [
        _errors(outcome, " and ".join(picked[outcome.backbone].split(", ")), targets)
        for outcome in outcomes
        if isinstance(outcome, Scored) and outcome.backbone in picked
    ]
    return tuple(sorted(found, key=lambda one: one.backbone != board.winner))


def _errors(outcome: Scored, title: str, targets: Targets) -> PickErrors:
    said = outcome.predictions
    actual = targets.targets[said.val_rows]
    decided = decide(said.val, said.val_thresholds, targets.task)
    labels = tuple(text(label) for label in targets.classes)
    return PickErrors(
        backbone=text(outcome.backbone),
        title=title,
        images=len(actual),
        repeats=len(said.val),
        recall=_recall(said.val, decided, said.val_thresholds, actual, labels, targets),
        confusion=confusion_table(decided, actual, labels, targets.task, targets.positive),
    )


def _recall(
    probabilities: Float32,
    decided: Bool,
    thresholds: Float64,
    actual: Float32,
    labels: tuple[str, ...],
    targets: Targets,
) -> Drawing | None:
    """Precision against recall of all repeats together.

    Args:
        probabilities: float32 (R, V, C).
        decided: bool (R, V, C).
        thresholds: float64 (R, V).
        actual: float32 (V, C), what is true of them.
        labels: class names.
        targets: of all images.
    """
    counts = count_errors(decided.mean(0), actual)
    chosen = hardest_columns(counts)
    if not chosen:
        return None
    outputs = labels if targets.positive is None else (labels[targets.positive],)
    mark = None
    if len(chosen) == 1 and targets.task is not Task.MULTICLASS:
        here = per_class_scores(counts)
        at = chosen[0]
        mark = (float(here["recall"][at]), float(here["precision"][at]), _threshold(thresholds))
    return draw(recall_chart(probabilities, actual, outputs, chosen, mark))


def _threshold(thresholds: Float64) -> str:
    """The threshold of a board's decisions, or those that its folds chose."""
    low, high = f"{thresholds.min():.2g}", f"{thresholds.max():.2g}"
    return f"threshold {low}" if low == high else f"thresholds {low} to {high}"
