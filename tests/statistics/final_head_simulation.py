"""Heads that are really trained, beside what the final head then reaches on new images."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from benchmark.errors import DataError
from benchmark.heads import train_heads
from benchmark.records import Embeddings, Float32, HeadProtocol, Split, Targets, Task
from benchmark.statistics import (
    ErrorCounts,
    Sample,
    decide,
    default_average,
    estimates,
    f1,
    final_head_estimates,
)

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

    def draw(self, generator: np.random.Generator) -> tuple[Float32, Targets]:
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
        return (centres[labels] + noise).astype(np.float32), Targets(
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
        spread: of that F1 less the validated one, 1.96 standard deviations to both sides: the interval of an
            oracle that knows how far the two differ on average and how much they scatter.
        final: mean F1 on new images.
        validated: mean validated F1.
    """

    coverage: float
    decisions_coverage: float
    width: float
    spread: float
    final: float
    validated: float


def watch_final_heads(world: HeadWorld, *, trials: int, seed: int = 0) -> FinalHeadsSeen:
    """What the board would say of heads that were really trained, beside what the final head reaches.

    A draw with so few images of a class that no heads can be trained, which the board refuses, is left out.
    """
    seen = []
    for trial in range(trials):
        with suppress(DataError):
            seen.append(draw_final_head(world, np.random.default_rng([seed, trial]), trial))
    final, validated, low, high, _, new_low, new_high = np.array(seen, np.float64).T
    return FinalHeadsSeen(
        coverage=float(np.mean((new_low <= final) & (final <= new_high))),
        decisions_coverage=float(np.mean((low <= final) & (final <= high))),
        width=float(np.mean(new_high - new_low)),
        spread=float(2 * 1.96 * np.std(final - validated, ddof=1)),
        final=float(final.mean()),
        validated=float(validated.mean()),
    )


def draw_final_head(world: HeadWorld, generator: np.random.Generator, seed: int) -> list[float]:
    """``compare_with_new`` of one data set of a world, with one repeat of cross-validation."""
    features, targets = world.draw(generator)
    rows = np.arange(len(features))
    ids = tuple(f"{row:064x}" for row in rows)
    split = Split(train=rows[: world.images], val=rows[:0], test=rows[world.images :], given=False)
    embeddings = Embeddings(image_ids=ids, features=features)
    return compare_with_new(embeddings, targets, split, repeats=1, seed=seed)


def compare_with_new(
    embeddings: Embeddings, targets: Targets, split: Split, *, repeats: int = 3, seed: int = 0
) -> list[float]:
    """F1 of the final head on new images, the test part, then ``val_f1`` and ``new_f1`` with intervals."""
    protocol = HeadProtocol(repeats=repeats, seed=seed)
    found = train_heads(embeddings, targets, split, protocol).predictions
    assert found.val_smaller is not None
    assert found.train_sizes is not None
    average = default_average(targets.task)
    groups = None if targets.groups is None else targets.groups[found.val_rows]
    sample = Sample.of(targets.targets[found.val_rows], average, groups)
    heads, smaller = (
        [ErrorCounts.of(decide(each, found.val_thresholds, targets.task), sample)]
        for each in (found.val, found.val_smaller)
    )
    decided = decide(found.test, found.test_threshold, targets.task)
    return [
        float(f1(decided, targets.targets[found.test_rows], average)),
        *estimates(sample, heads, seed=seed)[0].tolist(),
        *final_head_estimates(sample, heads, smaller, found.train_sizes, seed=seed)[0].tolist(),
    ]
