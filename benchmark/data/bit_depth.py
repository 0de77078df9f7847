"""How many bits the greys of 16-bit files use, told from the values that a whole data set has."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.data.decode import FULL_DEPTH, TWELVE_BITS

_LARGEST = 2**TWELVE_BITS - 1
# From this share of dark images on, two kinds of camera are likelier than a few dark photographs.
_TOLD_SHARE = 0.1


def find_bit_depth(peaks: Sequence[int], wanted: int | None) -> tuple[int, tuple[str, ...]]:
    """The bit depth to read a data set with, and what is to be said of it.

    Args:
        peaks: the largest grey of each image whose greys have 16 bits; 0 for all other images.
        wanted: 12 or 16; None takes 12 where no image needs more.
    """
    sixteen = [peak for peak in peaks if peak]
    dark = sum(peak <= _LARGEST for peak in sixteen)
    depth = wanted or (TWELVE_BITS if sixteen and dark == len(sixteen) else FULL_DEPTH)
    if not sixteen:
        return depth, ()
    of_all = f"{dark:,} of {len(sixteen):,} 16-bit images hold no grey above {_LARGEST:,}"
    if depth == TWELVE_BITS:
        return depth, (
            f"{of_all}: read as 12-bit data, {_LARGEST:,} is white (a bit depth of 16 keeps them dark).",
        )
    if dark == len(sixteen):
        return depth, (f"{of_all}: almost black as read with 16 bits; a bit depth of 12 brightens them.",)
    if dark >= _TOLD_SHARE * len(sixteen):
        note = f"{of_all} and are almost black beside the others: do they come from a 12-bit camera?"
        return depth, (note,)
    return depth, ()
