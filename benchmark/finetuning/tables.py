"""Text artefacts: CSV files, labels, the classification report. Nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.cells import csv_bytes, printable
from benchmark.finetuning.scoring import Scoring
from benchmark.records import Bool, Float32, ImageSet, Task

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


def history_csv(history: Sequence[Mapping[str, float]]) -> bytes:
    """One row per epoch, both phases."""
    columns = tuple(history[0]) if history else ("phase", "epoch")
    rows = [
        [int(row[name]) if name in ("phase", "epoch") else row[name] for name in columns] for row in history
    ]
    return csv_bytes(columns, rows)


def labels_txt(images: ImageSet) -> bytes:
    """Class names in order, one per line. For two classes the model gives the positive one's probability."""
    return "".join(f"{printable(name)}\n" for name in images.classes).encode()
