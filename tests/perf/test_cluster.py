"""The simulated cluster: nothing is lost or done twice, and no more is claimed than can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.perf.cluster import Block, Cluster, simulate

FREE: dict[str, float] = {"scheduler_seconds": 0.0, "storage_bytes_per_second": 1e30}


def blocks(count: int, seconds: float = 600.0) -> list[Block]:
    return [Block(seconds=seconds, storage_bytes=1e6)] * count


def test_blocks_that_divide_evenly_take_as_long_as_they_must() -> None:
    assert simulate(blocks(64), Cluster(workers=4, slots=2, **FREE)).seconds == 8 * 600
    assert simulate(blocks(1), Cluster(workers=4, slots=2, **FREE)).seconds == 600


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=50), st.integers(1, 8), st.integers(1, 4))
def test_no_schedule_beats_its_cores_or_loses_more_than_a_block(
    seconds: list[float], workers: int, slots: int
) -> None:
    work = [Block(seconds=one, storage_bytes=0) for one in seconds]
    found = simulate(work, Cluster(workers=workers, slots=slots, **FREE))
    ideal = sum(seconds) / (workers * slots)
    assert found.done == len(seconds)
    assert max(ideal, *seconds) - 1e-6 <= found.seconds <= ideal + max(seconds) + 1e-6


def test_a_scheduler_or_a_storage_that_is_busy_all_the_time_sets_the_pace() -> None:
    many = Cluster(workers=10_000, slots=1, scheduler_seconds=1.0)
    assert simulate(blocks(10_000, 1.0), many).seconds == pytest.approx(10_000, rel=0.01)
    slow = Cluster(workers=1000, slots=1, scheduler_seconds=0.0, storage_bytes_per_second=1e6)
    found = simulate(blocks(1000, 1.0), slow)
    assert (found.seconds, found.storage_share) == (1000, 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_what_lost_workers_were_doing_is_done_again(seed: int) -> None:
    unlucky = Cluster(workers=20, slots=2, lost_per_hour=0.5, seed=seed, **FREE)
    found = simulate(blocks(400), unlucky)
    assert found.done == 400
    assert found.lost_workers > 0
    lucky = simulate(blocks(400), Cluster(workers=20, slots=2, **FREE))
    assert found.seconds >= lucky.seconds
    assert found.lost_seconds <= found.lost_workers * 2 * 600
