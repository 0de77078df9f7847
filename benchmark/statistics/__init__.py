"""Statistics of F1: intervals, simultaneous comparison, metrics. Pure functions, public, without TensorFlow.

``f1_interval`` and ``compare`` are made for predictions of one's own; the other names are what the
leaderboard is built from.
"""

from benchmark.statistics.assessment import Assessment, assess
from benchmark.statistics.calibration import (
    Abstention,
    Calibration,
    CalibrationBin,
    abstention,
    calibration,
    cross_tempered,
    fit_temperature,
    selective,
    share,
    sureness,
    tempered,
    tempered_threshold,
)
from benchmark.statistics.calls import Comparison, Interval, compare, f1_interval, metric_intervals
from benchmark.statistics.curves import LearningCurve, fit_curve, learning_curve
from benchmark.statistics.final_head import final_head_estimates
from benchmark.statistics.metrics import (
    METRICS,
    Counts,
    Metric,
    best_threshold,
    count,
    decide,
    default_average,
    f1,
    is_threshold,
    per_class_f1,
    per_class_scores,
    scored_class_names,
    scores,
)
from benchmark.statistics.resampling import ErrorCounts, Sample, estimates
from benchmark.statistics.sentences import listed, sentences
from benchmark.statistics.ties import FAMILY_LEVEL, Pairs, gains, hidden_loss, losses, range_quantile
