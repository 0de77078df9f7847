"""The manifest of a model directory: written last, checked before anything else is believed."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

from benchmark.errors import ManifestError
from benchmark.finetuning.request import as_json
from benchmark.records import Manifest, Task
from benchmark.statistics import is_threshold
from benchmark.storage import (
    is_sha256,
    is_temporary,
    parse_json,
    parse_record,
    read_small,
    sha256_file,
    write_whole,
)

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.keras"
# A network of another library: as ONNX, or as OpenVINO's own format with its weights.
FOREIGN_FILES = (("model.onnx",), ("model.xml", "model.bin"))
_MODEL_FILES = ((MODEL_FILE,), *FOREIGN_FILES)
MODEL_NAMES = tuple(files[0] for files in _MODEL_FILES)
LABELS_FILE = "labels.txt"
# What is written for people, and what changes beside a finished model. No runtime opens these as a part of a
# model, so the manifest does not list them: they may be edited and removed.
FOR_PEOPLE = {
    "report.html": "the page, where to begin: scores before and after with intervals, curves, other "
    "thresholds, calibration, confusion, the surest mistakes with heat maps, data, limits, how to use each "
    "export",
    "README.md": "a model card, with the metadata that model hubs read; names no folder of this machine",
    "metrics.json": "scores before, between and after; which model was kept and why; calibration, "
    "abstention, what the threshold reaches; the comparison with another split and with the board",
    "history.csv": "every epoch",
    "predictions.csv": "every probability of validation and test images",
    "architecture.txt": "every layer; the numbers are those that count where layers are unfrozen",
    "rejected.csv": "files that could not be used, each with its reason; only where there are any",
}
# What a runtime or a command opens again: listed with its SHA-256.
LISTED = {
    "model.keras": "the model, preprocessing and temperature inside; loads in Keras without this package",
    "model.onnx": "instead of it, of a network of another library",
    "model.xml": "instead of it, with model.bin, of one that cannot be made ONNX",
    "model.bin": "weights of model.xml",
    "labels.txt": "class names, one per line",
    "split.csv": "path, image id, label and part of every image",
    "run.json": "the recipe as carried out, seconds, remarks",
    "training_images.ids": "the first 8 bytes of each training image's SHA-256, ascending: how an "
    "evaluation knows images that the model has seen",
    "validation_images.ids": "the same of the images that chose its epoch and threshold",
    "training_vectors.npy": "pooled vectors of some training images (float16, unit length): how predict "
    "knows pictures unlike them",
}
_EVENTS = "tensorboard/"
MANIFEST_SCHEMA = 1
_AGAIN = "Run 'backbones finetune' again, or copy the whole model directory."


def is_unlisted(name: str) -> bool:
    """Whether a file below a model directory may be there without being listed: no runtime opens it."""
    return name in {MANIFEST_FILE, *FOR_PEOPLE} or name.startswith(_EVENTS) or is_temporary(name)


def write_manifest(model_dir: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    write_whole(model_dir / MANIFEST_FILE, as_json(asdict(manifest)), root=model_dir)


def load_manifest(model_dir: Path, *, verify: bool = True) -> Manifest:
    """Read and check a model directory's manifest.

    Args:
        model_dir: the directory.
        verify: also compare the SHA-256 of every file that the manifest lists.

    Raises:
        ManifestError: not a model directory, a damaged or foreign manifest, or another file than the listed.
    """
    path = model_dir / MANIFEST_FILE
    manifest = _parsed(path, _content(model_dir, path))
    _check_meaning(path, manifest)
    if verify:
        _check_files(model_dir, manifest)
    return manifest


def _content(model_dir: Path, path: Path) -> bytes:
    try:
        return read_small(path)
    except OSError as error:
        raise ManifestError(
            "not a finished model directory",
            where=model_dir,
            expected=f"a folder with {MANIFEST_FILE}",
            got=error.strerror or "no such file",
            next_step="Give the folder that 'backbones finetune' printed.",
        ) from error


def _parsed(path: Path, content: bytes) -> Manifest:
    try:
        stored = parse_json(content)
        schema = stored.get("schema") if isinstance(stored, dict) else None
        if schema is not None and schema != MANIFEST_SCHEMA:
            raise ManifestError(
                "a manifest of another version",
                where=path,
                expected=f"schema {MANIFEST_SCHEMA}",
                got=schema,
                next_step=_AGAIN,
            )
        return parse_record(Manifest, content)
    except ValueError as error:
        raise ManifestError("not a usable manifest", where=path, got=error, next_step=_AGAIN) from error


def _check_meaning(path: Path, manifest: Manifest) -> None:
    """Values that have the right type and make no sense."""
    count = len(manifest.classes)
    binary = manifest.task is Task.BINARY
    positive = manifest.positive
    complaints = {
        "classes: fewer than two, or equal ones": (count < 2 and manifest.task is not Task.MULTILABEL)
        or count < 1
        or len(set(manifest.classes)) != count,
        "positive: must be 0 or 1 for two classes, else null": (positive not in (0, 1)) == binary
        or (binary and count != 2),
        "bit_depth: must be 12 or 16": manifest.bit_depth not in (12, 16),
        "input_size: must be from 1 to 8192": not 1 <= manifest.input_size <= 8192,
        "threshold: must be a number from 0 to 1": not is_threshold(manifest.threshold),
        "temperature: must be a number above 0": not 0.0 < manifest.temperature < math.inf,
        "sure_from: must be a number from 0 to 1": not 0.0 <= manifest.sure_from <= 1.0,
        "unlike_from: must be a number": not math.isfinite(manifest.unlike_from or 0.0),
        "files: must list one model by plain names": model_files(manifest) not in _MODEL_FILES
        or any(Path(name).name != name or "\\" in name for name in manifest.files)
        or not all(map(is_sha256, manifest.files.values())),
        "weights_sha256: must be a SHA-256": not is_sha256(manifest.weights_sha256),
        "data_fingerprint: must be a SHA-256": not is_sha256(manifest.data_fingerprint),
        "metrics: must have an f1 for each part": not all("f1" in part for part in manifest.metrics.values()),
    }
    for complaint, wrong in complaints.items():
        if wrong:
            raise ManifestError("not a usable manifest", where=path, got=complaint, next_step=_AGAIN)


def model_files(manifest: Manifest) -> tuple[str, ...]:
    """The files of the model that a manifest lists; the first is what is opened."""
    return tuple(name for files in _MODEL_FILES for name in files if name in manifest.files)


def _check_files(model_dir: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        path = model_dir / name
        try:
            found = sha256_file(path, follow_links=False)
        except OSError as error:
            raise ManifestError(
                "a file of the model is missing", where=path, got=error.strerror, next_step=_AGAIN
            ) from error
        if found != expected:
            raise ManifestError(
                "a file of the model is not the one that the manifest lists",
                where=path,
                expected=f"SHA-256 {expected[:16]}...",
                got=f"{found[:16]}...",
                next_step=_AGAIN,
            )
