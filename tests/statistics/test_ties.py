"""Tie groups: equal backbones stay together at the family-wise rate, better ones are separated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import World, watch_loss, watch_ties

from benchmark.records import Average
from benchmark.statistics import METRICS, Pairs, losses
from benchmark.statistics.assessment import chance_score
from benchmark.statistics.resampling import ErrorCounts, Sample
from benchmark.statistics.ties import above, tie_groups


def enough(trials: int, rate: float = 0.95) -> float:
    """What a true rate stays above in 999 of 1,000 simulations."""
    return rate - 3.1 * math.sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize("images", [100, 400, 2000])
@pytest.mark.parametrize(
    ("backbones", "trials", "correlation"), [(4, 100, 0.0), (4, 100, 0.7), (12, 50, 0.7), (52, 8, 0.4)]
)
def test_equal_backbones_stay_in_one_group(
    images: int, backbones: int, trials: int, correlation: float
) -> None:
    world = World(images=images, errors=(0.05,) * backbones, repeats=2, correlation=correlation)
    seen = watch_ties(world, trials=trials if images < 2000 else trials // 2, draws=1000)
    assert seen.all_tied >= enough(seen.trials)


@pytest.mark.slow
@pytest.mark.parametrize("images", [100, 400, 2000])
@pytest.mark.parametrize(("backbones", "trials"), [(4, 400), (12, 400), (52, 200)])
@pytest.mark.parametrize("error", [0.01, 0.03, 0.1, 0.2])
@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_equal_backbones_stay_in_one_group_on_the_broad_grid(
    images: int, backbones: int, trials: int, error: float, correlation: float
) -> None:
    world = World(images=images, errors=(error,) * backbones, repeats=1, correlation=correlation)
    seen = watch_ties(world, trials=trials, seed=1)
    assert seen.all_tied >= enough(seen.trials)


@pytest.mark.parametrize("group_size", [5, 20])
def test_equal_backbones_stay_in_one_group_when_images_come_in_groups(group_size: int) -> None:
    world = World(
        images=400, errors=(0.1,) * 8, correlation=0.4, group_size=group_size, group_correlation=0.5
    )
    seen = watch_ties(world, trials=80, draws=1000)
    assert seen.all_tied >= enough(seen.trials)


@pytest.mark.parametrize(
    ("images", "better", "others"), [(100, 0.02, 0.3), (400, 0.03, 0.13), (2000, 0.03, 0.07)]
)
def test_a_better_backbone_is_separated(images: int, better: float, others: float) -> None:
    world = World(images=images, errors=(better, *(others,) * 11), repeats=3, correlation=0.3)
    seen = watch_ties(world, trials=30, draws=1000)
    assert seen.best_kept >= enough(seen.trials)
    assert seen.others_out >= 0.75


def test_good_ones_are_told_from_bad_ones_and_not_from_each_other() -> None:
    world = World(images=400, errors=(0.03,) * 4 + (0.25,) * 12, repeats=3, correlation=0.3)
    seen = watch_ties(world, trials=30, draws=1000)
    assert seen.best_kept >= enough(seen.trials)
    assert seen.others_out == 1.0


@pytest.mark.parametrize("errors", [(0.05,) * 6, (0.06, 0.05, 0.04, 0.03), (0.1, 0.08)])
def test_nobody_gives_away_more_than_its_bound(errors: tuple[float, ...]) -> None:
    seen = watch_ties(World(images=400, errors=errors, correlation=0.3), trials=80)
    assert seen.bounds_held >= enough(seen.trials)


@pytest.mark.parametrize(("images", "error"), [(40, 0.1), (100, 0.05), (400, 0.02)])
def test_the_first_of_three_equal_models_gives_nearly_nothing_away(images: int, error: float) -> None:
    """The highest of three equal F1 is above the first by luck; the shrunk estimate knows that."""
    seen = watch_loss(World(images=images, errors=(error,) * 3, correlation=0.3), trials=200)
    assert seen.estimate < min(seen.observed / 2.5, 0.012)
    assert seen.held >= enough(200)
    assert seen.high > 0.01


@pytest.mark.parametrize(("images", "least"), [(200, 0.06), (2000, 0.07)])
def test_what_is_given_away_is_found_where_images_show_it(images: int, least: float) -> None:
    seen = watch_loss(World(images=images, errors=(0.1, 0.05, 0.02), correlation=0.3), trials=100)
    assert least < seen.estimate < 0.082, "the true loss is 0.08"
    assert seen.held >= enough(100)
    assert 0.01 < seen.low < 0.08 < seen.high


def decided_pair(both_right: int, first_only: int, second_only: int) -> tuple[Sample, list[ErrorCounts]]:
    """Two backbones on images that are alternately positive and negative."""
    total = both_right + first_only + second_only
    targets = np.arange(total)[:, None] % 2 == 0
    wrong = np.zeros((2, total), bool)
    wrong[1, both_right : both_right + first_only] = True
    wrong[0, both_right + first_only :] = True
    sample = Sample.of(targets, Average.BINARY)
    return sample, [ErrorCounts.of((each[:, None] ^ targets)[None], sample) for each in wrong]


@pytest.mark.parametrize(("one_sided", "groups"), [(2, 1), (3, 1), (8, 2), (14, 2)])
def test_few_images_that_all_speak_for_one_separate_nothing(one_sided: int, groups: int) -> None:
    """McNemar's exact two-sided p is 0.5, 0.25, 0.008 and 0.0001 here."""
    sample, errors = decided_pair(100, one_sided, 0)
    assert len(tie_groups(Pairs.of(sample, errors))) == groups


def test_six_images_separate_nothing() -> None:
    sample = Sample.of(np.arange(6)[:, None] % 2, Average.BINARY)
    for pattern in range(64):
        wrong = np.array([pattern >> bit & 1 for bit in range(6)], bool)[:, None]
        pair = [
            ErrorCounts.of(sample.targets[None], sample),
            ErrorCounts.of((sample.targets ^ wrong)[None], sample),
        ]
        groups = tie_groups(Pairs.of(sample, pair), draws=1000)
        assert len(groups) == 1 or wrong.sum() >= 5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_identical_decisions_tie(seed: int, repeats: int) -> None:
    generator = np.random.default_rng(seed)
    world = World(images=60, errors=(0.05, 0.2, 0.4), repeats=repeats)
    sample, errors = world.draw(generator)
    comparison = Pairs.of(sample, [*errors, *errors])
    for group in tie_groups(comparison, draws=500):
        for member in group.members.tolist():
            assert (member + 3) % 6 in group.members


def test_groups_hold_everyone_once_and_do_not_depend_on_order() -> None:
    world = World(images=500, errors=tuple(np.linspace(0.02, 0.4, 20)), correlation=0.3)
    sample, errors = world.draw(np.random.default_rng(0))
    forward = tie_groups(Pairs.of(sample, errors))
    backward = tie_groups(Pairs.of(sample, errors[::-1]))
    assert sorted(np.concatenate([group.members for group in forward]).tolist()) == list(range(20))
    assert [sorted((19 - group.members).tolist()) for group in backward] == [
        group.members.tolist() for group in forward
    ]


def test_all_perfect_still_bounds_the_loss() -> None:
    sample = Sample.of(np.arange(100)[:, None] % 2, Average.BINARY)
    perfect = ErrorCounts.of(sample.targets[None], sample)
    # Up to 3 or 4 errors in 100 can hide behind none.
    assert losses(Pairs.of(sample, [perfect] * 3))[:, 2] == pytest.approx([0.038] * 3, abs=0.01)


def test_the_loss_bound_shrinks_with_more_images() -> None:
    def bound(images: int) -> float:
        sample, errors = World(images=images, errors=(0.05,) * 3).draw(np.random.default_rng(0))
        return float(losses(Pairs.of(sample, errors))[:, 2].max())

    assert bound(100) > bound(1000) > bound(10_000)


@pytest.mark.parametrize("average", [Average.MACRO, Average.MICRO, Average.WEIGHTED])
def test_several_classes_are_compared(average: Average) -> None:
    generator = np.random.default_rng(5)
    true = generator.choice(5, 500, p=[0.3, 0.3, 0.2, 0.1, 0.1])

    def decided(error: float) -> np.ndarray:
        wrong = generator.random((2, 500)) < error
        other = (true + generator.integers(1, 5, (2, 500))) % 5
        return np.eye(5, dtype=bool)[np.where(wrong, other, true)]

    sample = Sample.of(np.eye(5)[true], average)
    errors = [ErrorCounts.of(decided(error), sample) for error in (0.05, 0.05, 0.3, 0.3)]
    groups = tie_groups(Pairs.of(sample, errors))
    assert [group.members.tolist() for group in groups] == [[0, 1], [2, 3]]


def test_the_variance_of_f1_is_what_simulation_says() -> None:
    world = World(images=1000, errors=(0.1, 0.1), repeats=1, correlation=0.5, shares=(0.7, 0.3))
    f1, deviations = [], []
    for seed in range(150):
        comparison = Pairs.of(*world.draw(np.random.default_rng(seed)))
        f1.append(comparison.gaps[0, 1])
        deviations.append(math.sqrt(comparison.variances[0, 1]))
    assert np.std(f1) == pytest.approx(np.mean(deviations), rel=0.15)


def test_above_a_level_means_beyond_chance_for_all_together() -> None:
    hits = 0
    for seed in range(60):
        world = World(images=200, errors=(0.5,) * 10)
        comparison = Pairs.of(*world.draw(np.random.default_rng(seed)))
        hits += above(comparison, np.full(10, 0.5), draws=1000).any()
    assert hits / 60 <= 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / 60)
    good = Pairs.of(*World(images=200, errors=(0.2, 0.5)).draw(np.random.default_rng(0)))
    assert above(good, np.full(2, 2 / 3)).tolist() == [True, False]


ONE_OF_FOUR_IS_ABSENT = (1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("metric", ["f1", "precision"])
@pytest.mark.parametrize(
    ("tags", "shares"), [(False, ONE_OF_FOUR_IS_ABSENT), (True, (0.97, 0.98)), (True, (0.5, 0.5, 0.98))]
)
def test_guesses_are_above_no_level_though_a_class_side_is_nearly_empty(
    tags: bool, shares: tuple[float, ...], metric: str
) -> None:
    hits = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)

        def drawn(generator: np.random.Generator = generator) -> np.ndarray:
            if tags:
                return generator.random((200, len(shares))) < shares
            labels = generator.choice(len(shares), 200, p=np.array(shares) / sum(shares))
            return np.eye(len(shares), dtype=bool)[labels]

        sample = Sample.of(drawn(), Average.MACRO, metric=METRICS[metric])
        errors = [ErrorCounts.of(drawn()[None], sample) for _ in range(6)]
        levels = np.array([chance_score(sample, each) for each in errors])
        hits += above(Pairs.of(sample, errors), levels, draws=1000).any()
    assert hits / 60 <= 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / 60)


@pytest.mark.parametrize("spared", [0, 1, 3])
@pytest.mark.parametrize("average", [Average.MACRO, Average.MICRO, Average.WEIGHTED])
def test_a_side_that_can_make_no_gap_hides_none(spared: int, average: Average) -> None:
    """A tag that nearly all images carry, and one that none does."""
    generator = np.random.default_rng(0)
    true = generator.random((200, 4)) < (0.4, 0.4, 2.0, -1.0)
    true[:spared, 2] = False
    sample = Sample.of(true, average)
    errors = [ErrorCounts.of((true ^ (generator.random(true.shape) < 0.03))[None], sample) for _ in range(3)]
    levels = np.array([chance_score(sample, each) for each in errors])
    assert above(Pairs.of(sample, errors), levels).all()


@pytest.mark.parametrize("average", [Average.BINARY, Average.MACRO])
def test_two_units_that_alone_make_a_gap_do_not_show_it(average: Average) -> None:
    """Of 200 images two are negative: finding both may be luck."""
    true = np.ones((200, 1), bool)
    true[:2] = False
    sample = Sample.of(true, average)
    errors = ErrorCounts.of(true[None], sample)
    assert not above(Pairs.of(sample, [errors]), np.array([chance_score(sample, errors)])).any()
