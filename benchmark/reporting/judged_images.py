"""What a model said of labelled images, judged: the sections that pages of models share. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmark.records import Average, Bool, Float32, Float64, Int64, Task
from benchmark.reporting.charts import Chart, Line, curve_points
from benchmark.statistics import (
    METRICS,
    Calibration,
    Counts,
    Interval,
    calibration,
    decide,
    metric_intervals,
    per_class_scores,
    selective,
    share,
    sureness,
)
from benchmark.statistics import count as count_errors

_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_MOST_CURVES, _MOST_CONFUSED_CLASSES, _MOST_CONFUSIONS = 6, 12, 12
_KINDS = ("main", "other", "third", "fourth", "fifth", "sixth")
_SHARES = np.linspace(0.3, 1.0, 36)


@dataclass(frozen=True, kw_only=True)
class JudgedImages:
    """Labelled images, and what a model said of them.

    Attributes:
        part: what they are, as it reads in a sentence: ``test part``.
        labels: class names, in the order of the class positions.
        task: binary, multiclass or multilabel.
        positive: position of the positive class for BINARY, else None.
        threshold: of sigmoid outputs.
        average: of F1, precision and recall over classes.
        sure_from: a label of a lower probability is unsure.
        probabilities: float32 (N, C), C = 1 for BINARY.
        targets: float32 (N, C) of 0 and 1, as ``ImageSet.head_targets`` gives them.
        groups: int64 (N,) or None.
        paths: of the images.
        seed: of the draws behind intervals.
        chose_threshold: whether some of them chose the model's threshold; None where nobody knows.
    """

    part: str
    labels: tuple[str, ...]
    task: Task
    positive: int | None
    threshold: float
    average: Average
    sure_from: float
    probabilities: Float32
    targets: Float32
    groups: Int64 | None
    paths: Sequence[str]
    seed: int = 0
    chose_threshold: bool | None = False

    @cached_property
    def decided(self) -> Bool:
        """Decisions, bool (N, C)."""
        return decide(self.probabilities, self.threshold, self.task)

    @cached_property
    def right(self) -> Bool:
        """Bool (N,): every column is decided as it is."""
        return np.asarray((self.decided == (self.targets > 0.5)).all(-1))

    @cached_property
    def sure(self) -> Float64:
        """Probability of each answer, float64 (N,)."""
        return sureness(self.probabilities, self.threshold, self.task)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the columns stand for."""
        return (self.labels[self.positive],) if self.positive is not None else self.labels

    def names(self, chosen: Bool) -> list[str]:
        """Rows of bool (N, C) as labels."""
        if self.positive is not None:
            pair = (self.labels[1 - self.positive], self.labels[self.positive])
            return [pair[int(row[0])] for row in chosen]
        return ["; ".join(self.labels[c] for c in np.flatnonzero(row)) or "none" for row in chosen]

    @cached_property
    def answers(self) -> list[str]:
        """The label that was given to each image."""
        return self.names(self.decided)

    @cached_property
    def truths(self) -> list[str]:
        """The label that each image has."""
        return self.names(self.targets > 0.5)

    def mistakes(self, most: int) -> list[int]:
        """Positions of wrong answers, the surest first."""
        wrong = np.flatnonzero(~self.right)
        return [int(at) for at in wrong[np.argsort(-self.sure[wrong], kind="stable")][:most]]

    def scored(self, decided: Bool) -> dict[str, Interval]:
        """Every metric of decisions, with its interval, by name."""
        return metric_intervals(decided, self.targets, self.average, self.groups, seed=self.seed)

    @cached_property
    def scores(self) -> dict[str, Interval]:
        """Every metric with its interval, by the title that it has on a page."""
        titles = {metric.title: self._own[name] for name, metric in METRICS.items()}
        return {**titles, "accuracy": share(self.right, self.groups, seed=self.seed)}

    @cached_property
    def _own(self) -> dict[str, Interval]:
        return self.scored(self.decided)

    @property
    def calibrated(self) -> Calibration:
        """Calibration of the probabilities as they are."""
        return calibration(self.probabilities, self.targets, self.task, self.groups, seed=self.seed)


def threshold_rows(judged: JudgedImages) -> list[dict[str, Any]]:
    """What other thresholds would give: called positive, precision, recall and F1 with their intervals.

    None for exclusive classes, which have no threshold.
    """
    if judged.task is Task.MULTICLASS:
        return []
    rows = []
    for threshold in sorted({*_THRESHOLDS, round(judged.threshold, 6)}):
        own = threshold == round(judged.threshold, 6)
        decided = judged.decided if own else decide(judged.probabilities, threshold, judged.task)
        found = judged.scored(decided)
        rows.append(
            {
                "threshold": threshold,
                "own": own,
                "called": float(decided.any(-1).mean()) if len(decided) else 0.0,
                **{name: found[name] for name in ("precision", "recall", "f1")},
            }
        )
    return rows


def curve_charts(judged: JudgedImages) -> Iterator[Chart]:
    """Precision against recall, and true against false positives, of the columns that allow it."""
    from sklearn import metrics

    counts = count_errors(judged.decided, judged.targets)
    columns = hardest_columns(counts)
    if not columns:
        return
    here = {name: float(values[columns[0]]) for name, values in per_class_scores(counts).items()}
    single = len(columns) == 1 and judged.task is not Task.MULTICLASS
    recall_mark = (here["recall"], here["precision"], "the model") if single else None
    yield recall_chart(judged.probabilities, judged.targets, judged.outputs, columns, recall_mark)
    lines = []
    for kind, column in zip(_KINDS, columns, strict=False):
        true, said, name = judged.targets[:, column], judged.probabilities[:, column], judged.outputs[column]
        false, found, _ = metrics.roc_curve(true, said)
        lines.append(
            Line(
                name=f"{name}: area {metrics.roc_auc_score(true, said):.3f}",
                points=curve_points(false, found),
                kind=kind,
            )
        )
    negatives = float(counts.fp[columns[0]] + counts.tn[columns[0]])
    yield Chart(
        title="Finds and false alarms (ROC)",
        caption="How much is found, against how much of the rest is called so by mistake. Dashed: guessing.",
        x_label="share of false alarms among the others",
        y_label="recall",
        lines=[*lines, Line(name="", points=[(0, 0), (1, 1)], kind="ideal")],
        mark=(float(counts.fp[columns[0]]) / negatives, here["recall"], "the model") if single else None,
    )


def hardest_columns(counts: Counts) -> list[int]:
    """Columns of counts (C,) with images inside and outside, ascending; of many those of the lowest F1."""
    columns = np.flatnonzero((counts.tp + counts.fn > 0) & (counts.fp + counts.tn > 0))
    found = per_class_scores(counts)["f1"][columns]
    return sorted(int(at) for at in columns[np.argsort(found, kind="stable")][:_MOST_CURVES])


def recall_chart(
    probabilities: Float32,
    targets: Float32,
    outputs: Sequence[str],
    columns: Sequence[int],
    mark: tuple[float, float, str] | None,
) -> Chart:
    """Precision against recall with the average precision of each of some columns.

    Args:
        probabilities: float32 (..., N, C): repeats, where there are any, count together.
        targets: float32 (N, C) of 0 and 1.
        outputs: what the C columns stand for.
        columns: those to draw, at most six, each with images inside and outside.
        mark: recall, precision and name of the decisions that were made; None for none.
    """
    from sklearn import metrics

    inside = targets.sum(0)
    possible = int(((inside > 0) & (inside < len(targets))).sum())
    lines = []
    for kind, column in zip(_KINDS, columns, strict=False):
        said = probabilities[..., column]
        true = np.broadcast_to(targets[:, column], said.shape)
        precision, recall, _ = metrics.precision_recall_curve(true.ravel(), said.ravel())
        # What average_precision_score computes, which would sort everything again. Recall descends to 0.
        average = -float(np.diff(recall) @ precision[:-1])
        lines.append(
            Line(
                name=f"{outputs[column]}: average precision {average:.3f}",
                points=curve_points(recall[::-1], precision[::-1]),
                kind=kind,
            )
        )
    others = "" if len(columns) == possible else f" The {len(columns)} hardest of {possible} classes."
    return Chart(
        title="Precision and recall",
        caption="Each threshold is a point: how much is found, and how much of that is right." + others,
        x_label="recall",
        y_label="precision",
        lines=lines,
        mark=mark,
    )


def calibration_chart(before: Calibration | None, after: Calibration) -> Chart:
    """What is found against what is stated, without and with the temperature."""
    lines = [Line(name="", points=[(0, 0), (1, 1)], kind="ideal")]
    for name, found, kind in (("before the temperature", before, "faint"), ("the model", after, "main")):
        if found is not None:
            lines.append(
                Line(
                    name=f"{name}: error {found.error:.3f}" if before else "",
                    points=[(each.stated, each.found.value) for each in found.bins],
                    kind=kind,
                    bars=[(each.found.low, each.found.high) for each in found.bins] if kind == "main" else (),
                    dots=True,
                )
            )
    return Chart(
        title="Do probabilities mean what they say?",
        caption="Images with similar probabilities together, with 95 % intervals; on the dashed line what is "
        f"stated is what is found. Calibration error {after.error:.3f}; perfect probabilities stay below "
        f"{after.by_chance:.3f} on so many images.",
        x_label="stated probability",
        y_label="share that is so",
        lines=lines,
    )


def abstention_chart(judged: JudgedImages) -> Chart:
    """Share of wrong answers when only the surest are given."""
    cuts = [float(np.quantile(judged.sure, 1 - part)) for part in _SHARES]
    found = [selective(judged.sure, judged.right, cut, judged.groups) for cut in dict.fromkeys(cuts)]
    points = [(each.answered.value, each.error.value) for each in found]
    here = selective(judged.sure, judged.right, judged.sure_from, judged.groups)
    ends = [each.error.high for each in found]
    return Chart(
        title="If it may say: unsure",
        caption="Share of wrong answers, with its 95 % interval, when only the surest answers are given.",
        x_label="share of images with an answer",
        y_label="share of wrong answers",
        lines=[
            Line(name="", points=points, bars=[(each.error.low, each.error.high) for each in found]),
        ],
        mark=(here.answered.value, here.error.value, "the model") if here.answered.value > 0 else None,
        x_range=(min(0.3, here.answered.value), 1.0),
        y_range=(0.0, max(0.02, min(1.0, max(ends, default=1.0) * 1.05))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionTable:
    """How often a class is called what.

    Attributes:
        classes: how many there are.
        columns: answers.
        rows: true class, its images, and per answer their number and their share of the row.
        pairs: of many classes the most frequent confusions instead: true class, answer, number, share.
    """

    classes: int
    columns: tuple[str, ...]
    rows: list[tuple[str, int, list[tuple[float, float]]]]
    pairs: list[tuple[str, str, float, float]]


def confusion_table(
    decided: Bool, targets: Float32, labels: tuple[str, ...], task: Task, positive: int | None
) -> ConfusionTable | None:
    """The confusion matrix with percentages; None for labels that do not exclude each other.

    Args:
        decided: bool (R, N, C): R decisions on each image, of which the mean is counted.
        targets: float32 (N, C) of 0 and 1.
        labels: class names, in the order of the class positions.
        task: of the labels.
        positive: position of the positive class for BINARY, else None.
    """
    if task is Task.MULTILABEL:
        return None
    true, said = (_positions(chosen, positive) for chosen in (targets > 0.5, decided))
    size = len(labels)
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (np.broadcast_to(true, said.shape), said), 1)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    counts = matrix / len(decided)
    if size > _MOST_CONFUSED_CLASSES:
        wrong = [(int(i), int(j)) for i, j in np.argwhere(matrix) if i != j]
        worst = sorted(wrong, key=lambda pair: -matrix[pair])[:_MOST_CONFUSIONS]
        pairs = [(labels[i], labels[j], float(counts[i, j]), float(shares[i, j])) for i, j in worst]
        return ConfusionTable(classes=size, columns=(), rows=[], pairs=pairs)
    rows = [
        (label, round(row.sum()), list(zip(row.tolist(), parts.tolist(), strict=True)))
        for label, row, parts in zip(labels, counts, shares, strict=True)
    ]
    return ConfusionTable(classes=size, columns=labels, rows=rows, pairs=[])


def _positions(chosen: Bool, positive: int | None) -> Int64:
    """Class positions (...,) of decisions (..., C)."""
    if positive is not None:
        return np.where(chosen[..., 0], positive, 1 - positive).astype(np.int64)
    return np.asarray(chosen.argmax(-1), np.int64)


def class_rows(judged: JudgedImages) -> list[dict[str, Any]]:
    """Precision, recall, F1 and images of every class."""
    counts = count_errors(judged.decided, judged.targets)
    if judged.positive is not None:
        counts = counts.both_classes()
        order = [1 - judged.positive, judged.positive]
    else:
        order = list(range(len(judged.labels)))
    found = per_class_scores(counts)
    return [
        {
            "label": judged.labels[position],
            "images": int(found["support"][place]),
            **{name: float(found[name][place]) for name in ("precision", "recall", "f1")},
        }
        for place, position in enumerate(order)
    ]
