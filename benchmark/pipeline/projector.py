"""The winner's embeddings as trackers show them: vectors, what is known of each image, small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.audit import thumbnail
from benchmark.drawing import fair_order
from benchmark.embeddings import EmbeddingStore
from benchmark.pipeline.baselines import cached_key
from benchmark.pipeline.boards import Ranked
from benchmark.records import BackboneFacts, Float32, UInt8

_MOST_IMAGES = 2000  # a browser still turns so many points smoothly, and the pictures stay under 2,200 pixels
_SIDE = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedImages:
    """Images under one backbone.

    Attributes:
        vectors: float32 (N, D).
        facts: label, part and path of each, by name.
        pictures: uint8 (N, S, S, 3).
    """

    vectors: Float32
    facts: Mapping[str, Sequence[str]]
    pictures: UInt8


def projected(ranked: Ranked, of: BackboneFacts, cache: Path) -> ProjectedImages:
    """A fair share of each class, at most some thousands of images.

    Raises:
        CacheError: the embeddings are no longer cached.
    """
    images, store = ranked.images, EmbeddingStore(cache)
    labels = [images.label_of(row) for row in range(len(images))]
    strata = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    rows = np.sort(fair_order(strata)[:_MOST_IMAGES]).tolist()
    stored = store.read(cached_key(store, of), [images.image_ids[row] for row in rows])
    parts = images.part_names()
    pictures = [
        np.asarray(thumbnail(images.root / images.paths[row], _SIDE, images.bit_depth)) for row in rows
    ]
    return ProjectedImages(
        vectors=stored.features,
        facts={
            "label": [labels[row] for row in rows],
            "part": [parts[row] for row in rows],
            "path": [images.paths[row] for row in rows],
        },
        pictures=np.stack(pictures),
    )
