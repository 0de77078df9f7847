"""What a cluster embeds as one task: a block of images times a bundle of backbones, sized by what it costs.

An expensive backbone is split into blocks; cheap ones share one, so that its images are decoded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmark.pipeline.costs import EmbeddingCost
from benchmark.records import Bool, Int64

# So many tasks a worker, that no worker waits long for the last one.
_TASKS_PER_WORKER = 4
# Of one core: a lost worker costs no more than that, and an engine is worth its opening.
_MOST_SECONDS, _LEAST_SECONDS = 300.0, 10.0
# Pixels of a block are in memory: 300 MB at 224 pixels.
_MOST_ROWS = 2048
_FEWEST_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One task.

    Attributes:
        positions: of the backbones.
        rows: int64 (n,), which images.
        cost: expected seconds of one core.
        after: the block, by its place, that prepares the same backbone first; None where nobody need wait.
    """

    positions: tuple[int, ...]
    rows: Int64
    cost: float
    after: int | None = None


def blocks_of(
    lacking: Mapping[int, Bool], costs: Mapping[int, EmbeddingCost], workers: int, *, first: int = 0
) -> list[Block]:
    """Share out what backbones of one input size lack.

    Args:
        lacking: by position of the backbone, bool (N,), which images it lacks; at least one of them.
        costs: by position, what one image costs.
        workers: of the cluster.
        first: the place of the first block among all.
    """
    counts = {one: int(rows.sum()) for one, rows in lacking.items()}
    everything = sum(_seconds([one], costs, counts[one]) for one in lacking)
    # Nobody stays idle for the sake of larger tasks.
    least = min(_LEAST_SECONDS, everything / workers)
    wanted = min(_MOST_SECONDS, max(least, everything / (_TASKS_PER_WORKER * workers)))
    made: list[Block] = []
    bundle: list[int] = []
    for one in sorted(lacking, key=lambda one: (costs[one].inference, one)):
        if bundle and _seconds([*bundle, one], costs, min(_MOST_ROWS, max(counts.values()))) > wanted:
            made += _split(bundle, lacking, costs, wanted, first + len(made))
            bundle = []
        bundle.append(one)
    return made + _split(bundle, lacking, costs, wanted, first + len(made))


def count_blocks(seconds: float, rows: int) -> int:
    """Into how many blocks a backbone is split that embeds so many images in so many seconds of one core."""
    return max(1, math.ceil(seconds / _MOST_SECONDS), math.ceil(rows / _MOST_ROWS))


def _seconds(bundle: list[int], costs: Mapping[int, EmbeddingCost], rows: int) -> float:
    return sum(costs[one].prepare + rows * costs[one].inference for one in bundle)


def _split(
    bundle: list[int],
    lacking: Mapping[int, Bool],
    costs: Mapping[int, EmbeddingCost],
    wanted: float,
    place: int,
) -> list[Block]:
    """The blocks of one bundle; the first of several is small, and the others wait until it has converted."""
    rows = np.flatnonzero(np.logical_or.reduce([lacking[one] for one in bundle])).astype(np.int64)
    # Less than it takes to open the engine again is not worth a task.
    prepare = _seconds(bundle, costs, 0)
    afford = max(wanted - prepare, prepare) / max(1e-9, sum(costs[one].inference for one in bundle))
    size = int(min(_MOST_ROWS, max(_FEWEST_ROWS, afford)))
    parts = [rows]
    if len(rows) > size:
        first, others = np.split(rows, [_FEWEST_ROWS])
        parts = [first, *np.array_split(others, -(-len(others) // size))]
    return [
        Block(
            positions=tuple(bundle),
            rows=part,
            cost=_seconds(bundle, costs, len(part)),
            after=place if number else None,
        )
        for number, part in enumerate(parts)
        if len(part)
    ]
