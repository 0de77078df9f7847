"""A fine-tuned or exported model on other labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.deployment.description import Deployment
from benchmark.deployment.prediction import UNLIKE, FoundImage, Prediction, predict_listed
from benchmark.deployment.predictor import Predictor
from benchmark.errors import DataError
from benchmark.finetuning import TrainedOn
from benchmark.options import EvaluateOptions
from benchmark.records import Average, Bool, Float32, ImageSet, Int64, Observer, Rejected, Task
from benchmark.statistics import Abstention, count, default_average, per_class_scores, scores, selective

_UNSEEN, _TRAINING, _VALIDATION = "", "training", "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of a model on labelled images.

    Attributes:
        model: that was scored.
        data_fingerprint: ``ImageSet.fingerprint()`` of the images.
        metrics: f1, accuracy, precision, recall, over the ``images`` that are scored: those that the model
            has not seen, unless the others were asked for. A macro average is over the classes that occur or
            are decided.
        images: images that could be read and were scored.
        seen: what the model has seen among the images that could be read, ``training`` (it was fitted to
            them) and ``validation`` (they chose its epoch and threshold), where there are any -> images and
            metrics of these alone; None where the model does not say what it has seen.
        includes_seen: whether ``metrics`` include them.
        unreadable: images of the set that could not be read when it came to them.
        rejected: files that were left out before.
        absent: classes of the model that no scored image has.
        threshold: of sigmoid outputs, as used.
        abstention: what it is worth that labels of too low a probability are unsure: the share of the others,
            and of wrong labels among them.
        unlike: scored images that are unlike the training images, however sure their labels are; None where
            the model cannot tell.
        average: of f1, precision and recall over classes (BINARY: the positive class alone).
        per_class: one row per class: class, precision, recall, f1, support.
        confusion: int64 (C, C), rows the truth, columns the decision; None for MULTILABEL.
        labels: class names, in the order of the rows and columns.
        rows: per image its prediction, in the order of the ImageSet; unreadable ones carry their reason.
        truth: per image its label, several joined by ``;``.
        targets: the same as float32 (N, C) of 0 and 1, in the order of ``labels``.
        seen_as: per image ``training``, ``validation``, or nothing where the model has not seen it.
    """

    model: Deployment
    data_fingerprint: str
    metrics: Mapping[str, float]
    images: int
    unreadable: int
    rejected: tuple[Rejected, ...]
    absent: tuple[str, ...]
    threshold: float
    abstention: Abstention
    unlike: int | None
    average: Average
    per_class: tuple[Mapping[str, float | int | str], ...]
    confusion: Int64 | None
    labels: tuple[str, ...]
    rows: tuple[Prediction, ...]
    truth: tuple[str, ...]
    targets: Float32
    seen: Mapping[str, Mapping[str, float]] | None
    includes_seen: bool
    seen_as: tuple[str, ...]


def evaluate(
    predictor: Predictor,
    images: ImageSet,
    options: EvaluateOptions,
    *,
    observer: Observer | None = None,
) -> Evaluation:
    """Score a model on the images of a set that it has not seen, whatever their parts.

    Images with the bytes of those that it was fitted to, or that chose its epoch and threshold, are scored
    apart.

    Args:
        predictor: an opened model of any format.
        images: labelled images whose classes are the model's, or some of them.
        options: of the command; neither its model nor its data is looked at.
        observer: hears of every batch.

    Raises:
        DataError: a class that the model does not know, several labels of an image where the model decides
            for one, no image that can be read, or none that the model has not seen.
        ExportError: the model fails.
    """
    description = predictor.description
    _check_classes(description, images)
    seen_as = _seen_as(predictor.trained_on, images)
    scored = np.ones(len(images), bool) if options.include_seen else seen_as == _UNSEEN
    if not scored.any():
        raise _all_seen(seen_as, images)
    listed = [FoundImage(images.root / path) for path in images.paths]
    rows = predict_listed(predictor, listed, options, max_pixels=options.max_pixels, observer=observer)
    readable = np.array([not row.error for row in rows])
    scored &= readable
    if not scored.any():
        raise DataError(
            "no image can be read" + " of those that the model has not seen" * bool(readable.any()),
            where=images.root,
            got=next(row.error for row in rows if row.error),
        )
    sure_from = description.sure_from if options.sure_from is None else options.sure_from
    labels, everything = description.labels, _targets(images, description.labels)
    decisions = np.array([row.decided or (False,) * len(labels) for row in rows], bool)
    targets, decided = everything[scored], decisions[scored]
    seen = {
        name: {"images": int(part.sum()), **_metrics(decisions[part], everything[part], description)}
        for name in (_TRAINING, _VALIDATION)
        if (part := readable & (seen_as == name)).any()
    }
    return Evaluation(
        model=description,
        data_fingerprint=images.fingerprint(),
        metrics=_metrics(decided, targets, description),
        images=len(targets),
        unreadable=len(rows) - int(readable.sum()),
        rejected=images.rejected,
        absent=tuple(label for label, found in zip(labels, targets.any(0), strict=True) if not found),
        threshold=description.threshold if options.threshold is None else options.threshold,
        unlike=_unlike(predictor, rows, scored),
        abstention=_abstention(rows, decisions, everything, scored, images.groups, sure_from),
        average=default_average(description.task, description.average),
        per_class=_per_class(decided, targets, labels),
        confusion=_confusion(decided, targets) if description.task is not Task.MULTILABEL else None,
        labels=labels,
        rows=rows,
        truth=tuple(_names(row, labels) for row in everything),
        targets=everything,
        seen=None if predictor.trained_on is None else seen,
        includes_seen=options.include_seen and bool(seen),
        seen_as=tuple(seen_as.tolist()),
    )


def _seen_as(trained_on: TrainedOn | None, images: ImageSet) -> npt.NDArray[np.str_]:
    """What the model has used each of N images for, (N,)."""
    if trained_on is None:
        return np.full(len(images), _UNSEEN)
    training, validation = trained_on.parts(images.image_ids)
    return np.select([training, validation], [_TRAINING, _VALIDATION], _UNSEEN)


def _all_seen(seen_as: npt.NDArray[np.str_], images: ImageSet) -> DataError:
    return DataError(
        "the model has seen every one of these images",
        where=images.root,
        expected="images that it was not trained on: a score on its own says nothing about new ones",
        got=f"{(seen_as == _TRAINING).sum()} that it was fitted to and {(seen_as == _VALIDATION).sum()} "
        "that chose its epoch and threshold",
        next_step="Give other images, or ask for the seen ones to be included.",
    )


def _unlike(predictor: Predictor, rows: tuple[Prediction, ...], scored: Bool) -> int | None:
    if predictor.familiar is None:
        return None
    return sum(UNLIKE in row.doubt for row, counts in zip(rows, scored, strict=True) if counts)


def _abstention(
    rows: tuple[Prediction, ...],
    decisions: Bool,
    targets: Float32,
    scored: Bool,
    groups: Int64 | None,
    sure_from: float,
) -> Abstention:
    sure = np.array([row.sureness for row in rows])[scored]
    right = (decisions == (targets > 0.5)).all(-1)[scored]
    return selective(sure, right, sure_from, None if groups is None else groups[scored])


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


def _targets(images: ImageSet, labels: tuple[str, ...]) -> Float32:
    """Targets float32 (N, C) of 0 and 1, in the order of the model's labels."""
    columns = [labels.index(name) for name in images.classes]
    targets = np.zeros((len(images), len(labels)), np.float32)
    if images.task is Task.MULTILABEL:
        targets[:, columns] = images.targets
    else:
        targets[np.arange(len(images)), np.array(columns)[images.targets]] = 1
    return targets


def _names(row: Float32, labels: tuple[str, ...]) -> str:
    return ";".join(label for label, present in zip(labels, row, strict=True) if present)


def _metrics(decided: Bool, targets: Float32, description: Deployment) -> dict[str, float]:
    average = default_average(description.task, description.average)
    columns = _scored_columns(description, average)
    return scores(decided[:, columns], targets[:, columns], average)


def _scored_columns(description: Deployment, average: Average) -> Bool:
    """Bool (C,): the positive class alone, or all."""
    labels = np.array(description.labels)
    if average is Average.BINARY:
        return np.asarray(labels == description.positive)
    return np.ones(len(labels), bool)


def _per_class(
    decided: Bool, targets: Float32, labels: tuple[str, ...]
) -> tuple[Mapping[str, float | int | str], ...]:
    found = {name: values.tolist() for name, values in per_class_scores(count(decided, targets)).items()}
    return tuple(
        {"class": label, **{name: values[column] for name, values in found.items()}}
        | {"support": int(found["support"][column])}
        for column, label in enumerate(labels)
    )


def _confusion(decided: Bool, targets: Float32) -> Int64:
    return (targets.T @ decided.astype(np.float32)).round().astype(np.int64)
