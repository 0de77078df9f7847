"""The learning rate range test: NumPy only.

The rate grows from update to update (Smith, Cyclical learning rates for training neural networks, 2017). What
counts is what each new batch costs beside what it cost before any update, so that easy and hard batches do
not look like progress and harm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.records import Float64

_DECADES = 2.5  # the first rate is this far below the last
_MEMORY = 0.7  # of the running means of losses
# A network that begins with a trained head gets worse before it gets better, at every rate worth taking:
# harm is twice the loss, and a little more where there is hardly any.
_HARM, _SLACK_NATS = 2.0, 0.05


def tried_rates(most: float, updates: int) -> list[float]:
    """The rates of so many updates, growing geometrically to ``most``."""
    if updates == 1:
        return [most]
    return [float(rate) for rate in most * 10.0 ** np.linspace(-_DECADES, 0.0, updates)]


def rate_before_harm(rates: Sequence[float], before: Sequence[float], after: Sequence[float]) -> float:
    """The last rate before new batches cost twice as much as before any update.

    Args:
        rates: of the updates.
        before: loss of each update's batch before the first update, in nats.
        after: its loss just before the update itself; what is not finite counts as harm.
    """
    start, now = _smooth(before), _smooth(np.where(np.isfinite(after), after, np.inf).tolist())
    # What comes after the first harm says nothing: a network that answers all alike has a modest loss again.
    harmful = np.flatnonzero(now > _HARM * start + _SLACK_NATS)
    return float(rates[max(int(harmful[0]) - 1, 0) if len(harmful) else -1])


def _smooth(values: Sequence[float]) -> Float64:
    """Running means, the latest values counting most, float64 (n,)."""
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean, weight = _MEMORY * mean + (1 - _MEMORY) * value, _MEMORY * weight + (1 - _MEMORY)
        found.append(mean / weight)
    return np.asarray(found, np.float64)
