"""A fine-tuned or exported model on other labelled images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmark.deployment.description import Deployment
from benchmark.deployment.prediction import Prediction, PredictOptions, predict
from benchmark.deployment.runtimes import Predictor
from benchmark.errors import DataError
from benchmark.ranking import (
    accuracy,
    class_f1,
    class_precision,
    class_recall,
    count,
    default_average,
    scores,
)
from benchmark.records import Average, Bool, Float32, ImageSet, Int64, Observer, Rejected, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of a model on labelled images.

    Attributes:
        model: that was scored.
        data_fingerprint: ``ImageSet.fingerprint()`` of the images.
        metrics: f1, accuracy, precision, recall, over ``images``. A macro average is over the classes that
            occur or are decided.
        images: images that could be read and were scored.
        unreadable: images of the set that could not be read when it came to them.
        rejected: files that were left out before.
        absent: classes of the model that no scored image has.
        threshold: of sigmoid outputs, as used.
        average: of f1, precision and recall over classes (BINARY: the positive class alone).
        per_class: one row per class: class, precision, recall, f1, support.
        confusion: int64 (C, C), rows the truth, columns the decision; None for MULTILABEL.
        labels: class names, in the order of the rows and columns.
        rows: per image its prediction, in the order of the ImageSet; unreadable ones carry their reason.
        truth: per image its label, several joined by ``;``.
    """

    model: Deployment
    data_fingerprint: str
    metrics: Mapping[str, float]
    images: int
    unreadable: int
    rejected: tuple[Rejected, ...]
    absent: tuple[str, ...]
    threshold: float
    average: Average
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
        images: labelled images whose classes are the model's, or some of them.
        options: how images are read, and the threshold.
        observer: hears of every batch.

    Raises:
        DataError: a class that the model does not know, several labels of an image where the model decides
            for one, or no image that can be read.
        ExportError: the model fails.
    """
    description = predictor.description
    _check_classes(description, images)
    rows = predict(predictor, [images.root / path for path in images.paths], options, observer=observer)
    readable = np.array([not row.error for row in rows])
    if not readable.any():
        raise DataError("no image can be read", where=images.root, got=rows[0].error)
    everything = _truth(images, description.labels)
    truth, labels = everything[readable], description.labels
    decided = np.array([row.decided for row in rows if not row.error], bool)
    return Evaluation(
        model=description,
        data_fingerprint=images.fingerprint(),
        metrics=_metrics(decided, truth, description),
        images=len(truth),
        unreadable=len(rows) - len(truth),
        rejected=images.rejected,
        absent=tuple(label for label, found in zip(labels, truth.any(0), strict=True) if not found),
        threshold=_threshold(options, description),
        average=default_average(description.task, description.average),
        per_class=_per_class(decided, truth, labels),
        confusion=_confusion(decided, truth) if description.task is not Task.MULTILABEL else None,
        labels=labels,
        rows=rows,
        truth=tuple(_names(row, labels) for row in everything),
    )


def _threshold(options: PredictOptions | None, description: Deployment) -> float:
    given = options.threshold if options else None
    return description.threshold if given is None else given


def _check_classes(description: Deployment, images: ImageSet) -> None:
    unknown = [name for name in images.classes if name not in description.labels]
    if unknown:
        raise DataError(
            "a label that the model does not know",
            where=images.root,
            expected=", ".join(description.labels),
            got=", ".join(unknown),
            next_step="Name the class folders (or the labels of the CSV) as the model does.",
        )
    if images.task is Task.MULTILABEL and description.task is not Task.MULTILABEL:
        raise DataError(
            "images with several labels, where the model decides for one class",
            where=images.root,
            expected=description.task,
            got=images.task,
        )


def _truth(images: ImageSet, labels: tuple[str, ...]) -> Float32:
    """Truth float32 (N, C) of 0 and 1, in the order of the model's labels."""
    columns = [labels.index(name) for name in images.classes]
    truth = np.zeros((len(images), len(labels)), np.float32)
    if images.task is Task.MULTILABEL:
        truth[:, columns] = images.targets
    else:
        truth[np.arange(len(images)), np.array(columns)[images.targets]] = 1
    return truth


def _names(row: Float32, labels: tuple[str, ...]) -> str:
    return ";".join(label for label, present in zip(labels, row, strict=True) if present)


def _metrics(decided: Bool, truth: Float32, description: Deployment) -> dict[str, float]:
    average = default_average(description.task, description.average)
    columns = _scored_columns(description, average)
    found = scores(decided[:, columns], truth[:, columns], average)
    return found | {"accuracy": float(accuracy(decided, truth))}


def _scored_columns(description: Deployment, average: Average) -> Bool:
    """Bool (C,): the positive class alone, or all."""
    labels = np.array(description.labels)
    if average is Average.BINARY:
        return np.asarray(labels == description.positive)
    return np.ones(len(labels), bool)


def _per_class(
    decided: Bool, truth: Float32, labels: tuple[str, ...]
) -> tuple[Mapping[str, float | int | str], ...]:
    counts = count(decided, truth)
    precision, recall, f1 = class_precision(counts), class_recall(counts), class_f1(counts)
    return tuple(
        {
            "class": label,
            "precision": float(precision[column]),
            # Without an image there is nothing to find.
            "recall": float(recall[column]) if truth[:, column].any() else math.nan,
            "f1": float(f1[column]) if truth[:, column].any() else math.nan,
            "support": int(truth[:, column].sum()),
        }
        for column, label in enumerate(labels)
    )


def _confusion(decided: Bool, truth: Float32) -> Int64:
    return (truth.T @ decided.astype(np.float32)).round().astype(np.int64)
