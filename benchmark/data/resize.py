"""Resizing decoded images to the square input of a backbone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmark.data.decode import FULL_DEPTH, decode
from benchmark.data.files import read_regular
from benchmark.errors import DataError
from benchmark.records import MAX_PIXELS, Float32, Int64, Resize, UInt8

_LARGEST_KEPT: Final = 1 << 21
"""Elements of a work array that is kept for the next image."""


def load_pixels(
    path: Path,
    size: int,
    resize: Resize = Resize.BILINEAR,
    *,
    max_pixels: int = MAX_PIXELS,
    bit_depth: int = FULL_DEPTH,
) -> UInt8:
    """Read, decode and resize one image file.

    Args:
        path: a regular file.
        size: side S in pixels.
        resize: how.
        max_pixels: images whose header declares more are refused before decoding.
        bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.

    Returns:
        uint8 (S, S, 3), RGB.

    Raises:
        DataError: the file cannot be read or decoded; ``where`` is the path.
    """
    try:
        return resize_pixels(
            decode(read_regular(path), max_pixels=max_pixels, bit_depth=bit_depth), size, resize
        )
    except DataError as error:
        raise DataError(error.what, where=path, got=error.got, next_step=error.next_step) from error


def resize_pixels(image: UInt8, size: int, resize: str = Resize.BILINEAR) -> UInt8:
    """Resize an image to a square, without keeping its aspect ratio unless ``resize`` says so.

    Args:
        image: uint8 (H, W, 3).
        size: side S in pixels.
        resize: BILINEAR interpolates between the four nearest pixels, with half-pixel centres and without
            antialiasing, as ``tf.image.resize`` does by default; AREA averages what a target pixel covers,
            each source pixel with the part of it that is covered (and interpolates along an axis that grows).
            What ``Preprocessing.native`` names is done as torchvision does it on Pillow's images; NATIVE
            itself, of a network without a way of its own, is BILINEAR.

    Returns:
        uint8 (S, S, 3), within half a level of the exact result.
    """
    height, width = image.shape[:2]
    resize = Resize.BILINEAR if resize == Resize.NATIVE else resize
    if resize not in {Resize.BILINEAR, Resize.AREA}:
        return _native(image, size, resize)
    if (height, width) == (size, size):
        return image
    down = _taps(height, size, resize)
    across = _interleaved(width, size, resize)
    rows = _weighted_sum(image.reshape(height, 3 * width), down, 0)  # float32 (S, 3 W)
    pixels = _weighted_sum(rows, across, 1)  # float32 (S, 3 S)
    pixels += np.float32(0.5)
    return pixels.astype(np.uint8).reshape(size, size, 3)


def _native(image: UInt8, size: int, resize: str) -> UInt8:
    """As timm's evaluation transform: resize by ``size / crop``, antialiased, then keep the middle."""
    interpolation, fit, crop, *around = resize.split("-")
    side = int(np.floor(size / float(crop)))
    height, width = image.shape[:2]
    if fit == "squash":
        shape = (side, side)
    elif fit == "center":  # the shorter side gets that length
        scale = min(width, height)
        shape = (int(side * width / scale), int(side * height / scale))
    else:  # border: the longer side does
        ratio = max(width, height) / side
        shape = (round(width / ratio), round(height / ratio))
    resized = Image.fromarray(image).resize(shape, Image.Resampling[interpolation.upper()])
    return _middle(np.asarray(resized), size, [int(one) for one in around] or [0, 0, 0])


def _middle(image: UInt8, size: int, colour: Sequence[int]) -> UInt8:
    """The middle square of a picture, filled up with a colour where the picture is smaller."""
    height, width = (max(size, length) for length in image.shape[:2])
    whole = np.full((height, width, 3), colour, np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    whole[top : top + image.shape[0], left : left + image.shape[1]] = image
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.ascontiguousarray(whole[top : top + size, left : left + size])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taps:
    """Where target positions along an axis read, and how much each reading counts.

    Attributes:
        positions: int64 (K, S) source positions.
        weights: float32 (K, S); they sum to 1 over K.
    """

    positions: Int64
    weights: Float32


@lru_cache(maxsize=128)
def _taps(length: int, size: int, resize: Resize) -> _Taps:
    if resize is Resize.AREA and length > size:
        return _area_taps(length, size)
    # In float32, as TensorFlow computes them.
    scale = np.float32(length) / np.float32(size)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(place)
    upper = (place - floor).astype(np.float32)
    positions = np.clip(np.stack([floor, floor + 1]), 0, length - 1).astype(np.int64)
    return _Taps(positions=positions, weights=np.stack([1 - upper, upper]))


def _area_taps(length: int, size: int) -> _Taps:
    edges = np.arange(size + 1) * (length / size)
    first = np.floor(edges[:-1]).astype(np.int64)
    positions = first + np.arange(int(np.ceil(length / size)) + 1)[:, None]
    covered = np.minimum(edges[1:], positions + 1) - np.maximum(edges[:-1], positions)
    weights = np.clip(covered, 0.0, None) * (size / length)
    return _Taps(positions=np.minimum(positions, length - 1), weights=weights.astype(np.float32))


@lru_cache(maxsize=128)
def _interleaved(width: int, size: int, resize: Resize) -> _Taps:
    """Taps along rows of interleaved RGB: (K, 3 S)."""
    taps = _taps(width, size, resize)
    positions = taps.positions[..., None] * 3 + np.arange(3)
    return _Taps(positions=positions.reshape(len(positions), -1), weights=np.repeat(taps.weights, 3, axis=1))


class _Workspace(threading.local):
    """Arrays that a thread uses again and again: fresh pages would cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._kept: dict[str, Float32] = {}

    def array(self, name: str, shape: tuple[int, int]) -> Float32:
        """An uninitialised float32 array, valid until this name is asked for again."""
        wanted = shape[0] * shape[1]
        if wanted > _LARGEST_KEPT:
            return np.empty(shape, np.float32)
        kept = self._kept.get(name)
        if kept is None or kept.size < wanted:
            kept = self._kept[name] = np.empty(wanted, np.float32)
        return kept[:wanted].reshape(shape)


_WORKSPACE = _Workspace()


def _weighted_sum(source: UInt8 | Float32, taps: _Taps, axis: int) -> Float32:
    """Sum over the K taps along one axis of (rows, columns): float32, valid until the next call."""
    size = taps.positions.shape[1]
    shape = (size, source.shape[1]) if axis == 0 else (source.shape[0], size)
    total = _WORKSPACE.array(f"total {axis}", shape)
    term = _WORKSPACE.array("term", shape)
    for number, (positions, weights) in enumerate(zip(taps.positions, taps.weights, strict=True)):
        target = term if number else total
        _gather(source, positions, axis, target)
        target *= weights[:, None] if axis == 0 else weights
        if number:
            total += term
    return total


def _gather(source: UInt8 | Float32, positions: Int64, axis: int, out: Float32) -> None:
    if source.dtype == out.dtype:
        # Positions are in range: "clip" only spares NumPy the check.
        np.take(source, positions, axis, out=out, mode="clip")
    else:
        np.copyto(out, np.take(source, positions, axis))
