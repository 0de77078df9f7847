"""What a finished model decides between."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLabels:
    """What a finished model decides between; images are then labelled for it instead of split for training.

    Attributes:
        classes: class names in the model's order; images need not show every one.
        task: binary, multiclass or multilabel.
        positive: position of the positive class for BINARY, else None.
    """

    classes: tuple[str, ...]
    task: Task
    positive: int | None
