"""A simulated cluster: discrete events over the cost model, a scheduler, a storage, workers that get lost.

A worker is a machine like this one; each of its cores takes a block of images of one backbone, opens the
backbone, reads and decodes the images, embeds them and writes the vectors. The scheduler handles one message
at a time, and the storage one transfer at a time: with enough workers one of the two is what everybody waits
for. A worker that is lost loses what its cores were doing, and another one takes its place after a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

import numpy as np

from benchmark.machine import cores
from benchmark.options import RankOptions
from benchmark.pipeline.blocks import count_blocks
from benchmark.pipeline.costs import CostModel
from benchmark.pipeline.planning import plan_unseen
from benchmark.pipeline.requests import RankRequest
from tests.perf.figures import Figure, Unit
from tests.perf.setting import Setting

_IMAGES = 10_000_000
_WORKERS = (1, 8, 64, 250, 1000, 4000)
_WITH_LOSSES = {64, 1000}
_ALL = 52
_IMAGE_BYTES = 20e3  # a 227 x 227 JPEG
_DECODE_SECONDS = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Images of one backbone.

    Attributes:
        seconds: of one core.
        storage_bytes: images and vectors that go to and from the storage.
        backbone: its name; a worker fetches its converted model once.
        model_bytes: of that.
    """

    seconds: float
    storage_bytes: float
    backbone: str = ""
    model_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the work runs on.

    Attributes:
        workers: machines.
        slots: cores of each.
        scheduler_seconds: of the scheduler for handing out a block and hearing of its end.
        storage_bytes_per_second: of the shared storage, all workers together.
        lost_per_hour: expected share of the workers that are lost in an hour.
        replaced_seconds: until another worker stands in for a lost one.
        seed: of the losses.
    """

    workers: int
    slots: int
    scheduler_seconds: float = 1e-3
    storage_bytes_per_second: float = 1e9
    lost_per_hour: float = 0.0
    replaced_seconds: float = 300.0
    seed: int = 0


@dataclass(slots=True)
class Simulated:
    """What a job came to.

    Attributes:
        seconds: from start to end.
        done: blocks.
        lost_workers: how many workers were lost.
        lost_seconds: of cores whose work was lost with them.
        scheduler_share: of the time that the scheduler was busy.
        storage_share: of the time that the storage was busy.
    """

    seconds: float = 0.0
    done: int = 0
    lost_workers: int = 0
    lost_seconds: float = 0.0
    scheduler_share: float = 0.0
    storage_share: float = 0.0


class _Server:
    """Serves one at a time, in the order of arrival."""

    def __init__(self) -> None:
        self.busy = self._free = 0.0

    def until(self, now: float, seconds: float) -> float:
        """When a request of now is done."""
        self._free = max(self._free, now) + seconds
        self.busy += seconds
        return self._free


class _Simulation:
    """A cluster at work: what waits, what runs on which worker, and what happens next."""

    def __init__(self, blocks: Sequence[Block], cluster: Cluster) -> None:
        self.result = Simulated()
        self._cluster = cluster
        self._random = np.random.default_rng(cluster.seed)
        self._waiting = deque(blocks)
        self._scheduler, self._storage = _Server(), _Server()
        self._running: list[dict[int, tuple[float, Block]]] = [{} for _ in range(cluster.workers)]
        self._models: list[set[str]] = [set() for _ in range(cluster.workers)]
        self._idle: list[int] = []  # a worker stands here once for each of its cores without a block
        self._events: list[tuple[float, int, str, int]] = []  # when, number, what, worker
        self._number = 0

    def run(self) -> Simulated:
        """Until all blocks are done."""
        everything, result = len(self._waiting), self.result
        for worker in range(self._cluster.workers):
            self._begin(0.0, worker)
        while result.done < everything:
            now, number, what, worker = heappop(self._events)
            if what == "lost":
                self._lose(now, worker)
            elif what == "back":
                self._begin(now, worker)
            elif self._running[worker].pop(number, None) is not None:
                result.done, result.seconds = result.done + 1, now
                self._give(now, worker)
        result.scheduler_share = self._scheduler.busy / result.seconds
        result.storage_share = self._storage.busy / result.seconds
        return result

    def _begin(self, now: float, worker: int) -> None:
        if self._cluster.lost_per_hour:
            self._push(now + self._random.exponential(3600 / self._cluster.lost_per_hour), "lost", worker)
        for _ in range(self._cluster.slots):
            self._give(now, worker)

    def _give(self, now: float, worker: int) -> None:
        """A core asks for a block."""
        if not self._waiting:
            self._idle.append(worker)
            return
        block = self._waiting.popleft()
        begun = self._scheduler.until(now, self._cluster.scheduler_seconds)
        size = block.storage_bytes
        if block.backbone not in self._models[worker]:
            self._models[worker].add(block.backbone)
            size += block.model_bytes
        moved = self._storage.until(begun, size / self._cluster.storage_bytes_per_second)
        end = max(begun + block.seconds, moved)  # bytes come and go while others are computed
        self._running[worker][self._push(end, "done", worker)] = (begun, block)

    def _lose(self, now: float, worker: int) -> None:
        self.result.lost_workers += 1
        for begun, block in self._running[worker].values():
            self.result.lost_seconds += max(0.0, now - begun)
            self._waiting.appendleft(block)
        self._running[worker].clear()
        self._models[worker].clear()
        self._idle = [one for one in self._idle if one != worker]
        self._push(now + self._cluster.replaced_seconds, "back", worker)
        while self._idle and self._waiting:
            self._give(now, self._idle.pop())

    def _push(self, when: float, what: str, worker: int) -> int:
        self._number += 1
        heappush(self._events, (when, self._number, what, worker))
        return self._number


def simulate(blocks: Sequence[Block], cluster: Cluster) -> Simulated:
    """Carry out some blocks, in their order; what a lost worker was doing comes first again."""
    return _Simulation(blocks, cluster).run()


def blocks_of(backbones: str, images: int, cache: Path) -> list[Block]:
    """The blocks of a job, the most expensive backbones first, by the cost model of this machine."""
    request = RankRequest.of(
        RankOptions.check({"data": Path(), "backbones": backbones, "weights": "random", "cache": cache})
    )
    model, made = CostModel.load(cache), []
    for backbone in sorted(request.backbones, key=lambda one: -one.flops):
        plan = plan_unseen(request, backbone, images)
        first, again = (model.embedding(request, plan, images, again=again) for again in (False, True))
        work = first.inference + images * _DECODE_SECONDS
        count = count_blocks(work, images)
        moved = images * (_IMAGE_BYTES + 4.0 * backbone.embedding_dim + 64) / count
        made += [
            Block(
                seconds=(again if number else first).prepare + work / count,
                storage_bytes=moved,
                backbone=backbone.name,
                model_bytes=backbone.float32_bytes,
            )
            for number in range(count)
        ]
    return made


def measure(setting: Setting) -> Iterator[Figure]:
    """Hours of ten million images under all backbones, on ever more workers; then what losses cost."""
    images, cache = setting.pick(_IMAGES, _IMAGES // 10, 1000), setting.folder / "cluster"
    blocks = blocks_of("all", images, cache)
    whole = sum(block.seconds for block in blocks)
    for workers in setting.pick(_WORKERS, _WORKERS, _WORKERS[:2]):
        for lost in (0.0, 0.01) if workers in _WITH_LOSSES else (0.0,):
            cluster = Cluster(workers=workers, slots=cores(), lost_per_hour=lost)
            found = simulate(blocks, cluster)
            ideal = whole / (workers * cluster.slots)
            yield Figure(
                work=f"{images:,} images x {_ALL} backbones on {workers:,} workers"
                + (f", {lost:.0%} of them lost an hour" if lost else ""),
                against="cores that never wait",
                unit=Unit.HOURS,
                ours=found.seconds / 3600,
                theirs=ideal / 3600,
                ratios=(ideal / found.seconds,),
                note=f"{len(blocks):,} blocks; scheduler {found.scheduler_share:.0%} busy, "
                f"storage {found.storage_share:.0%}; {found.lost_workers} workers and "
                f"{found.lost_seconds / whole:.2%} of the work lost",
            )
