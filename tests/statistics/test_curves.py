"""Learning curves: what twice the images bring, and silence where that is not known."""

from __future__ import annotations

import numpy as np
import pytest
from simulation import head_curve, watch_curve

from benchmark.errors import ArgumentError
from benchmark.ranking import curve_statements
from benchmark.records import Int64
from benchmark.statistics import LearningCurve, f1_interval, learning_curve


def targets_of(images: int, classes: int = 2) -> Int64:
    return np.arange(images, dtype=np.int64) % classes


def curve_of_errors(errors: dict[int, float], images: int = 4000) -> LearningCurve:
    """Of classifiers that err on nested parts of the images."""
    true = targets_of(images)
    hard = np.random.default_rng(0).permutation(images) / images
    decided = {size: np.tile(true ^ (hard < error), (2, 1)) for size, error in errors.items()}
    return learning_curve(true, decided)


def test_a_power_law_is_continued_between_itself_and_an_asymptote() -> None:
    curve = curve_of_errors({n: 0.4 * (n / 50) ** -0.5 for n in (50, 100, 200, 400)})
    now = 0.4 * 8**-0.5
    assert curve.now.value == pytest.approx(1 - now, abs=0.01)
    assert curve.images == 800
    assert 1 - now < curve.predicted.value < 1 - now * 2**-0.5 + 0.002
    assert curve.predicted.low < 1 - now * 2**-0.5 < curve.predicted.high
    assert curve.gain.value == pytest.approx(curve.predicted.value - curve.now.value)
    assert 0 < curve.gain.low < curve.gain.value < curve.gain.high
    assert curve.is_telling is True


def test_measured_points_are_those_of_the_board() -> None:
    curve = curve_of_errors({50: 0.3, 100: 0.2, 200: 0.1}, images=300)
    true = targets_of(300)
    hard = np.random.default_rng(0).permutation(300) / 300
    assert curve.now == f1_interval(true, np.tile(true ^ (hard < 0.1), (2, 1)))
    assert list(curve.measured) == [50, 100, 200]


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param({50: 0.1, 100: 0.1, 200: 0.1, 400: 0.1}, id="flat"),
        pytest.param({50: 0.08, 100: 0.1, 200: 0.1, 400: 0.12}, id="rising"),
        pytest.param({200: 0.2, 400: 0.1}, id="two sizes"),
        pytest.param({50: 0.0, 100: 0.0, 200: 0.0, 400: 0.0}, id="perfect"),
    ],
)
def test_nothing_is_said_where_the_curve_does_not_tell(errors: dict[int, float]) -> None:
    curve = curve_of_errors(errors)
    assert curve.is_telling is False
    assert curve.predicted.low <= curve.predicted.value <= curve.predicted.high


def test_nothing_is_said_of_few_images_or_of_an_interval_wider_than_what_is_left() -> None:
    steep = {10: 0.5, 20: 0.35, 40: 0.25}
    assert curve_of_errors(steep, images=2000).is_telling
    assert not curve_of_errors(steep, images=18).is_telling, "nine images of a class"
    good = {20: 0.3, 40: 0.12, 80: 0.05}
    assert not curve_of_errors(good, images=60).is_telling
    assert curve_of_errors(good, images=4000).is_telling


def test_the_sentence_has_both_figures_with_their_intervals_and_is_silent_otherwise() -> None:
    telling = curve_of_errors({50: 0.3, 100: 0.2, 200: 0.14})
    flat = curve_of_errors({50: 0.1, 100: 0.1, 200: 0.1})
    now, then = (
        f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" for found in (telling.now, telling.predicted)
    )
    assert curve_statements({"A": flat, "B": telling}) == (
        f"Twice the images: B F1 {now} -> about {then} (heads trained on 200 and on 400 images like these).",
    )


def test_repeats_that_differ_widen_the_interval_of_the_prediction_alone() -> None:
    true = targets_of(400)
    generator = np.random.default_rng(0)

    def decided(error: float, apart: float) -> Int64:
        rates = (error - apart, error + apart)
        return np.stack([true ^ (generator.random(400) < rate) for rate in rates])

    steady, shaky = (
        learning_curve(true, {n: decided(0.5 * (n / 25) ** -0.4, apart) for n in (25, 50, 100)})
        for apart in (0.0, 0.06)
    )

    def width(curve: LearningCurve) -> float:
        return curve.predicted.high - curve.predicted.low

    assert width(shaky) > 1.3 * width(steady)


def test_wrong_arguments_are_named() -> None:
    true = targets_of(20)
    with pytest.raises(ArgumentError, match="two sizes above 0"):
        learning_curve(true, {10: true})
    with pytest.raises(ArgumentError, match="two sizes above 0"):
        learning_curve(true, {0: true, 10: true})
    with pytest.raises(ArgumentError, match="level"):
        learning_curve(true, {5: true, 10: true}, level=1.0)
    with pytest.raises(ArgumentError, match="do not fit"):
        learning_curve(true, {5: true, 10: true[:5]})


@pytest.mark.parametrize(("classes", "distance", "images"), [(2, 1.5, 100), (2, 3.0, 300), (5, 3.0, 200)])
def test_twice_the_images_bring_what_is_predicted(classes: int, distance: float, images: int) -> None:
    """The short form of a table in docs/statistics.md."""
    seen = watch_curve(classes, distance, images, trials=12)
    assert seen.held >= 0.75, "at most three of twelve outside"
    assert abs(seen.predicted - seen.true) < 0.04
    assert seen.true > seen.now - 0.01


def test_heads_on_twice_the_images_do_what_is_predicted() -> None:
    """The heads of the default protocol, not their stand-in."""
    held = []
    for seed in range(100, 104):
        curve, true = head_curve(2.0, 120, seed=seed)
        held.append(curve.predicted.low <= true <= curve.predicted.high)
    assert sum(held) >= 3
