"""Everything a run leaves beside its model. Loads TensorFlow, Matplotlib and scikit-learn."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.cells import printable
from benchmark.drawing import derived_seed
from benchmark.finetuning import pictures
from benchmark.finetuning.augment import augment_images, view_keys
from benchmark.finetuning.keeping import Trained
from benchmark.finetuning.manifest import LABELS_FILE, MODEL_FILE
from benchmark.finetuning.network import Network
from benchmark.finetuning.progress import Progress
from benchmark.finetuning.request import as_json
from benchmark.finetuning.settling import Settled
from benchmark.finetuning.tables import (
    PREDICTIONS_FILE,
    SPLIT_FILE,
    class_positions,
    classification_report,
    history_csv,
    labels_txt,
    predicted_labels,
    predictions_csv,
    split_csv,
)
from benchmark.finetuning.trained_on import seen_contents
from benchmark.finetuning.training import FineTuningData
from benchmark.finetuning.untyped import Layer, Model, Variable
from benchmark.records import Bool, Float32, Float64, ImageSet, Int64, Task
from benchmark.storage import TEMPORARY_PREFIX, storage_error, sync_folder, write_whole

METRICS_FILE = "metrics.json"
_DATA_COLUMNS, _MOST_CLASS_ROWS = 8, 8
_AUGMENTED_IMAGES, _AUGMENTED_VIEWS = 4, 7
_PREDICTION_COLUMNS, _MOST_PREDICTIONS = 6, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """A finished run, to be told."""

    data: FineTuningData
    trained: Trained
    progress: Progress
    found: Mapping[str, Float32]  # val, and test where there is one -> probabilities (n, C) of the kept model
    fitted: Int64  # (n,) rows that the model was fitted to
    settled: Settled

    @property
    def images(self) -> ImageSet:
        """The data set."""
        return self.data.images

    @property
    def part(self) -> str:
        """The part that pictures and report look at: test, or val without a test part."""
        return "test" if "test" in self.found else "val"

    @property
    def rows(self) -> Int64:
        """Positions of that part's images, int64 (n,)."""
        return self.data.rows(self.part)

    @property
    def decided(self) -> Bool:
        """Decisions on that part, bool (n, C)."""
        return self.data.scoring.decided(self.found[self.part], self.trained.threshold)

    @property
    def kept_epoch(self) -> int:
        """Epoch of the kept checkpoint, counted from 1 over both phases."""
        return int(self.progress.best[self.trained.kept]["epoch"])


def save_model(model: Model, model_dir: Path) -> None:
    """Write ``model.keras``, whole or not at all.

    Keras builds the weights in memory and writes the archive as an ordinary file, so that a full disk is an
    error and not a crash inside HDF5.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = model_dir / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.keras"
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        model.save(temporary)
        temporary.replace(model_dir / MODEL_FILE)
        sync_folder(model_dir)
    except OSError as error:
        raise storage_error(error, model_dir / MODEL_FILE) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_artefacts(results: RunResults, network: bytes, model_dir: Path) -> None:
    """Write every artefact but the model, the manifest and the TensorBoard files.

    Args:
        results: what to tell.
        network: its layers as text.
        model_dir: the folder.

    Raises:
        StorageError: one cannot be written.
    """
    for name, content in _artefacts(results, network):
        write_whole(model_dir / name, content, root=model_dir)


def _artefacts(results: RunResults, network: bytes) -> Iterator[tuple[str, bytes]]:
    images, progress = results.images, results.progress
    yield LABELS_FILE, labels_txt(images)
    yield SPLIT_FILE, split_csv(images)
    yield from seen_contents(images, results.fitted).items()
    scoring, threshold = results.data.scoring, results.trained.threshold
    yield PREDICTIONS_FILE, predictions_csv(images, scoring, threshold, results.found)
    trained = results.trained
    told = {"kept": trained.kept, "best": progress.best, "gains": trained.gains, **results.settled.record()}
    yield METRICS_FILE, as_json({**progress.metrics, **told})
    yield "architecture.txt", network
    yield "classification_report.txt", classification_report(images, results.rows, results.decided)
    yield "confusion_matrix.png", _confusion(results)
    yield "data.png", _data_sheet(results)
    if progress.history:  # else nothing was trained
        yield "history.csv", history_csv(progress.history)
        yield "curves.png", pictures.curves(progress.history, results.kept_epoch)
        yield "augmentation.png", _augmentation_sheet(results)
    yield "predictions.png", _prediction_sheet(results)


def architecture(network: Network) -> bytes:
    """Every layer with its output shape, its parameters and whether the last phase trained it.

    The numbers before the backbone's layers are the ones that ``unfreeze_from`` counts.
    """
    rows = [("", "layer", "type", "output shape", "parameters", "trained")]
    for layer in network.model.layers:
        rows.append(("", *_layer_cells(layer)))
        if layer is network.base:
            rows += [(f"{at}", *_layer_cells(inner)) for at, inner in enumerate(layer.layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    total, trained = network.model.count_params(), _parameters(network.model.trainable_variables)
    return "\n".join([*lines, "", f"{total:,} parameters, {trained:,} of them trained", ""]).encode()


def _layer_cells(layer: Layer) -> tuple[str, str, str, str, str]:
    shape = getattr(layer.output, "shape", ())
    trained, own = _parameters(layer.trainable_variables), layer.count_params()
    share = "" if not own else "no" if not trained else "yes" if trained == own else "in part"
    return layer.name, type(layer).__name__, str(tuple(shape)), f"{own:,}", share


def _parameters(variables: Sequence[Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _confusion(results: RunResults) -> bytes:
    from sklearn import metrics

    images, truth = results.images, results.images.targets[results.rows]
    title = f"{results.part} part, {len(results.rows)} images, {results.trained.kept} kept"
    if images.task is Task.MULTILABEL:
        matrices = metrics.multilabel_confusion_matrix(truth, results.decided.astype(np.int64))
        return pictures.label_confusions(matrices, images.classes, title)
    said = class_positions(images, results.decided)
    matrix = metrics.confusion_matrix(truth, said, labels=range(len(images.classes)))
    return pictures.confusion(matrix, images.classes, title)


def _data_sheet(results: RunResults) -> bytes:
    """Some training images of every class (of the first classes, where there are many)."""
    images = results.images
    train = images.split.train
    has = _membership(images)[train]
    tiles: list[pictures.Tile] = []
    for position, name in enumerate(images.classes[:_MOST_CLASS_ROWS]):
        rows = train[has[:, position]][:_DATA_COLUMNS]
        blank = np.full((1, 1, 3), 255, np.uint8)
        shown = [
            pictures.Tile(image=image, title=pictures.short(name)) for image in results.data.pixels(rows)
        ]
        tiles += shown + [pictures.Tile(image=blank)] * (_DATA_COLUMNS - len(shown))
    shown_classes = min(len(images.classes), _MOST_CLASS_ROWS)
    title = f"{printable(images.name)}: training images of {shown_classes} of {len(images.classes)} classes"
    return pictures.sheet(tiles, _DATA_COLUMNS, title)


def _membership(images: ImageSet) -> Bool:
    """Bool (N, C): which image has which class or label."""
    if images.task is Task.MULTILABEL:
        return images.targets.astype(bool)
    return np.asarray(images.targets[:, None] == np.arange(len(images.classes)))


def _augmentation_sheet(results: RunResults) -> bytes:
    """Some training images, each with views as training saw them."""
    recipe, rows = results.data.recipe, results.images.split.train[:_AUGMENTED_IMAGES]
    ids = [results.images.image_ids[row] for row in rows]
    originals = np.stack(list(results.data.pixels(rows)))
    seed = results.data.request.seed
    keys = np.concatenate([view_keys(seed, view, ids) for view in range(_AUGMENTED_VIEWS)])
    repeated = np.tile(originals, (_AUGMENTED_VIEWS, 1, 1, 1))
    views = augment_images(recipe.augmentation, repeated, keys).reshape(-1, *originals.shape)
    columns = [[pictures.Tile(image=image, title="as it is") for image in originals]]
    for view, changed in enumerate(views):
        columns.append([pictures.Tile(image=image, title=f"view {view}") for image in changed])
    tiles = [tile for row in zip(*columns, strict=True) for tile in row]
    none = " (this recipe changes nothing)" if recipe.augmentation.changes_nothing else ""
    return pictures.sheet(tiles, len(columns), f"Augmentation of {recipe.name}{none}")


def _prediction_sheet(results: RunResults) -> bytes:
    """Images with label and answer: the surest mistakes first, then a random choice of the others."""
    images, rows, decided = results.images, results.rows, results.decided
    said = predicted_labels(images, decided)
    true = [images.label_of(row) for row in rows]
    sureness = _sureness(results)
    wrong = [at for at in np.argsort(-sureness) if true[at] != said[at]][: _MOST_PREDICTIONS // 2]
    seed = derived_seed(results.data.request.seed, "pictures")
    others = np.random.default_rng(seed).permutation(len(rows))
    right = [at for at in others if true[at] == said[at]][: _MOST_PREDICTIONS - len(wrong)]
    chosen = [int(at) for at in [*wrong, *right]]
    tiles = [
        pictures.prediction_tile(image, true[at], said[at], float(sureness[at]))
        for at, image in zip(chosen, results.data.pixels(rows[chosen]), strict=True)
    ]
    mistakes = sum(label != answer for label, answer in zip(true, said, strict=True))
    title = f"{results.part} part: {mistakes} of {len(rows)} wrong, the surest mistakes first"
    return pictures.sheet(tiles, _PREDICTION_COLUMNS, title)


def _sureness(results: RunResults) -> Float64:
    """Probability of the answer that was given, float64 (n,); of the least sure label for MULTILABEL."""
    probabilities = results.found[results.part].astype(np.float64)
    if results.images.task is Task.MULTICLASS:
        return np.asarray(probabilities.max(-1))
    return np.asarray(np.where(results.decided, probabilities, 1 - probabilities).min(-1))
