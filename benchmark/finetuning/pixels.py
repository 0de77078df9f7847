"""Images of a data set by row position, decoded once where the disk has room for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmark.data import PixelBuffer, load_pixels
from benchmark.finetuning.request import FinetuneRequest
from benchmark.machine import cores
from benchmark.records import ImageSet, Int64, Observer, UInt8

_READ_AHEAD = 64


class ScratchPixels:
    """Rows of decoded pixels on disk."""

    def __init__(self, scratch: PixelBuffer) -> None:
        """Read from a filled scratch.

        Args:
            scratch: one row per image of the set, in its order.
        """
        self._scratch = scratch

    def __call__(self, rows: Int64) -> Iterator[UInt8]:
        """uint8 (S, S, 3) for each of int64 (n,) positions, in that order."""
        for row in rows:
            yield self._scratch.rows(int(row), int(row) + 1)[0]


class DecodedPixels:
    """Files decoded each time that they are read, some of them ahead on threads."""

    def __init__(self, images: ImageSet, request: FinetuneRequest) -> None:
        """Read from the image files.

        Args:
            images: the data set.
            request: input size, resizing method, threads and most pixels.
        """
        self._images = images
        self._request = request

    def __call__(self, rows: Int64) -> Iterator[UInt8]:
        """uint8 (S, S, 3) for each of int64 (n,) positions, in that order."""
        with ThreadPoolExecutor(self._request.jobs or cores()) as threads:
            todo = iter(rows)
            while chunk := list(itertools.islice(todo, _READ_AHEAD)):
                yield from threads.map(self._read, chunk)

    def _read(self, row: int) -> UInt8:
        path = self._images.root / self._images.paths[row]
        asked = self._request
        return load_pixels(
            path,
            asked.recipe.image_size,
            asked.resize,
            max_pixels=asked.max_pixels,
            bit_depth=self._images.bit_depth,
        )


@contextmanager
def open_pixels(
    request: FinetuneRequest, images: ImageSet, folder: Path, observer: Observer
) -> Iterator[ScratchPixels | DecodedPixels]:
    """Pixels for as long as a run lasts.

    Args:
        request: input size, resizing method, threads, most pixels and ``scratch_bytes``.
        images: the data set.
        folder: of this run alone; gone afterwards.
        observer: told how many images are decoded.

    Raises:
        DataError: an image changed since it was identified, or cannot be decoded.
        StorageError: no room for the pixels.
    """
    size = request.recipe.image_size
    if PixelBuffer.bytes_needed(len(images), size) > request.scratch_bytes:
        observer.message("The pixels exceed the scratch limit: images are decoded anew in every epoch.")
        yield DecodedPixels(images, request)
        return
    scratch = PixelBuffer.create(folder, images.image_ids, size)
    try:
        scratch.fill(
            images.paths,
            request.resize,
            request.jobs,
            root=images.root,
            max_pixels=request.max_pixels,
            bit_depth=images.bit_depth,
            observer=observer,
        )
        yield ScratchPixels(scratch)
    finally:
        scratch.remove()
