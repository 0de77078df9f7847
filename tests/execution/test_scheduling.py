"""How tasks share the cores and memory of machines that are larger or smaller than this one."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.backbones import select
from benchmark.engines import memory_bytes
from benchmark.execution.scheduling import Shift, shifts
from benchmark.records import Engine

GIGABYTE = 1e9
SMALL = (1.0, 0.0)


def test_a_machine_of_many_cores_uses_them_all() -> None:
    (only,) = shifts(0, [(0.5 * GIGABYTE, 0.0)] * 64, [1.0] * 64, free=256 * GIGABYTE, all_cores=32)
    assert only == Shift(positions=tuple(range(64)), workers=32, threads=1)


def test_where_memory_is_short_fewer_work_side_by_side_with_more_threads_each() -> None:
    (only,) = shifts(0, [(GIGABYTE, 0.0)] * 64, [1.0] * 64, free=9 * GIGABYTE, all_cores=32)
    assert (only.workers, only.threads) == (8, 4)
    (alone,) = shifts(0, [(20 * GIGABYTE, 0.0)] * 2, [1.0] * 2, free=GIGABYTE, all_cores=32)
    assert (alone.workers, alone.threads) == (1, 32)


def test_one_large_network_does_not_hold_up_the_small_ones() -> None:
    needs = [(0.5 * GIGABYTE, 0.0)] * 31 + [(18 * GIGABYTE, 0.0)]
    small, large = shifts(0, needs, [1.0] * 32, free=32 * GIGABYTE, all_cores=16)
    assert small == Shift(positions=tuple(range(31)), workers=16, threads=1)
    assert large == Shift(positions=(31,), workers=1, threads=16)


def test_nothing_is_left_to_one_core_at_the_end() -> None:
    small, large = shifts(0, [SMALL] * 33, [1.0] * 32 + [100.0], free=1e9, all_cores=32)
    assert small.workers == 32
    assert (large.positions, large.workers, large.threads) == ((32,), 1, 32)


def test_a_single_task_has_the_whole_machine_in_a_process_of_its_own() -> None:
    assert shifts(0, [SMALL], [1.0], free=1e9, all_cores=12) == (
        Shift(positions=(0,), workers=1, threads=12),
    )


def test_the_number_of_jobs_that_was_asked_for_is_kept() -> None:
    (here,) = shifts(1, [(1e15, 0.0)] * 9, [1.0] * 9, free=1.0, all_cores=8)
    assert (here.workers, here.threads) == (0, 8)
    (four,) = shifts(4, [(1e15, 0.0)] * 9, [1.0] * 9, free=1.0, all_cores=8)
    assert (four.workers, four.threads) == (4, 2)
    (two,) = shifts(4, [SMALL] * 2, [1.0] * 2, free=1.0, all_cores=8)
    assert (two.workers, two.threads) == (2, 4)
    assert shifts(0, [], [], free=1.0, all_cores=8) == ()


def test_threads_that_need_memory_of_their_own_are_fewer_where_it_is_short() -> None:
    (alone,) = shifts(0, [(2 * GIGABYTE, GIGABYTE)], [1.0], free=10 * GIGABYTE, all_cores=32)
    assert (alone.workers, alone.threads) == (1, 8)
    (pair,) = shifts(0, [(2 * GIGABYTE, 0.0)] * 2, [1.0] * 2, free=10 * GIGABYTE, all_cores=32)
    assert (pair.workers, pair.threads) == (2, 16)


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("gigabytes", [32, 128])
def test_the_whole_zoo_fits_into_the_memory_of_a_server(engine: Engine, gigabytes: int) -> None:
    zoo = select("all")
    needs = [memory_bytes(backbone, 224, engine) for backbone in zoo]
    plan = shifts(0, needs, [float(one.flops) for one in zoo], free=gigabytes * GIGABYTE, all_cores=32)
    assert plan[0].workers * plan[0].threads == 32
    for shift in plan:
        assert shift.threads * shift.workers <= 32
        taken = [needs[at][0] + needs[at][1] * (shift.threads - 1) for at in shift.positions]
        assert sum(sorted(taken, reverse=True)[: shift.workers]) <= gigabytes * GIGABYTE


NEED = st.tuples(st.floats(0, 1e11), st.floats(0, 1e10))
TASKS = st.lists(st.tuples(NEED, st.floats(0, 1e15)), min_size=1, max_size=70)


@given(tasks=TASKS, free=st.floats(1e8, 1e12), count=st.integers(1, 130))
def test_every_task_runs_once_within_cores_and_memory(
    tasks: list[tuple[tuple[float, float], float]], free: float, count: int
) -> None:
    needs, costs = [need for need, _ in tasks], [cost for _, cost in tasks]
    plan = shifts(0, needs, costs, free=free, all_cores=count)
    assert sorted(chain.from_iterable(shift.positions for shift in plan)) == list(range(len(tasks)))
    for shift in plan:
        assert 1 <= shift.workers * shift.threads <= count
        taken = [needs[at][0] + needs[at][1] * (shift.threads - 1) for at in shift.positions]
        alone = shift.workers == shift.threads == 1
        least = shift.workers == 1 and max(needs[at][0] for at in shift.positions) > 0.9 * free
        assert alone or least or sum(sorted(taken, reverse=True)[: shift.workers]) <= free
