"""Which images a model has seen: kept beside the model, so that an evaluation knows them wherever it goes.

The first eight bytes of each image id (a SHA-256), ascending, and nothing else: 8 bytes an image. That a
million images and a million others share one by chance has a probability of 5e-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark.errors import ManifestError
from benchmark.records import Bool, ImageSet, Int64
from benchmark.storage import MOST_LIST_BYTES, read_small

TRAINING_FILE = "training_images.ids"
VALIDATION_FILE = "validation_images.ids"
SEEN_FILES = (TRAINING_FILE, VALIDATION_FILE)
_BEGINNING = np.dtype(">u8")  # as large as first eight bytes, and in their order

_Beginnings = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """The images that made a model: beginnings of their ids, ascending."""

    training: _Beginnings  # of the images that it was fitted to
    validation: _Beginnings  # of those that chose its epoch and its threshold

    @classmethod
    def read(cls, folder: Path, files: Mapping[str, str]) -> TrainedOn | None:
        """What a model or an export says of the images that it has seen; None where it does not say.

        Args:
            folder: of the model.
            files: those that its manifest or description lists; they were compared with their SHA-256 before.

        Raises:
            ManifestError: a file that is no such list.
        """
        if any(name not in files for name in SEEN_FILES):
            return None
        training, validation = (_read(folder / name) for name in SEEN_FILES)
        return cls(training=training, validation=validation)

    def parts(self, image_ids: Iterable[str]) -> tuple[Bool, Bool]:
        """Bool (N,) twice: which images were trained on, and which others chose epoch and threshold."""
        asked = _beginnings(image_ids)
        training = np.isin(asked, self.training)
        return training, np.isin(asked, self.validation) & ~training


def seen_contents(images: ImageSet, fitted: Int64) -> dict[str, bytes]:
    """The files that say which images a model of this data set has seen, by name.

    Args:
        images: the data set.
        fitted: int64 (n,) rows that the model was fitted to; other rows of train and val chose.
    """
    seen = np.concatenate([images.split.train, images.split.val])
    rows = {TRAINING_FILE: fitted, VALIDATION_FILE: np.setdiff1d(seen, fitted)}
    return {
        name: np.sort(_beginnings(images.image_ids[row] for row in part)).astype(_BEGINNING).tobytes()
        for name, part in rows.items()
    }


def _read(path: Path) -> _Beginnings:
    try:
        content = read_small(path, most_bytes=MOST_LIST_BYTES)
    except OSError as error:
        raise ManifestError("is no list of image ids", where=path, got=error.strerror) from error
    if len(content) % _BEGINNING.itemsize:
        raise ManifestError(
            "is no list of image ids",
            where=path,
            expected=f"a whole number of {_BEGINNING.itemsize} bytes each",
            got=f"{len(content)} bytes",
        )
    return np.frombuffer(content, _BEGINNING).astype(np.uint64)


def _beginnings(image_ids: Iterable[str]) -> _Beginnings:
    digits = 2 * _BEGINNING.itemsize
    joined = bytes.fromhex("".join(name[:digits] for name in image_ids))
    return np.frombuffer(joined, _BEGINNING).astype(np.uint64)
