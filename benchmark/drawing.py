"""Drawing at random, repeatably: seeds and what is drawn from decide, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from benchmark.records import Float64, Int64


def derived_seed(*parts: object) -> int:
    """A seed (31 bits) from the SHA-256 of the parts' texts, with colons between them."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def fair_order(strata: Int64, *, first: int = 0) -> Int64:
    """An order of which every beginning holds a fair share of each stratum.

    The k-th of n in a stratum stands at (k + 1/2) / n; of equals, the lower stratum comes first.

    Args:
        strata: int64 (N,) the stratum of each thing, in the order of a drawing.
        first: as many of each stratum come before all others.

    Returns:
        int64 (N,) positions.
    """
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    by_stratum = np.argsort(stratum, kind="stable")
    place = np.empty(len(stratum), np.int64)
    place[by_stratum] = np.arange(len(stratum)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    share = (place + 0.5) / sizes[stratum]
    return np.lexsort((stratum, share, np.minimum(place, first)))


def fill_parts(amounts: Float64, order: Iterable[int], weights: Float64) -> Int64:
    """Give each group, in order, to the part that then stays nearest to what it should hold.

    The measure is sum((n - t)^2 / w) over parts and kinds between the n that a part holds and the t that it
    should. Adding a changes it by a (a + 2 n) / w - 2 a t / w, and the last term is the same for every part
    where w is t, and where all parts should hold the same.

    Args:
        amounts: float64 (G, C) how much of each kind is in each group.
        order: the G group numbers in the order of filling.
        weights: float64 (P, C) w: of each part and kind, above 0.

    Returns:
        int64 (G,): the part of each group; of equals, the first.
    """
    held = np.zeros_like(weights)
    part_of = np.zeros(len(amounts), np.int64)
    for number in order:
        growth = (amounts[number] * (amounts[number] + 2.0 * held) / weights).sum(axis=1)
        part_of[number] = part = int(np.argmin(growth))
        held[part] += amounts[number]
    return part_of
