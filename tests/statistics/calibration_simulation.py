"""Probabilities of known worth: temperatures that were planted, errors that were wished for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.records import AbstentionKind, AbstentionRule, Bool, Float64, Task
from benchmark.statistics import abstention, calibration, fit_temperature, selective, tempered

_NEW_IMAGES = 50_000


def sigmoid(values: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-values)))


def softmax(values: Float64) -> Float64:
    shifted = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def draw(
    generator: np.random.Generator, task: Task, images: int, temperature: float
) -> tuple[Float64, Float64]:
    """Probabilities whose logits are ``temperature`` times too large, and labels, (N, C) each."""
    columns = {Task.BINARY: 1, Task.MULTICLASS: 5, Task.MULTILABEL: 3}[task]
    true = generator.normal(0, 3, (images, columns))
    if task is Task.MULTICLASS:
        chosen = (softmax(true).cumsum(1) > generator.random((images, 1))).argmax(1)
        return softmax(true * temperature), np.eye(columns)[chosen]
    return sigmoid(true * temperature), (generator.random(true.shape) < sigmoid(true)).astype(float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What a fitted temperature did to new images, over the trials."""

    found: Float64  # temperatures
    before: float  # mean calibration error without it
    after: float  # with it
    by_chance: float  # what perfect probabilities stay below


def watch_temperature(task: Task, images: int, planted: float, *, trials: int, seed: int) -> Mended:
    """Fit on some images, judge on as many others."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(trials):
        temperature = fit_temperature(*draw(generator, task, images, planted), task)
        new, truth = draw(generator, task, images, planted)
        after = calibration(tempered(new, task, temperature), truth, task)
        rows.append((temperature, calibration(new, truth, task).error, after.error, after.by_chance))
    found, before, after_all, by_chance = np.array(rows).T
    return Mended(
        found=found, before=before.mean(), after=after_all.mean(), by_chance=float(by_chance.mean())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a wish for few wrong answers, as shares of the trials."""

    promised: float
    broken: float  # promised, and the true error is above the wish
    inside: float  # the true error lies in the interval that other images give
    answered: float  # mean share of images with an answer


def walls(generator: np.random.Generator, count: int, scale: float) -> tuple[Float64, Bool]:
    """Sureness, with its meaning, and whether the answer is right, (N,) each."""
    odds = np.abs(generator.normal(scale, scale / 2, count))
    return sigmoid(odds), generator.random(count) < sigmoid(odds)


def watch_abstention(
    images: int, of_a_group: int, error: float, scale: float, *, trials: int, seed: int
) -> Kept:
    """Choose on some images, judge on as many others and on 50,000 new ones; groups are alike throughout."""
    generator = np.random.default_rng(seed)
    new, _ = walls(generator, _NEW_IMAGES, scale)
    groups = None if of_a_group == 1 else np.arange(images) // of_a_group
    rule, rows = AbstentionRule(kind=AbstentionKind.ERROR, value=error), []

    def some() -> tuple[Float64, Bool]:
        sure, right = walls(generator, images // of_a_group, scale)
        return np.repeat(sure, of_a_group), np.repeat(right, of_a_group)

    for _ in range(trials):
        chosen = abstention(*some(), rule, groups)
        true_error = float((1 - new[new >= chosen.sure_from]).mean())
        told = selective(*some(), chosen.sure_from, groups)
        rows.append(
            (
                chosen.promised,
                chosen.promised and true_error > error,
                told.error.low <= true_error <= told.error.high,
                told.answered.value,
            )
        )
    promised, broken, inside, answered = np.array(rows, float).mean(0).tolist()
    return Kept(promised=promised, broken=broken, inside=inside, answered=answered)
