"""Statistics of F1: intervals, simultaneous comparison, metrics. Pure functions, public, without TensorFlow.

``f1_interval`` and ``compare`` are made for predictions of one's own; the other names are what the
leaderboard is built from.
"""

from benchmark.statistics.assessment import (
    FEWEST_PER_CLASS,
    Assessment,
    assess,
    class_units,
)
from benchmark.statistics.calls import Comparison, Interval, compare, f1_interval
from benchmark.statistics.curves import LearningCurve, fit_curve, learning_curve
from benchmark.statistics.final_head import final_head_estimates
from benchmark.statistics.metrics import (
    METRICS,
    Metric,
    accuracy,
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
    scored_class_names,
    scores,
)
from benchmark.statistics.resampling import Mistakes, Sample, estimates, resample
from benchmark.statistics.sentences import listed, sentences, units_of
from benchmark.statistics.ties import (
    FAMILY_LEVEL,
    PAIR_QUANTILE,
    Pairs,
    bounds_at,
    compare_pairs,
    hidden_loss,
    losses,
    range_quantile,
    tie_groups,
    told_apart,
)

__all__ = [
    "FAMILY_LEVEL",
    "FEWEST_PER_CLASS",
    "METRICS",
    "PAIR_QUANTILE",
    "Assessment",
    "Comparison",
    "Interval",
    "LearningCurve",
    "Metric",
    "Mistakes",
    "Pairs",
    "Sample",
    "accuracy",
    "assess",
    "best_threshold",
    "bounds_at",
    "class_f1",
    "class_precision",
    "class_recall",
    "class_units",
    "compare",
    "compare_pairs",
    "count",
    "decide",
    "default_average",
    "estimates",
    "f1",
    "f1_interval",
    "f1_of_counts",
    "final_head_estimates",
    "fit_curve",
    "hidden_loss",
    "learning_curve",
    "listed",
    "losses",
    "per_class_f1",
    "range_quantile",
    "resample",
    "scored_class_names",
    "scores",
    "sentences",
    "tie_groups",
    "told_apart",
    "units_of",
]
