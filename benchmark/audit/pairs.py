"""Which images are nearly the same: pairs of near neighbours without comparing everything with everything.

Perceptual hashes are compared by multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming
space with multi-index hashing", CVPR 2012): two 64-bit codes at distance at most 7 agree in at least one
of four 16-bit bands up to one bit, so 4 x 17 table look-ups find every pair. Embeddings of large sets are
first turned into sign codes of random projections (Charikar, "Similarity estimation techniques from
rounding algorithms", STOC 2002) and then take the same road.

Where nearly everything looks alike the pairs grow with the square of the images. So only the nearest pairs
are kept while searching, and a look-up compares no more than a fixed number of candidates; a result says
whether it is everything there is. What is kept depends on the values and the order of the rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.records import Bool, Float32, Float64, Int64

UInt64 = npt.NDArray[np.uint64]
Accept = Callable[[Int64], Bool]
"""Row pairs int64 (P, 2) -> bool (P,): which of them may count."""

_RADIUS = 7
MOST_PAIRS = 200_000
_BAND_BITS = 16
_BANDS = 64 // _BAND_BITS
# Beside the look-up with the band as it is, one for each of its bits.
_PROBES = [1 << bit for bit in range(_BAND_BITS)]
_CANDIDATES_AT_ONCE = 500_000
# In the look-ups of one band and bit together: 68 times this is less than a minute of one core.
_CANDIDATES_PER_PROBE = 30_000_000
_EXACT_COSINE_ROWS = 20_000
_ROWS_AT_ONCE = 4096
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPairs:
    """Pairs of rows that are near each other."""

    rows: Int64  # (P, 2), first < second, ascending
    measures: Int64 | Float32  # (P,) how near: differing bits, or cosines
    complete: bool  # False where there were more pairs than are kept, or too many candidates to compare all


class _Nearest:
    """The ``most`` nearest of the pairs that it is shown, whatever order they come in."""

    def __init__(self, most: int) -> None:
        self.complete = True
        self._most = most
        self._rows = np.zeros((0, 2), np.int64)
        self._distances = np.zeros(0, np.float32)
        self._waiting: list[tuple[Int64, Float32]] = []
        self._count = 0

    @property
    def farthest(self) -> float:
        """The distance beyond which no pair will be kept; infinite while there is room."""
        return float(self._distances[-1]) if len(self._rows) == self._most else np.inf

    def add(self, rows: Int64, distances: npt.NDArray[np.generic]) -> None:
        """Show it pairs int64 (P, 2), first < second, possibly repeated, and how far apart they are."""
        rows, far = self._promising(rows, distances.astype(np.float32))
        if len(rows):
            self._waiting.append((rows, far))
            self._count += len(rows)
        if self._count > self._most + _CANDIDATES_AT_ONCE:
            self._shrink()

    def result(self) -> tuple[Int64, Float32]:
        """The nearest pairs, ascending by rows, and their distances."""
        self._shrink()
        order = np.lexsort((self._rows[:, 1], self._rows[:, 0]))
        return self._rows[order], self._distances[order]

    def _promising(self, rows: Int64, distances: Float32) -> tuple[Int64, Float32]:
        """Without pairs that come after the last one kept, once there are enough."""
        if len(self._rows) < self._most:
            return rows, distances
        (first, second), worst = self._rows[-1], self._distances[-1]
        later = (rows[:, 0] > first) | ((rows[:, 0] == first) & (rows[:, 1] > second))
        kept = ~((distances > worst) | ((distances == worst) & later))
        self.complete &= bool(kept.all())
        return rows[kept], distances[kept]

    def _shrink(self) -> None:
        """Keep each pair once, and of all the nearest; of equally near ones those that come first."""
        rows = np.concatenate([self._rows, *(rows for rows, _ in self._waiting)])
        distances = np.concatenate([self._distances, *(some for _, some in self._waiting)])
        self._waiting, self._count = [], 0
        order = np.lexsort((distances, rows[:, 1], rows[:, 0]))
        rows, distances = rows[order], distances[order]
        new = np.ones(len(rows), bool)
        new[1:] = (rows[1:] != rows[:-1]).any(1)
        rows, distances = rows[new], distances[new]
        self.complete &= len(rows) <= self._most
        order = np.argsort(distances, kind="stable")[: self._most]
        self._rows, self._distances = rows[order], distances[order]


def hamming_pairs(codes: UInt64, *, most: int = MOST_PAIRS, accept: Accept | None = None) -> NearPairs:
    """Every pair of codes that differ in at most 7 bits, or the nearest of them.

    Rows with equal codes are linked to the first of them only: a thousand blank pictures make 999 pairs,
    not half a million, and stay connected.

    Args:
        codes: uint64 (N,).
        most: how many pairs are kept.
        accept: says of pairs whether they count beside their codes; None accepts all.

    Returns:
        Pairs and their distances in bits.
    """
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rows = np.arange(len(codes))
    copies = rows[first[inverse] != rows]
    nearest = _Nearest(most)
    search = _BandSearch(distinct)
    for pairs in ([np.stack([first[inverse[copies]], copies], 1)], map(first.__getitem__, search.pairs())):
        for some in pairs:
            ordered = np.stack([np.minimum(*some.T), np.maximum(*some.T)], 1)
            kept = ordered if accept is None else ordered[accept(ordered)]
            nearest.add(kept, np.bitwise_count(codes[kept[:, 0]] ^ codes[kept[:, 1]]))
            search.within(nearest.farthest)
    found, distances = nearest.result()
    return NearPairs(
        rows=found, measures=distances.astype(np.int64), complete=nearest.complete and search.complete
    )


class _BandSearch:
    """Pairs of near codes, uint64 (M,), ascending, no code twice, through look-ups by band."""

    def __init__(self, codes: UInt64) -> None:
        self.complete = True
        self._codes = codes
        self._useful = _RADIUS

    def within(self, distance: float) -> None:
        """From now on, pairs farther apart than this are of no use."""
        self._useful = int(min(self._useful, distance))

    def pairs(self) -> Iterator[Int64]:
        """Pairs of positions, chunk by chunk, possibly repeated."""
        for band in range(_BANDS):
            shifted = self._codes >> np.uint64(band * _BAND_BITS)
            keys = (shifted & np.uint64(2**_BAND_BITS - 1)).astype(np.int64)
            # Members of a bucket stand together, in the order of their codes.
            order = np.argsort(keys, kind="stable")
            ends = np.searchsorted(keys[order], np.arange(2**_BAND_BITS), side="right")
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            yield from self._near(order, place + 1, ends[keys] - place - 1)
            for probe in _PROBES:
                # Of two buckets that differ in this bit, the one without it looks into the other.
                wanted = keys | probe
                starts = np.where(wanted > 0, ends[wanted - 1], 0)
                yield from self._near(order, starts, np.where(keys & probe, 0, ends[wanted] - starts))

    def _affordable(self, sizes: Int64) -> Int64:
        """The sizes, the largest cut to one number so that their sum stays within what may be compared."""
        if int(sizes.sum()) <= _CANDIDATES_PER_PROBE:
            return sizes
        self.complete = False
        ascending = np.sort(sizes)
        others = len(sizes) - np.arange(len(sizes))
        # Cutting everything from a position on to that position's size would cost this much.
        cost = np.cumsum(ascending) - ascending + ascending * others
        position = int(np.searchsorted(cost, _CANDIDATES_PER_PROBE, side="right"))
        spent = int(ascending[:position].sum())
        most = max((_CANDIDATES_PER_PROBE - spent) // int(others[position]), 1)
        return np.minimum(sizes, most)

    def _near(self, order: Int64, starts: Int64, sizes: Int64) -> Iterator[Int64]:
        """Pairs (row, one of its candidates) within the radius, some candidates at a time."""
        sizes = self._affordable(sizes)
        codes, reach = self._codes, np.cumsum(sizes)
        begin = 0
        while begin < len(codes):
            done = reach[begin - 1] if begin else 0
            end = max(int(np.searchsorted(reach, done + _CANDIDATES_AT_ONCE, side="right")), begin + 1)
            some = sizes[begin:end]
            left = np.repeat(np.arange(begin, end), some)
            offset = np.arange(len(left)) - np.repeat(np.cumsum(some) - some, some)
            right = order[np.repeat(starts[begin:end], some) + offset]
            bits = np.bitwise_count(codes[left] ^ codes[right])
            near = bits <= self._useful
            self.complete &= self._useful == _RADIUS or not (bits[~near] <= _RADIUS).any()
            yield np.stack([left[near], right[near]], 1)
            begin = end


def cosine_pairs(features: Float32, threshold: float, *, most: int = MOST_PAIRS) -> NearPairs:
    """Pairs of rows whose centred features point almost the same way, or the nearest of them.

    Features are centred first: all images of one data set share a large common component, with random
    weights nearly all of it.

    Args:
        features: float32 (N, D), finite.
        threshold: smallest cosine, in (0, 1).
        most: how many pairs are kept.

    Returns:
        Pairs and their cosines. Up to 20,000 rows every pair is compared; beyond, pairs are found through
        two sets of 64 random projections, which miss one pair in ten at cosine 0.95 and hardly any at 0.98;
        rows that no projection tells apart are linked to the first of them only.
    """
    directions = _Directions(features)
    nearest = _Nearest(most)
    complete = True
    if len(features) <= _EXACT_COSINE_ROWS:
        _add_exact(nearest, directions, threshold)
    else:
        for planes in _planes(features.shape[1]):
            candidates = hamming_pairs(_sign_codes(directions, planes), most=5 * most)
            complete &= candidates.complete
            cosines = directions.cosines(candidates.rows)
            near = cosines >= threshold
            nearest.add(candidates.rows[near], -cosines[near])
    rows, distances = nearest.result()
    return NearPairs(rows=rows, measures=-distances, complete=complete and nearest.complete)


def pair_cosines(features: Float32, rows: Int64) -> Float32:
    """Cosines of the centred features of row pairs, float32 (P,)."""
    return _Directions(features).cosines(rows)


class _Directions:
    """Centred features of length 1, made for some rows at a time: copies of all of them would not fit."""

    def __init__(self, features: Float32) -> None:
        self._features = features
        # The scale goes first: squares of random-weight features (1e-18) would vanish in float32.
        self._scale = max((float(np.abs(some).max()) for some in self._blocks()), default=1.0) or 1.0
        total: Float64 = np.zeros(features.shape[1])
        for some in self._blocks():
            total += (some / self._scale).sum(0, dtype=np.float64)
        self._mean = (total / max(len(features), 1)).astype(np.float32)

    def __len__(self) -> int:
        return len(self._features)

    def of(self, rows: Int64 | slice) -> Float32:
        """Unit vectors, float32 (n, D); zeros for a row that is the mean."""
        centred = self._features[rows] / np.float32(self._scale) - self._mean
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        unit: Float32 = (centred / np.where(length > 0, length, 1)).astype(np.float32)
        return unit

    def all(self) -> Float32:
        """Unit vectors of all rows, float32 (N, D)."""
        unit = np.empty(self._features.shape, np.float32)
        for start in range(0, len(self), _ROWS_AT_ONCE):
            unit[start : start + _ROWS_AT_ONCE] = self.of(slice(start, start + _ROWS_AT_ONCE))
        return unit

    def cosines(self, rows: Int64) -> Float32:
        """Cosines of row pairs int64 (P, 2), float32 (P,)."""
        found = [
            np.einsum("nd,nd->n", self.of(some[:, 0]), self.of(some[:, 1]))
            for some in (rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE))
        ]
        return np.concatenate([np.zeros(0, np.float32), *found])

    def _blocks(self) -> Iterator[Float32]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield self._features[start : start + _ROWS_AT_ONCE]


def _add_exact(nearest: _Nearest, directions: _Directions, threshold: float) -> None:
    """Show it every pair of rows with at least that cosine."""
    unit = directions.all()
    height = max(_VALUES_AT_ONCE // max(len(unit), 1), 1)
    for start in range(0, len(unit), height):
        cosines = unit[start : start + height] @ unit[start:].T
        near = np.triu(cosines >= threshold, 1)
        close = near & (cosines >= -nearest.farthest)
        nearest.complete &= int(close.sum()) == int(near.sum())
        left, right = np.nonzero(close)
        nearest.add(np.stack([left, right], 1) + start, -cosines[left, right])


def _planes(dim: int) -> Float32:
    """Two sets of 64 random hyperplanes, float32 (2, D, 64), always the same: one data set is one result."""
    planes: Float32 = np.random.default_rng(0).standard_normal((2, dim, 64)).astype(np.float32)
    return planes


def _sign_codes(directions: _Directions, planes: Float32) -> UInt64:
    """On which side of 64 hyperplanes each row lies, uint64 (N,)."""
    bits = [
        np.packbits(directions.of(slice(start, start + _ROWS_AT_ONCE)) @ planes > 0, axis=1)
        for start in range(0, len(directions), _ROWS_AT_ONCE)
    ]
    return np.concatenate(bits).view(">u8").ravel().astype(np.uint64)
