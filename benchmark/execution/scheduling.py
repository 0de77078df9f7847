"""How tasks share this machine's cores and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.machine import available_memory, cores

# Shares are of estimates: this much of the free memory stays free.
_SPARE = 0.1
# No task may take longer than this many times what everything would take if it were shared out evenly.
_LONGEST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Tasks that run side by side, after those of earlier shifts.

    Attributes:
        positions: which tasks, in their order.
        workers: processes at once; 0 works in this process.
        threads: for each of them.
    """

    positions: tuple[int, ...]
    workers: int
    threads: int


def shifts(
    jobs: int,
    needs: Sequence[tuple[float, float]],
    costs: Sequence[float],
    *,
    free: float | None = None,
    all_cores: int = 0,
) -> tuple[Shift, ...]:
    """Share out tasks over cores and memory.

    Preparing a backbone is single-threaded, so small tasks run one a core. A task that needs so much memory
    that not every core can have one like it, or so much arithmetic that all would wait for it at the end,
    runs in a later shift of fewer processes with more threads each.

    Args:
        jobs: processes that the user asked for, which is kept; 0 picks, 1 works in this process.
        needs: bytes of memory that each task takes with one thread, and for each further one.
        costs: arithmetic of each task, in any unit.
        free: bytes of memory to share; None asks the machine.
        all_cores: to share; 0 asks the machine.
    """
    if not needs:
        return ()
    count = all_cores or cores()
    everybody = tuple(range(len(needs)))
    if jobs:
        at_once = min(jobs, len(needs))
        workers = at_once if jobs > 1 else 0
        return (Shift(positions=everybody, workers=workers, threads=max(1, count // at_once)),)
    room = (available_memory() if free is None else free) * (1 - _SPARE)
    fair = _LONGEST * sum(costs) / count
    wanted = [_threads(need, cost, count, room, fair) for need, cost in zip(needs, costs, strict=True)]
    return tuple(_fitting(shift, needs, room) for shift in _grouped(wanted, count))


def _threads(need: tuple[float, float], cost: float, count: int, room: float, fair: float) -> int:
    """The fewest threads with which a task is done in time and its neighbours find memory."""
    threads = 1
    while threads < count and (_bytes(need, threads) * (count // threads) > room or cost / threads > fair):
        threads *= 2
    return min(threads, count)


def _bytes(need: tuple[float, float], threads: int) -> float:
    first, further = need
    return first + further * (threads - 1)


def _fitting(shift: Shift, needs: Sequence[tuple[float, float]], room: float) -> Shift:
    """A shift with as many threads as its share of the memory has room for, at least one each."""
    share = room / shift.workers
    # Where threads take no memory, fewer of them would save none.
    growing = [needs[position] for position in shift.positions if needs[position][1]]
    threads = shift.threads
    while threads > 1 and any(_bytes(need, threads) > share for need in growing):
        threads -= 1
    return replace(shift, threads=threads)


def _grouped(wanted: Sequence[int], count: int) -> list[Shift]:
    """Tasks by the threads that they want; too few to keep all cores busy wait for the next, larger ones."""
    made, waiting = [], list[int]()
    levels = sorted(set(wanted))
    for level in levels:
        waiting += [position for position, threads in enumerate(wanted) if threads == level]
        at_once = max(1, count // level)
        if len(waiting) >= at_once or level == levels[-1]:
            at_once = min(at_once, len(waiting))
            threads = max(1, count // at_once)
            made.append(Shift(positions=tuple(sorted(waiting)), workers=at_once, threads=threads))
            waiting = []
    return made
