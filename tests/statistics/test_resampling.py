"""Intervals that hold what they promise, seen on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulation import World, watch_intervals

from benchmark.errors import ArgumentError
from benchmark.records import Average
from benchmark.statistics import METRICS
from benchmark.statistics.resampling import ErrorCounts, Sample, estimates, resample


def enough(trials: int, rate: float = 0.95) -> float:
    """What a true rate stays above in 999 of 1,000 simulations."""
    return rate - 3.1 * math.sqrt(rate * (1 - rate) / trials)


def two_classes(per_class: int) -> Sample:
    return Sample.of(np.repeat([[1], [0]], per_class, axis=0), Average.BINARY)


@pytest.mark.parametrize("images", [100, 400, 2000])
@pytest.mark.parametrize("error", [0.01, 0.05, 0.2])
def test_intervals_cover_at_the_stated_rate(images: int, error: float) -> None:
    world = World(images=images, errors=(error,) * 40, repeats=2)
    seen = watch_intervals(world, trials=10 if images < 2000 else 5)
    assert seen.coverage >= enough(seen.trials)


@pytest.mark.slow
@pytest.mark.parametrize("images", [100, 400, 2000])
@pytest.mark.parametrize("error", [0.01, 0.02, 0.03, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("repeats", [1, 3])
def test_intervals_cover_on_the_broad_grid(images: int, error: float, share: float, repeats: int) -> None:
    world = World(images=images, errors=(error,) * 40, repeats=repeats, shares=(1 - share, share))
    seen = watch_intervals(world, trials=50, seed=1)
    assert seen.coverage >= enough(seen.trials)


@pytest.mark.parametrize("group_size", [5, 10])
def test_intervals_cover_with_groups(group_size: int) -> None:
    world = World(images=400, errors=(0.1,) * 40, group_size=group_size, group_correlation=0.5)
    seen = watch_intervals(world, trials=10)
    assert seen.coverage >= enough(seen.trials)
    alone = watch_intervals(World(images=400, errors=(0.1,) * 40), trials=3)
    assert seen.width > 1.2 * alone.width


def test_a_perfect_sample_has_an_interval_with_the_right_depth() -> None:
    sample = two_classes(50)
    perfect = ErrorCounts.of(sample.targets[None], sample)
    low, high = resample(sample, [perfect]).intervals()[0]
    # One-sided 97.5 % bounds on "no error in 100": 3.7 %; F1 and error rate are close to one another here.
    assert 0.94 < low < 0.975
    assert 0.999 < high <= 1


def test_a_hopeless_sample_has_an_interval() -> None:
    sample = two_classes(20)
    low, high = resample(sample, [ErrorCounts.of(~sample.targets[None], sample)]).intervals()[0]
    assert 0 <= low < 0.01
    assert 0.05 < high < 0.4


def test_equal_decisions_have_equal_intervals_and_others_do_not_matter() -> None:
    sample, errors = World(images=200, errors=(0.1, 0.2, 0.3), repeats=3).draw(np.random.default_rng(0))
    alone = resample(sample, errors[:1], seed=5).intervals()
    together = resample(sample, [errors[2], errors[0], errors[0]], seed=5).intervals()
    np.testing.assert_array_equal(alone[0], together[1])
    np.testing.assert_array_equal(together[1], together[2])


def test_drawing_in_blocks_and_batches_is_the_same_as_at_once() -> None:
    world = World(images=5000, errors=(0.05, 0.1), repeats=2)
    sample, errors = world.draw(np.random.default_rng(1))
    several = resample(sample, errors, resamples=200, seed=3)
    one_by_one = [resample(sample, [each], resamples=200, seed=3) for each in errors]
    np.testing.assert_array_equal(several.low, np.hstack([each.low for each in one_by_one]))
    assert several.low.std() > 0


def test_point_estimates_are_the_mean_over_repeats() -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(2)
    targets = generator.random((60, 1)) < 0.4
    decided = generator.random((3, 60, 1)) < 0.5
    sample = Sample.of(targets, Average.BINARY)
    expected = [f1_score(targets[:, 0], each[:, 0]) for each in decided]
    assert ErrorCounts.of(decided, sample).score(sample) == pytest.approx(expected)


@pytest.mark.parametrize("average", [Average.MACRO, Average.MICRO, Average.WEIGHTED])
def test_several_classes(average: Average) -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(3)
    true = generator.choice(4, 300, p=[0.4, 0.3, 0.2, 0.1])
    predicted = np.where(generator.random((2, 300)) < 0.1, generator.integers(0, 4, (2, 300)), true)
    sample = Sample.of(np.eye(4)[true], average)
    errors = ErrorCounts.of(np.eye(4, dtype=bool)[predicted], sample)
    expected = [f1_score(true, each, average=average.value) for each in predicted]
    assert errors.score(sample) == pytest.approx(expected)
    low, high = resample(sample, [errors]).intervals()[0]
    assert low < np.mean(expected) < high
    assert 0.02 < high - low < 0.2


def test_how_many_images_a_class_has_is_random_too() -> None:
    """Everything called positive: F1 is 2p / (1 + p), as uncertain as the share p of positive images."""
    sample = two_classes(40)
    everything = ErrorCounts.of(np.ones((1, 80, 1), bool), sample)
    low, high = resample(sample, [everything]).intervals()[0]
    share = np.array([0.39, 0.61])  # 1/2 -+ 1.96 standard deviations of a share of 80 images
    assert [low, high] == pytest.approx(2 * share / (1 + share), abs=0.02)


@pytest.mark.parametrize(("error", "share"), [(0.05, 0.1), (0.2, 0.1), (0.2, 0.2)])
def test_intervals_cover_where_one_class_is_rare(error: float, share: float) -> None:
    world = World(images=400, errors=(error,) * 40, shares=(1 - share, share))
    seen = watch_intervals(world, trials=25)
    assert seen.coverage >= enough(seen.trials)


@pytest.mark.parametrize(("classes", "images"), [(10, 200), (20, 400)])
@pytest.mark.parametrize("error", [0.01, 0.05])
def test_intervals_cover_the_mean_over_classes(classes: int, images: int, error: float) -> None:
    """Many classes do not add up to many images that nobody saw."""
    world = World(images=images, errors=(error,) * 20, shares=(1 / classes,) * classes)
    seen = watch_intervals(world, trials=15)
    assert seen.coverage >= enough(seen.trials)
    assert seen.width < 1.3 * seen.spread


@pytest.mark.parametrize("metric", ["precision", "recall", "balanced_accuracy"])
@pytest.mark.parametrize(("images", "recalls"), [(60, (0.9, 0.8)), (240, (0.7, 0.97))])
def test_intervals_of_another_metric_cover_at_the_stated_rate(
    metric: str, images: int, recalls: tuple[float, float]
) -> None:
    """One image in four is positive; the classes are recognised in ``recalls`` of their images."""
    hit, alarm = 0.25 * recalls[0], 0.75 * (1 - recalls[1])
    known = {"precision": hit / (hit + alarm), "recall": recalls[0], "balanced_accuracy": np.mean(recalls)}
    generator, trials, held = np.random.default_rng(0), 300, 0
    for seed in range(trials):
        true = generator.random(images) < 0.25
        right = generator.random(images) < np.where(true, *recalls)
        sample = Sample.of(true[:, None], Average.BINARY, metric=METRICS[metric])
        errors = [ErrorCounts.of((true == right)[None, :, None], sample)]
        value, low, high = estimates(sample, errors, resamples=400, seed=seed)[0]
        assert low <= value <= high
        held += low <= known[metric] <= high
    assert held >= enough(trials) * trials


def test_decisions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="do not fit"):
        ErrorCounts.of(np.ones((1, 5, 1), bool), two_classes(40))
