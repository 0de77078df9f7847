"""Text artefacts: CSV files, labels, the classification report. Nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.cells import csv_bytes, printable
from benchmark.finetuning.scoring import Scoring
from benchmark.records import Bool, Float32, ImageSet, Int64, Task

SPLIT_FILE, PREDICTIONS_FILE = "split.csv", "predictions.csv"


def whole_text(text: str) -> str:
    """Text that is valid UTF-8: bytes of file names that were not are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def split_csv(images: ImageSet) -> bytes:
    """Which image went into which part: ``path, image_id, label, part``, in the order of the set."""
    rows = (
        (images.paths[row], images.image_ids[row], images.label_of(row), part)
        for row, part in enumerate(images.part_names())
    )
    return csv_bytes(("path", "image_id", "label", "part"), rows)


def predictions_csv(
    images: ImageSet, scoring: Scoring, threshold: float, found: Mapping[str, Float32]
) -> bytes:
    """What the kept model says: one row per validation and test image.

    ``found``: part -> probabilities float32 (n, C).
    """
    names = output_names(images)
    rows = []
    for part, probabilities in found.items():
        said = predicted_labels(images, scoring.decided(probabilities, threshold))
        for row, label, values in zip(getattr(images.split, part), said, probabilities, strict=True):
            numbers = [f"{value:.6f}" for value in values.tolist()]
            rows.append((images.paths[row], part, images.label_of(row), label, *map(float, numbers)))
    return csv_bytes(("path", "part", "label", "predicted", *[f"p_{name}" for name in names]), rows)


def output_names(images: ImageSet) -> tuple[str, ...]:
    """What the columns of the probabilities stand for."""
    if images.task is Task.BINARY and images.positive is not None:
        return (images.classes[images.positive],)
    return images.classes


def predicted_labels(images: ImageSet, decided: Bool) -> list[str]:
    """Decisions bool (n, C) as labels."""
    if images.task is Task.BINARY and images.positive is not None:
        names = (images.classes[1 - images.positive], images.classes[images.positive])
        return [names[int(row[0])] for row in decided]
    return [";".join(images.classes[c] for c in np.flatnonzero(row)) for row in decided]


def class_positions(images: ImageSet, decided: Bool) -> Int64:
    """Decisions bool (n, C) as class positions int64 (n,), for tasks with one class per image."""
    if images.task is Task.BINARY and images.positive is not None:
        return np.where(decided[:, 0], images.positive, 1 - images.positive).astype(np.int64)
    return np.asarray(decided.argmax(-1), np.int64)


def history_csv(history: Sequence[Mapping[str, float]]) -> bytes:
    """One row per epoch, both phases."""
    columns = tuple(history[0]) if history else ("phase", "epoch")
    rows = [
        [int(row[name]) if name in ("phase", "epoch") else row[name] for name in columns] for row in history
    ]
    return csv_bytes(columns, rows)


def classification_report(images: ImageSet, rows: Int64, decided: Bool) -> bytes:
    """Scikit-learn's report on the images at ``rows``: precision, recall, F1 and support per class."""
    from sklearn import metrics

    names = [printable(name) for name in images.classes]
    said = decided.astype(int) if images.task is Task.MULTILABEL else class_positions(images, decided)
    report = metrics.classification_report(
        images.targets[rows],
        said,
        labels=range(len(names)),
        target_names=names,
        zero_division=0,
        digits=4,
    )
    return str(report).encode()


def labels_txt(images: ImageSet) -> bytes:
    """Class names in order, one per line. For two classes the model gives the positive one's probability."""
    return "".join(f"{printable(name)}\n" for name in images.classes).encode()
