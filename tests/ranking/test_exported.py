"""F1 after an export, from probabilities of heads that had not seen the image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmark.ranking import exported_f1
from benchmark.ranking.board import build_leaderboard
from benchmark.records import Predictions, Scored, Targets, Task


def board(task: Task, classes: int = 1, *, images: int = 120, seed: int = 0) -> tuple[Scored, Targets]:
    """A backbone that is right about four of five images, three repeats."""
    generator = np.random.default_rng(seed)
    width = max(classes, 1)
    drawn = generator.integers(0, max(width, 2), images)
    targets = (drawn[:, None] == np.arange(width)) if width > 1 else (drawn[:, None] == 1)
    logits = generator.normal(0, 2, (3, images, width)) + 4.0 * targets - 2.0
    if task is Task.MULTICLASS:
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    else:
        chances = 1 / (1 + np.exp(-logits))
    predictions = Predictions(
        val_rows=np.arange(images),
        val=chances.astype(np.float32),
        val_thresholds=np.full((3, images), 0.5),
        test_rows=np.zeros(0, np.int64),
        test=np.zeros((0, width), np.float32),
        test_threshold=0.5,
    )
    outcome = Scored(
        backbone="a", family="f", source="keras", params=10, weights="imagenet", predictions=predictions
    )
    names = ("no", "yes") if width == 1 else tuple("abcdefg"[:width])
    positive = 1 if task is Task.BINARY else None
    return outcome, Targets(
        targets=targets.astype(np.float32),
        classes=names,
        task=task,
        positive=positive,
        groups=drawn * 0 + np.arange(images) // 2,
    )


TASKS = [(Task.BINARY, 1), (Task.MULTICLASS, 3), (Task.MULTILABEL, 3)]


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_an_export_that_changes_nothing_has_the_figures_of_the_board(task: Task, classes: int) -> None:
    outcome, targets = board(task, classes)
    fitted = outcome.predictions.val[0]
    row = build_leaderboard([outcome], targets).rows[0]
    found = exported_f1(outcome, targets, np.arange(len(fitted)), fitted, fitted).f1
    assert (found.value, found.low, found.high) == (row["val_f1"], row["val_f1_low"], row["val_f1_high"])
    saturated = np.clip(np.round(fitted * 256) / 256, 0, 255 / 256).astype(np.float32)
    steps = exported_f1(outcome, targets, np.arange(len(fitted)), fitted, saturated).f1
    assert steps.value == pytest.approx(found.value, abs=0.02), "256 steps cost next to nothing"


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_an_export_that_ruins_the_answers_shows(task: Task, classes: int) -> None:
    outcome, targets = board(task, classes)
    fitted = outcome.predictions.val[0]
    positions = np.arange(len(fitted))
    before = exported_f1(outcome, targets, positions, fitted, fitted).f1
    ruined = np.full_like(fitted, 0.02)
    ruined[:, 0] = 0.9
    after = exported_f1(outcome, targets, positions, fitted, ruined).f1
    assert after.value < before.value - 0.05
    assert after.high < before.value


def test_the_order_of_the_images_is_theirs_and_some_are_enough() -> None:
    outcome, targets = board(Task.BINARY)
    generator = np.random.default_rng(1)
    fitted = outcome.predictions.val[0]
    noisy = np.clip(fitted + generator.normal(0, 0.3, fitted.shape), 0, 1).astype(np.float32)
    some = generator.permutation(len(fitted))[:80]
    found = exported_f1(outcome, targets, some, fitted[some], noisy[some])
    kept = np.sort(some)
    alone = dataclasses.replace(
        outcome,
        predictions=dataclasses.replace(
            outcome.predictions,
            val_rows=kept,
            val=outcome.predictions.val[:, kept],
            val_thresholds=outcome.predictions.val_thresholds[:, kept],
        ),
    )
    assert exported_f1(alone, targets, np.arange(len(fitted)), fitted, noisy) == found


def test_probabilities_of_0_and_1_stay_what_they_are() -> None:
    outcome, targets = board(Task.BINARY)
    certain = dataclasses.replace(outcome.predictions, val=np.round(outcome.predictions.val))
    fitted = outcome.predictions.val[0]
    found = exported_f1(
        dataclasses.replace(outcome, predictions=certain), targets, np.arange(len(fitted)), fitted, 1 - fitted
    )
    assert found.f1.value == build_leaderboard([outcome], targets).rows[0]["val_f1"]


def test_an_export_that_changes_nothing_costs_nothing_on_any_sample() -> None:
    outcome, targets = board(Task.BINARY, images=6000)
    row = build_leaderboard([outcome], targets).rows[0]
    fitted = outcome.predictions.val[0]
    drawn = [np.random.default_rng(seed).choice(6000, 400, replace=False) for seed in range(20)]
    found = [exported_f1(outcome, targets, some, fitted[some], fitted[some]) for some in drawn]
    assert all(one.lost == 0.0 for one in found)
    assert all(one.images == 400 for one in found)
    below = [row["val_f1"] - one.f1.value for one in found]
    assert max(below) > 0.01, "samples differ from all images by more than an export may cost"
    sign = np.where(np.arange(6000) % 20 == 0, 1, 0)[:, None]
    spoilt = np.abs(sign - fitted).astype(np.float32)  # turns every twentieth decision round
    lost = [exported_f1(outcome, targets, some, fitted[some], spoilt[some]).lost for some in drawn]
    whole = exported_f1(outcome, targets, np.arange(6000), fitted, spoilt)
    assert whole.lost == row["val_f1"] - whole.f1.value
    assert np.mean(lost) == pytest.approx(whole.lost, abs=0.005)
