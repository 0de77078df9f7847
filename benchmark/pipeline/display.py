"""What the progress of embedding looks like to an observer: one task a backbone, one for the whole board."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmark.pipeline.planning import Plan, scaled_flops
from benchmark.pipeline.progress import ProgressTable, Stage
from benchmark.records import Observer

# Preparing (building, converting) costs about as much as this much arithmetic, whatever the backbone.
_PREPARE_FLOPS = 200e9
BOARD = "all backbones"


class EmbeddingDisplay:
    """Reads a progress table and tells an observer what changed.

    Args:
        observer: is told.
        plans: one per row of the table.
        table: what the workers write.
    """

    def __init__(self, observer: Observer, plans: Sequence[Plan], table: ProgressTable) -> None:
        self._observer = observer
        self._plans = plans
        self._table = table
        self._begun = time.perf_counter()
        self._stages = [Stage.WAITING] * len(plans)
        self._working_since = [0.0] * len(plans)
        observer.started(BOARD, 100)

    def poll(self) -> None:
        """Look once."""
        rows = self._table.read()
        for position, (stage, done) in enumerate(rows):
            self._tell(position, stage, done)
        self._tell_board(rows)

    def _tell(self, position: int, stage: Stage, done: int) -> None:
        plan = self._plans[position]
        name, known = plan.backbone.name, self._stages[position]
        if stage is Stage.WAITING or known is Stage.DONE:
            return
        if known is Stage.WAITING:
            self._observer.started(name, len(plan.missing))
        if stage is Stage.WORKING and known is not Stage.WORKING:
            self._working_since[position] = time.perf_counter()
        self._stages[position] = stage
        if stage is Stage.DONE:
            self._observer.finished(name)
        else:
            self._observer.advanced(name, done, self._note(position, stage, done))

    def _note(self, position: int, stage: Stage, done: int) -> str:
        if stage is Stage.PREPARING:
            return "preparing"
        seconds = time.perf_counter() - self._working_since[position]
        return f"{done / seconds:.0f} images/s" if done and seconds > 0.2 else ""

    def _tell_board(self, rows: Sequence[tuple[Stage, int]]) -> None:
        total = sum(self._cost(plan, len(plan.missing)) for plan in self._plans)
        spent = sum(self._spent(plan, *row) for plan, row in zip(self._plans, rows, strict=True))
        if all(stage is Stage.DONE for stage, _ in rows):
            self._observer.finished(BOARD)
            return
        share = spent / total if total else 1.0
        elapsed = time.perf_counter() - self._begun
        eta = f"about {_clock(elapsed * (1 - share) / share)} left" if share > 0.02 else ""
        self._observer.advanced(BOARD, round(100 * share), eta)

    def _cost(self, plan: Plan, images: int) -> float:
        return _PREPARE_FLOPS + images * scaled_flops(plan.backbone, plan.input_size)

    def _spent(self, plan: Plan, stage: Stage, done: int) -> float:
        if stage is Stage.DONE:
            return self._cost(plan, len(plan.missing))
        return self._cost(plan, done) if stage is Stage.WORKING else 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
