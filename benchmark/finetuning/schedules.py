"""Learning rates by epoch: pure functions, so that an interrupted run meets the same ones again."""

from __future__ import annotations

import math

from benchmark.finetuning.recipe import Phase, Schedule

_LAST_SHARE = 0.01


def learning_rate(phase: Phase, epoch: int) -> float:
    """The learning rate of an epoch of a phase.

    Args:
        phase: optimizer settings.
        epoch: counted from 0 within the phase.
    """
    if phase.schedule is Schedule.COSINE:
        return phase.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / phase.epochs))
    if phase.schedule is Schedule.EXPONENTIAL:
        return phase.learning_rate * float(_LAST_SHARE ** (epoch / phase.epochs))
    return phase.learning_rate
