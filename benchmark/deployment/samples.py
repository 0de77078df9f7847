"""The images beside a fine-tuned model: which were trained on, which validate."""

from __future__ import annotations

import csv
import io
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from benchmark.data import decode, read_regular, resize_pixels
from benchmark.drawing import fair_order
from benchmark.errors import DataError, ExportError, ManifestError
from benchmark.finetuning import SPLIT_FILE
from benchmark.records import Float32, Manifest, Task, UInt8
from benchmark.storage import MOST_LIST_BYTES, read_small, sha256_bytes

_LABEL_SEPARATOR = ";"
_TABLES = {".csv", ".tsv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """One row of ``split.csv``."""

    path: str  # of the image, relative to the data folder
    image_id: str  # SHA-256 of its bytes
    label: str  # class name, or several joined by ``;`` for MULTILABEL
    part: str  # train, val or test


def read_split(model_dir: Path) -> tuple[SplitRow, ...]:
    """The rows of ``split.csv``.

    Raises:
        ManifestError: it is missing or has other columns.
    """
    path = model_dir / SPLIT_FILE
    try:
        # Names that are not UTF-8 were written with surrogate escapes.
        text = read_small(path, most_bytes=MOST_LIST_BYTES).decode("utf-8", "surrogateescape")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return tuple(SplitRow(**{one.name: row[one.name] for one in fields(SplitRow)}) for row in rows)
    except (OSError, csv.Error, KeyError, TypeError) as error:
        raise ManifestError(
            "does not list the images of the model",
            where=path,
            expected="columns path, image_id, label, part",
            got=f"{type(error).__name__}: {error}",
            next_step="Fine-tune again, or copy the whole model folder.",
        ) from error


def images_root(data: Path) -> Path:
    """The folder that the split's paths start from: that of a CSV of images, or the data folder itself."""
    table = data.suffix.lower() in _TABLES and not data.is_dir()
    return data.parent if table else data


def stratified(rows: tuple[SplitRow, ...], most: int, seed: int) -> tuple[SplitRow, ...]:
    """At most ``most`` rows (0: all), each label as often as it occurs, in the order given.

    Every label keeps at least one row while there is room.
    """
    if not most or len(rows) <= most:
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))
    labels = np.unique([row.label for row in rows], return_inverse=True)[1]
    chosen = drawn[fair_order(labels[drawn], first=1)[:most]]
    return tuple(rows[position] for position in np.sort(chosen))


def targets_of(rows: tuple[SplitRow, ...], manifest: Manifest) -> Float32:
    """Targets as the model's outputs see them, float32 (N, C); C = 1 for BINARY.

    Raises:
        ManifestError: a label that the model does not know.
    """
    columns = {name: column for column, name in enumerate(manifest.classes)}
    targets = np.zeros((len(rows), len(columns)), np.float32)
    for number, row in enumerate(rows):
        text = row.label if row.label in columns else row.label.removeprefix("'")
        names = text.split(_LABEL_SEPARATOR) if manifest.task is Task.MULTILABEL else [text]
        for name in filter(None, names):
            if name not in columns:
                raise ManifestError("a label that the model does not know", where=row.path, got=name)
            targets[number, columns[name]] = 1.0
    return targets[:, [manifest.positive]] if manifest.positive is not None else targets


def write_images(rows: tuple[SplitRow, ...], root: Path, manifest: Manifest, path: Path) -> None:
    """Write the images of rows to a ``.npy`` file of uint8 (N, S, S, 3), one after the other.

    As a plain file: where a disk is full, writing to a mapped array ends the process instead of failing.

    Raises:
        ExportError: an image is missing or is another one than it was.
        OSError: the file cannot be written.
    """
    shape = (len(rows), manifest.input_size, manifest.input_size, 3)
    descr = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
    with path.open("wb") as file:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            file.write(_pixels(row, root, manifest).tobytes())


def some_photos(rows: tuple[SplitRow, ...], root: Path, most: int) -> tuple[Path, ...]:
    """At most ``most`` of the rows' files, absolute: one of each ending, and others from all over."""
    endings = {Path(row.path).suffix.lower(): row for row in rows}
    chosen = dict.fromkeys([*endings.values(), *rows[:: max(1, len(rows) // most)]])
    return tuple(_as_written(root, row.path).resolve() for row in list(chosen)[:most])


def _pixels(row: SplitRow, root: Path, manifest: Manifest) -> UInt8:
    path = _as_written(root, row.path)
    try:
        content = read_regular(path)
        if sha256_bytes(content) != row.image_id:
            raise DataError("an image with other bytes than it was trained with")
        # However large: training accepted these very bytes.
        image = decode(content, max_pixels=sys.maxsize, bit_depth=manifest.bit_depth)
        return resize_pixels(image, manifest.input_size, manifest.resize)
    except DataError as error:
        raise ExportError(
            "an image of the model's data cannot be used",
            where=path,
            got=error,
            next_step="Say where the data are now (`data`), or fine-tune again on what is there.",
        ) from error


def _as_written(root: Path, cell: str) -> Path:
    """The file that a cell of ``split.csv`` names.

    Cells that a spreadsheet would run carry a leading apostrophe, and bytes that are not UTF-8 are escaped.
    """
    plain = cell.removeprefix("'")
    restored = re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), plain)
    named = (root / name for name in (cell, plain, restored))
    return next((path for path in named if path.is_file()), root / cell)
