"""A shorter way to the same JPEG pixels, where one is installed and proves itself.

Pillow decodes JPEG with libjpeg-turbo and then copies the pixels twice. ``simplejpeg`` calls the same library
on memory of ours. It is used when it gives Pillow's bits on a few test pictures, drawn and encoded here, so
that neither its absence nor another version of the library changes a pixel: only the time.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from itertools import product

import numpy as np
from PIL import Image

from benchmark.records import UInt8

Decoder = Callable[[bytes], UInt8]
"""Whole JPEG file of three components to uint8 (H, W, 3); raises ValueError on any irregularity."""


def fast_pixels(content: bytes) -> UInt8 | None:
    """RGB pixels of a flawless JPEG file of three components, not turned upright.

    Args:
        content: the whole file.

    Returns:
        uint8 (H, W, 3), bit-equal to Pillow's; None when there is no faster decoder or it finds fault with
        the file, which is then Pillow's to judge.
    """
    decoder = fast_decoder()
    if decoder is None:
        return None
    try:
        return decoder(content)
    except (ValueError, OverflowError, MemoryError):
        return None


@lru_cache(maxsize=1)
def fast_decoder() -> Decoder | None:
    """The faster decoder, if it is there and agrees with Pillow."""
    try:
        decode_jpeg = import_module("simplejpeg").decode_jpeg
    except ImportError:
        return None

    def decoder(content: bytes) -> UInt8:
        pixels: UInt8 = decode_jpeg(content, "RGB", fastdct=False, fastupsample=False)
        return pixels

    return decoder if all(_agrees(decoder, content) for content in _test_pictures()) else None


def _agrees(decoder: Decoder, content: bytes) -> bool:
    try:
        return np.array_equal(decoder(content), np.asarray(Image.open(io.BytesIO(content))))
    except ValueError:
        return False


def _test_pictures() -> list[bytes]:
    """Noise of an odd size in every chroma subsampling, baseline and progressive."""
    noise = np.random.default_rng(0).integers(0, 256, (45, 61, 3), np.uint8)
    pictures = []
    for subsampling, progressive, quality in product((0, 1, 2), (False, True), (35, 95)):
        file = io.BytesIO()
        options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
        Image.fromarray(noise).save(file, "JPEG", **options)
        pictures.append(file.getvalue())
    return pictures
