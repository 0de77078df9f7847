"""Probabilities of known worth: temperatures that were planted, errors that were wished for."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_simulation import draw, walls, watch_abstention, watch_temperature

from benchmark.records import AbstentionRule, Task
from benchmark.statistics import (
    abstention,
    calibration,
    cross_tempered,
    decide,
    fit_temperature,
    share,
    sureness,
    tempered,
    tempered_threshold,
)

WORLDS = 30


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("planted", [0.5, 1.0, 4.0])
def test_a_planted_temperature_is_found_again_and_mends_new_images(task: Task, planted: float) -> None:
    seen = watch_temperature(task, 500, planted, trials=WORLDS, seed=int(10 * planted))
    assert np.median(seen.found) == pytest.approx(planted, rel=0.06)
    assert np.quantile(np.abs(np.log(seen.found / planted)), 0.9) < 0.25
    assert seen.after < seen.by_chance
    assert seen.after <= seen.before + 0.005
    if planted == 4.0:
        assert seen.after < 0.6 * seen.before
        assert seen.before > 1.5 * seen.by_chance


def test_one_wrong_label_does_not_decide_the_temperature() -> None:
    generator = np.random.default_rng(8)
    for task in (Task.BINARY, Task.MULTICLASS):
        probabilities, targets = draw(generator, task, 150, 1.0)
        before = fit_temperature(probabilities, targets, task)
        sure = int(probabilities.max(-1).argmax())
        wrong = targets.copy()
        wrong[sure] = 1 - targets[sure] if task is Task.BINARY else np.roll(targets[sure], 1)
        assert fit_temperature(probabilities, wrong, task) < 1.25 * before


def test_perfect_probabilities_stay_below_what_chance_shows() -> None:
    generator = np.random.default_rng(2)
    found = [calibration(*draw(generator, Task.BINARY, 150, 1.0), Task.BINARY) for _ in range(200)]
    below = np.mean([each.error <= each.by_chance for each in found])
    assert 0.9 <= below <= 0.99
    covered = [one.found.low <= one.stated <= one.found.high for each in found for one in each.bins]
    assert 0.9 <= np.mean(covered) <= 0.99


def test_labels_of_an_image_are_not_right_together_by_chance() -> None:
    """Of independent labels perfect probabilities show as much as on as many images of one label."""
    generator = np.random.default_rng(9)
    probabilities = generator.uniform(0.05, 0.95, (60, 20)).astype(np.float32)
    targets = generator.random(probabilities.shape) < probabilities
    several = calibration(probabilities, targets, Task.MULTILABEL).by_chance
    one = calibration(probabilities.reshape(-1, 1), targets.reshape(-1, 1), Task.BINARY).by_chance
    assert several == pytest.approx(one, rel=0.1)
    groups = np.repeat(np.arange(10), 6)
    related = calibration(probabilities, targets, Task.MULTILABEL, groups).by_chance
    assert related > 1.2 * several, "images of a group are right together, label by label"


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTILABEL])
def test_decisions_stay_when_the_threshold_moves_along(task: Task) -> None:
    probabilities, _ = draw(np.random.default_rng(3), task, 300, 2.0)
    for threshold in (0.0, 0.03, 0.5, 0.9):
        for temperature in (0.3, 1.0, 5.0):
            moved = float(tempered_threshold(threshold, temperature))
            same = decide(tempered(probabilities, task, temperature), moved, task)
            assert np.array_equal(decide(probabilities, threshold, task), same)


def test_images_that_are_all_right_do_not_ask_for_certainty() -> None:
    targets = np.arange(40)[:, None] % 2
    temperature = fit_temperature(np.where(targets, 0.9, 0.1), targets, Task.BINARY)
    sure = tempered([[0.9]], Task.BINARY, temperature).item()
    assert 0.95 < sure < 0.99, "one image in 42 may be wrong"
    assert fit_temperature(np.zeros((0, 1)), np.zeros((0, 1)), Task.BINARY) == 1.0


def test_a_cross_fitted_temperature_never_sees_the_labels_that_it_is_judged_by() -> None:
    generator = np.random.default_rng(4)
    probabilities, targets = draw(generator, Task.BINARY, 100, 3.0)
    groups = np.repeat(np.arange(20), 5)
    usual = cross_tempered(probabilities, targets, Task.BINARY, groups)
    for group in (0, 7):
        other = np.where(groups[:, None] == group, 1 - targets, targets)
        found = cross_tempered(probabilities, other, Task.BINARY, groups)
        assert np.array_equal(found[groups == group], usual[groups == group])
        assert not np.array_equal(found, usual)


@pytest.mark.parametrize(
    ("images", "of_a_group", "error", "scale"),
    [
        (100, 1, 0.05, 5.0),
        (300, 1, 0.05, 4.0),
        (1000, 1, 0.02, 5.0),
        (1000, 1, 0.05, 3.0),
        (1500, 5, 0.05, 4.0),
    ],
)
def test_a_promised_error_is_kept(images: int, of_a_group: int, error: float, scale: float) -> None:
    """The true error of what is answered is above the wish in at most one draw of twenty."""
    trials = 200 if of_a_group == 1 else 40
    seen = watch_abstention(images, of_a_group, error, scale, trials=trials, seed=images)
    chance = 2 * np.sqrt(0.05 * 0.95 / trials)
    assert seen.broken <= 0.05 + chance
    assert seen.inside >= 0.95 - chance, "what is said of other images than those that chose"
    assert seen.promised > 0.5
    assert seen.answered > 0.6


def test_what_is_easy_is_always_answered_and_what_nobody_can_promise_is_said() -> None:
    always = abstention(np.full(200, 0.99), np.ones(200, bool), AbstentionRule())
    assert (always.sure_from, always.promised, always.answered.value) == (0.0, True, 1.0)
    sure = np.linspace(0.5, 1, 20)
    few = abstention(sure, np.ones(20, bool), AbstentionRule())
    assert not few.promised, "twenty images cannot say that one of twenty errs"
    assert np.mean(1 - sure[sure >= few.sure_from]) <= 0.05 < np.mean(1 - sure[sure >= few.sure_from - 0.03])
    hopeless = abstention(np.full(20, 0.6), np.ones(20, bool), AbstentionRule())
    assert (hopeless.sure_from, hopeless.promised) == (0.95, False)
    wrong = abstention(np.linspace(0.5, 1, 200), np.arange(200) % 2 == 0, AbstentionRule())
    assert not wrong.promised
    never = abstention(np.linspace(0.5, 1, 20), np.ones(20, bool), AbstentionRule.parse("none"))
    assert (never.sure_from, never.answered.value) == (0.0, 1.0)


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.97])
def test_a_wanted_coverage_is_what_is_answered(wanted: float) -> None:
    generator = np.random.default_rng(5)
    sure, right = walls(generator, 400, 2.0)
    found = abstention(sure, right, AbstentionRule.parse(f"coverage={wanted}"))
    assert found.answered.value == pytest.approx(wanted, abs=1 / 400)
    new, _ = walls(generator, 20_000, 2.0)
    assert np.mean(new >= found.sure_from) == pytest.approx(wanted, abs=0.06)


def test_sureness_is_the_probability_of_the_answer() -> None:
    assert sureness([[0.2], [0.4]], 0.3, Task.BINARY) == pytest.approx([0.8, 0.4])
    assert sureness([[0.2, 0.7, 0.1]], 0.5, Task.MULTICLASS) == pytest.approx([0.7])
    assert sureness([[0.2, 0.9]], 0.5, Task.MULTILABEL) == pytest.approx([0.8])


def test_a_share_has_the_same_interval_by_either_way() -> None:
    flags = np.arange(60) < 57
    direct, drawn = share(flags), share(flags, np.arange(60))
    assert (direct.low, direct.high) == pytest.approx((drawn.low, drawn.high), abs=0.015)
    related = share(flags, np.arange(60) // 3)
    assert related.high - related.low > direct.high - direct.low
    assert np.isnan(share(np.zeros(0, bool)).value)


@pytest.mark.parametrize("text", ["error=0", "error=1", "coverage=x", "never", "none=1", "error"])
def test_other_wishes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AbstentionRule.parse(text)


def test_a_wish_reads_as_it_is_written() -> None:
    assert [str(AbstentionRule.parse(text)) for text in ("none", "error=0.05", "coverage=0.9")] == [
        "none",
        "error=0.05",
        "coverage=0.9",
    ]
