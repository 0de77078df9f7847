"""Images of a data set by row position, decoded once where the disk has room for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmark.data import PixelBuffer, load_pixels
from benchmark.finetuning.request import FinetuneRequest
from benchmark.machine import cores
from benchmark.records import ImageSet, Int64, Observer, UInt8

Pixels = Callable[[Int64], Iterator[UInt8]]  # row positions -> one uint8 (S, S, 3) each, in that order
_READ_AHEAD = 64


def decoded_pixels(images: ImageSet, request: FinetuneRequest) -> Pixels:
    """Pixels of files that are decoded each time that they are read, some of them ahead on threads."""

    def read(row: int) -> UInt8:
        return load_pixels(
            images.root / images.paths[row],
            request.recipe.image_size,
            request.resize,
            max_pixels=request.options.max_pixels,
            bit_depth=images.bit_depth,
        )

    def pixels(rows: Int64) -> Iterator[UInt8]:
        with ThreadPoolExecutor(request.options.jobs or cores()) as threads:
            todo = iter(rows)
            while chunk := list(itertools.islice(todo, _READ_AHEAD)):
                yield from threads.map(read, chunk)

    return pixels


@contextmanager
def open_pixels(request: FinetuneRequest, images: ImageSet, observer: Observer) -> Iterator[Pixels]:
    """Pixels for as long as a run lasts.

    Args:
        request: input size, resizing method, threads, cache and ``buffer_bytes``.
        images: the data set.
        observer: told how many images are decoded.

    Raises:
        DataError: an image changed since it was identified, or cannot be decoded.
        StorageError: no room for the pixels.
    """
    size = request.recipe.image_size
    if PixelBuffer.bytes_needed(len(images), size) > request.buffer_bytes:
        observer.message("The pixels exceed the buffer limit: images are decoded anew in every epoch.")
        yield decoded_pixels(images, request)
        return
    buffer = PixelBuffer.create(request.options.cache, images.image_ids, size)
    try:
        buffer.fill(
            images.paths,
            request.resize,
            request.options.jobs,
            root=images.root,
            bit_depth=images.bit_depth,
            observer=observer,
        )
        yield lambda rows: (buffer.rows(int(row), int(row) + 1)[0] for row in rows)
    finally:
        buffer.remove()
