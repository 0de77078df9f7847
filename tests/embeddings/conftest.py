"""The caches that these tests and the fault drivers share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark.records import EmbeddingKey

sys.path.append(str(Path(__file__).resolve().parents[1] / "torture"))
from store_shelves import KEY, Shelf, fill


@pytest.fixture
def key() -> EmbeddingKey:
    return KEY


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """60 images, 5 values each, in three parts."""
    return fill(tmp_path / "cache", rows=60, per_part=20)
