"""Each image seen several times: as it is, flipped, by quarter turns, in grey, and its middle twice.

A copy that was turned, cropped or made grey has another embedding than its original. One of these views of
the original has nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import numpy as np

from benchmark.data import resize_pixels
from benchmark.embeddings.extract import BatchEmbedder
from benchmark.records import Float32, UInt8

_TURNS = 8
_MIDDLES = (0.85, 0.7)
VIEWS: Final = _TURNS + 1 + len(_MIDDLES)
"""Of an image, the first being the image itself."""


def turned(batch: UInt8) -> Iterator[UInt8]:
    """The views of square images.

    Args:
        batch: uint8 (B, S, S, 3).

    Yields:
        uint8 (B, S, S, 3): view ``4 t + 2 v + h`` is flipped left to right where h, upside down where v, then
        turned by 90 degrees against the clock where t; then grey; then the middle 85 % and 70 % of each side.
    """
    for turn in range(2):
        for down in (1, -1):
            for across in (1, -1):
                yield np.ascontiguousarray(np.rot90(batch[:, ::down, ::across], turn, (1, 2)))
    luma = np.rint(batch @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    yield np.repeat(luma[..., None], 3, axis=-1)
    side = batch.shape[1]
    for share in _MIDDLES:
        edge = round(side * (1 - share) / 2)
        inner = batch[:, edge : side - edge, edge : side - edge]
        yield np.stack([resize_pixels(np.ascontiguousarray(image), side) for image in inner])


class TurnedEmbedder:
    """A backbone whose vector of an image is those of its views, one after the other.

    Args:
        frozen: embeds one view.
    """

    def __init__(self, frozen: BatchEmbedder) -> None:
        self._frozen = frozen
        self.batch_size = frozen.batch_size

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        """Batches uint8 (B, S, S, 3) -> vectors float32 (B, VIEWS D), in order."""
        vectors = self._frozen.embed(view for batch in batches for view in turned(batch))
        while views := list(islice(vectors, VIEWS)):
            yield np.concatenate(views, axis=1)

    def close(self) -> None:
        """Give back the engine's memory."""
        self._frozen.close()
