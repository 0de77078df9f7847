"""Labels and probabilities of image files, past every file that cannot be read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.data import list_below
from benchmark.deployment.description import Deployment
from benchmark.deployment.predictor import Predictor
from benchmark.errors import ArgumentError, DataError
from benchmark.machine import cores
from benchmark.options import AnswerOptions, PredictOptions
from benchmark.records import MAX_PIXELS, Float32, Observer, Silent, Task, UInt8
from benchmark.statistics import decide, sureness

UNSURE, UNLIKE = "unsure", "unlike the training images"
_TASK = "predict"
_EMPTY = "a folder without images"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        path: of the image, as found.
        label: the decided class, or several joined by ``;`` for MULTILABEL; empty when there is an error.
        probabilities: one per class, in the order of the model's labels; empty when there is an error.
        decided: per class, whether it is decided; empty when there is an error.
        sureness: probability of the label that is given (for MULTILABEL of the least sure one).
        doubt: ``unsure`` where that is too low, ``unlike the training images`` where the picture is, or both;
            else empty.
        error: why the image could not be read, else empty.
    """

    path: str
    label: str = ""
    probabilities: tuple[float, ...] = ()
    decided: tuple[bool, ...] = ()
    sureness: float = math.nan
    doubt: str = ""
    error: str = ""


class FoundImage(NamedTuple):
    """One row of a prediction to be."""

    path: Path  # of the file, or of a folder without images
    reason: str = ""  # why it is not read, as one clause; empty when it is


def list_images(
    sources: Sequence[Path], *, follow_links: bool = False, observer: Observer | None = None
) -> tuple[FoundImage, ...]:
    """What files and folders hold, in the order given, as often as given; folders by path.

    Folders are searched by the rule by which folders of classes are: hidden files are passed over, files that
    begin like an image are taken whatever their suffix, and images of other formats and links that lead
    outside are left out with a reason. A file that is named itself is taken whatever it is.

    Args:
        sources: files and folders.
        follow_links: links may lead outside of the folders.
        observer: hears of files that are no images.

    Raises:
        ArgumentError: nothing given, or folders without images only.
    """
    found: list[FoundImage] = []
    for source in map(Path, sources):
        if not os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises where a name is too long
            found.append(FoundImage(source))
            continue
        rows, ignored = list_below(source, follow_links=follow_links)
        found += [FoundImage(source / row.path, row.reason) for row in rows] or [FoundImage(source, _EMPTY)]
        if observer and ignored:
            observer.message(f"{source}: {ignored}")
    if all(one.reason == _EMPTY for one in found):
        raise ArgumentError(
            "no images to predict",
            where=", ".join(map(str, sources)),
            expected="image files, or folders that hold some",
        )
    return tuple(found)


def predict(
    predictor: Predictor, options: PredictOptions, *, observer: Observer | None = None
) -> tuple[Prediction, ...]:
    """Label images.

    Args:
        predictor: an opened model of any format.
        options: of the command; its model is not looked at, nor what it says of tiles and files.
        observer: hears of every batch.

    Returns:
        One prediction per row of ``list_images``; files that are left out or cannot be read carry the reason.

    Raises:
        ArgumentError: no images.
        ExportError: the model fails.
    """
    listed = list_images(options.images, follow_links=options.follow_links, observer=observer)
    return predict_listed(
        predictor,
        listed,
        options,
        max_pixels=options.max_pixels or MAX_PIXELS,
        batch_size=options.batch_size,
        observer=observer,
    )


def predict_listed(
    predictor: Predictor,
    listed: Sequence[FoundImage],
    options: AnswerOptions,
    *,
    max_pixels: int,
    batch_size: int = 64,
    observer: Observer | None = None,
) -> tuple[Prediction, ...]:
    """``predict`` for files that were listed before: one prediction each, in their order."""
    observer = observer or Silent()
    observer.started(_TASK, len(listed))
    rows: list[Prediction] = []
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(listed), batch_size):
            batch = listed[start : start + batch_size]
            rows += _predict_batch(predictor, batch, options, max_pixels, pool)
            observer.advanced(_TASK, len(rows))
    unread = sum(bool(row.error) for row in rows)
    observer.finished(_TASK, f"{unread} of {len(rows)} files could not be read")
    return tuple(rows)


def _predict_batch(
    predictor: Predictor,
    listed: Sequence[FoundImage],
    options: AnswerOptions,
    max_pixels: int,
    pool: ThreadPoolExecutor,
) -> list[Prediction]:
    description = predictor.description
    loaded = list(pool.map(lambda one: _load(one, description, max_pixels), listed))
    images = [image for image in loaded if not isinstance(image, str)]
    rows = iter(_doubted(predictor, np.stack(images), options) if images else ())
    return [
        Prediction(path=str(one.path), error=image)
        if isinstance(image, str)
        else replace(next(rows), path=str(one.path))
        for one, image in zip(listed, loaded, strict=True)
    ]


def _doubted(predictor: Predictor, images: UInt8, options: AnswerOptions) -> Iterator[Prediction]:
    probabilities, strange = predictor.recognise(images)
    rows = predictions_of(probabilities, predictor.description, options.threshold, options.sure_from)
    for row, unlike in zip(rows, strange, strict=True):
        yield replace(row, doubt="; ".join(filter(None, (row.doubt, UNLIKE if unlike else ""))))


def _load(found: FoundImage, description: Deployment, max_pixels: int) -> UInt8 | str:
    """The image, or why there is none."""
    if found.reason:
        return found.reason
    try:
        return description.pixels_of(found.path, max_pixels=max_pixels)
    except DataError as error:
        return clause_of(error)


def clause_of(error: DataError) -> str:
    """Why an image cannot be read, as one clause; where it lies stands beside it."""
    return f"{error.what}: {error.got}" if error.got else error.what


def predictions_of(
    probabilities: Float32,
    description: Deployment,
    threshold: float | None = None,
    sure_from: float | None = None,
) -> list[Prediction]:
    """Predictions without a path from probabilities (N, C); what is None is the model's own."""
    least = description.sure_from if sure_from is None else sure_from
    limit = description.threshold if threshold is None else threshold
    values = per_class(probabilities, description)
    decided = per_class(decide(probabilities, limit, description.task).astype(np.float32), description) > 0.5
    sure = sureness(probabilities, limit, description.task)
    return [
        Prediction(
            path="",
            label=";".join(label for label, yes in zip(description.labels, row, strict=True) if yes),
            probabilities=tuple(float(value) for value in numbers),
            decided=tuple(bool(yes) for yes in row),
            sureness=float(own),
            doubt="" if own >= least else UNSURE,
        )
        for row, numbers, own in zip(decided, values, sure, strict=True)
    ]


def per_class(probabilities: Float32, description: Deployment) -> Float32:
    """Probabilities float32 (N, C) with one column per label; BINARY models give the positive one alone."""
    if description.task is not Task.BINARY:
        return probabilities
    both = np.concatenate([1 - probabilities, probabilities], axis=1)
    return both if description.labels[1] == description.positive else both[:, ::-1]
