"""Finding image ids among millions of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from benchmark.embeddings.parts import ID_BYTES, Ids
from benchmark.records import Int64

Numbers = npt.NDArray[np.uint64]
_AT_ONCE = 1 << 16  # ids that are turned into numbers together


def fold(ids: Ids) -> Numbers:
    """64 bits that stand for each id, its four words one over the other (exclusive or): uint64 (N,).

    Ids are digests: among ten million images, two share them with probability 3e-6. They say which part may
    hold an image, in an eighth of the memory; what is read is compared in full.
    """
    numbers = np.empty(len(ids), np.uint64)
    for at in range(0, len(ids), _AT_ONCE):
        digits = np.ascontiguousarray(ids[at : at + _AT_ONCE]).tobytes().decode("ascii")
        words = np.frombuffer(bytes.fromhex(digits), ">u8").reshape(-1, ID_BYTES // 16)
        numbers[at : at + _AT_ONCE] = np.bitwise_xor.reduce(words, axis=1)
    return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class IdIndex:
    """Image ids prepared for being looked up.

    Attributes:
        wanted: S64 (U,), ascending, distinct.
        first: int64 (U,), where each of them first stood.
        inverse: int64 (N,), for each id asked for its position in ``wanted``.
        folded: uint64 (U,), ``fold`` of each, ascending: comparing numbers is many times faster than text.
        order: int64 (U,), the position in ``wanted`` of each of those.
        is_unique: no two of them share their number.
    """

    wanted: Ids
    first: Int64
    inverse: Int64
    folded: Numbers
    order: Int64
    is_unique: bool

    @classmethod
    def of(cls, ids: Ids) -> Self:
        """Prepare S64 (N,) ids."""
        if bool((ids[1:] > ids[:-1]).all()):  # as in every set of images
            wanted, first = ids, np.arange(len(ids), dtype=np.int64)
            inverse = first
        else:
            wanted, found, back = np.unique(ids, return_index=True, return_inverse=True)
            first, inverse = found.astype(np.int64), back.astype(np.int64)
        numbers = fold(wanted)
        order = np.argsort(numbers, kind="stable").astype(np.int64, copy=False)
        folded = numbers[order]
        is_unique = bool((folded[1:] != folded[:-1]).all())
        return cls(
            wanted=wanted, first=first, inverse=inverse, folded=folded, order=order, is_unique=is_unique
        )

    def __len__(self) -> int:
        return len(self.inverse)

    def positions(self, held: Ids) -> tuple[Int64, Int64]:
        """Where held ids, S64 (M,), stand among the wanted: positions in ``wanted``, rows in ``held``."""
        if not len(self.wanted):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if self.is_unique:
            found = self.order[self._nearest(self.folded, fold(held))]
        else:
            found = self._nearest(self.wanted, held)
        rows = np.flatnonzero(self.wanted[found] == held).astype(np.int64)
        return found[rows], rows

    def places(self, held: Numbers) -> Int64:
        """Positions in ``wanted`` of the ids that the numbers of held ones, uint64 (M,), stand for."""
        if not len(self.wanted):
            return np.zeros(0, np.int64)
        if not self.is_unique:
            several: Int64 = self.order[np.isin(self.folded, held)]
            return several
        found = self._nearest(self.folded, held)
        places: Int64 = self.order[found[self.folded[found] == held]]
        return places

    @staticmethod
    def _nearest(ascending: Ids | Numbers, held: Ids | Numbers) -> Int64:
        found: Int64 = np.searchsorted(ascending, held).astype(np.int64, copy=False)
        found[found == len(ascending)] -= 1
        return found
