"""Whether one picture is a copy of another, also flipped, turned, cropped, or saved in other colours.

Both are looked at as small grey pictures without their slow changes of light. The copy, at several sizes and
slightly rotated, is laid over the original at every place; where it fits, the normalised cross-correlation
(Lewis, "Fast normalized cross-correlation", 1995) is near 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmark.data import NO_LIMIT, decode_thumbnail, map_in_order, read_regular
from benchmark.errors import DataError
from benchmark.records import Float32, ImageSet

_SIDE = 32
_TURNS = 8
_SOURCE = 96
# Of the side: pictures are compared without changes wider than this.
_SLOW = 0.1
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6)
_DEGREES = (-5.0, 5.0)
# Contrast, in grey levels, below which a place shows nothing.
_FLAT = 0.5

Grey = npt.NDArray[np.uint8]


def grey_pictures(images: ImageSet, rows: list[int]) -> dict[int, Grey]:
    """Small grey pictures uint8 (96, 96) by row, whatever the shape; those that can be read."""

    def look(row: int) -> Grey | None:
        try:
            content = read_regular(images.root / images.paths[row])
            seen = decode_thumbnail(content, _SOURCE, max_pixels=NO_LIMIT, bit_depth=images.bit_depth)
        except DataError:
            return None
        grey = Image.fromarray(seen.pixels).convert("L").resize((_SOURCE, _SOURCE), Image.Resampling.BOX)
        return np.asarray(grey)

    with closing(map_in_order(look, rows, 0)) as pictures:
        return {row: picture for row, picture in zip(rows, pictures, strict=True) if picture is not None}


def turned_back(picture: Grey, view: int) -> Grey:
    """A picture as ``turned`` shows it in that view; grey and middles as the picture itself."""
    if view >= 8:
        return picture
    turn, down, across = view >> 2, -1 if view & 2 else 1, -1 if view & 1 else 1
    return np.ascontiguousarray(np.rot90(picture[::down, ::across], turn))


def fit(one: Grey, other: Grey) -> float:
    """The best correlation of one with a place in the other, or of the other with a place in the one."""
    return max(_best(_sharp(one, _SIDE), other), _best(_sharp(other, _SIDE), one))


def _best(whole: Float32, copy: Grey) -> float:
    return max(_correlation(whole, template) for template in _templates(copy))


def _templates(copy: Grey) -> Iterator[Float32]:
    """The copy as it may stand in the whole, smaller where it was cropped; its edge is left out."""
    for share in _SHARES:
        yield _sharp(copy, round(_SIDE * share))[1:-1, 1:-1]
    edge = _SIDE // 8
    for degrees in _DEGREES:
        rotated = np.asarray(Image.fromarray(copy).rotate(degrees, Image.Resampling.BILINEAR))
        yield _sharp(rotated, _SIDE)[edge:-edge, edge:-edge]


def _sharp(picture: Grey, side: int) -> Float32:
    """Float32 (side, side), its slow changes taken away."""
    from scipy.ndimage import gaussian_filter

    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    values = np.asarray(small, np.float32)
    return np.asarray(values - gaussian_filter(values, _SLOW * side, mode="nearest"), np.float32)


def _correlation(whole: Float32, template: Float32) -> float:
    """The largest normalised cross-correlation of a square template with a place in the whole."""
    count = template.size
    places = np.lib.stride_tricks.sliding_window_view(whole, template.shape).reshape(-1, count)
    mean = places.mean(1)
    spread = np.sqrt(np.maximum((places * places).mean(1) - mean * mean, 0))
    centred = template - template.mean()
    own = float(np.sqrt(np.square(centred).mean()))
    if own < _FLAT:
        return 0.0
    return float((places @ centred.ravel() / (count * own * np.maximum(spread, _FLAT))).max())
