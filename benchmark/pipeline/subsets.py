"""Parts of an ImageSet as an ImageSet of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmark.memory import PackedStrings
from benchmark.records import ImageSet, Int64, Split


def take_rows(images: ImageSet, rows: Sequence[int] | Int64) -> ImageSet:
    """The ImageSet of some rows; labels, groups and parts stay as they are.

    Args:
        images: N images.
        rows: positions to keep, in any order; the result is in the order of ``images``.
    """
    kept = np.unique(np.asarray(rows, np.int64))
    return replace(
        images,
        paths=PackedStrings.of(images.paths).take(kept),
        image_ids=PackedStrings.of(images.image_ids).take(kept),
        targets=images.targets[kept],
        groups=None if images.groups is None else images.groups[kept],
        split=Split(
            train=_positions(kept, images.split.train),
            val=_positions(kept, images.split.val),
            test=_positions(kept, images.split.test),
            given=images.split.given,
        ),
    )


def _positions(kept: Int64, part: Int64) -> Int64:
    """Where the kept members of a part stand among the kept rows."""
    return np.flatnonzero(np.isin(kept, part)).astype(np.int64)
