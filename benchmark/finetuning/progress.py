"""How far a run has come, kept on disk after every epoch so that it can go on after an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from benchmark.finetuning.untyped import Variable
from benchmark.storage import MOST_MODEL_BYTES, load_arrays, write_arrays

Arrays = list[npt.NDArray[Any]]
_LISTS = ("current", "optimizer", "best1", "best2")
_MOST_BYTES = 4 * MOST_MODEL_BYTES  # two checkpoints, the latest weights and the optimizer


class _Meta(BaseModel):
    """What is kept beside the arrays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    phase: int
    epoch: int
    stale: int
    weights_sha256: str
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    best: dict[str, dict[str, float]]


@dataclass(slots=True, kw_only=True)
class Progress:
    """State between two epochs.

    Attributes:
        phase: 1 or 2, the phase in progress; 3 when both are done.
        epoch: finished epochs of that phase.
        stale: epochs since its best one.
        weights_sha256: of the backbone weights that the run started from.
        history: one row of numbers per finished epoch.
        metrics: moment (before, phase1, phase2) -> part -> metric -> value, or None for a phase left out.
        best: phase name -> epoch, f1, loss and threshold of its best checkpoint.
        current: trained variables after the last epoch.
        optimizer: the optimizer's variables after the last epoch.
        best1: the head's variables of phase 1's best checkpoint.
        best2: the trained variables of phase 2's best checkpoint.
    """

    phase: int = 1
    epoch: int = 0
    stale: int = 0
    weights_sha256: str = ""
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    best: dict[str, dict[str, float]] = field(default_factory=dict)
    current: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    best1: Arrays = field(default_factory=list)
    best2: Arrays = field(default_factory=list)

    def next_phase(self) -> None:
        """Begin the next phase: what belonged to this one's epochs goes."""
        self.phase += 1
        self.epoch = self.stale = 0
        self.current = []
        self.optimizer = []

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        meta = {
            name: getattr(self, name)
            for name in ("phase", "epoch", "stale", "weights_sha256", "history", "metrics", "best")
        }
        arrays = {f"{name}-{i:05d}": array for name in _LISTS for i, array in enumerate(getattr(self, name))}
        write_arrays(path, meta, arrays, root=path.parent)

    @classmethod
    def load(cls, path: Path) -> Progress | None:
        """Read what ``save`` wrote; None when there is nothing, or nothing that can be trusted."""
        try:
            meta, arrays = load_arrays(path, most_bytes=_MOST_BYTES)
            fields: dict[str, Any] = _Meta.model_validate(meta).model_dump()
        except (OSError, ValueError):
            return None
        return cls(**fields | {name: _collect(arrays, name) for name in _LISTS})


def _collect(arrays: dict[str, npt.NDArray[Any]], name: str) -> Arrays:
    return [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}-")]


def assign(variables: Sequence[Variable], arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Give variables stored values."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def values_of(variables: Sequence[Variable]) -> Arrays:
    """Copies of the variables' values."""
    return [np.array(variable.numpy()) for variable in variables]
