"""Decoded pixels in the memory of one process: for a worker that shares no disk with the others."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmark.data.decode import FULL_DEPTH
from benchmark.data.mirror import fetch_missing
from benchmark.data.pixel_buffer import decode_verified
from benchmark.data.resize import resize_pixels
from benchmark.memory import PackedStrings
from benchmark.records import UInt8

_ROWS_PER_TASK = 8


class DecodedImages:
    """Pixels of some images at one input size, decoded by threads while they are read. Close it in the end.

    Args:
        paths: N paths; each must still hold the bytes that its image id names.
        image_ids: N image ids.
        size: side S in pixels.
        resize: how.
        root: folder that relative paths start from.
        threads: that decode.
        bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.
    """

    def __init__(
        self,
        paths: Sequence[str],
        image_ids: Sequence[str],
        size: int,
        *,
        resize: str,
        root: Path,
        threads: int,
        bit_depth: int = FULL_DEPTH,
    ) -> None:
        self.image_ids = PackedStrings.of(image_ids)
        self._pixels = np.empty((len(paths), size, size, 3), np.uint8)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images")

        fetch_missing(root / path for path in paths)

        def fill(rows: range) -> None:
            for row in rows:
                image = decode_verified(root / paths[row], image_ids[row], bit_depth)
                self._pixels[row] = resize_pixels(image, size, resize)

        starts = range(0, len(paths), _ROWS_PER_TASK)
        parts = (range(at, min(at + _ROWS_PER_TASK, len(paths))) for at in starts)
        self._filled = [self._pool.submit(fill, part) for part in parts]

    def rows(self, start: int, stop: int) -> UInt8:
        """Pixels of rows ``start`` to ``stop``, uint8 (n, S, S, 3), waiting until they are decoded.

        Raises:
            DataError: an image changed or cannot be decoded.
        """
        for filled in self._filled[start // _ROWS_PER_TASK : -(-stop // _ROWS_PER_TASK)]:
            filled.result()
        return self._pixels[start:stop]

    def close(self) -> None:
        """Stop decoding."""
        self._pool.shutdown(cancel_futures=True)
