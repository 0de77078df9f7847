"""Keys, ids and vectors that the tests of the cache share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import EmbeddingKey, Float32

sys.path.append(str(Path(__file__).resolve().parents[1] / "torture"))
from store_shelves import KEY, Shelf, fill, make_features, make_ids  # noqa: E402


@pytest.fixture
def key() -> EmbeddingKey:
    return KEY


@pytest.fixture
def ids() -> Callable[..., tuple[str, ...]]:
    return make_ids


@pytest.fixture
def vectors() -> Callable[[tuple[str, ...], int], Float32]:
    return make_features


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """60 images, 5 values each, in three parts."""
    return fill(tmp_path / "cache", rows=60, per_part=20)


@pytest.fixture
def filled() -> Callable[..., Shelf]:
    return fill
