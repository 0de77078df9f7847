"""Finding image ids among a million others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from benchmark.embeddings.parts import Ids
from benchmark.records import Int64

_Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdIndex:
    """Image ids prepared for being looked up.

    Attributes:
        wanted: S64 (U,), ascending, distinct.
        first: int64 (U,), where each of them first stood.
        inverse: int64 (N,), for each id asked for its position in ``wanted``.
        numbers: uint64 (U,), the first 64 bits of each; None where two ids share them or one was asked twice.
            Comparing numbers is many times faster than comparing text.
    """

    wanted: Ids
    first: Int64
    inverse: Int64
    numbers: _Numbers | None

    @classmethod
    def of(cls, ids: Ids) -> Self:
        """Prepare S64 (N,) ids."""
        numbers = _numbers(ids)
        if (numbers[1:] > numbers[:-1]).all():  # as in every set of images
            places = np.arange(len(ids), dtype=np.int64)
            return cls(wanted=ids, first=places, inverse=places, numbers=numbers)
        order = np.argsort(numbers, kind="stable").astype(np.int64)
        ascending = numbers[order]
        if (ascending[1:] > ascending[:-1]).all():
            inverse = np.empty(len(ids), np.int64)
            inverse[order] = np.arange(len(ids))
            return cls(wanted=ids[order], first=order, inverse=inverse, numbers=ascending)
        wanted, first, back = np.unique(ids, return_index=True, return_inverse=True)
        return cls(wanted=wanted, first=first.astype(np.int64), inverse=back.astype(np.int64), numbers=None)

    def __len__(self) -> int:
        return len(self.inverse)

    def positions(self, held: Ids) -> tuple[Int64, Int64]:
        """Where held ids, S64 (M,), stand among the wanted: positions in ``wanted``, rows in ``held``."""
        if not len(self.wanted):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if self.numbers is None:
            found = np.searchsorted(self.wanted, held)
        else:
            found = np.searchsorted(self.numbers, _numbers(held))
        at = np.minimum(found, len(self.wanted) - 1).astype(np.int64)
        rows = np.flatnonzero(self.wanted[at] == held).astype(np.int64)
        return at[rows], rows


def _numbers(ids: Ids) -> _Numbers:
    """The first 16 hexadecimal digits of each id as a number, uint64 (N,)."""
    digits = np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), ids.itemsize)[:, :16]
    packed = np.frombuffer(bytes.fromhex(digits.tobytes().decode("ascii")), dtype=">u8")
    return packed.astype(np.uint64)
