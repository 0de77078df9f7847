"""The interval of the F1 that the final head will have on new images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from final_head_simulation import HeadWorld, watch_final_heads
from photographs import BACKBONES, read_photographs, watch_other_walls

from benchmark.records import Average
from benchmark.statistics import ErrorCounts, Sample, estimates, final_head_estimates

SIZES = (64.0, 80.0, 100.0)


def decided(sample: Sample, wrong: int, repeats: int = 1) -> ErrorCounts:
    """Decisions of which the same number of each class is wrong."""
    found = np.repeat(sample.targets[None], repeats, 0)
    half = len(sample.targets) // 2
    found[:, :wrong] ^= True
    found[:, half : half + wrong] ^= True
    return ErrorCounts.of(found, sample)


@pytest.fixture
def sample() -> Sample:
    return Sample.of(np.repeat([[1], [0]], 100, axis=0), Average.BINARY)


def test_where_more_images_bought_nothing_the_interval_is_that_of_the_decisions(sample: Sample) -> None:
    heads = decided(sample, 10)
    found = final_head_estimates(sample, [heads], [heads], SIZES, seed=3)
    np.testing.assert_allclose(found, estimates(sample, [heads], seed=3))


def test_what_more_images_bought_is_carried_on_and_heads_differ_by_as_much(sample: Sample) -> None:
    heads, smaller = decided(sample, 30), decided(sample, 35)
    ((expected, low, high),) = final_head_estimates(sample, [heads], [smaller], SIZES, seed=3)
    ((plain, plain_low, plain_high),) = estimates(sample, [heads], seed=3)
    # Of 35, 30 wrong in a hundred, the square root law makes 25.5; one standard deviation is about 0.08.
    assert expected == pytest.approx(plain + 0.0447, abs=1e-4)
    assert (low + high) / 2 == pytest.approx((plain_low + plain_high) / 2 + 0.045, abs=0.01)
    assert 0.25 < high - low < 0.4
    assert plain_high - plain_low < 0.16


def test_a_backbone_does_not_move_the_interval_of_another(sample: Sample) -> None:
    good, fair, poor = (decided(sample, wrong, 3) for wrong in (5, 10, 20))
    alone = final_head_estimates(sample, [good], [fair], SIZES, seed=5)
    together = final_head_estimates(sample, [fair, good], [poor, fair], SIZES, seed=5)
    np.testing.assert_array_equal(alone[0], together[1])


@pytest.mark.parametrize(
    "world",
    [HeadWorld(images=100, axes=2, distance=1.6), HeadWorld(images=200, axes=2, groups=20)],
    ids=["images", "groups"],
)
def test_the_final_head_lands_in_its_interval(world: HeadWorld) -> None:
    """The short form of a table in docs/statistics.md: 0.92 wanted, less what few data sets miss by luck."""
    seen = watch_final_heads(world, trials=20)
    assert seen.coverage >= 0.75
    assert seen.width < 2 * seen.spread


@pytest.mark.parametrize(
    "names", [BACKBONES[:1], pytest.param(BACKBONES, marks=pytest.mark.slow)], ids=["one", "four"]
)
def test_other_walls_are_what_the_board_says_that_they_will_be(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Ranked on half of the walls with ``--groups auto``; without groups the same interval is far off."""
    cache = tmp_path / "cache"
    found = read_photographs(cache, names)
    if found is None:
        pytest.skip("needs the photographs and weights in ../shared")
    for grouped in (True, False):
        folder = tmp_path / str(grouped) / "walls"
        for name, seen in watch_other_walls(found, folder, cache, grouped=grouped, seed=0).items():
            final, _, _, _, _, low, high = seen
            assert (low <= final <= high) is grouped, name
            assert high - low < 0.4
