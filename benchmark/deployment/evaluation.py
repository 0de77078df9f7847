"""A fine-tuned or exported model on other labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmark.deployment.description import Deployment
from benchmark.deployment.prediction import Prediction, PredictOptions, predict
from benchmark.deployment.runtimes import Predictor
from benchmark.errors import DataError
from benchmark.ranking import class_f1, class_precision, class_recall, count, default_average, scores
from benchmark.records import Bool, Float32, ImageSet, Int64, Observer, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of a model on labelled images.

    Attributes:
        metrics: f1, accuracy, precision, recall (BINARY: of the positive class; else macro), over ``images``.
        images: images that could be read.
        per_class: one row per class: class, precision, recall, f1, support.
        confusion: int64 (C, C), rows the truth, columns the decision; None for MULTILABEL.
        labels: class names, in the order of the rows and columns.
        rows: per image its prediction, in the order of the ImageSet; unreadable ones carry their reason.
        truth: per image its label, several joined by ``;``.
    """

    metrics: Mapping[str, float]
    images: int
    per_class: tuple[Mapping[str, float | int | str], ...]
    confusion: Int64 | None
    labels: tuple[str, ...]
    rows: tuple[Prediction, ...]
    truth: tuple[str, ...]


def evaluate(
    predictor: Predictor,
    images: ImageSet,
    options: PredictOptions | None = None,
    *,
    observer: Observer | None = None,
) -> Evaluation:
    """Score a model on every image of a set, whatever its parts.

    Args:
        predictor: an opened model of any format.
        images: labelled images whose classes are the model's.
        options: how images are read, and the threshold.
        observer: hears of every batch.

    Raises:
        DataError: other classes than the model's, or no image that can be read.
        ExportError: the model fails.
    """
    description = predictor.description
    _check_classes(description, images)
    rows = predict(predictor, [images.root / path for path in images.paths], options, observer=observer)
    readable = np.array([not row.error for row in rows])
    if not readable.any():
        raise DataError("no image can be read", where=images.root, got=rows[0].error)
    truth = _truth(images, description.labels)
    decided = np.array([row.decided for row in rows if not row.error], bool)
    return Evaluation(
        metrics=_metrics(decided, truth[readable], description),
        images=int(readable.sum()),
        per_class=_per_class(decided, truth[readable], description.labels),
        confusion=_confusion(decided, truth[readable]) if description.task is not Task.MULTILABEL else None,
        labels=description.labels,
        rows=rows,
        truth=tuple(_names(row, description.labels) for row in truth),
    )


def _check_classes(description: Deployment, images: ImageSet) -> None:
    one_label = description.task is not Task.MULTILABEL
    if set(images.classes) != set(description.labels) or one_label == (images.task is Task.MULTILABEL):
        raise DataError(
            "other classes than the model's",
            where=images.root,
            expected=f"{description.task}: {', '.join(description.labels)}",
            got=f"{images.task}: {', '.join(images.classes)}",
            next_step="Name the class folders (or the labels of the CSV) as the model does.",
        )


def _truth(images: ImageSet, labels: tuple[str, ...]) -> Float32:
    """Truth float32 (N, C) of 0 and 1, in the order of the model's labels."""
    order = [images.classes.index(label) for label in labels]
    if images.task is Task.MULTILABEL:
        return images.targets[:, order].astype(np.float32)
    one_hot: Float32 = np.eye(len(images.classes), dtype=np.float32)[images.targets]
    return one_hot[:, order]


def _names(row: Float32, labels: tuple[str, ...]) -> str:
    return ";".join(label for label, present in zip(labels, row, strict=True) if present)


def _metrics(decided: Bool, truth: Float32, description: Deployment) -> dict[str, float]:
    if description.positive is not None:
        column = [description.labels.index(description.positive)]
        decided, truth = decided[:, column], truth[:, column]
    return scores(decided, truth, default_average(description.task))


def _per_class(
    decided: Bool, truth: Float32, labels: tuple[str, ...]
) -> tuple[Mapping[str, float | int | str], ...]:
    counts = count(decided, truth)
    precision, recall, f1 = class_precision(counts), class_recall(counts), class_f1(counts)
    return tuple(
        {
            "class": label,
            "precision": float(precision[column]),
            "recall": float(recall[column]),
            "f1": float(f1[column]),
            "support": int(truth[:, column].sum()),
        }
        for column, label in enumerate(labels)
    )


def _confusion(decided: Bool, truth: Float32) -> Int64:
    return (truth.T @ decided.astype(np.float32)).round().astype(np.int64)
