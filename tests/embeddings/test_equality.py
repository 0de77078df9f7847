"""Two backbones with different weights never yield the same matrix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_shelves import KEY, make_ids

from benchmark.embeddings import EmbeddingStore, equal_matrices
from benchmark.records import EmbeddingKey, Float32

IDS = make_ids(100)


def matrix(seed: int, dim: int = 6) -> Float32:
    return np.random.default_rng(seed).normal(size=(len(IDS), dim)).astype(np.float32)


def store_of(root: Path, matrices: list[Float32], *, same_weights: bool = False) -> list[EmbeddingKey]:
    keys = [
        replace(KEY, backbone=f"B{number}", weights_sha256="a" * 64 if same_weights else f"{number:064d}")
        for number in range(len(matrices))
    ]
    for key, features in zip(keys, matrices, strict=True):
        with EmbeddingStore(root).writer(key, features.shape[1]) as writer:
            writer.add(IDS, features)
    return keys


def test_equal_matrices_are_named_in_pairs(tmp_path: Path) -> None:
    keys = store_of(tmp_path, [matrix(0), matrix(1), matrix(0), matrix(2, dim=7), matrix(0)])
    pairs = equal_matrices(EmbeddingStore(tmp_path), keys, IDS)
    assert pairs == ((keys[0], keys[2]), (keys[0], keys[4]), (keys[2], keys[4]))


def test_the_same_weights_may_give_the_same_matrix(tmp_path: Path) -> None:
    keys = store_of(tmp_path, [matrix(0), matrix(0)], same_weights=True)
    assert equal_matrices(EmbeddingStore(tmp_path), keys, IDS) == ()


@pytest.mark.parametrize("scale", [1e-18, 1e-9, 1.0, 1e6])
def test_equality_is_judged_by_the_size_of_the_vectors(tmp_path: Path, scale: float) -> None:
    base = (matrix(0) * scale).astype(np.float32)
    rounding = (base * (1 + 2e-7 * matrix(1))).astype(np.float32)
    different = (base * (1 + 1e-3 * matrix(2))).astype(np.float32)
    keys = store_of(tmp_path, [base, rounding, different])
    assert equal_matrices(EmbeddingStore(tmp_path), keys, IDS) == ((keys[0], keys[1]),)


def test_a_large_common_mean_does_not_hide_a_difference(tmp_path: Path) -> None:
    common = 1000 * matrix(0)[:1]
    keys = store_of(tmp_path, [common + matrix(1), common + matrix(2)])
    assert equal_matrices(EmbeddingStore(tmp_path), keys, IDS) == ()


def test_a_difference_outside_the_sample_counts(tmp_path: Path) -> None:
    changed = matrix(0).copy()
    changed[IDS.index(max(IDS))] += 1  # the sample is the first 64 ids in order
    keys = store_of(tmp_path, [matrix(0), changed])
    assert equal_matrices(EmbeddingStore(tmp_path), keys, IDS) == ()


def test_collapsed_matrices_are_equal(tmp_path: Path) -> None:
    keys = store_of(tmp_path, [np.zeros_like(matrix(0)), np.zeros_like(matrix(0)), matrix(0)])
    assert equal_matrices(EmbeddingStore(tmp_path), keys, IDS) == ((keys[0], keys[1]),)


def test_one_key_and_one_image_are_no_problem(tmp_path: Path) -> None:
    keys = store_of(tmp_path, [matrix(0), matrix(1)])
    store = EmbeddingStore(tmp_path)
    assert equal_matrices(store, keys[:1], IDS) == ()
    assert equal_matrices(store, keys, IDS[:1]) == ()
    assert equal_matrices(store, [], IDS) == ()
