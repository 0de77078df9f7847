"""Two backbones with different weights never yield one matrix: if they do, one is not what it says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from benchmark.embeddings.store import EmbeddingStore
from benchmark.records import EmbeddingKey, Float32, Float64

_SAMPLE = 64  # 52 backbones of up to 4096 values: 54 MB
_CONFIRM = 1024
# Engines agree to 5e-7 of the vectors' size, weights that were really trained apart differ by far more.
_RELATIVE_DIFFERENCE = 1e-5


def equal_matrices(
    store: EmbeddingStore, keys: Sequence[EmbeddingKey], image_ids: Sequence[str]
) -> tuple[tuple[EmbeddingKey, EmbeddingKey], ...]:
    """Pairs of keys with different weights whose embeddings of the same images are the same.

    Equal means: once the mean over the images is taken away, the difference is below 1e-5 of the matrix's
    own size, whatever that size is (random-weight embeddings can be as small as 1e-18). A sample of images
    is compared first; pairs that agree on it are confirmed on up to 1,024 images.

    Args:
        store: holds the vectors of all keys for all these images.
        keys: any number of keys.
        image_ids: N >= 1 hexadecimal image ids.

    Raises:
        CacheError: rows are missing or the cache cannot be read.
    """
    ids = sorted(set(image_ids))
    samples = {key: store.read(key, ids[:_SAMPLE]).features for key in dict.fromkeys(keys)}
    suspects = [
        (one, other)
        for one, other in combinations(samples, 2)
        if one.weights_sha256 != other.weights_sha256 and _same(samples[one], samples[other])
    ]
    return tuple(pair for pair in suspects if len(ids) <= _SAMPLE or _confirmed(store, pair, ids[:_CONFIRM]))


def _confirmed(store: EmbeddingStore, pair: tuple[EmbeddingKey, EmbeddingKey], ids: Sequence[str]) -> bool:
    one, other = (store.read(key, ids).features for key in pair)
    return _same(one, other)


def _same(one: Float32, other: Float32) -> bool:
    if one.shape != other.shape:
        return False
    if np.array_equal(one, other):
        return True
    mean, other_mean = (matrix.astype(np.float64).mean(axis=0) for matrix in (one, other))
    return _close(mean, other_mean) and _close(one - mean, other - other_mean)


def _close(one: Float64, other: Float64) -> bool:
    size = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other)) <= _RELATIVE_DIFFERENCE * size
