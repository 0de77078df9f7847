"""Labels of which some are wrong, and backbones that see them: what stands out when the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmark.ranking import judge_labels
from benchmark.records import Float64, Int64, Outcome, Predictions, Scored, Targets, Task

NAMES = ("ant", "bee", "cow", "dog")
Drawn = tuple[list[Outcome], Targets, Int64]


def outcome(name: str, val: Float64, first_row: int = 0) -> Scored:
    """A scored backbone with probabilities (R, V, C) of images from ``first_row`` on."""
    predictions = Predictions(
        val_rows=np.arange(first_row, first_row + val.shape[1]),
        val=val.astype(np.float32),
        val_thresholds=np.full(val.shape[:2], 0.5),
        test_rows=np.zeros(0, np.int64),
        test=np.zeros((0, val.shape[2]), np.float32),
        test_threshold=0.5,
    )
    return Scored(backbone=name, family="f", source="keras", predictions=predictions)


def draw(task: Task, seed: int, flips: float, images: int = 600, sharpness: float = 6.0) -> Drawn:
    """Three backbones that see three classes (two, three tags) with noise of their own and noise in common.

    The labels are drawn from the probabilities that the evidence in common justifies: honest mistakes.
    """
    random = np.random.default_rng(seed)
    classes = {Task.BINARY: 2, Task.MULTICLASS: 3, Task.MULTILABEL: 3}[task]
    if task is Task.MULTICLASS:
        evidence = random.gumbel(size=(images, classes)) + sharpness * np.eye(classes)[
            random.integers(0, classes, images)
        ] * random.random((images, 1))
        truth = (evidence + random.gumbel(size=evidence.shape)).argmax(1)
        targets = np.eye(classes)[truth]
    else:
        columns = 1 if task is Task.BINARY else classes
        evidence = sharpness * random.standard_normal((images, columns))
        targets = (evidence + random.logistic(size=evidence.shape) > 0).astype(np.float64)
    planted = np.sort(random.choice(images, round(flips * images), replace=False))
    targets[planted] = np.roll(targets[planted], 1, 1) if task is Task.MULTICLASS else 1 - targets[planted]
    backbones = []
    for name in ("A", "B", "C"):
        seen = evidence + 0.5 * random.standard_normal((2, *evidence.shape))
        if task is Task.MULTICLASS:
            shares = np.exp(seen - seen.max(-1, keepdims=True))
            backbones.append(outcome(name, shares / shares.sum(-1, keepdims=True)))
        else:
            backbones.append(outcome(name, 1 / (1 + np.exp(-seen))))
    positive = 1 if task is Task.BINARY else None
    known = Targets(targets=targets.astype(np.float32), classes=NAMES[:classes], task=task, positive=positive)
    return backbones, known, planted


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsSeen:
    """What was said of the labels.

    Attributes:
        stands_out: share of the data sets in which labels stood out.
        precision: of as many suspects as there are wrong labels, the share that is wrong, where any did.
        held: share whose interval held the true share.
    """

    stands_out: float
    precision: float
    held: float


def watch_labels(
    task: Task,
    images: int,
    flips: float,
    *,
    trials: int,
    seed: int,
    sharpness: float = 20.0,
    spoilt_groups: int = 0,
) -> LabelsSeen:
    """Judge labels again and again.

    Args:
        task: as for ``draw``.
        images: N.
        flips: share of wrong labels, anywhere.
        trials: data sets.
        seed: of the first one.
        sharpness: as for ``draw``.
        spoilt_groups: groups of ten images (two classes) of which six are labelled wrong, on top; images then
            have groups.
    """
    seen = []
    for trial in range(trials):
        backbones, targets, planted = draw(task, seed + 1000 * trial, flips, images, sharpness)
        if spoilt_groups:
            targets, planted = _spoil(targets, spoilt_groups, seed + trial)
        found = judge_labels(backbones, backbones[0], targets)
        answers = len(targets.classes) if task is Task.MULTILABEL else 1
        first = [one.row for one in found.suspects[: answers * len(planted)]]
        precision = np.isin(first, planted).mean() if first else np.nan
        share = len(planted) / images
        seen.append((bool(first), precision, found.share_low <= share <= found.share_high))
    stands_out, precision, held = np.array(seen, np.float64).T
    known = precision[stands_out > 0]
    return LabelsSeen(
        stands_out=float(stands_out.mean()),
        precision=float(known.mean()) if len(known) else float("nan"),
        held=float(held.mean()),
    )


def _spoil(targets: Targets, count: int, seed: int) -> tuple[Targets, Int64]:
    groups = np.arange(len(targets.targets)) // 10
    random = np.random.default_rng([seed, 9])
    chosen = random.choice(len(targets.targets) // 10, count, replace=False)
    rows = np.sort(np.concatenate([10 * group + random.choice(10, 6, replace=False) for group in chosen]))
    labels = targets.targets.copy()
    labels[rows] = 1 - labels[rows]
    return replace(targets, targets=labels, groups=groups), rows
