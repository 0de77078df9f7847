"""Checkpoints of known quality, the best of which is shown to be better than the first model, or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.records import Average, Bool
from benchmark.statistics import ErrorCounts, Pairs, Sample, gains

_ALIKE = 0.8  # share of images on which all epochs of one training decide alike
_ONE_PAIR = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Shares of the trials."""

    together: float  # where the best epoch's gain is shown, all epochs together
    alone: float  # where a comparison of that epoch alone would say so


def watch_gains(images: int, error: float, better_by: float, *, epochs: int, trials: int, seed: int) -> Kept:
    """Two balanced classes; the first model errs on ``error`` of the images, epochs on so much less."""
    generator = np.random.default_rng(seed)
    together = alone = 0
    for _ in range(trials):
        truth = generator.random((images, 1)) < 0.5
        sample = Sample.of(truth, Average.BINARY)

        def wrong(rate: float, shape: tuple[int, int] = truth.shape) -> Bool:
            return generator.random(shape) < rate

        common = wrong(error - better_by)
        own = [np.where(wrong(_ALIKE), common, wrong(error - better_by)) for _ in range(epochs)]
        decided = [truth ^ wrong(error), *(truth ^ mistakes for mistakes in own)]
        pairs = Pairs.of(sample, [ErrorCounts.of(each[None], sample) for each in decided])
        best = 1 + int(pairs.score[1:].argmax())
        together += bool(gains(pairs)[best, 1] > 0)
        alone += bool(pairs.statistics[best, 0] > _ONE_PAIR)
    return Kept(together=together / trials, alone=alone / trials)
