"""Resizing decoded images to the square input of a backbone."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmark.data.decode import MAX_PIXELS, decode
from benchmark.data.files import read_regular
from benchmark.errors import DataError
from benchmark.records import Float32, Int64, Resize, UInt8

_LARGEST_KEPT: Final = 1 << 21
"""Elements of a work array that is kept for the next image."""


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


@lru_cache(maxsize=64)
def _column_taps(width: int, size: int) -> tuple[Int64, Int64, Float32]:
    """``_taps`` for rows of interleaved RGB: int64 (3 S,), int64 (3 S,), float32 (3 S,)."""
    left, right, across = _taps(width, size)
    channel = np.arange(3)
    return (left[:, None] * 3 + channel).ravel(), (right[:, None] * 3 + channel).ravel(), np.repeat(across, 3)


class _Workspace(threading.local):
    """Arrays that a thread uses again and again: fresh pages would cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._kept: dict[str, Float32] = {}

    def array(self, name: str, rows: int, columns: int) -> Float32:
        """An uninitialised float32 (rows, columns), valid until this name is asked for again."""
        wanted = rows * columns
        if wanted > _LARGEST_KEPT:
            return np.empty((rows, columns), np.float32)
        kept = self._kept.get(name)
        if kept is None or kept.size < wanted:
            kept = self._kept[name] = np.empty(wanted, np.float32)
        return kept[:wanted].reshape(rows, columns)


_WORKSPACE = _Workspace()


def _bilinear(image: UInt8, size: int) -> UInt8:
    height, width = image.shape[:2]
    top, bottom, down = _taps(height, size)
    left, right, across = _column_taps(width, size)
    lines = image.reshape(height, 3 * width)
    rows = _lerp(lines, (top, bottom), down[:, None], 0)  # float32 (S, 3 W)
    pixels = _lerp(rows, (left, right), across[None], 1)  # float32 (S, 3 S)
    pixels += np.float32(0.5)
    return pixels.astype(np.uint8).reshape(size, size, 3)


def _lerp(source: UInt8 | Float32, taps: tuple[Int64, Int64], weight: Float32, axis: int) -> Float32:
    """Interpolate along one axis of (rows, columns) between two taps per target position."""
    shape = list(source.shape)
    shape[axis] = len(taps[0])
    low = _gather(source, taps[0], axis, _WORKSPACE.array("low", *shape))
    high = _gather(source, taps[1], axis, _WORKSPACE.array(f"high {axis}", *shape))
    high -= low
    high *= weight
    high += low
    return high


def _gather(source: UInt8 | Float32, taps: Int64, axis: int, out: Float32) -> Float32:
    if source.dtype == np.float32:
        return np.take(source, taps, axis, out=out, mode="clip")  # taps are in range; clip skips the check
    np.copyto(out, np.take(source, taps, axis))
    return out
