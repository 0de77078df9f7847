"""Ranking: heads, metrics, resampling statistics, baselines, the leaderboard.

Public names load their modules on first use, so that importing this room stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.ranking.heads import HeadResult, train_heads
    from benchmark.ranking.metrics import (
        Counts,
        accuracy,
        averaged,
        best_threshold,
        class_f1,
        class_precision,
        class_recall,
        count,
        decide,
        default_average,
        f1,
        f1_of_counts,
        per_class_f1,
        precision,
        recall,
        scored_class_names,
        scores,
    )
    from benchmark.ranking.outcomes import load_outcome, outcome_path, save_outcome

_HOMES = {
    "heads": ("HeadResult", "train_heads"),
    "metrics": (
        "Counts",
        "accuracy",
        "averaged",
        "best_threshold",
        "class_f1",
        "class_precision",
        "class_recall",
        "count",
        "decide",
        "default_average",
        "f1",
        "f1_of_counts",
        "per_class_f1",
        "precision",
        "recall",
        "scored_class_names",
        "scores",
    ),
    "outcomes": ("load_outcome", "outcome_path", "save_outcome"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Counts",
    "HeadResult",
    "accuracy",
    "averaged",
    "best_threshold",
    "class_f1",
    "class_precision",
    "class_recall",
    "count",
    "decide",
    "default_average",
    "f1",
    "f1_of_counts",
    "load_outcome",
    "outcome_path",
    "per_class_f1",
    "precision",
    "recall",
    "save_outcome",
    "scored_class_names",
    "scores",
    "train_heads",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
