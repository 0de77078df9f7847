"""What the decoders of this installation make of fixed pictures.

Versions would be the wrong thing to compare: most releases of Pillow change no pixel, and one version is
built with different libraries behind it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from benchmark.data.decode import FULL_DEPTH, OPTIONAL_SUFFIXES, decode
from benchmark.data.resize import resize_pixels
from benchmark.errors import DataError
from benchmark.records import Resize

_PICTURES = Path(__file__).with_name("decoder_pictures")
_SIDE = 24
_DIGITS = 16
# Formats whose decoder stands in the keys of images of that format alone.
_OPTIONAL = {".avif": "avif", ".heic": "heic", ".heif": "heic"}
# What Pillow makes of ``_WAYS``, from 12.2 to 13 at least: keys mention only what is otherwise.
_USUAL_NATIVE = "253ead287b32f348"
_WAYS = tuple(
    f"{interpolation}-squash-{crop}" for interpolation in ("bilinear", "bicubic") for crop in (1, 0.875)
)


def decoder_name(
    bit_depth: int = FULL_DEPTH, *, formats: Iterable[str] = (), resize: str = Resize.BILINEAR
) -> str:
    """The decoder as in embedding keys: ``pixels-`` and a digest of the pixels.

    Args:
        bit_depth: ``-12bit`` follows for 12.
        formats: of ``optional_formats``, each of which follows with a digest of its own.
        resize: as for ``resize_pixels``; where it is a source's own way, and Pillow's way of resizing is
            another than it was, a digest of that follows.
    """
    more = "" if bit_depth == FULL_DEPTH else f"-{bit_depth}bit"
    more += "".join(f"-{name}-{_optional_digest(name)}" for name in sorted(formats))
    if resize not in {Resize.BILINEAR, Resize.AREA, Resize.NATIVE} and _native_digest() != _USUAL_NATIVE:
        more += f"-native-{_native_digest()}"
    return pixels_name() + more


def optional_formats(paths: Iterable[str]) -> frozenset[str]:
    """Which formats of a library of their own these images have, by their names: ``avif``, ``heic``."""
    endings = {"".join(path.rpartition(".")[1:]).lower() for path in paths}
    return frozenset(_OPTIONAL[ending] for ending in endings & OPTIONAL_SUFFIXES)


@functools.cache
def pixels_name() -> str:
    """``pixels-`` and a digest of the pixels of formats that are always read."""
    return f"pixels-{_digest(lambda suffix: suffix not in _OPTIONAL)}"


@functools.cache
def _optional_digest(name: str) -> str:
    return _digest(lambda suffix: _OPTIONAL.get(suffix) == name)


def _digest(wanted: Callable[[str], bool]) -> str:
    digest = hashlib.sha256()
    for path in sorted(_PICTURES.iterdir()):
        if wanted(path.suffix):
            digest.update(path.name.encode())
            digest.update(_pixels(path.read_bytes()))
    return digest.hexdigest()[:_DIGITS]


@functools.cache
def _native_digest() -> str:
    """Of a drawn picture, made smaller and larger as sources' own ways do."""
    rows, columns, channels = np.ogrid[:36, :48, :3]
    image = ((rows * 7 + columns * 5 + channels * 83) ** 2 % 256).astype(np.uint8)
    digest = hashlib.sha256()
    for side in (_SIDE, 2 * _SIDE):
        for way in _WAYS:
            digest.update(resize_pixels(image, side, way).tobytes())
    return digest.hexdigest()[:_DIGITS]


def _pixels(content: bytes) -> bytes:
    """A picture in its own size, made smaller and larger each way; what is refused counts as such."""
    try:
        image = decode(content)
    except DataError:
        return b"refused"
    resized = [
        resize_pixels(image, side, how)
        for side in (_SIDE, 2 * _SIDE)
        for how in (Resize.BILINEAR, Resize.AREA)
    ]
    return b"".join(pixels.tobytes() for pixels in (image, *resized))
