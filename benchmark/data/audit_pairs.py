"""Which images are nearly the same: pairs of near neighbours without comparing everything with everything.

Perceptual hashes are compared by multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming
space with multi-index hashing", CVPR 2012): two 64-bit codes at distance at most 7 agree in at least one
of four 16-bit bands up to one bit, so 4 x 17 table look-ups find every pair. Embeddings of large sets are
first turned into sign codes of random projections (Charikar, "Similarity estimation techniques from
rounding algorithms", STOC 2002) and then take the same road.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmark.records import Float32, Int64

UInt64 = npt.NDArray[np.uint64]

MAX_RADIUS = 7
_BAND_BITS = 16
_BANDS = 64 // _BAND_BITS
# One look-up with the band as it is, and one with each of its bits turned over.
_PROBES = np.array([0, *(1 << bit for bit in range(_BAND_BITS))], np.int64)
_CANDIDATES_AT_ONCE = 4_000_000
_EXACT_COSINE_ROWS = 20_000


def hamming_pairs(codes: UInt64, radius: int = MAX_RADIUS) -> tuple[Int64, Int64]:
    """Every pair of codes that differ in at most ``radius`` bits.

    Rows with equal codes are linked to the first of them only: a thousand blank pictures make 999 pairs,
    not half a million, and stay connected.

    Args:
        codes: uint64 (N,).
        radius: at most 7.

    Returns:
        int64 (P, 2) row pairs, first < second, ascending; int64 (P,) distances.

    Raises:
        ValueError: radius outside 0..7.
    """
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius must lie in 0..{MAX_RADIUS}, got {radius}")
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rows = np.arange(len(codes))
    copies = rows[first[inverse] != rows]
    equal = np.stack([first[inverse[copies]], copies], 1).astype(np.int64)
    found = [first[pairs] for pairs in _distinct_pairs(distinct, radius)] if radius else []
    pairs = np.sort(np.concatenate([equal, *found]), axis=1)
    pairs = np.unique(pairs, axis=0) if len(pairs) else pairs
    distances = np.bitwise_count(codes[pairs[:, 0]] ^ codes[pairs[:, 1]]).astype(np.int64)
    return pairs, distances


def _distinct_pairs(codes: UInt64, radius: int) -> Iterator[Int64]:
    """Pairs of positions, chunk by chunk, possibly repeated; no code occurs twice."""
    for band in range(_BANDS):
        keys = ((codes >> np.uint64(band * _BAND_BITS)) & np.uint64(2**_BAND_BITS - 1)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        ends = np.searchsorted(keys[order], np.arange(2**_BAND_BITS), side="right")
        starts = np.concatenate([[0], ends[:-1]])
        for probe in _PROBES:
            wanted = keys ^ probe
            yield from _bucket_pairs(codes, order, (starts[wanted], ends[wanted]), radius)


def _bucket_pairs(codes: UInt64, order: Int64, buckets: tuple[Int64, Int64], radius: int) -> Iterator[Int64]:
    """Pairs (row, member of the row's bucket) within the radius, some millions of candidates at a time."""
    starts, ends = buckets
    counts = ends - starts
    reach = np.cumsum(counts)
    begin = 0
    while begin < len(codes):
        done = reach[begin - 1] if begin else 0
        end = max(int(np.searchsorted(reach, done + _CANDIDATES_AT_ONCE, side="right")), begin + 1)
        sizes = counts[begin:end]
        left = np.repeat(np.arange(begin, end), sizes)
        offset = np.arange(len(left)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        right = order[np.repeat(starts[begin:end], sizes) + offset]
        near = (left < right) & (np.bitwise_count(codes[left] ^ codes[right]) <= radius)
        yield np.stack([left[near], right[near]], 1)
        begin = end


def cosine_pairs(features: Float32, threshold: float) -> tuple[Int64, Float32]:
    """Pairs of rows whose centred features point almost the same way.

    Features are centred first: all images of one data set share a large common component, with random
    weights nearly all of it.

    Args:
        features: float32 (N, D), finite.
        threshold: smallest cosine, in (0, 1).

    Returns:
        int64 (P, 2) row pairs, first < second, ascending; float32 (P,) cosines. Complete up to 20,000
        rows; beyond, pairs are found through two sets of 64 random projections, which miss one pair in
        ten at cosine 0.95 and hardly any at 0.98.
    """
    unit = _centred_units(features)
    candidates = _exact_pairs(unit, threshold) if len(unit) <= _EXACT_COSINE_ROWS else _sign_pairs(unit)
    cosines = np.einsum("nd,nd->n", unit[candidates[:, 0]], unit[candidates[:, 1]])
    near = cosines >= threshold
    return candidates[near], cosines[near]


def _centred_units(features: Float32) -> Float32:
    # The scale goes first: squares of random-weight features (1e-18) would vanish in float32.
    scale = np.abs(features).max() or 1.0
    centred = features / scale
    centred = centred - centred.mean(0, dtype=np.float64).astype(np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: Float32 = (centred / np.where(length > 0, length, 1)).astype(np.float32)
    return unit


def _exact_pairs(unit: Float32, threshold: float) -> Int64:
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(unit), 1024):
        left, right = np.nonzero(unit[start : start + 1024] @ unit.T >= threshold)
        pairs = np.stack([left + start, right], 1)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def _sign_pairs(unit: Float32) -> Int64:
    """Candidate pairs by random hyperplanes (fixed seed: the audit of one data set is one result)."""
    planes = np.random.default_rng(0).standard_normal((2, unit.shape[1], 64)).astype(np.float32)
    found = [hamming_pairs(_sign_codes(unit, some))[0] for some in planes]
    return np.unique(np.concatenate(found), axis=0)


def _sign_codes(unit: Float32, planes: Float32) -> UInt64:
    """On which side of 64 hyperplanes each row lies, uint64 (N,)."""
    bits = [
        np.packbits(unit[start : start + 65536] @ planes > 0, axis=1) for start in range(0, len(unit), 65536)
    ]
    return np.concatenate(bits).view(">u8").ravel().astype(np.uint64)
