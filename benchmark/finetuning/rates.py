"""The learning rate range test: NumPy only.

The rate grows from update to update (Smith, Cyclical learning rates for training neural networks, 2017). What
counts is how much more or less than before any update each new batch costs, so that easy and hard batches do
not look like progress and harm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_DECADES = 3.5  # the first rate is this far below the last
_MEMORY = 0.7  # of the running mean of differences
_SAFETY = 10.0  # the rate at which training turns is too high for many updates in a row


def tried_rates(most: float, updates: int) -> list[float]:
    """The rates of so many updates, growing geometrically to ``most``."""
    if updates == 1:
        return [most]
    return [float(rate) for rate in most * 10.0 ** np.linspace(-_DECADES, 0.0, updates)]


def rate_before_harm(rates: Sequence[float], differences: npt.ArrayLike) -> float:
    """A tenth of the rate at which the loss turned.

    Args:
        rates: of the updates.
        differences: float (n,) loss of each update's batch before the update, less what the batch cost before
            the first update; what is not finite counts as harm.
    """
    values = np.asarray(differences, np.float64)
    values = np.where(np.isfinite(values), values, np.inf)
    mean, weight, smooth = 0.0, 0.0, []
    for value in values:
        mean, weight = _MEMORY * mean + (1 - _MEMORY) * value, _MEMORY * weight + (1 - _MEMORY)
        smooth.append(mean / weight)
    return float(rates[int(np.argmin(smooth))]) / _SAFETY
