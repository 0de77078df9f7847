"""What the progress of embedding looks like to an observer: one task a backbone, one for the whole board."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from benchmark.pipeline.costs import EmbeddingCost
from benchmark.pipeline.planning import Plan
from benchmark.pipeline.progress import ProgressTable, Stage
from benchmark.records import Observer

BOARD, TIMING = "backbones", "timing single images"


class JobProgress:
    """How far a whole job is: backbones that are done, and the share of the expected seconds that is spent.

    Args:
        observer: is told.
        cost: of the whole job, in expected seconds of one core, over backbones and windows.
        portions: of each backbone, how many windows of images it takes part in.
    """

    def __init__(self, observer: Observer, cost: float, portions: Mapping[str, int]) -> None:
        self._observer = observer
        self._ahead = cost
        self._behind = 0.0
        self._portions = dict(portions)
        self._begun = time.perf_counter()
        observer.started(BOARD, len(self._portions))

    def advanced(self, spent: float) -> None:
        """Tell what is spent, this much of it on the present window."""
        total = self._behind + self._ahead
        share = min(1.0, (self._behind + spent) / total) if total else 1.0
        elapsed = time.perf_counter() - self._begun
        left = f", about {spoken(elapsed * (1 - share) / share)} left" if share > 0.02 else ""
        done = sum(not portions for portions in self._portions.values())
        self._observer.advanced(BOARD, done, f"{100 * share:.0f} % of the work{left}")

    def backbone_done(self, name: str) -> None:
        """Count one window of a backbone as done."""
        self._portions[name] -= 1

    def window_done(self, cost: float) -> None:
        """Count a window as done that was expected to cost this much, whatever became of its backbones."""
        self._behind += cost
        self._ahead = max(0.0, self._ahead - cost)

    def finished(self) -> None:
        """The job is done."""
        self._observer.finished(BOARD)


class EmbeddingDisplay:
    """Reads the progress table of one window and tells an observer what changed.

    Args:
        observer: is told.
        plans: one per row of the table.
        images: how many images of the window each of them lacks.
        costs: what that is expected to cost.
        table: what the workers write.
        job: the whole job.
    """

    def __init__(
        self,
        observer: Observer,
        plans: Sequence[Plan],
        images: Sequence[int],
        costs: Sequence[EmbeddingCost],
        table: ProgressTable,
        job: JobProgress,
    ) -> None:
        self._observer = observer
        self._plans = plans
        self._images = images
        self._costs = costs
        self._table = table
        self._job = job
        self._stages = [Stage.WAITING] * len(plans)
        self._working_since = [0.0] * len(plans)

    def poll(self) -> None:
        """Look once."""
        rows = self._table.read()
        for position, (stage, done) in enumerate(rows):
            self._tell(position, stage, done)
        self._job.advanced(sum(self._spent(position, *row) for position, row in enumerate(rows)))

    def _tell(self, position: int, stage: Stage, done: int) -> None:
        name, known = self._plans[position].backbone.name, self._stages[position]
        if stage is Stage.WAITING or known is Stage.DONE:
            return
        if known is Stage.WAITING:
            self._observer.started(name, self._images[position])
        if stage is Stage.WORKING and known is not Stage.WORKING:
            self._working_since[position] = time.perf_counter()
        self._stages[position] = stage
        if stage is Stage.DONE:
            self._observer.finished(name)
            self._job.backbone_done(name)
        else:
            self._observer.advanced(name, done, self._note(position, stage, done))

    def _note(self, position: int, stage: Stage, done: int) -> str:
        if stage is Stage.PREPARING:
            return "preparing"
        seconds = time.perf_counter() - self._working_since[position]
        return f"{done / seconds:.0f} images/s" if done and seconds > 0.2 else ""

    def _spent(self, position: int, stage: Stage, done: int) -> float:
        cost = self._costs[position]
        if stage is Stage.DONE:
            return cost.seconds()
        share = done / max(1, self._images[position])
        return cost.prepare + share * cost.inference if stage is Stage.WORKING else 0.0


def spoken(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
