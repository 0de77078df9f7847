"""The images beside a fine-tuned model: which were trained on, which validate."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.cells import cell_text
from benchmark.data import NO_LIMIT, decode, files_of, images_root, read_regular, resize_pixels
from benchmark.drawing import fair_order
from benchmark.errors import DataError, ExportError, ManifestError
from benchmark.finetuning import SPLIT_FILE
from benchmark.records import Float32, Manifest, Task, UInt8
from benchmark.storage import MOST_LIST_BYTES, read_small, sha256_bytes

_LABEL_SEPARATOR = ";"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """One row of ``split.csv``."""

    path: str  # of the image, relative to the data folder or absolute, as the system has it
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
        text = read_small(path, most_bytes=MOST_LIST_BYTES).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        names = [one.name for one in fields(SplitRow)]
        return tuple(SplitRow(**{name: cell_text(row[name]) for name in names}) for row in rows)
    except (OSError, ValueError, csv.Error, KeyError, TypeError) as error:
        raise ManifestError(
            "does not list the images of the model",
            where=path,
            expected="columns path, image_id, label, part",
            got=f"{type(error).__name__}: {error}",
            next_step="Fine-tune again, or copy the whole model folder.",
        ) from error


class SplitFiles:
    """The files of a split's images, where the data are now.

    Args:
        data: the folder or CSV that a user names; None where nobody does.
        before: the folder that they were in.
    """

    def __init__(self, data: Path | None, before: Path) -> None:
        self._data = data
        self._root = images_root(data or before)
        self._ids: dict[Path, str] = {}

    def path_of(self, row: SplitRow) -> Path:
        """The file of an image.

        Whatever folder is named, an absolute path leads where it led. Where that is no longer the image, the
        file of its name and content in the data is taken.

        Raises:
            DataError: what is named cannot be listed.
        """
        path = self._root / row.path
        if self._data is None or not Path(row.path).is_absolute():
            return path
        named = [other for other in self._by_name.get(path.name, ()) if other != path]
        # Nothing is read of a file that has no other to be preferred to.
        candidates = [path, *named] if named else []
        return next((one for one in candidates if self._id_of(one) == row.image_id), path)

    def _id_of(self, path: Path) -> str:
        """The id of the image in a file, read once; empty where it cannot be read."""
        if path not in self._ids:
            try:
                self._ids[path] = sha256_bytes(read_regular(path))
            except DataError:
                self._ids[path] = ""
        return self._ids[path]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in files_of(self._data) if self._data else ():
            found.setdefault(path.name, []).append(path)
        return found


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
        names = row.label.split(_LABEL_SEPARATOR) if manifest.task is Task.MULTILABEL else [row.label]
        for name in filter(None, names):
            if name not in columns:
                raise ManifestError("a label that the model does not know", where=row.path, got=name)
            targets[number, columns[name]] = 1.0
    return targets[:, [manifest.positive]] if manifest.positive is not None else targets


def write_images(rows: tuple[SplitRow, ...], files: SplitFiles, manifest: Manifest, path: Path) -> None:
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
            file.write(_pixels(row, files, manifest).tobytes())


def some_photos(rows: tuple[SplitRow, ...], files: SplitFiles, most: int) -> tuple[Path, ...]:
    """At most ``most`` of the rows' files, absolute: one of each ending, and others from all over."""
    endings = {Path(row.path).suffix.lower(): row for row in rows}
    chosen = dict.fromkeys([*endings.values(), *rows[:: max(1, len(rows) // most)]])
    return tuple(files.path_of(row).resolve() for row in list(chosen)[:most])


def _pixels(row: SplitRow, files: SplitFiles, manifest: Manifest) -> UInt8:
    path = Path(row.path)
    try:
        path = files.path_of(row)
        content = read_regular(path)
        if sha256_bytes(content) != row.image_id:
            raise DataError("an image with other bytes than it was trained with")
        # However large: training accepted these very bytes.
        image = decode(content, max_pixels=NO_LIMIT, bit_depth=manifest.bit_depth)
        return resize_pixels(image, manifest.input_size, manifest.resize)
    except DataError as error:
        by_name = ", a folder or CSV with a file of this name" if Path(row.path).is_absolute() else ""
        raise ExportError(
            "an image of the model's data cannot be used",
            where=path,
            got=error,
            next_step=f"Say where the data are now (`data`{by_name}), or fine-tune again on what is there.",
        ) from error
