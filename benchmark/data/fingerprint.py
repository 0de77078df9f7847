"""What the decoders of this installation make of fixed pictures.

Versions would be the wrong thing to compare: most releases of Pillow change no pixel, and one version is
built with different libraries behind it.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from benchmark.data.decode import FULL_DEPTH, decode
from benchmark.data.resize import resize_pixels
from benchmark.errors import DataError
from benchmark.records import Resize

_PICTURES = Path(__file__).with_name("decoder_pictures")
_SIDE = 24
_DIGITS = 16


def decoder_name(bit_depth: int = FULL_DEPTH) -> str:
    """The decoder as in embedding keys: ``pixels-`` and a digest of the pixels; ``-12bit`` for 12."""
    return pixels_name() + ("" if bit_depth == FULL_DEPTH else f"-{bit_depth}bit")


@functools.cache
def pixels_name() -> str:
    """``pixels-`` and a digest of the pixels."""
    digest = hashlib.sha256()
    for path in sorted(_PICTURES.iterdir()):
        digest.update(path.name.encode())
        digest.update(_pixels(path.read_bytes()))
    return f"pixels-{digest.hexdigest()[:_DIGITS]}"


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
