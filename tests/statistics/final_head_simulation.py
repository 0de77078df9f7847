"""Heads that are really trained, beside what the final head then reaches on new images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from benchmark.heads import train_heads
from benchmark.ranking import build_leaderboard
from benchmark.records import Embeddings, Float32, HeadProtocol, Outcome, Split, Status, Task, Truth
from benchmark.statistics import FEWEST_PER_CLASS, Sample, class_units, decide, default_average, f1

_NEW = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWorld:
    """Images to train heads on, again and again: classes are normal clouds among 64 axes.

    Attributes:
        images: N, on average in each group as many.
        shares: of the classes; the last of two is the positive one.
        axes: how many of the 64 tell the classes apart.
        distance: of a class from the centre of all, in standard deviations of a cloud.
        groups: number of groups; 0 for images that stand alone.
        mixed: whether a group holds all classes, or one.
        group_deviation: standard deviation of a group's own shift on every axis; the images of a group then
            scatter less around it, so that an image on its own looks the same.
    """

    images: int
    shares: tuple[float, ...] = (0.5, 0.5)
    axes: int = 64
    distance: float = 2.2
    groups: int = 0
    mixed: bool = True
    group_deviation: float = 0.6

    def draw(self, generator: np.random.Generator) -> tuple[Float32, Truth]:
        """Embeddings and truth of the N images, and of ``_NEW`` new ones, in new groups, after them."""
        classes, total = len(self.shares), self.images + _NEW
        centres = np.zeros((classes, 64))
        centres[:, : self.axes] = generator.normal(size=(classes, self.axes))
        centres -= centres.mean(0)
        centres *= self.distance / np.linalg.norm(centres, axis=1, keepdims=True)
        units = np.arange(total)
        if self.groups:
            units //= self.images // self.groups
        drawn = generator.choice(classes, total, p=self.shares)
        labels = drawn if self.mixed else drawn[units]
        noise = generator.normal(size=(total, 64))
        if self.groups:
            deviation = self.group_deviation
            noise *= math.sqrt(1 - deviation**2)
            noise += deviation * generator.normal(size=(total, 64))[units]
        targets = labels[:, None] == (np.arange(classes) if classes > 2 else np.array([1]))
        return (centres[labels] + noise).astype(np.float32), Truth(
            targets=targets.astype(np.float32),
            classes=tuple(f"{name:02}" for name in range(classes)),
            task=Task.MULTICLASS if classes > 2 else Task.BINARY,
            positive=1 if classes == 2 else None,
            groups=units if self.groups else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalHeadsSeen:
    """How intervals of the final head's F1 did.

    Attributes:
        coverage: share that held the F1 on new images of the head trained on all images.
        decisions_coverage: the same of the intervals for the validated decisions.
        width: mean.
        spread: 95 % range of that F1 less the validated one: no interval of one width is narrower.
        final: mean F1 on new images.
        validated: mean validated F1.
        trials: data sets in which every class had at least ten images (or groups).
    """

    coverage: float
    decisions_coverage: float
    width: float
    spread: float
    final: float
    validated: float
    trials: int


def watch_final_heads(world: HeadWorld, *, trials: int, seed: int = 0) -> FinalHeadsSeen:
    """Boards of heads that were really trained, beside what the final head then reached."""
    count, seen = world.images, []
    for trial in range(trials):
        features, truth = world.draw(np.random.default_rng([seed, trial]))
        if _fewest(truth, count) < FEWEST_PER_CLASS:
            continue
        rows = np.arange(len(features))
        ids = tuple(f"{row:064x}" for row in rows)
        found = train_heads(
            Embeddings(image_ids=ids, features=features),
            truth,
            Split(train=rows[:count], val=rows[:0], test=rows[count:], given=False),
            HeadProtocol(seed=trial),
        ).predictions
        decided = decide(found.test, found.test_threshold, truth.task)
        final = float(f1(decided, truth.targets[count:], default_average(truth.task)))
        # The new images are only the simulation's: the board does not know them.
        known = replace(found, test_rows=rows[:0], test=found.test[:0])
        outcome = Outcome(backbone="", family="", source="", status=Status.SCORED, predictions=known)
        (row,) = build_leaderboard([outcome], truth).rows
        seen.append([final, *(row[name] for name in _COLUMNS)])
    final_f1, validated, low, high, new_low, new_high = np.array(seen, np.float64).T
    return FinalHeadsSeen(
        coverage=float(np.mean((new_low <= final_f1) & (final_f1 <= new_high))),
        decisions_coverage=float(np.mean((low <= final_f1) & (final_f1 <= high))),
        width=float(np.mean(new_high - new_low)),
        spread=float(np.subtract(*np.quantile(final_f1 - validated, [0.975, 0.025]))),
        final=float(final_f1.mean()),
        validated=float(validated.mean()),
        trials=len(seen),
    )


def _fewest(truth: Truth, count: int) -> int:
    """Images (groups) of the rarest class among the first ``count`` images."""
    groups = None if truth.groups is None else truth.groups[:count]
    return int(class_units(Sample.of(truth.targets[:count], default_average(truth.task), groups)).min())


_COLUMNS = ("val_f1", "val_f1_low", "val_f1_high", "new_f1_low", "new_f1_high")
