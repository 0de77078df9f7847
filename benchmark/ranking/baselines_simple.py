"""Classifiers that a backbone must beat: majority class, colour histogram, nearest neighbours.

They use the folds of the protocol, so that their scores stand beside the heads'.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmark.heads import FoldPlan
from benchmark.records import Average, Float32, Float64, Int64, Predictions, Split, Targets, Task
from benchmark.statistics import decide, default_average, f1

NEIGHBOURS = 5
_ROWS_AT_ONCE = 1024

Classifier = Callable[[Int64, Int64], Float64]
"""(train rows, rows to predict) -> probabilities (n, C)."""


def cross_predict(classifier: Classifier, plan: FoldPlan, targets: Targets, split: Split) -> Predictions:
    """Probabilities of a classifier on the protocol's held-out images.

    The test part is predicted by one trained on train + validation (on train for the reference protocol).
    """
    outputs = targets.targets.shape[1]
    val = np.zeros((plan.repeats, len(plan.val_rows), outputs), np.float32)
    test = np.zeros((len(split.test), outputs), np.float32)
    for fold in plan.folds:
        probabilities = classifier(fold.train, fold.score)
        held_out = np.isin(fold.score, plan.val_rows)
        if fold.repeat is not None:
            places = np.searchsorted(plan.val_rows, fold.score[held_out])
            val[fold.repeat, places] = probabilities[held_out]
        test[np.searchsorted(split.test, fold.score[~held_out])] = probabilities[~held_out]
    return Predictions(
        val_rows=plan.val_rows,
        val=val,
        val_thresholds=np.full(val.shape[:2], 0.5),
        test_rows=split.test,
        test=test,
        test_threshold=0.5,
    )


def f1_of(predictions: Predictions, targets: Targets, average: Average | None) -> tuple[float, float]:
    """Validation F1 (mean over repeats) and test F1 (nan without a test part)."""
    kind = default_average(targets.task, average)
    decided = decide(predictions.val, predictions.val_thresholds, targets.task)
    val = float(np.mean(f1(decided, targets.targets[predictions.val_rows], kind)))
    if not len(predictions.test_rows):
        return val, float("nan")
    tested = decide(predictions.test, predictions.test_threshold, targets.task)
    return val, float(f1(tested, targets.targets[predictions.test_rows], kind))


def majority(targets: Targets) -> Classifier:
    """Says of every image what is most frequent among the training images."""

    def predict(train: Int64, rows: Int64) -> Float64:
        shares = targets.targets[train].mean(0, dtype=np.float64)
        return np.broadcast_to(shares, (len(rows), len(shares)))

    return predict


def nearest_neighbours(features: Float32, targets: Targets) -> Classifier:
    """Shares of the labels among the nearest training images by cosine, centred on the training mean.

    Of images at the same distance the first in ``train`` counts; all count, where fewer train.
    """

    def predict(train: Int64, rows: Int64) -> Float64:
        mean = features[train].mean(0, dtype=np.float64)
        known = _directions(features[train], mean)
        wanted = min(NEIGHBOURS, len(train))
        shares = np.zeros((len(rows), targets.targets.shape[1]))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            order = np.argsort(-(_directions(features[some], mean) @ known.T), axis=1, kind="stable")
            shares[start : start + len(some)] = targets.targets[train[order[:, :wanted]]].mean(1)
        return shares

    return predict


def _directions(features: Float32, mean: Float64) -> Float64:
    centred = features.astype(np.float64) - mean
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0))


def logistic_regression(features: Float32, targets: Targets) -> Classifier:
    """Standardised logistic regression (scikit-learn), one per label of a multi-label set."""
    return _per_label(features, targets, _logistic)


def logistic_regression_cv(features: Float32, targets: Targets) -> Classifier:
    """scikit-learn's LogisticRegressionCV on standardised features: what a careful user would try first.

    Of the ten strengths of its own grid the one with the best accuracy in up to five folds, as is its
    default; the folds keep groups apart where there are some. One regression per label of a multi-label set.
    """
    return _per_label(features, targets, _logistic_cv)


_Fit = Callable[[Float32, Int64, Float32, Int64 | None], Float64]
"""(known features, their labels, wanted features, groups of the known) -> probabilities (n, classes)."""


def _per_label(features: Float32, targets: Targets, fit: _Fit) -> Classifier:
    def predict(train: Int64, rows: Int64) -> Float64:
        known, wanted = features[train], features[rows]
        groups = None if targets.groups is None else targets.groups[train]
        if targets.task is Task.MULTICLASS:
            found = np.zeros((len(rows), targets.targets.shape[1]))
            labels = targets.targets[train].argmax(1)
            found[:, np.unique(labels)] = fit(known, labels, wanted, groups)
            return found
        columns = []
        for true in (targets.targets[train] > 0.5).T:
            # A label on which the training images all agree is a constant.
            agreed = true.all() or not true.any()
            columns.append(
                np.full(len(rows), float(true[0])) if agreed else fit(known, true, wanted, groups)[:, 1]
            )
        return np.stack(columns, 1)

    return predict


def _logistic(known: Float32, labels: Int64, wanted: Float32, _: Int64 | None) -> Float64:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(known.astype(np.float64), labels)
    return np.asarray(model.predict_proba(wanted.astype(np.float64)), np.float64)


def _logistic_cv(known: Float32, labels: Int64, wanted: Float32, groups: Int64 | None) -> Float64:
    import warnings

    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    units = np.arange(len(labels)) if groups is None else groups
    folds = min(5, *(len(np.unique(units[labels == label])) for label in np.unique(labels)))
    if folds < 2:
        return _logistic(known, labels, wanted, groups)
    cutter = StratifiedKFold(folds) if groups is None else StratifiedGroupKFold(folds)
    scaler = StandardScaler().fit(known.astype(np.float64))
    inputs = scaler.transform(known.astype(np.float64))
    # An L2 penalty does not see a rotation, and nothing outside the span of the training images gets a
    # weight: in the coordinates of that span the regression is the same, and has at most n features.
    _, spread, axes = np.linalg.svd(inputs, full_matrices=False)
    axes = axes[spread > 1e-9 * spread[0]].T
    with warnings.catch_warnings():
        # Defaults that will change: those of today are meant.
        warnings.simplefilter("ignore", FutureWarning)
        cuts = list(cutter.split(inputs, labels, groups))
        model = LogisticRegressionCV(cv=cuts, max_iter=2000).fit(inputs @ axes, labels)
    return np.asarray(model.predict_proba(scaler.transform(wanted.astype(np.float64)) @ axes), np.float64)
