"""Large photographs: overlapping windows, their merged verdict, and where in the photograph it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.data import decode, read_regular, resize_pixels
from benchmark.deployment.description import Deployment
from benchmark.deployment.heatmap import overlay_png, picture_name
from benchmark.deployment.prediction import (
    FoundImage,
    Prediction,
    clause_of,
    list_images,
    per_class,
    predictions_of,
)
from benchmark.deployment.predictor import Predictor
from benchmark.errors import ArgumentError, DataError, StorageError
from benchmark.options import PredictOptions
from benchmark.records import MAX_PIXELS, Float32, Float64, Int64, Observer, Silent, Task, UInt8
from benchmark.storage import write_whole

_TASK = "predict tiles"
_LONGEST_SIDE = 1600
_OVERLAP = 0.5  # what lies on the border of one window lies well inside another
_MOST_PIXELS = 4 * MAX_PIXELS  # of photographs that are not scaled down
# How the probabilities of the windows of a photograph become one. The largest of each class lets a small
# defect decide: it answers "is there one anywhere?", and its false alarms grow with the number of windows.
# The mean of each class is for classes that fill the photograph.
Merge = Literal["max", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledPrediction:
    """What a model says of one photograph."""

    prediction: Prediction  # the merged verdict, or the reason why the file could not be read
    windows: Int64  # (W, 4): top, left, height, width in pixels of the photograph
    probabilities: Float32  # (W, C) per window, one column per label of the model
    overlay: Path | None = None  # the heatmap file
    overlay_error: str = ""  # why a heatmap that was asked for could not be written


def windows_of(height: int, width: int, size: int, overlap: float) -> Int64:
    """Windows that cover every pixel.

    They are ``size * (1 - overlap)`` apart, rounded down, and the last of each row and column ends at the
    border. A side shorter than the window has one window of that side.

    Returns:
        int64 (W, 4): top, left, height, width; row by row.
    """
    step = max(1, int(size * (1 - overlap)))
    tops, lefts = _starts(height, size, step), _starts(width, size, step)
    sides = min(size, height), min(size, width)
    return np.array([(top, left, *sides) for top in tops for left in lefts], np.int64)


def _starts(length: int, size: int, step: int) -> list[int]:
    last = max(0, length - size)
    return sorted({*range(0, last, step), last})


def merged(probabilities: Float32, merge: Merge) -> Float32:
    """One row of probabilities from those of the windows: (W, C) -> (C,)."""
    result: Float32 = probabilities.max(0) if merge == "max" else probabilities.mean(0, dtype=np.float64)
    return result.astype(np.float32)


def heat_map(windows: Int64, scores: Float32, shape: tuple[int, int], scale: float) -> Float32:
    """Where the scores come from: each pixel has the mean score of the windows that cover it.

    A window counts the more the nearer the pixel is to its centre, so that the map has no hard steps.

    Args:
        windows: int64 (W, 4).
        scores: float32 (W,), 0 to 1.
        shape: height and width of the map.
        scale: pixels of the map per pixel of the photograph.

    Returns:
        float32 of that shape.
    """
    total, weights = np.zeros(shape, np.float64), np.zeros(shape, np.float64)
    for (top, left, height, width), score in zip(windows, scores, strict=True):
        rows, columns = _scaled(top, height, scale), _scaled(left, width, scale)
        weight = np.outer(_closeness(total[rows].shape[0]), _closeness(total[:, columns].shape[1]))
        total[rows, columns] += float(score) * weight
        weights[rows, columns] += weight
    return np.divide(total, weights, out=np.zeros(shape), where=weights > 0).astype(np.float32)


def _scaled(start: int, length: int, scale: float) -> slice:
    """A side of a window on the map, rounded outwards, so that no pixel of the map stays uncovered."""
    first = int(start * scale)
    return slice(first, max(int(np.ceil((start + length) * scale)), first + 1))


def _closeness(length: int) -> Float64:
    """Weights above 0, largest in the middle, float64 (length,)."""
    positions = np.arange(length) + 0.5
    return np.asarray(np.minimum(positions, length - positions), np.float64)


def predict_tiles(
    predictor: Predictor, options: PredictOptions, *, observer: Observer | None = None
) -> tuple[TiledPrediction, ...]:
    """Slide windows over photographs.

    Args:
        predictor: an opened model of any format.
        options: of the command; its model is not looked at. Windows without a side are of the model's input
            size, others are resized to it. In the folder ``heatmaps``, each photograph gets one
            ``<number>-<name>.png``, which shows the positive class, or the decided one.
        observer: hears of every photograph.

    Returns:
        One per row of ``list_images``; files that are left out or cannot be read, and overlays that could not
        be written, carry their reason.

    Raises:
        ArgumentError: no images, or MAX for exclusive classes.
        ExportError: the model fails.
    """
    observer = observer or Silent()
    _merge_for(options, predictor.description.task)
    listed = list_images(options.images, follow_links=options.follow_links, observer=observer)
    observer.started(_TASK, len(listed))
    results = []
    for number, one in enumerate(listed):
        target = options.heatmaps / picture_name(number, one.path) if options.heatmaps else None
        results.append(_predict_one(predictor, one, options, target))
        observer.advanced(_TASK, number + 1)
    observer.finished(_TASK)
    return tuple(results)


def _merge_for(options: PredictOptions, task: Task) -> Merge:
    """The mean for exclusive classes, else what is asked for, else the largest."""
    if task is not Task.MULTICLASS:
        return options.merge or "max"
    if options.merge == "max":
        raise ArgumentError(
            "says nothing about exclusive classes, of which nearly every one is largest somewhere",
            where="`merge`",
            expected="mean",
            got="max",
        )
    return "mean"


def _predict_one(
    predictor: Predictor, found: FoundImage, options: PredictOptions, target: Path | None
) -> TiledPrediction:
    path = found.path
    if found.reason:
        return _not_read(path, found.reason, predictor)
    try:
        photo = decode(
            read_regular(path),
            max_pixels=options.max_pixels or _MOST_PIXELS,
            bit_depth=predictor.description.bit_depth,
        )
    except DataError as error:
        return _not_read(path, clause_of(error), predictor)
    result = predict_photo(predictor, photo, options)
    result = replace(result, prediction=replace(result.prediction, path=str(path)))
    if target is None:
        return result
    try:
        write_whole(target, _overlay(photo, result, predictor.description), root=target.parent)
    except StorageError as error:
        return replace(result, overlay_error=str(error))
    return replace(result, overlay=target)


def _not_read(path: Path, reason: str, predictor: Predictor) -> TiledPrediction:
    return TiledPrediction(
        prediction=Prediction(path=str(path), error=reason),
        windows=np.zeros((0, 4), np.int64),
        probabilities=np.zeros((0, len(predictor.description.labels)), np.float32),
    )


def predict_photo(predictor: Predictor, photo: UInt8, options: PredictOptions) -> TiledPrediction:
    """Slide windows over one decoded photograph, uint8 (H, W, 3), RGB, of any size."""
    description = predictor.description
    size = options.tiles or description.input_size
    overlap = _OVERLAP if options.overlap is None else options.overlap
    windows = windows_of(photo.shape[0], photo.shape[1], size, overlap)
    answers = np.concatenate(
        [predictor.predict(batch) for batch in _crops(photo, windows, options, description)]
    )
    verdict = merged(answers, _merge_for(options, description.task))
    # The model's own least sureness was found on whole images, one answer each, and not on merged ones.
    (prediction,) = predictions_of(verdict[None], description, options.threshold, options.sure_from or 0.0)
    return TiledPrediction(
        prediction=prediction, windows=windows, probabilities=per_class(answers, description)
    )


def _crops(photo: UInt8, windows: Int64, options: PredictOptions, description: Deployment) -> Iterator[UInt8]:
    """Batches of windows as the model takes them; a window that is no square is mirrored to one."""
    size = options.tiles or description.input_size
    for start in range(0, len(windows), options.batch_size):
        crops = []
        for top, left, height, width in windows[start : start + options.batch_size]:
            crop = photo[top : top + height, left : left + width]
            square = np.pad(crop, ((0, size - height), (0, size - width), (0, 0)), mode="symmetric")
            crops.append(resize_pixels(square, description.input_size, description.resize))
        yield np.stack(crops)


def _overlay(photo: UInt8, result: TiledPrediction, description: Deployment) -> bytes:
    column = _shown_column(result, description)
    scale = min(1.0, _LONGEST_SIDE / max(photo.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    heat = heat_map(result.windows, result.probabilities[:, column], (height, width), scale)
    label = description.labels[column]
    decided = result.prediction.label or "nothing decided"
    caption = f"{decided} ({label}: {result.prediction.probabilities[column]:.3f})"
    return overlay_png(photo, heat, caption=caption, unit=f"mean probability of {label}")


def _shown_column(result: TiledPrediction, description: Deployment) -> int:
    """The positive class, else the most probable one."""
    if description.positive is not None:
        return description.labels.index(description.positive)
    return int(np.argmax(result.prediction.probabilities))
