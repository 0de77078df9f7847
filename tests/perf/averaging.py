"""Would averages of the weights help ``probe-then-tune``? ``python -m tests.perf.averaging DIR``.

The averages are taken beside a training that knows nothing of them: after each epoch of phase 2 the weights
themselves, two exponential moving averages over updates and the mean of the last three epochs are scored on
the same images, so that each seed gives a pair. Of each, the epoch that is best on validation counts, as for
the recipe. Patience is off: all see ten epochs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmark.finetuning import training
from benchmark.options import FinetuneOptions, RankOptions
from benchmark.pipeline import FinetuneJob, RankRequest, finetune_backbones, rank_backbones
from tests.perf.study_sets import write_digits

_SHARED = Path(__file__).resolve().parents[3] / "shared"
_NETWORK, _SIZE, _SEEDS, _EPOCHS = "MobileNet_0.25", 64, 3, 10
_MOMENTA = (0.9, 0.97)
_LAST = 3

Row = dict[str, tuple[float, float, float]]
"""Which weights -> validation F1, validation loss, test F1."""


class _Watched(training.Trainer):
    """A trainer whose phase 2 keeps averages beside its weights."""

    rows: list[Row] = []  # noqa: RUF012 - of the latest training, for whoever asked for it

    def _train(self, plan: Any, *rest: Any) -> None:  # noqa: ANN401
        self._updates = 0
        self._averages = {momentum: training.values_of(plan.variables) for momentum in _MOMENTA}
        self._epochs: list[Any] = []
        _Watched.rows = []
        super()._train(plan, *rest)

    def _epoch(self, plan: Any, step: Any, *rest: Any) -> dict[str, float]:  # noqa: ANN401
        def watched(*batch: Any) -> Any:  # noqa: ANN401
            found = step(*batch)
            self._average(training.values_of(plan.variables))
            return found

        return super()._epoch(plan, watched if plan.number == 2 else step, *rest)

    def _average(self, now: list[Any]) -> None:
        self._updates += 1
        for momentum, average in self._averages.items():
            # The first updates count for more, as in Keras and TensorFlow.
            kept = min(momentum, (1 + self._updates) / (10 + self._updates))
            for held, value in zip(average, now, strict=True):
                held *= kept
                held += (1 - kept) * value

    def _validated(self, plan: Any, *rest: Any) -> dict[str, float]:  # noqa: ANN401
        if plan.number == 2:
            now = training.values_of(plan.variables)
            self._epochs = [*self._epochs, now][-_LAST:]
            candidates = {"weights as they are": now}
            candidates |= {f"moving average, {one}": self._averages[one] for one in _MOMENTA}
            candidates["mean of the last 3 epochs"] = [
                np.mean(each, 0) for each in zip(*self._epochs, strict=True)
            ]
            row = {}
            for name, values in candidates.items():
                training.assign(plan.variables, values)
                row[name] = self._scored()
            training.assign(plan.variables, now)
            _Watched.rows.append(row)
        return super()._validated(plan, *rest)

    def _scored(self) -> tuple[float, float, float]:
        scoring = self._data.scoring
        val = scoring.measure(self.probabilities("val"), self._truth("val"), 0.5)
        test = scoring.measure(self.probabilities("test"), self._truth("test"), 0.5)
        return val["f1"], val["loss"], test["f1"]


def measure(folder: Path) -> None:
    """Print test F1 of each kind of weights, and its gain over the weights as they are, over the seeds."""
    from benchmark.finetuning import running

    running.Trainer = _Watched  # type: ignore[misc]
    sets = {"digits": write_digits(folder / "digits", 600), "bricks": _SHARED / "data" / "brick_cracks"}
    for name, data in sets.items():
        places = {"data": data, "groups": "none", "cache": folder / "cache", "results": folder / "results"}
        ranked = {"backbones": _NETWORK, "weights": _SHARED / "weights", "size": _SIZE, "repeats": 1}
        rank_backbones(RankRequest.of(RankOptions.check(places | ranked)))
        best: list[dict[str, float]] = []
        for seed in range(_SEEDS):
            tuned = {"winner": _NETWORK, "recipe": "probe-then-tune", "seed": seed, "force": True}
            tuned["early_stopping"] = _EPOCHS
            finetune_backbones(FinetuneJob.of(FinetuneOptions.check(places | tuned)))
            best.append({kind: _of_best_epoch(_Watched.rows, kind) for kind in _Watched.rows[0]})
        usual = next(iter(best[0]))
        for kind in best[0]:
            gains = [one[kind] - one[usual] for one in best]
            scores = ", ".join(f"{one[kind]:.3f}" for one in best)
            print(f"{name}: {kind}: {scores}; gain {mean(gains):+.3f}, s.d. {stdev(gains):.3f}")


def _of_best_epoch(rows: list[Row], kind: str) -> float:
    return max((row[kind] for row in rows), key=lambda found: (found[0], -found[1]))[2]


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
