"""Ranking: heads, metrics, resampling statistics, baselines, the leaderboard.

Public names load their modules on first use, so that importing this room stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.ranking.baselines import (
        SanityRow,
        SelectionScores,
        Setting,
        Yardstick,
        baselines_table,
        published_top1,
        regret,
        sanity_rows,
        scores_table,
        selection_scores,
        weighted_tau,
    )
    from benchmark.ranking.baselines_transfer import (
        h_score,
        log_me,
    )
    from benchmark.ranking.board import (
        BOARD_COLUMNS,
        BoardOptions,
        build_leaderboard,
        chance_f1,
        validation_f1,
    )
    from benchmark.ranking.heads import (
        HeadResult,
        train_heads,
    )
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
    from benchmark.ranking.outcomes import (
        load_outcome,
        outcome_path,
        save_outcome,
    )
    from benchmark.ranking.protocols import check_protocol
    from benchmark.ranking.race import (
        SearchAudit,
        SearchReport,
        audit_search,
        run_search,
    )
    from benchmark.ranking.resampling import (
        Mistakes,
        Resampled,
        Sample,
        resample,
    )
    from benchmark.ranking.search import (
        Candidate,
        DropKind,
        Dropped,
        SearchOptions,
        Standing,
        next_round,
        search_subsets,
    )
    from benchmark.ranking.ties import (
        Comparison,
        TieGroup,
        compare,
        images_needed,
        tie_groups,
    )

_HOMES = {
    "protocols": ("check_protocol",),
    "baselines": (
        "SanityRow",
        "SelectionScores",
        "Setting",
        "Yardstick",
        "baselines_table",
        "published_top1",
        "regret",
        "sanity_rows",
        "scores_table",
        "selection_scores",
        "weighted_tau",
    ),
    "baselines_transfer": (
        "h_score",
        "log_me",
    ),
    "board": (
        "BOARD_COLUMNS",
        "BoardOptions",
        "build_leaderboard",
        "chance_f1",
        "validation_f1",
    ),
    "heads": (
        "HeadResult",
        "train_heads",
    ),
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
    "outcomes": (
        "load_outcome",
        "outcome_path",
        "save_outcome",
    ),
    "race": (
        "SearchAudit",
        "SearchReport",
        "audit_search",
        "run_search",
    ),
    "resampling": (
        "Mistakes",
        "Resampled",
        "Sample",
        "resample",
    ),
    "search": (
        "Candidate",
        "DropKind",
        "Dropped",
        "SearchOptions",
        "Standing",
        "next_round",
        "search_subsets",
    ),
    "ties": (
        "Comparison",
        "TieGroup",
        "compare",
        "images_needed",
        "tie_groups",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BOARD_COLUMNS",
    "BoardOptions",
    "Candidate",
    "Comparison",
    "Counts",
    "DropKind",
    "Dropped",
    "HeadResult",
    "Mistakes",
    "Resampled",
    "Sample",
    "SanityRow",
    "SearchAudit",
    "SearchOptions",
    "SearchReport",
    "SelectionScores",
    "Setting",
    "Standing",
    "TieGroup",
    "Yardstick",
    "accuracy",
    "audit_search",
    "averaged",
    "baselines_table",
    "best_threshold",
    "build_leaderboard",
    "chance_f1",
    "check_protocol",
    "class_f1",
    "class_precision",
    "class_recall",
    "compare",
    "count",
    "decide",
    "default_average",
    "f1",
    "f1_of_counts",
    "h_score",
    "images_needed",
    "load_outcome",
    "log_me",
    "next_round",
    "outcome_path",
    "per_class_f1",
    "precision",
    "published_top1",
    "recall",
    "regret",
    "resample",
    "run_search",
    "sanity_rows",
    "save_outcome",
    "scored_class_names",
    "scores",
    "scores_table",
    "search_subsets",
    "selection_scores",
    "tie_groups",
    "train_heads",
    "validation_f1",
    "weighted_tau",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
