"""F1 of every class for every scored backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.records import Outcome, Predictions, Scored, Truth
from benchmark.statistics import decide, per_class_f1, scored_class_names

CLASS_SCORE_COLUMNS = ("backbone", "class", "images", "val_f1", "test_f1")


def class_scores(outcomes: Sequence[Outcome], truth: Truth) -> tuple[dict[str, Any], ...]:
    """One row per scored backbone and class.

    ``images`` counts the validated images of the class; ``val_f1`` is the mean over repeats of the pooled
    out-of-fold F1; ``test_f1`` is nan without a test part.
    """
    names = scored_class_names(truth)
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        if not isinstance(outcome, Scored):
            continue  # what was pruned was scored on fewer images
        val, test, images = _scores(outcome.predictions, truth)
        rows += [
            {"backbone": outcome.backbone, "class": name, "images": n, "val_f1": v, "test_f1": t}
            for name, n, v, t in zip(names, images, val, test, strict=True)
        ]
    return tuple(rows)


def _scores(predictions: Predictions, truth: Truth) -> tuple[list[float], list[float], list[int]]:
    targets = truth.targets[predictions.val_rows]
    decided = decide(predictions.val, predictions.val_thresholds, truth.task)
    val = per_class_f1(decided, targets).mean(0)
    if len(predictions.test_rows):
        test_decided = decide(predictions.test, predictions.test_threshold, truth.task)
        test = per_class_f1(test_decided, truth.targets[predictions.test_rows])
    else:
        test = np.full(len(val), np.nan)
    positives = targets.sum(0)
    images = [len(targets) - positives[0], positives[0]] if targets.shape[1] == 1 else positives
    return val.tolist(), test.tolist(), [int(count) for count in images]
