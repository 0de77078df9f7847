"""Ranking: heads, protocols, baselines, search, the leaderboard.

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
        validation_f1,
    )
    from benchmark.ranking.heads import (
        HeadResult,
        train_heads,
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
    from benchmark.ranking.search import (
        Candidate,
        Dropped,
        SearchOptions,
        Standing,
        next_round,
        search_subsets,
    )
    from benchmark.ranking.suspicion import (
        HardImage,
        Suspicion,
        SuspiciousLabel,
        judge_labels,
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
        "validation_f1",
    ),
    "heads": (
        "HeadResult",
        "train_heads",
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
    "search": (
        "Candidate",
        "Dropped",
        "SearchOptions",
        "Standing",
        "next_round",
        "search_subsets",
    ),
    "suspicion": (
        "HardImage",
        "SuspiciousLabel",
        "Suspicion",
        "judge_labels",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BOARD_COLUMNS",
    "BoardOptions",
    "Candidate",
    "Dropped",
    "HardImage",
    "HeadResult",
    "SanityRow",
    "SearchAudit",
    "SearchOptions",
    "SearchReport",
    "SelectionScores",
    "Setting",
    "Standing",
    "Suspicion",
    "SuspiciousLabel",
    "Yardstick",
    "audit_search",
    "baselines_table",
    "build_leaderboard",
    "check_protocol",
    "h_score",
    "judge_labels",
    "load_outcome",
    "log_me",
    "next_round",
    "outcome_path",
    "published_top1",
    "regret",
    "run_search",
    "sanity_rows",
    "save_outcome",
    "scores_table",
    "search_subsets",
    "selection_scores",
    "train_heads",
    "validation_f1",
    "weighted_tau",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
