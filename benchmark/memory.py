"""Taking little memory, however many images there are, and giving back what is no longer used."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Int64 = npt.NDArray[np.int64]


class PackedStrings(Sequence[str]):
    """An immutable sequence of strings in one block of memory, equal to any sequence of the same strings.

    A Python string takes fifty bytes beside its letters, and a million of them, made among other things, keep
    the memory of those other things from being given back.
    Strings are kept in UTF-8; file names that are not UTF-8 keep their bytes (surrogate escapes).

    Args:
        letters: uint8 (L,), all strings end to end; may be memory-mapped.
        bounds: int64 (N + 1,), ascending; string i is ``letters[bounds[i]:bounds[i + 1]]``.
    """

    __slots__ = ("_bounds", "_letters")

    def __init__(self, letters: _Bytes, bounds: _Int64) -> None:
        # Plain views: a memory-mapped array is three times as slow to cut up.
        self._letters, self._bounds = letters.view(np.ndarray), bounds.view(np.ndarray)

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Pack strings; what is packed already is returned as it is."""
        if isinstance(strings, cls):
            return strings
        letters, lengths = bytearray(), [0]
        for text in strings:
            encoded = text.encode("utf-8", "surrogateescape")
            letters += encoded
            lengths.append(len(encoded))
        return cls(np.frombuffer(bytes(letters), np.uint8), np.cumsum(lengths, dtype=np.int64))

    @classmethod
    def of_width(cls, letters: _Bytes, width: int) -> Self:
        """Strings of ``width`` bytes each.

        Args:
            letters: uint8 (N * width,).
            width: of each.

        Raises:
            ValueError: the last one is incomplete.
        """
        if len(letters) % width:
            raise ValueError(f"{len(letters)} bytes are no whole number of strings of {width}")
        return cls(letters, np.arange(0, len(letters) + 1, width, dtype=np.int64))

    @property
    def letters(self) -> memoryview:
        """The bytes of all strings end to end."""
        return np.ascontiguousarray(self._letters).data

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> PackedStrings:
        """The strings of some rows, in their order."""
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self
        if len(rows) and len(self._letters) == len(self) * (width := int(self._bounds[1])):
            array = self.as_bytes(width) if width else None
            if array is not None:
                return PackedStrings.of_width(array[rows].view(np.uint8), width)
        return PackedStrings.of(self[row] for row in rows)

    def as_bytes(self, width: int) -> npt.NDArray[np.bytes_] | None:
        """All strings as an array S(width) (N,), without a copy; None unless each has so many bytes."""
        if len(self._letters) != width * len(self) or not bool((np.diff(self._bounds) == width).all()):
            return None
        viewed: npt.NDArray[np.bytes_] = np.ascontiguousarray(self._letters).view(f"S{width}")
        return viewed

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, at: int | np.integer[Any]) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> PackedStrings: ...

    def __getitem__(self, at: int | np.integer[Any] | slice) -> str | PackedStrings:
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        row = range(len(self))[at]
        return self._text(int(self._bounds[row]), int(self._bounds[row + 1]))

    def __iter__(self) -> Iterator[str]:
        start = 0
        for stop in self._bounds[1:]:
            yield self._text(start, int(stop))
            start = int(stop)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes | bytearray):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        few = ", ".join(map(repr, self[:3]))
        return f"PackedStrings([{few}{', ...' if len(self) > 3 else ''}], {len(self)} in all)"

    def _text(self, start: int, stop: int) -> str:
        return self._letters[start:stop].tobytes().decode("utf-8", "surrogateescape")


def give_back_memory() -> None:
    """Return to the system what was freed, which the GNU C library keeps by the megabyte; elsewhere nothing.

    It takes some milliseconds: for after large, passing things.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except OSError:  # a Python without shared libraries
        return None
    return trim
