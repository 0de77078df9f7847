"""How far a run has come, kept after every epoch so that it can go on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import CacheError
from benchmark.finetuning.untyped import Variable
from benchmark.storage import (
    MOST_MODEL_BYTES,
    hand_over,
    load_arrays,
    parse_record,
    take_over,
    write_arrays,
)

Arrays = list[npt.NDArray[Any]]
_LISTS = ("current", "optimizer", "best1", "best2", "decided")
_MOST_BYTES = 4 * MOST_MODEL_BYTES  # two checkpoints, the latest weights and the optimizer


@dataclass(kw_only=True)
class _Meta:
    """What is kept as JSON beside the arrays."""

    phase: int = 1  # in progress; 3 when both are done
    epoch: int = 0  # finished ones of that phase
    stale: int = 0  # epochs since its best one
    weights_sha256: str = ""  # of the backbone weights that the run started from
    token: str = ""  # of the request that began it
    history: list[dict[str, float]] = field(default_factory=list)  # a row for every finished epoch
    found_rate: float = 0.0  # of phase 2, by a range test
    # Moment (before, phase1, phase2) -> part -> metric -> value, or None for a phase left out.
    metrics: dict[str, Any] = field(default_factory=dict)
    # Phase name -> epoch, f1, loss and threshold of its best checkpoint.
    best: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Progress(_Meta):
    """State between two epochs."""

    current: Arrays = field(default_factory=list)  # trained variables after the last epoch
    optimizer: Arrays = field(default_factory=list)  # its variables then
    best1: Arrays = field(default_factory=list)  # the head's variables of phase 1's best checkpoint
    best2: Arrays = field(default_factory=list)  # the trained variables of phase 2's
    # Decisions on validation images, packed bits: of the model before training, then of every epoch.
    decided: Arrays = field(default_factory=list)

    def next_phase(self) -> None:
        """Begin the next phase: what belonged to this one's epochs goes."""
        self.phase += 1
        self.epoch = self.stale = 0
        self.current = []
        self.optimizer = []

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all, where other machines see it if the path stands for a URL.

        Raises:
            StorageError: it cannot be written on this machine.
        """
        meta = {each.name: getattr(self, each.name) for each in fields(_Meta)}
        arrays = {f"{name}-{i:05d}": array for name in _LISTS for i, array in enumerate(getattr(self, name))}
        write_arrays(path, meta, arrays, root=path.parent)
        with suppress(CacheError):  # the state before this one is there, and the next may arrive again
            hand_over(path)

    @classmethod
    def load(cls, path: Path) -> Progress | None:
        """Read what ``save`` wrote; None when there is nothing, or nothing that can be trusted.

        Where a URL does not answer, it is what this machine itself has.
        """
        try:
            with suppress(CacheError):
                take_over(path, most_bytes=_MOST_BYTES, again=True)
            stored, arrays = load_arrays(path, most_bytes=_MOST_BYTES)
            meta = parse_record(_Meta, json.dumps(stored))
        except (OSError, ValueError):
            return None
        if len(stored) < len(fields(_Meta)):  # a default stands for nothing that was kept
            return None
        lists: dict[str, Any] = {name: _collect(arrays, name) for name in _LISTS}
        return cls(**vars(meta), **lists)


def _collect(arrays: dict[str, npt.NDArray[Any]], name: str) -> Arrays:
    return [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}-")]


def assign(variables: Sequence[Variable], arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Give variables stored values."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def values_of(variables: Sequence[Variable]) -> Arrays:
    """Copies of the variables' values."""
    return [np.array(variable.numpy()) for variable in variables]
