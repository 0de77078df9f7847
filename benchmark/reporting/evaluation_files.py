"""What an evaluation of a model on other images leaves behind."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.cells import columns_of, csv_bytes
from benchmark.deployment import Evaluation
from benchmark.locations import as_given
from benchmark.reporting.board_files import json_value
from benchmark.reporting.write import write_rejected
from benchmark.storage import place, write_whole

_DIGEST_DIGITS = 8


def evaluation_folder(evaluation: Evaluation, results: Path) -> Path:
    """Where an evaluation belongs: other models, and other thresholds of one model, have other folders.

    Args:
        evaluation: what is to be written.
        results: of the data set, ``results/<dataset>``.

    Returns:
        ``results/<dataset>/evaluate/<backbone>-<recipe>-<target>-<digest>[-threshold-T][-sure-from-P][-with-seen]``.
    """
    model = evaluation.model
    names = [model.backbone, model.recipe, model.target, model.model_sha256[:_DIGEST_DIGITS]]
    if evaluation.threshold != model.threshold:
        names += ["threshold", repr(evaluation.threshold)]
    if evaluation.abstention.sure_from != model.sure_from:
        names += ["sure-from", repr(evaluation.abstention.sure_from)]
    if evaluation.includes_seen:
        names += ["with-seen"]
    return place(results, "evaluate", "-".join(filter(None, names)))


def write_evaluation(evaluation: Evaluation, folder: Path, *, model: Path, data: Path) -> None:
    """Write an evaluation's metrics, its rows per class, its predictions and its confusion matrix.

    ``metrics.json`` (with what was evaluated), ``per_class.csv``, ``predictions.csv``;
    ``confusion_matrix.csv`` for exclusive classes, ``rejected.csv`` where files were left out.

    Args:
        evaluation: what to write.
        folder: where; see ``evaluation_folder``.
        model: of the model, as given.
        data: of the images, as given.

    Raises:
        StorageError: the folder cannot be written.
    """
    predictions = _predictions(evaluation)
    files = {
        "metrics.json": (json.dumps(_metrics(evaluation, model, data), indent=1) + "\n").encode(),
        "per_class.csv": csv_bytes(columns_of(evaluation.per_class), evaluation.per_class),
        "predictions.csv": csv_bytes(columns_of(predictions), predictions),
    }
    if evaluation.confusion is not None:
        files["confusion_matrix.csv"] = _confusion(evaluation)
    for name, content in files.items():
        write_whole(folder / name, content, root=folder)
    write_rejected(evaluation.rejected, folder)


def _metrics(evaluation: Evaluation, model: Path, data: Path) -> dict[str, Any]:
    described = evaluation.model
    return {
        "model": {
            "path": str(model),
            "backbone": described.backbone,
            "recipe": described.recipe,
            "target": described.target,
            "sha256": described.model_sha256,
        },
        "data": as_given(data),
        "data_fingerprint": evaluation.data_fingerprint,
        "threshold": evaluation.threshold,
        "abstention": {
            "sure_from": evaluation.abstention.sure_from,
            "answered": json_value(asdict(evaluation.abstention.answered)),
            "error": json_value(asdict(evaluation.abstention.error)),
        },
        "average": evaluation.average.value,
        "images": evaluation.images,
        "unlike": evaluation.unlike,
        "unreadable": evaluation.unreadable,
        "rejected": len(evaluation.rejected),
        "absent_classes": list(evaluation.absent),
        **evaluation.metrics,
        "includes_seen": evaluation.includes_seen,
        "seen": evaluation.seen,
    }


def _predictions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row per image: path, truth, label, doubt, ``p_<class>``, its use in training, and error."""
    columns = [f"p_{label}" for label in evaluation.labels]
    return [
        {
            "path": row.path,
            "truth": truth,
            "label": row.label,
            "doubt": row.doubt,
            **dict(zip(columns, row.probabilities or [None] * len(columns), strict=True)),
            "seen": seen,
            "error": row.error,
        }
        for row, truth, seen in zip(evaluation.rows, evaluation.truth, evaluation.seen_as, strict=True)
    ]


def _confusion(evaluation: Evaluation) -> bytes:
    assert evaluation.confusion is not None
    rows = [
        {"truth": label, **dict(zip(evaluation.labels, counts.tolist(), strict=True))}
        for label, counts in zip(evaluation.labels, evaluation.confusion, strict=True)
    ]
    return csv_bytes(("truth", *evaluation.labels), rows)
