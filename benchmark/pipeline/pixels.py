"""The decoded pixels of a job: on disk, filled by threads of this process while workers already read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmark.data import PixelBuffer
from benchmark.memory import PackedStrings
from benchmark.pipeline.requests import EmbedRequest
from benchmark.pipeline.runs import free_bytes
from benchmark.records import ImageSet, Int64

# Of the free space, so that embeddings and converted models find room beside the decoded pixels.
_SHARE = 4
_LEAST_BYTES = 64 * 2**20


def clean_buffers(cache: Path) -> tuple[Path, ...]:
    """Remove the decoded pixels that killed runs left in a cache; what was removed."""
    return PixelBuffer.remove_abandoned(cache)


def buffer_bytes(request: EmbedRequest) -> int:
    """Bytes of decoded pixels to keep at once: a part of what is free, so that a small disk is not filled."""
    try:
        free = free_bytes(request.options.cache)
    except OSError:
        return request.buffer_bytes
    return min(request.buffer_bytes, max(_LEAST_BYTES, free // _SHARE))


@contextmanager
def decoded(
    request: EmbedRequest, images: ImageSet, rows: Int64, size: int, resize: str
) -> Iterator[PixelBuffer]:
    """Decoded pixels of some images, filled by threads of this process while workers already read."""
    ids = PackedStrings.of(images.image_ids).take(rows)
    buffer = PixelBuffer.create(request.options.cache, ids, size)
    paths = PackedStrings.of(images.paths).take(rows)
    filler = threading.Thread(
        target=_fill, args=(buffer, images.root, paths, request, resize), name="decode", daemon=True
    )
    filler.start()
    try:
        yield buffer
    finally:
        buffer.stop()
        try:
            filler.join()
        finally:  # a second Ctrl-C
            buffer.remove()


def _fill(buffer: PixelBuffer, root: Path, paths: Sequence[str], request: EmbedRequest, resize: str) -> None:
    """Decode into a buffer; what goes wrong reaches the readers of its rows."""
    with suppress(Exception):
        buffer.fill(paths, resize, request.options.jobs, root=root, bit_depth=request.bit_depth)
