"""Which pictures are unlike the training images: far from their neighbours in the model's own vectors.

The distance of a picture is that of its pooled vector, at unit length, to the fifth nearest of the training
images' (k nearest neighbours: Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest
neighbors", ICML 2022). A picture is unlike them when it lies further than nearly all validation images do:
at the quantile that about one in a hundred new images like these exceeds (one in n + 1 of n below 99). NumPy
only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark.errors import ManifestError
from benchmark.records import Bool, Float32, Float64, Int64, Manifest, Split
from benchmark.storage import read_small

VECTORS_FILE = "training_vectors.npy"
HEAD_LAYERS = ("dropout", "hidden", "logits")
"""Names of a head's layers; the first that is there takes the pooled vectors."""
_NEAREST, _FALSE_ALARMS = 5, 0.01
_MOST_TRAINING, _MOST_VALIDATION = 500, 300
_MOST_BYTES, _LARGEST_FILE = 4 * 2**20, 64 * 2**20
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiar:
    """The vectors of some training images, and how far from them a picture may lie.

    Attributes:
        vectors: float16 (M, D), of unit length.
        limit: a larger distance (1 - cosine, to the fifth nearest) is that of a picture unlike these.
    """

    vectors: npt.NDArray[np.float16]
    limit: float

    @classmethod
    def found(
        cls,
        vectors_of: Callable[[Int64], Float32],
        split: Split,
        known: Callable[[Int64], Float32] | None = None,
    ) -> Familiar:
        """Those of a data set.

        Args:
            vectors_of: rows of the data set, int64 (n,) -> pooled vectors float32 (n, D).
            split: its training images are what a picture is compared with, its validation images say how far
                away a picture like these may lie. Of many, 500 (of wide vectors fewer) and 300 are taken,
                from all over the part: its rows may be sorted by class.
            known: the same vectors of training images, where they need not be made again. Validation images,
                which stand for what is asked later, are seen as that will be.
        """
        near = _units(vectors_of(_some(split.val, _MOST_VALIDATION)))
        fitting = max(_NEAREST, _MOST_BYTES // (2 * max(near.shape[1], 1)))
        train = _units((known or vectors_of)(_some(split.train, min(fitting, _MOST_TRAINING))))
        found = cls(vectors=train.astype(np.float16), limit=math.inf)
        distances = np.sort(found.distances(near))
        place = min(len(distances), math.ceil((len(distances) + 1) * (1 - _FALSE_ALARMS)))
        return cls(vectors=found.vectors, limit=float(distances[place - 1]))

    @classmethod
    def read(cls, folder: Path, manifest: Manifest) -> Familiar | None:
        """What a model says of it; None where it does not.

        Raises:
            ManifestError: a file that is no such array.
        """
        if manifest.unlike_from is None or VECTORS_FILE not in manifest.files:
            return None
        path = folder / VECTORS_FILE
        try:
            content = read_small(path, most_bytes=_LARGEST_FILE)
            vectors = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ManifestError("is no array of vectors", where=path, got=error) from error
        if vectors.dtype != np.float16 or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ManifestError(
                "is no array of vectors",
                where=path,
                expected="float16 (M, D), finite",
                got=f"{vectors.dtype} {vectors.shape}",
            )
        return cls(vectors=vectors, limit=manifest.unlike_from)

    def content(self) -> bytes:
        """The file of the vectors."""
        buffer = io.BytesIO()
        np.save(buffer, self.vectors, allow_pickle=False)
        return buffer.getvalue()

    def distances(self, vectors: Float32) -> Float64:
        """Distances float64 (N,), 0 to 2, of pooled vectors float32 (N, D)."""
        known = self.vectors.astype(np.float32)
        nearest = min(_NEAREST, len(known)) - 1
        found = [
            np.partition(1 - _units(vectors[start : start + _ROWS_AT_ONCE]) @ known.T, nearest, axis=1)
            for start in range(0, len(vectors), _ROWS_AT_ONCE)
        ]
        return np.concatenate([each[:, nearest] for each in found] or [np.zeros(0)]).astype(np.float64)

    def strange(self, vectors: Float32) -> Bool:
        """Bool (N,): which pictures are unlike the training images."""
        return np.asarray(self.distances(vectors) > self.limit)


def _some(rows: Int64, most: int) -> Int64:
    """At most so many of the rows, from all over."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _units(vectors: Float32) -> Float32:
    flat = vectors.reshape(len(vectors), -1).astype(np.float32)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(lengths, np.float32(1e-20)), np.float32)
