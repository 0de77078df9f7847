"""What a fold chooses from its inner split: grid point and threshold; the reference protocol the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.heads.protocols import FoldPlan
from benchmark.records import Float32, Float64, HeadProtocol, Int64, ProtocolName, Task, ThresholdKind
from benchmark.statistics import best_threshold, decide, default_average, f1

_CLEAR = 2.0  # standard errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one fold chose; ``HeadResult.chosen`` has lists of these by the same names."""

    epoch: int  # epochs to train, from 1
    learning_rate: float
    weight_decay: float  # L2 penalty
    threshold: float  # of the decisions of sigmoid outputs
    inner_f1: float  # of that choice on the images that chose


class ModelSelection:
    """Scores heads after each epoch on the images that choose, and picks.

    Of the fully trained heads whose F1 (under the protocol's threshold rule) lies within two standard errors
    of the best, the last in the grid wins: F1 of a few dozen images takes few values, and its maximum over
    the grid is mostly luck. So a protocol's grid ends with what it prefers, and the images that choose must
    speak clearly to leave it. One standard error (Breiman et al., "Classification and regression trees",
    1984) is left too often: in one of the cells of docs/statistics.md, six draws, heads were 0.011 F1 below
    the reference with it and 0.004 with two. The error is that of as many
    independent observations as there are images or, where there are groups, groups. The reference protocol
    has no grid, and takes the epoch with the first best F1.
    """

    def __init__(
        self,
        plan: FoldPlan,
        targets: Float32,
        task: Task,
        protocol: HeadProtocol,
        groups: Int64 | None = None,
    ) -> None:
        self._plan = plan
        self._groups = groups
        self._targets = targets
        self._task = task
        self._protocol = protocol
        self._average = default_average(task, protocol.average)
        shape = (protocol.epochs, len(plan.folds), len(plan.rates))
        self._f1 = np.zeros(shape)
        self._threshold = np.full(shape, 0.5)

    def see(self, epoch: int, folds: Sequence[int], probabilities: Sequence[Float32]) -> None:
        """Score the heads after ``epoch`` epochs: of each fold (G, V, C) on its ``choose`` rows."""
        for fold, values in zip(folds, probabilities, strict=True):
            rows = self._plan.folds[fold].choose
            cell = (epoch - 1, fold)
            self._threshold[cell] = self._thresholds(values, rows)
            decided = decide(values, self._threshold[cell][:, None], self._task)
            self._f1[cell] = f1(decided, self._targets[rows], self._average)

    def _thresholds(self, values: Float32, rows: Int64) -> Float64:
        """One threshold per grid point, float64 (G,), of probabilities (G, V, C)."""
        rule = self._protocol.threshold
        if self._task is Task.MULTICLASS:
            return np.full(len(values), 0.5)
        if rule.kind is ThresholdKind.FIXED:
            return np.full(len(values), rule.value)
        found = [best_threshold(some, self._targets[rows], rule, self._average) for some in values]
        return np.asarray(found, np.float64)

    def choices(self) -> tuple[Choice, ...]:
        """The choice of every fold."""
        return tuple(self._choice(fold) for fold in range(len(self._plan.folds)))

    def grid_point(self, fold: int) -> int:
        """Position in the grid of the choice of one fold."""
        return self._best(fold)[1]

    def _choice(self, fold: int) -> Choice:
        epoch, point = self._best(fold)
        return Choice(
            epoch=epoch + 1,
            learning_rate=self._plan.rates[point],
            weight_decay=self._plan.decays[point],
            threshold=float(self._threshold[epoch, fold, point]),
            inner_f1=float(self._f1[epoch, fold, point]),
        )

    def _best(self, fold: int) -> tuple[int, int]:
        f1 = self._f1[:, fold]
        if self._protocol.name is ProtocolName.REFERENCE:
            return divmod(int(f1.argmax()), len(self._plan.rates))
        trained = f1[-1]
        error = _standard_error(float(trained.max()), self._observations(fold))
        near = trained >= trained.max() - _CLEAR * error
        return len(f1) - 1, int(np.flatnonzero(near)[-1])

    def _observations(self, fold: int) -> int:
        """Independent observations among the images that choose."""
        rows = self._plan.folds[fold].choose
        return len(rows) if self._groups is None else len(np.unique(self._groups[rows]))

    def history(self) -> Float32:
        """Mean F1 after each epoch at each fold's grid point, float32 (E,); the final head is not in it."""
        folds = [place for place, fold in enumerate(self._plan.folds) if fold.repeat is not None]
        curves = [self._f1[:, fold, self._best(fold)[1]] for fold in folds]
        return np.asarray(np.mean(curves, 0), np.float32)


def _standard_error(share: float, observations: int) -> float:
    """Of a share of so many observations; a success and a failure are added, so that 1 has an error too."""
    smoothed = (share * observations + 1) / (observations + 2)
    return float(np.sqrt(smoothed * (1 - smoothed) / (observations + 2)))
