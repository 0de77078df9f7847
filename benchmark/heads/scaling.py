"""Standardisation of embeddings with the statistics of a fold's training part.

Embeddings can be as small as 1e-18 (random weights), and their mean can be thousands of times their spread:
statistics are taken in float64. One float32 working copy is standardised over all rows that may be used; a
fold's own statistics then are a scale near 1 and a shift near 0 on top, which float32 holds without loss, so
no fold needs a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.records import Float32, Float64, Int64

_ROWS_AT_ONCE = 4096
# A column that varies by less than float32 resolves holds nothing but rounding: it counts as constant.
_RESOLUTION = 1e-7


def working_copy(features: Float32, used: Int64) -> Float32:
    """Features (N, D) standardised over the used rows, as a copy; no other row has any influence.

    Columns that are constant over ``used`` are 0.
    """
    mean, inverse = standardisation(features, used)
    working = np.empty(features.shape, np.float32)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        working[start:stop] = (features[start:stop].astype(np.float64) - mean) * inverse
    return working


def standardisation(features: Float32, used: Int64) -> tuple[Float64, Float64]:
    """Mean and 1 / standard deviation over the used rows, float64 (D,) each; 0 for constant columns."""
    mean, spread = _moments(features, used)
    still = spread <= _RESOLUTION * np.abs(mean)
    return mean, np.divide(1.0, spread, out=np.zeros_like(spread), where=~still)


def part_scales(working: Float32, parts: Sequence[Int64]) -> tuple[Float32, Float32]:
    """The standardisation of each of F training parts on top of the working copy.

    Scale and shift are float32 (F, D) each, both 0 for columns that are constant over the part's rows: the
    standardised features are ``working * scale + shift``.
    """
    member = np.zeros((len(parts), len(working)))
    for job, rows in enumerate(parts):
        member[job, rows] = 1.0 / len(rows)
    first = np.zeros((len(parts), working.shape[1]))
    second = np.zeros_like(first)
    for start in range(0, len(working), _ROWS_AT_ONCE):
        block = working[start : start + _ROWS_AT_ONCE].astype(np.float64)
        weights = member[:, start : start + _ROWS_AT_ONCE]
        first += weights @ block
        second += weights @ (block * block)
    variance = second - first**2
    # Rounding leaves about 1e-14 of the square of a constant column's value, never an exact 0.
    still = variance <= 1e-12 * np.maximum(second, 1e-300)
    scale = np.divide(1.0, np.sqrt(np.where(still, 1.0, variance)), out=np.zeros_like(first), where=~still)
    return scale.astype(np.float32), (-first * scale).astype(np.float32)


def _moments(features: Float32, rows: Int64) -> tuple[Float64, Float64]:
    """Mean and standard deviation, float64 (D,) each, over rows in two passes."""

    def total(offset: Float64, power: int) -> Float64:
        blocks = (rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE))
        sums = [((features[block].astype(np.float64) - offset) ** power).sum(0) for block in blocks]
        return np.asarray(np.sum(sums, 0))

    mean = total(np.zeros(features.shape[1]), 1) / len(rows)
    return mean, np.sqrt(total(mean, 2) / len(rows))
