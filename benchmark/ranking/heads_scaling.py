"""Standardisation of embeddings with the statistics of a fold's training part.

Embeddings can be as small as 1e-18 (random weights), and their mean can be thousands of times their spread:
statistics are taken in float64. One float32 working copy is standardised over all rows that may be used; a
fold's own statistics then are a scale near 1 and a shift near 0 on top, which float32 holds without loss, so no
fold needs a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.records import Float32, Float64, Int64

_ROWS_AT_ONCE = 4096
# A column that varies by less than float32 resolves holds nothing but rounding: it counts as constant.
_RESOLUTION = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Features ready for training.

    Attributes:
        features: float32 (N, D) working copy.
        scale: float32 (F, D) of each job.
        shift: float32 (F, D) of each job: the standardised feature is ``features * scale + shift``.
    """

    features: Float32
    scale: Float32
    shift: Float32


def standardise(features: Float32, used: Int64, parts: Sequence[Int64]) -> Scaled:
    """Standardise for several training parts at once.

    Args:
        features: float32 (N, D), left unchanged.
        used: int64 (n,) rows that any part may hold; no other row has any influence.
        parts: for each of F jobs its training rows.

    Returns:
        The working copy, with columns that are constant over ``used`` at 0, and each job's scale and shift,
        both 0 for columns that are constant over its training rows.
    """
    mean, spread, still = _moments(features, used)
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=~still)
    working = np.empty(features.shape, np.float32)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        working[start:stop] = (features[start:stop].astype(np.float64) - mean) * inverse
    scale, shift = _part_scales(working, parts)
    return Scaled(features=working, scale=scale, shift=shift)


def unscaled(features: Float32, jobs: int) -> Scaled:
    """Raw features: scale 1 and shift 0 for every job."""
    shape = (jobs, features.shape[1])
    return Scaled(features=features, scale=np.ones(shape, np.float32), shift=np.zeros(shape, np.float32))


def _moments(
    features: Float32, rows: Int64
) -> tuple[Float64, Float64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Mean, standard deviation (D,) over rows in two passes of float64, and which columns are constant."""
    mean = _sum_of(features, rows, lambda block: block) / len(rows)
    spread = np.sqrt(_sum_of(features, rows, lambda block: (block - mean) ** 2) / len(rows))
    return mean, spread, spread <= _RESOLUTION * np.abs(mean)


def _sum_of(features: Float32, rows: Int64, of: object) -> Float64:
    total = np.zeros(features.shape[1])
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        total += of(features[rows[start : start + _ROWS_AT_ONCE]].astype(np.float64)).sum(0)  # type: ignore[operator]
    return total


def _part_scales(working: Float32, parts: Sequence[Int64]) -> tuple[Float32, Float32]:
    """Scale and shift (F, D) of each part on the working copy, from sums by one matrix product per block."""
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
