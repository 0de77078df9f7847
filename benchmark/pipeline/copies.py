"""Turned and cropped copies that a backbone saw among some images.

They are kept: comparing pictures takes longer than all else of a ranking that is repeated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.audit import COPIES_VERSION
from benchmark.records import EmbeddingKey, ImageSet, Int64
from benchmark.storage import Memo, json_digest


def known_copies(cache: Path, key: EmbeddingKey, images: ImageSet) -> Int64 | None:
    """Pairs of rows int64 (n, 2) that were found by these views of these images; None where nobody looked."""
    pairs = _memo(cache).recall(key.backbone, _question(key, images))
    return None if pairs is None else np.array(pairs, np.int64).reshape(-1, 2)


def remember_copies(cache: Path, key: EmbeddingKey, images: ImageSet, pairs: Int64) -> None:
    """Keep what ``known_copies`` will find."""
    found = [(first, second) for first, second in pairs.tolist()]
    _memo(cache).remember(key.backbone, _question(key, images), found)


def _memo(cache: Path) -> Memo[list[tuple[int, int]]]:
    return Memo(folder=cache / "copies", kind=list[tuple[int, int]])


def _question(key: EmbeddingKey, images: ImageSet) -> list[object]:
    return [key.digest(), json_digest(list(images.image_ids)), COPIES_VERSION]
