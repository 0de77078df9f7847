"""A finished model at work: predictions, and an evaluation on other labelled images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data import load_images, tell_reading
from benchmark.deployment import (
    Evaluation,
    ExportResult,
    Prediction,
    Predictor,
    evaluate,
    export_model,
    predict,
    predict_tiles,
)
from benchmark.errors import ArgumentError
from benchmark.options import (
    DataOptions,
    EvaluateOptions,
    ExportOptions,
    PredictOptions,
    ReadingOptions,
)
from benchmark.pipeline.model_reports import report_evaluation, report_exports
from benchmark.pipeline.places import results_folder
from benchmark.records import Observer, Silent, Task
from benchmark.reporting import evaluation_folder, write_evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a model says of some images.

    Attributes:
        labels: the model's classes, in the order of its probabilities.
        found: one prediction an image.
        failures: why an overlay that was asked for is not there.
    """

    labels: tuple[str, ...]
    found: Sequence[Prediction]
    failures: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row an image: path, label, doubt, a probability a class (nan where unreadable), error."""
        unknown = (math.nan,) * len(self.labels)
        return [
            {"path": one.path, "label": one.label, "doubt": one.doubt}
            | {
                f"p_{label}": round(value, 6)
                for label, value in zip(self.labels, one.probabilities or unknown, strict=True)
            }
            | {"error": one.error}
            for one in self.found
        ]


def predict_images(
    predictor: Predictor, options: PredictOptions, observer: Observer | None = None
) -> Predicted:
    """Label images, or large photographs window by window.

    Args:
        predictor: the opened model.
        options: of the command; of its heat maps, only those of tiles are drawn.
        observer: told of the progress.

    Raises:
        ArgumentError: no images, or an option that says nothing about this model.
        ExportError: the model fails.
    """
    _check_threshold(options.threshold, predictor)
    labels = predictor.description.labels
    if options.tiles is None:
        return Predicted(labels=labels, found=predict(predictor, options, observer=observer))
    tiled = predict_tiles(predictor, options, observer=observer)
    return Predicted(
        labels=labels,
        found=[one.prediction for one in tiled],
        failures=tuple(f"{one.prediction.path}: {one.overlay_error}" for one in tiled if one.overlay_error),
    )


def _check_threshold(threshold: float | None, predictor: Predictor) -> None:
    if threshold is not None and predictor.description.task is Task.MULTICLASS:
        raise ArgumentError(
            "exclusive classes have no threshold: the most probable one is taken",
            where="`threshold`",
            next_step="Leave it out.",
        )


def export_to(
    model_dir: Path, options: ExportOptions, observer: Observer | None = None
) -> tuple[ExportResult, ...]:
    """Convert a model and compare each export with it; its page and its card then tell how to use them.

    Args:
        model_dir: a folder that fine-tuning wrote.
        options: of the command; its model is not looked at.
        observer: told of the progress.

    Raises:
        ArgumentError: no such target.
        ExportError: a package is missing, or the images cannot be had.
        ManifestError: the folder is no model.
        StorageError: no room for an export.
    """
    results = export_model(model_dir, options, observer=observer)
    report_exports(model_dir, observer or Silent())
    return results


def evaluate_model(
    predictor: Predictor, options: EvaluateOptions, observer: Observer | None = None
) -> tuple[Evaluation, Path]:
    """Score a model on labelled images, and write it to ``results/<dataset>``.

    Args:
        predictor: the opened model.
        options: of the command.
        observer: told of the progress.

    Returns:
        The scores, and the folder that they were written to.

    Raises:
        ArgumentError: a threshold for exclusive classes.
        DataError: the images cannot be used, or the model has seen them all.
        StorageError: a folder cannot be written.
    """
    _check_threshold(options.threshold, predictor)
    watch = observer or Silent()
    description = predictor.description
    asked = {name: getattr(options, name) for name in ReadingOptions.model_fields}
    images = load_images(
        options.data,
        cache=options.cache,
        options=DataOptions.check(asked | {"bit_depth": description.bit_depth}),
        known=description.known_labels,
        observer=watch,
    )
    tell_reading(images, watch)
    evaluation = evaluate(predictor, images, options, observer=watch)
    results = results_folder(options.results, images, options.data)
    results.claim(watch)
    folder = evaluation_folder(evaluation, results.path)
    write_evaluation(evaluation, folder, model=options.model, data=options.data)
    report_evaluation(evaluation, images, folder, model=options.model, observer=watch)
    return evaluation, folder
