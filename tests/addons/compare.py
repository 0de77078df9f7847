"""Our F1 beside tfa.metrics.F1Score on random and edge-case predictions; runs under TensorFlow 2.15."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import tensorflow_addons as tfa

from benchmark.records import Average, Task
from benchmark.statistics.metrics import decide, f1

TOLERANCE = 1e-6
RANDOM_SETS = 200
Case = tuple[str, np.ndarray, np.ndarray, float]


def binary_cases() -> Iterator[Case]:
    """(name, targets (N, 1), probabilities (N, 1), threshold)."""
    random = np.random.default_rng(0)
    for number in range(RANDOM_SETS):
        size = int(random.integers(2, 300))
        targets = (random.random((size, 1)) < random.random()).astype(np.float32)
        probabilities = random.random((size, 1)).astype(np.float32)
        # tfa decides above the threshold, we at it and above: a drawn value never equals 0.3 or 0.5 here.
        yield f"random {number}", targets, probabilities, float(random.choice([0.3, 0.5, 0.7]))
    ones, zeros = np.ones((8, 1), np.float32), np.zeros((8, 1), np.float32)
    yield "all right, all positive", ones, ones * 0.9, 0.5
    yield "all wrong, all positive", ones, ones * 0.1, 0.5
    yield "nothing to find, everything found", zeros, ones * 0.9, 0.5
    yield "nothing to find, nothing found", zeros, ones * 0.1, 0.5
    yield "one image", ones[:1], ones[:1] * 0.6, 0.5


def multiclass_cases() -> Iterator[Case]:
    """(name, one-hot targets (N, C), probabilities (N, C), unused threshold)."""
    random = np.random.default_rng(1)
    for number in range(RANDOM_SETS):
        size, classes = int(random.integers(2, 200)), int(random.integers(3, 9))
        targets = np.eye(classes, dtype=np.float32)[random.integers(0, classes, size)]
        yield f"classes {number}", targets, random.dirichlet(np.ones(classes), size).astype(np.float32), 0.5


def theirs(metric: tfa.metrics.F1Score, targets: np.ndarray, probabilities: np.ndarray) -> float:
    """One value of a fresh metric."""
    metric.update_state(targets, probabilities)
    return float(np.squeeze(metric.result().numpy()))


def difference_binary(case: Case) -> float:
    """|ours - theirs| of the positive class's F1: micro over one column is the binary F1."""
    _, targets, probabilities, threshold = case
    ours = f1(decide(probabilities, threshold, Task.BINARY), targets, Average.BINARY)
    return abs(float(ours) - theirs(tfa.metrics.F1Score(1, "micro", threshold), targets, probabilities))


def difference_multiclass(case: Case, average: Average) -> float:
    """|ours - theirs| of an average over classes."""
    _, targets, probabilities, _ = case
    ours = f1(decide(probabilities, 0.5, Task.MULTICLASS), targets, average)
    return abs(
        float(ours) - theirs(tfa.metrics.F1Score(targets.shape[1], average.value), targets, probabilities)
    )


def main() -> int:
    """Print one line per comparison; 1 when any differs."""
    worst = {"binary": max((difference_binary(case), case[0]) for case in binary_cases())}
    for average in (Average.MACRO, Average.MICRO, Average.WEIGHTED):
        worst[average.value] = max(
            (difference_multiclass(case, average), case[0]) for case in multiclass_cases()
        )
    for name, (difference, case) in worst.items():
        verdict = "agrees" if difference <= TOLERANCE else "DIFFERS"
        print(f"{name:9} {verdict}: largest difference {difference:.1e} ({case})")
    failed = sum(difference > TOLERANCE for difference, _ in worst.values())
    print(f"{len(worst) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
