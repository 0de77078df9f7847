"""What an evaluation of a model on other images leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from benchmark.deployment import Evaluation
from benchmark.reporting.board_files import columns_of, csv_bytes
from benchmark.storage import write_whole


def write_evaluation(evaluation: Evaluation, folder: Path) -> tuple[Path, ...]:
    """Write an evaluation's metrics, its rows per class, its predictions and its confusion matrix.

    ``metrics.json``, ``per_class.csv``, ``predictions.csv``; ``confusion_matrix.csv`` for exclusive classes.

    Returns:
        The files written.

    Raises:
        StorageFull: the folder cannot be written.
    """
    predictions = [
        {
            "path": row.path,
            "truth": truth,
            "label": row.label,
            "probability": max(row.probabilities, default=None),
            "error": row.error,
        }
        for row, truth in zip(evaluation.rows, evaluation.truth, strict=True)
    ]
    metrics = {"images": evaluation.images, **evaluation.metrics}
    files = {
        "metrics.json": (json.dumps(metrics, indent=1) + "\n").encode(),
        "per_class.csv": csv_bytes(columns_of(evaluation.per_class), evaluation.per_class),
        "predictions.csv": csv_bytes(columns_of(predictions), predictions),
    }
    if evaluation.confusion is not None:
        rows = [
            {"truth": label, **dict(zip(evaluation.labels, counts.tolist(), strict=True))}
            for label, counts in zip(evaluation.labels, evaluation.confusion, strict=True)
        ]
        files["confusion_matrix.csv"] = csv_bytes(("truth", *evaluation.labels), rows)
    for name, content in files.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in files)
