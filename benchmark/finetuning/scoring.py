"""Scores of probabilities, and which of two checkpoints is better: NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmark.records import Average, Bool, Float32, Float64, Int64, Predictions, Split, Task, ThresholdRule
from benchmark.statistics import ErrorCounts, Sample, best_threshold, decide, estimates, scores, tempered

METRICS = ("loss", "accuracy", "precision", "recall", "f1")
_SMALLEST = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How probabilities become scores.

    Probabilities are float32 (n, C), targets float32 (n, C) of 0 and 1, decisions bool (n, C); groups are
    int64 (n,) numbers of images that belong together, or None.
    """

    task: Task
    average: Average  # of F1, precision and recall over classes
    rule: ThresholdRule  # how the threshold of sigmoid outputs is found, on validation images

    def threshold(self, probabilities: Float32, targets: Float32) -> float:
        """The decision threshold that the rule finds on validation images; 0.5 (unused) for MULTICLASS."""
        if self.task is Task.MULTICLASS:
            return 0.5
        return float(best_threshold(probabilities, targets, self.rule, self.average))

    def decided(self, probabilities: Float32, threshold: float) -> Bool:
        """Decisions at a threshold."""
        return decide(probabilities, threshold, self.task)

    def measure(self, probabilities: Float32, targets: Float32, threshold: float) -> dict[str, float]:
        """The five METRICS."""
        decided = self.decided(probabilities, threshold)
        found = scores(decided, targets, self.average)
        found["loss"] = cross_entropy(probabilities, targets, self.task)
        return {name: float(found[name]) for name in METRICS}

    def out_of_fold(self, said: Predictions, targets: Float32, temperature: float) -> dict[str, float]:
        """The five METRICS of a board's validation, the mean over its repeats; targets (V, C).

        The loss is that of probabilities with a temperature, which changes no decision.
        """
        decided = decide(said.val, said.val_thresholds, self.task)
        after = tempered(said.val, self.task, temperature)
        each = [
            scores(some, targets, self.average) | {"loss": cross_entropy(likely, targets, self.task)}
            for some, likely in zip(decided, after, strict=True)
        ]
        return {name: float(np.mean([one[name] for one in each])) for name in METRICS}

    def score(
        self, probabilities: Float32, targets: Float32, groups: Int64 | None, threshold: float, seed: int
    ) -> dict[str, float]:
        """The five METRICS, the interval of F1 and the threshold."""
        interval = self.f1_interval(self.decided(probabilities, threshold), targets, groups, seed)
        return self.measure(probabilities, targets, threshold) | interval | {"threshold": threshold}

    def f1_interval(
        self, decided: Bool, targets: Float32, groups: Int64 | None, seed: int
    ) -> dict[str, float]:
        """The 95 % bootstrap interval of F1, as on the board: ``f1_low`` and ``f1_high``."""
        sample = Sample.of(targets, self.average, groups)
        _, low, high = estimates(sample, [ErrorCounts.of(decided[None], sample)], seed=seed)[0].tolist()
        return {"f1_low": low, "f1_high": high}


def cross_entropy(probabilities: Float32, targets: Float32, task: Task) -> float:
    """Mean cross-entropy in nats, unweighted: over images, and over labels for MULTILABEL.

    Args:
        probabilities: float32 (n, C); clipped to 1e-7 and 1 - 1e-7, as Keras does.
        targets: float32 (n, C) of 0 and 1.
        task: MULTICLASS looks at the true class alone, the others at both answers.
    """
    likely: Float64 = np.clip(probabilities.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    if task is Task.MULTICLASS:
        return float(-(targets * np.log(likely)).sum(-1).mean())
    return float(-(targets * np.log(likely) + (1 - targets) * np.log1p(-likely)).mean())


def beats(candidate: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Whether a checkpoint is better on validation: a higher F1, or the same F1 at a lower loss."""
    if best is None:
        return True
    if candidate["f1"] != best["f1"]:
        return candidate["f1"] > best["f1"]
    return candidate["loss"] < best["loss"]


def loss_weights(targets: Float32, split: Split, *, balanced: bool, softmax: bool) -> Float32:
    """Weights of the training loss.

    Args:
        targets: float32 (N, U) as the loss sees them.
        split: whose training part is counted.
        balanced: weight every class by n / (classes * n_class); otherwise every weight is 1.
        softmax: exclusive classes (a row has one weight) or separate answers (each column is two classes).

    Returns:
        float32 (N, U). A class without a training image keeps weight 1.
    """
    if not balanced:
        return np.ones_like(targets)
    train = targets[split.train].astype(np.float64)
    if softmax:
        per_class = _inverse_share(train.sum(0), len(train), targets.shape[1])
        row = (targets * per_class).sum(-1, keepdims=True)
        return np.broadcast_to(row, targets.shape).astype(np.float32)
    yes = _inverse_share(train.sum(0), len(train), 2)
    no = _inverse_share((1 - train).sum(0), len(train), 2)
    return np.where(targets > 0.5, yes, no).astype(np.float32)


def _inverse_share(counts: Float64, total: int, classes: int) -> Float64:
    return np.divide(total, classes * counts, out=np.ones_like(counts), where=counts > 0)
