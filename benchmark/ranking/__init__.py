"""Ranking: baselines, search, suspicious labels, the leaderboard."""

from benchmark.ranking.baselines import (
    REFERENCE,
    FreshScores,
    SanityRow,
    SelectionScores,
    Setting,
    baselines_table,
    reference_row,
    sanity_rows,
    scores_table,
    selection_scores,
)
from benchmark.ranking.board import BoardOptions, build_leaderboard, curve_of
from benchmark.ranking.columns import COLUMNS, Column, Surface
from benchmark.ranking.devices import MeasuredDevice, read_device, with_device
from benchmark.ranking.export_scores import (
    ExportScore,
    best_export,
    is_exported,
    next_to_export,
    with_exports,
)
from benchmark.ranking.exported import ExportedF1, exported_f1
from benchmark.ranking.halving import SearchAudit, SearchReport, audit_search, run_search
from benchmark.ranking.outcomes import load_outcome, outcome_path, save_outcome
from benchmark.ranking.search import Candidate, SearchOptions, search_subsets
from benchmark.ranking.statements import curve_statements
from benchmark.ranking.study import StudyTables, TunedBackbone, study_tables
from benchmark.ranking.suspicion import Suspicion, judge_labels
