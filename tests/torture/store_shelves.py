"""Small caches whose every row is known, so that a wrong or lost one shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize
from benchmark.records import EmbeddingKey, Engine, Float32, Precision, Resize

KEY = EmbeddingKey(
    backbone="MobileNet_0.25",
    arguments=(("alpha", "0.25"),),
    weights_sha256="a" * 64,
    input_size=32,
    decoder="pillow-13.0.0",
    resize=Resize.BILINEAR,
    preprocessing="tf",
    pooling="avg",
    engine=Engine.TENSORFLOW,
    precision=Precision.FLOAT32,
    keras_version="3.15.1",
)


def make_ids(count: int, salt: str = "") -> tuple[str, ...]:
    return tuple(hashlib.sha256(f"{salt}{number}".encode()).hexdigest() for number in range(count))


def make_features(image_ids: tuple[str, ...], dim: int) -> Float32:
    """Every id has its own vector, so a row under a wrong id shows."""
    rows = [np.frombuffer(hashlib.shake_128(text.encode()).digest(2 * dim), "<u2") for text in image_ids]
    return (np.array(rows, np.float32).reshape(-1, dim) - 32768.0) / 4096.0


@dataclass(frozen=True)
class Shelf:
    """A cache with one filled key: ids, vectors, parts."""

    root: Path
    key: EmbeddingKey
    ids: tuple[str, ...]
    features: Float32

    @property
    def folder(self) -> Path:
        return EmbeddingStore(self.root).folder(self.key)

    @property
    def parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.h5"))

    def check(self) -> None:
        """Everything that the cache gives is right; what it does not give, it says is missing."""
        store = EmbeddingStore(self.root)
        absent = set(store.missing(self.key, self.ids))
        present = [row for row, image_id in enumerate(self.ids) if image_id not in absent]
        if present:
            read = store.read(self.key, [self.ids[row] for row in present])
            np.testing.assert_array_equal(read.features, self.features[present])


def fill(root: Path, *, rows: int, per_part: int, dim: int = 5, key: EmbeddingKey = KEY) -> Shelf:
    image_ids = make_ids(rows)
    features = make_features(image_ids, dim)
    with EmbeddingStore(root).writer(key, dim, size=PartSize(rows=per_part)) as writer:
        writer.add(image_ids, features)
    return Shelf(root, key, image_ids, features)
