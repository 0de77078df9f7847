"""Scores that predict, from embeddings and labels alone, how well a backbone transfers.

LogME: You, Liu, Wang and Long, "LogME: practical assessment of pre-trained models for transfer learning",
ICML 2021. H-score: Bao et al., "An information-theoretic approach to transferability in task transfer
learning", ICIP 2019; with shrinkage: Ibrahim, Ponomareva and Mazumder, "Newer is not always better:
rethinking transferability metrics, their peculiarities, stability and performance", ECML PKDD 2022.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmark.records import Float64

_TINIEST = 1e-300
# Ratio of the prior's precision to the noise's, relative to the largest eigenvalue: searched on this grid,
# then by golden section between its neighbours.
_RATIOS = np.logspace(-14, 8, 265)
_GOLDEN = (np.sqrt(5) - 1) / 2


def log_me(features: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """LogME: the largest log evidence per image of a Bayesian linear model, averaged over target columns.

    For a column y the model is y = F w + noise, w ~ N(0, I / alpha), noise ~ N(0, I / beta). You et al. find
    the best alpha and beta by a fixed-point iteration. Here beta is eliminated: for a ratio t = alpha / beta
    the best noise variance is y' (I + F F' / t)^-1 y / n, which leaves one number to search.

    Args:
        features: (n, D), not centred (as published). Their scale cancels.
        targets: (n, C); one column per class, 0 and 1.

    Returns:
        The score; nan for features that are all 0.
    """
    matrix, labels = _scaled(np.asarray(features, np.float64)), np.asarray(targets, np.float64)
    if not matrix.any():
        return float("nan")
    values, vectors = _left_spectrum(matrix)
    projected = (vectors.T @ labels) ** 2
    rest = np.maximum((labels**2).sum(0) - projected.sum(0), 0.0)
    columns = [
        _best_evidence(values, projected[:, column], float(rest[column]), len(matrix))
        for column in range(labels.shape[1])
    ]
    return float(np.mean(columns))


def h_score(features: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """H-score with Ledoit-Wolf shrinkage a: tr((1 - a) cov(E[f | y]) cov_a(f)^-1).

    Args:
        features: (n, D).
        targets: (n, C) of 0 and 1. Rows with the same labels are one class, so that several labels an image
            make classes of their combinations.

    Returns:
        The score; nan for features that do not vary.
    """
    given = np.asarray(features, np.float64)
    matrix = _scaled(given - given.mean(0))
    if not matrix.any():
        return float("nan")
    values, vectors = _left_spectrum(matrix)
    spread = values / len(matrix)
    shrinkage = ledoit_wolf_shrinkage(matrix, spread)
    floor = shrinkage * spread.sum() / matrix.shape[1]
    shrunk = np.maximum((1 - shrinkage) * spread + floor, _TINIEST)
    _, members = np.unique(np.asarray(targets), axis=0, return_inverse=True)
    total = 0.0
    for number in range(int(members.max()) + 1):
        chosen = members.ravel() == number
        # The class mean in the eigenvectors of the covariance: s_i * (mean of u_i over the class).
        along = np.sqrt(values) * vectors[chosen].mean(0)
        total += float(chosen.mean() * (along**2 / shrunk).sum())
    return (1 - shrinkage) * total


def ledoit_wolf_shrinkage(centred: Float64, spread: Float64) -> float:
    """The shrinkage of Ledoit and Wolf, "A well-conditioned estimator for large covariance matrices", 2004.

    Args:
        centred: (n, D) features with mean 0.
        spread: non-zero eigenvalues of their covariance (divided by n).
    """
    images, dim = centred.shape
    squares = float((spread**2).sum())
    distance = squares - float(spread.sum()) ** 2 / dim
    noise = (float(((centred**2).sum(1) ** 2).sum()) / images - squares) / images
    return 0.0 if distance <= 0 else float(np.clip(noise / distance, 0.0, 1.0))


def _scaled(matrix: Float64) -> Float64:
    """The matrix with a largest entry of 1, so that 1e-18 squared does not vanish; zeros stay."""
    largest = float(np.abs(matrix).max(initial=0.0))
    return matrix / largest if largest > 0 else matrix


def _left_spectrum(matrix: Float64) -> tuple[Float64, Float64]:
    """Non-zero eigenvalues (r,) of F F' and their eigenvectors (n, r), by the smaller Gram matrix."""
    images, dim = matrix.shape
    small = matrix @ matrix.T if images <= dim else matrix.T @ matrix
    values, vectors = np.linalg.eigh(small)
    kept = values > values[-1] * 1e-12
    values, vectors = values[kept], vectors[:, kept]
    return values, vectors if images <= dim else (matrix @ vectors) / np.sqrt(values)


def _best_evidence(values: Float64, projected: Float64, rest: float, images: int) -> float:
    def at(logarithm: float) -> float:
        return _evidence(float(np.exp(logarithm)), values, projected, rest, images)

    grid = np.log(_RATIOS * values[-1])
    found = [at(point) for point in grid]
    best = int(np.argmax(found))
    low, high = float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)])
    while high - low > 1e-8:
        step = _GOLDEN * (high - low)
        if at(high - step) < at(low + step):
            low = high - step
        else:
            high = low + step
    return max(found[best], at((low + high) / 2))


def _evidence(ratio: float, values: Float64, projected: Float64, rest: float, images: int) -> float:
    """Log evidence per image at the best noise variance for a ratio alpha / beta."""
    grown = 1.0 + values / ratio
    variance = max((float((projected / grown).sum()) + rest) / images, _TINIEST)
    return -0.5 * float(np.log(2 * np.pi * variance) + 1.0 + np.log(grown).sum() / images)
