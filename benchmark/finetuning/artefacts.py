"""Everything a run leaves beside its model but its page. Loads TensorFlow."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.finetuning.keeping import Trained
from benchmark.finetuning.manifest import LABELS_FILE, MODEL_FILE
from benchmark.finetuning.network import Network
from benchmark.finetuning.progress import Progress
from benchmark.finetuning.request import as_json
from benchmark.finetuning.settling import Settled
from benchmark.finetuning.tables import (
    PREDICTIONS_FILE,
    SPLIT_FILE,
    history_csv,
    labels_txt,
    predictions_csv,
    split_csv,
)
from benchmark.finetuning.trained_on import seen_contents
from benchmark.finetuning.training import FineTuningData
from benchmark.finetuning.untyped import Layer, Model, Variable
from benchmark.records import Float32, ImageSet, Int64
from benchmark.storage import TEMPORARY_PREFIX, storage_error, sync_folder, write_whole

METRICS_FILE = "metrics.json"


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
    if progress.history:  # else nothing was trained
        yield "history.csv", history_csv(progress.history)


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
