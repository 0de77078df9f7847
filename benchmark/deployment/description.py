"""``deployment.json``: everything that a program needs beside an exported model, and its integrity."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from benchmark.data import KnownLabels, load_pixels
from benchmark.deployment.targets import TARGETS, target_names
from benchmark.errors import ManifestError
from benchmark.finetuning import (
    MANIFEST_FILE,
    MODEL_FILE,
    SEEN_FILES,
    is_unlisted,
    load_manifest,
    model_files,
)
from benchmark.records import Average, Manifest, Resize, Task, UInt8
from benchmark.statistics import is_threshold
from benchmark.storage import is_sha256, parse_record, read_small, sha256_file

DESCRIPTION = "deployment.json"
SCHEMA = 1
KERAS = "keras"
_OPENVINO = "openvino"  # runs the models of other libraries, ONNX included
LABELS = "labels.txt"
EXPORT = "export"
# What an export writes beside the files of its model; no runtime opens these.
_BESIDE = {DESCRIPTION, "example.py", "parity.json"}
# File managers leave these in the folders that they show.
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What an exported model is.

    Attributes:
        schema: version of this format.
        target: the format, a name of ``target_names()``.
        model: the model file or folder, relative to the description.
        backbone: architecture name, for the reader.
        task: binary, multiclass or multilabel.
        labels: class names in the order of the class positions; also in ``labels.txt``, one a line.
        positive: name of the positive class for BINARY (the model then has one output, its probability),
            else None (one output per label).
        threshold: a sigmoid output at or above it is decided; unused for MULTICLASS, which takes the largest.
        input_size: side S in pixels.
        input_shape: of one call; the first entry is the batch, 0 where any number will do.
        input_dtype: dtype that the model takes.
        input_range: smallest and largest value that a pixel may have. Nothing else is to be done with the
            pixels: the model scales them itself.
        channels: their order, ``RGB``.
        resize: how an image gets its size, without keeping its aspect ratio.
        output_dtype: dtype of the probabilities.
        notes: how the conversion departs from the plain one, for the reader.
        files: file name relative to the description -> SHA-256.
        recipe: name of the fine-tuning recipe; empty in descriptions that do not say.
        average: of F1 over classes, as fine-tuning used it; None takes the task's usual one.
        bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.
        source_sha256: of the model file that was exported; empty in descriptions that do not say.
        temperature: that the logits were divided by; it stands inside the model already.
        sure_from: an answer of a lower probability is unsure; 0 where every answer is given.
    """

    schema: int
    target: str
    model: str
    backbone: str
    task: Task
    labels: tuple[str, ...]
    positive: str | None
    threshold: float
    input_size: int
    input_shape: tuple[int, int, int, int]
    input_dtype: str
    input_range: tuple[float, float]
    channels: str
    resize: Resize
    output_dtype: str
    notes: tuple[str, ...]
    files: Mapping[str, str]
    recipe: str = ""
    average: Average | None = None
    source_sha256: str = ""
    bit_depth: int = 16
    temperature: float = 1.0
    sure_from: float = 0.0

    @property
    def known_labels(self) -> KnownLabels:
        """What labelled images must be, to score this model on them."""
        positive = None if self.positive is None else self.labels.index(self.positive)
        return KnownLabels(classes=self.labels, task=self.task, positive=positive)

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the model file; of the names and digests of its files where it has several."""
        beside = {LABELS, *SEEN_FILES}
        files = {name: digest for name, digest in self.files.items() if name not in beside}
        if set(files) == {self.model}:
            return files[self.model]
        return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()

    @property
    def outputs(self) -> int:
        """Number C of probabilities per image."""
        return 1 if self.task is Task.BINARY else len(self.labels)

    def pixels_of(self, path: Path, *, max_pixels: int) -> UInt8:
        """The image in a file as the model takes it, uint8 (S, S, 3).

        Raises:
            DataError: it cannot be read, or its header declares more pixels.
        """
        size, depth = self.input_size, self.bit_depth
        return load_pixels(path, size, self.resize, max_pixels=max_pixels, bit_depth=depth)

    def to_json(self) -> bytes:
        """The content of ``deployment.json``."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()


def describe(
    manifest: Manifest, target: str, *, model: str, batch: int, notes: tuple[str, ...] = ()
) -> Deployment:
    """The description of an export that has no files yet.

    Args:
        manifest: of the fine-tuned model.
        target: the format.
        model: the model file or folder, relative to the description.
        batch: images per call, 0 where any number will do.
        notes: how the conversion departs from the plain one.
    """
    size = manifest.input_size
    return Deployment(
        schema=SCHEMA,
        target=target,
        model=model,
        backbone=manifest.backbone,
        task=manifest.task,
        labels=tuple(manifest.classes),
        positive=None if manifest.positive is None else manifest.classes[manifest.positive],
        threshold=manifest.threshold,
        input_size=size,
        input_shape=(batch, size, size, 3),
        input_dtype="uint8",
        input_range=(0.0, 255.0),
        channels="RGB",
        resize=manifest.resize,
        output_dtype="float32",
        notes=notes,
        files={},
        recipe=manifest.recipe,
        average=manifest.average,
        source_sha256=manifest.files[model_files(manifest)[0]],
        bit_depth=manifest.bit_depth,
        temperature=manifest.temperature,
        sure_from=manifest.sure_from,
    )


def describe_source(manifest: Manifest) -> Deployment:
    """The description of a model folder's own model, with the files that are opened."""
    model = model_files(manifest)
    plain = describe(manifest, KERAS if model[0] == MODEL_FILE else _OPENVINO, model=model[0], batch=0)
    opened = (*model, *SEEN_FILES)
    return replace(plain, files={name: manifest.files[name] for name in opened if name in manifest.files})


def read_description(folder: Path) -> Deployment:
    """Read and check ``folder/deployment.json``.

    Raises:
        ManifestError: it is missing, or not such a description.
    """
    path = folder / DESCRIPTION
    try:
        description = parse_record(Deployment, read_small(path))
    except (OSError, ValueError) as error:
        raise ManifestError(
            "is not the description of an export",
            where=path,
            got=error,
            next_step="Export the model again with 'backbones export'.",
        ) from error
    if description.target not in target_names():
        raise ManifestError(
            "describes an export in a format that is not installed here",
            where=path,
            expected=", ".join(target_names()),
            got=description.target,
            next_step=f"Install the package that registers it under {TARGETS.group}, or export again.",
        )
    _check_fields(description, path)
    return description


def _check_fields(description: Deployment, path: Path) -> None:
    size = description.input_size
    problems = {
        "schema": description.schema != SCHEMA,
        "input_size": not 1 <= size <= 8192,
        "input_shape": description.input_shape[0] not in range(8193)
        or description.input_shape[1:] != (size, size, 3),
        "input_range": description.input_range != (0.0, 255.0),
        "channels": description.channels != "RGB",
        "output_dtype": description.output_dtype != "float32",
        "labels": len(set(description.labels)) != len(description.labels)
        or len(description.labels) < (1 if description.task is Task.MULTILABEL else 2),
        "positive": (description.task is Task.BINARY) != (description.positive in description.labels),
        "threshold": not is_threshold(description.threshold),
        "input_dtype": description.input_dtype != "uint8",
        "average": (description.average is Average.BINARY) and description.task is not Task.BINARY,
        "bit_depth": description.bit_depth not in (12, 16),
        "temperature": not 0.0 < description.temperature < math.inf,
        "sure_from": not 0.0 <= description.sure_from <= 1.0,
        "source_sha256": bool(description.source_sha256) and not is_sha256(description.source_sha256),
        "files": not all(map(_stays_inside, description.files))
        or not all(map(is_sha256, description.files.values())),
        "model": not any(
            name == description.model or name.startswith(f"{description.model}/")
            for name in description.files
        ),
    }
    wrong = [name for name, bad in problems.items() if bad]
    if wrong:
        raise ManifestError(
            f"has an impossible {wrong[0]!r}",
            where=path,
            got=getattr(description, wrong[0]),
            next_step="Export the model again with 'backbones export'.",
        )


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def check_files(folder: Path, needed: Mapping[str, str]) -> None:
    """Compare the files of a model or an export with their recorded SHA-256; nothing else may lie there.

    Every file that a runtime or a command opens is listed, in ``deployment.json`` or ``manifest.json``. One
    that is not could be opened as a part of the model: it is refused, and so is every link. What only people
    read may stay. This finds damage and mix-ups; it is no proof of origin, since whoever can write the model
    can write the record as well.

    Args:
        folder: of the model or the export.
        needed: file name -> SHA-256 of those that must be there; others that are listed may be left behind
            when a model is copied.

    Raises:
        ManifestError: a file is missing, has other content, or is not listed.
    """
    is_export = (folder / DESCRIPTION).is_file()
    listed = needed if is_export else {**load_manifest(folder, verify=False).files, **needed}
    for name, expected in listed.items():
        path = folder / name
        if not _stays_inside(name):
            raise ManifestError("names a file outside its folder", where=folder, got=name)
        if name not in needed and not os.path.lexists(path):
            continue
        try:
            got = sha256_file(path, follow_links=False)
        except OSError as error:
            raise _not_the_file(path, expected, error.strerror or type(error).__name__) from error
        if got != expected:
            raise _not_the_file(path, expected, got)
    for path in _all_files(folder, is_export=is_export):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (name in listed or _is_for_people(name, is_export=is_export)):
            raise _does_not_belong(path, DESCRIPTION if is_export else MANIFEST_FILE)


def _all_files(folder: Path, *, is_export: bool) -> Iterator[Path]:
    """Files, pipes and links at any depth; exports inside a model folder have lists of their own."""
    for above, folders, files in os.walk(folder, followlinks=False):
        yield from (Path(above, name) for name in sorted(files))
        yield from (path for path in sorted(Path(above, name) for name in folders) if path.is_symlink())
        if not is_export and Path(above) == folder and EXPORT in folders:
            folders.remove(EXPORT)


def _is_for_people(name: str, *, is_export: bool) -> bool:
    """Whether a file that is not listed may lie there all the same: no runtime opens it."""
    if name in _OF_THE_SYSTEM:
        return True
    return name in _BESIDE if is_export else is_unlisted(name)


def _does_not_belong(path: Path, record: str) -> ManifestError:
    return ManifestError(
        "lies beside a model and does not belong to it",
        where=path,
        expected=f"nothing but the files that {record} lists",
        got="a link" if path.is_symlink() else "a file that it does not list",
        next_step="Move it elsewhere: a runtime could open it as a part of the model.",
    )


def _not_the_file(path: Path, expected: str, got: str) -> ManifestError:
    return ManifestError(
        "is not the file that was written with this model",
        where=path,
        expected=f"SHA-256 {expected}",
        got=got,
        next_step="Copy the model folder again, whole, or export it again.",
    )
