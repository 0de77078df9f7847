"""Resizing decoded images to the square input of a backbone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.decode import MAX_PIXELS, decode
from benchmark.data.files import read_regular
from benchmark.errors import DataError
from benchmark.records import Float32, Int64, Resize, UInt8


def load_pixels(
    path: Path, size: int, resize: Resize = Resize.BILINEAR, *, max_pixels: int = MAX_PIXELS
) -> UInt8:
    """Read, decode and resize one image file.

    Args:
        path: a regular file.
        size: side S in pixels.
        resize: how.
        max_pixels: images whose header declares more are refused before decoding.

    Returns:
        uint8 (S, S, 3), RGB.

    Raises:
        DataError: the file cannot be read or decoded; ``where`` is the path.
    """
    try:
        return resize_pixels(decode(read_regular(path), max_pixels=max_pixels), size, resize)
    except DataError as error:
        raise DataError(error.what, where=path, got=error.got, next_step=error.next_step) from error


def resize_pixels(image: UInt8, size: int, resize: Resize = Resize.BILINEAR) -> UInt8:
    """Resize an image to a square, without keeping its aspect ratio.

    Args:
        image: uint8 (H, W, 3).
        size: side S in pixels.
        resize: BILINEAR interpolates between the four nearest pixels, with half-pixel centres and without
            antialiasing, as ``tf.image.resize`` does by default; AREA averages all pixels that a target pixel
            covers (and interpolates as BILINEAR along an axis that grows).

    Returns:
        uint8 (S, S, 3).
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    if resize is Resize.AREA:
        image = _shrink_by_area(image, min(size, height), min(size, width))
        if image.shape[:2] == (size, size):
            return image
    return _bilinear(image, size)


def _shrink_by_area(image: UInt8, height: int, width: int) -> UInt8:
    # A box filter whose support is the target pixel: the exact area mean, in one pass per axis.
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


@lru_cache(maxsize=64)
def _taps(length: int, size: int) -> tuple[Int64, Int64, Float32]:
    """Where each of ``size`` target pixels reads along an axis of ``length`` source pixels.

    Returns:
        int64 (S,) lower neighbours, int64 (S,) upper neighbours, float32 (S,) weights of the upper ones.
    """
    scale = np.float32(length) / np.float32(size)
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.clip(floor, 0, length - 1).astype(np.int64)
    upper = np.clip(floor + 1, 0, length - 1).astype(np.int64)
    return lower, upper, (position - floor).astype(np.float32)


def _bilinear(image: UInt8, size: int) -> UInt8:
    top, bottom, down = _taps(image.shape[0], size)
    left, right, across = _taps(image.shape[1], size)
    rows = _lerp(image[top], image[bottom], down[:, None, None])  # float32 (S, W, 3)
    pixels = _lerp(rows[:, left], rows[:, right], across[None, :, None])  # float32 (S, S, 3)
    pixels += np.float32(0.5)
    return pixels.astype(np.uint8)


def _lerp(low: UInt8 | Float32, high: UInt8 | Float32, weight: Float32) -> Float32:
    base = low.astype(np.float32)
    step: Float32 = high.astype(np.float32)
    step -= base
    step *= weight
    step += base
    return step
