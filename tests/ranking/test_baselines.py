"""Baselines: published formulas by independent routes, known answers, no test image."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from benchmark.heads.protocols import make_plan
from benchmark.ranking import baselines
from benchmark.ranking.baselines import (
    COLUMNS,
    FreshScores,
    SelectionScores,
    Setting,
    baselines_table,
    order_by_luck,
    published_top1,
    reference_row,
    regret,
    sanity_rows,
    scores_table,
    selection_scores,
    weighted_tau,
)
from benchmark.ranking.baselines_simple import cross_predict, f1_of, majority, nearest_neighbours
from benchmark.ranking.baselines_transfer import h_score, log_me
from benchmark.records import (
    Embeddings,
    Float32,
    Float64,
    HeadProtocol,
    Predictions,
    ProtocolName,
    Split,
    Targets,
    Task,
)


def direct_log_me(features: Float64, targets: Float64) -> float:
    """The evidence as a Gaussian density of y, maximised over alpha and beta by Nelder-Mead."""
    found = []
    for column in targets.T:

        def lost(logs: Float64, column: Float64 = column) -> float:
            alpha, beta = np.exp(np.clip(logs, -20, 20))
            covariance = np.eye(len(column)) / beta + features @ features.T / alpha
            return -float(multivariate_normal(np.zeros(len(column)), covariance).logpdf(column))

        starts = [np.array([a, b]) for a in (-2.0, 2.0, 5.0) for b in (0.0, 3.0)]
        options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
        best = min(minimize(lost, start, method="Nelder-Mead", options=options).fun for start in starts)
        found.append(-best / len(column))
    return float(np.mean(found))


@pytest.mark.parametrize("shape", [(30, 4), (12, 20)], ids=["tall", "wide"])
def test_log_me_is_the_largest_evidence(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(7)
    features = generator.normal(size=shape) + 0.5
    labels = (features[:, 0] + generator.normal(size=shape[0]) > 0.5).astype(int)
    targets = np.eye(2)[labels]
    assert log_me(features, targets) == pytest.approx(direct_log_me(features, targets), abs=2e-6)


def test_log_me_is_the_fixed_point_of_the_paper() -> None:
    generator = np.random.default_rng(8)
    features = generator.normal(size=(60, 5))
    column = (features @ generator.normal(size=5) + generator.normal(size=60) > 0).astype(float)
    alpha = beta = 1.0
    gram = features.T @ features
    for _ in range(2000):
        precision = alpha * np.eye(5) + beta * gram
        mean = beta * np.linalg.solve(precision, features.T @ column)
        sigma = np.linalg.eigvalsh(gram)
        gamma = float((beta * sigma / (alpha + beta * sigma)).sum())
        error = float(((features @ mean - column) ** 2).sum())
        alpha, beta = gamma / float(mean @ mean), (60 - gamma) / error
    precision = alpha * np.eye(5) + beta * gram
    mean = beta * np.linalg.solve(precision, features.T @ column)
    error = float(((features @ mean - column) ** 2).sum())
    evidence = (
        30 * np.log(beta)
        + 2.5 * np.log(alpha)
        - 30 * np.log(2 * np.pi)
        - beta / 2 * error
        - alpha / 2 * float(mean @ mean)
        - 0.5 * np.linalg.slogdet(precision)[1]
    )
    assert log_me(features, column[:, None]) == pytest.approx(evidence / 60, abs=1e-8)


@given(scale=st.floats(1e-18, 1e3), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_transfer_scores_ignore_scale_and_row_order(scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(24, 6))
    targets = np.eye(3)[np.arange(24) % 3]
    order = generator.permutation(24)
    for score in (log_me, h_score):
        assert score(features[order] * scale, targets[order]) == pytest.approx(
            score(features, targets), rel=1e-6
        )


@pytest.mark.parametrize("shape", [(40, 6), (15, 30)], ids=["tall", "wide"])
def test_h_score_is_the_published_trace(shape: tuple[int, int]) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    generator = np.random.default_rng(1)
    labels = np.arange(shape[0]) % 3
    features = generator.normal(size=shape) + labels[:, None] * 0.5
    fitted = covariance.LedoitWolf().fit(features)
    means = np.stack([features[labels == label].mean(0) for label in labels])
    between = (means - features.mean(0)).T @ (means - features.mean(0)) / shape[0]
    wanted = (1 - fitted.shrinkage_) * np.trace(np.linalg.solve(fitted.covariance_, between))
    assert h_score(features, np.eye(3)[labels]) == pytest.approx(wanted, rel=1e-8)


def test_better_features_score_higher_and_constant_ones_not_at_all() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 2
    noise = generator.normal(size=(80, 5))
    targets = np.eye(2)[labels]
    for score in (log_me, h_score):
        assert score(noise + 3 * labels[:, None], targets) > score(noise, targets)
    assert np.isnan(h_score(np.ones((80, 3)), targets))
    assert np.isnan(log_me(np.zeros((80, 3)), targets))


def setting_of(count: int = 60, name: ProtocolName = ProtocolName.CV) -> tuple[Setting, Float32]:
    generator = np.random.default_rng(4)
    labels = np.arange(count) % 3 == 0
    features = (generator.normal(size=(count, 4)) + 4 * labels[:, None]).astype(np.float32)
    targets = Targets(
        targets=labels[:, None].astype(np.float32), classes=("no", "yes"), task=Task.BINARY, positive=1
    )
    parts = np.split(generator.permutation(count), [int(0.6 * count), int(0.8 * count)])
    train, val, test = (np.sort(part) for part in parts)
    return (
        Setting(
            targets=targets,
            split=Split(train=train, val=val, test=test, given=False),
            protocol=HeadProtocol(name=name, repeats=2, folds=3),
            image_ids=sorted(hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)),
        ),
        features,
    )


@pytest.mark.parametrize("name", list(ProtocolName))
def test_nearest_neighbours_agree_with_scikit_learn(name: ProtocolName) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    setting, features = setting_of(name=name)
    plan = make_plan(setting.targets, setting.split, setting.protocol, setting.image_ids)
    found = cross_predict(nearest_neighbours(features, setting.targets), plan, setting.targets, setting.split)
    fold = plan.folds[0]
    mean = features[fold.train].mean(0, dtype=np.float64)
    model = neighbors.KNeighborsClassifier(5, metric="cosine")
    model.fit(features[fold.train] - mean, setting.targets.targets[fold.train, 0])
    rows = fold.score[np.isin(fold.score, plan.val_rows)]
    wanted = model.predict_proba(features[rows] - mean)[:, 1]
    places = np.searchsorted(plan.val_rows, rows)
    np.testing.assert_allclose(found.val[0, places, 0], wanted, atol=1e-6)


def test_majority_never_finds_the_rarer_class() -> None:
    setting, _ = setting_of()
    plan = make_plan(setting.targets, setting.split, setting.protocol, setting.image_ids)
    found = cross_predict(majority(setting.targets), plan, setting.targets, setting.split)
    assert f1_of(found, setting.targets, None) == (0.0, 0.0)


def test_sanity_rows_learn_colours() -> None:
    setting, features = setting_of()
    shift = np.clip(features - features.min(), 0, None)
    rows = {row.baseline: row for row in sanity_rows(setting, {"colour_histogram": shift.__getitem__})}
    assert set(rows) == {"majority", "colour_histogram"}
    assert rows["colour_histogram"].val_f1 > 0.9
    assert rows["colour_histogram"].test_f1 > 0.8
    assert [row.baseline for row in sanity_rows(setting)] == ["majority"]


def test_a_large_set_is_sampled_with_every_class_and_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_IMAGES", 120)
    setting, features = setting_of(600)
    rare = np.zeros((600, 1), np.float32)
    rare[setting.split.train[:8]] = rare[setting.split.test[:3]] = 1
    setting = replace(setting, targets=replace(setting.targets, targets=rare))
    asked: list[np.ndarray] = []

    def histograms(rows: np.ndarray) -> Float32:
        asked.append(rows)
        return features[rows]

    row = sanity_rows(setting, {"colour_histogram": histograms})[1]
    (rows,) = asked
    assert row.note == "120 of 600 images"
    assert len(rows) == 120
    assert rare[rows].sum() == 11, "a rare class is taken whole"
    shares = [np.isin(part, rows).sum() for part in (setting.split.train, setting.split.val)]
    assert shares[0] == pytest.approx(3 * shares[1], abs=8)
    assert np.isfinite([row.val_f1, row.test_f1]).all()
    shuffled = replace(setting, image_ids=setting.image_ids[::-1])
    sanity_rows(shuffled, {"colour_histogram": histograms})
    assert not np.array_equal(asked[1], rows), "contents decide, not places"


def test_images_that_went_away_are_left_out_and_counted() -> None:
    setting, features = setting_of()
    features[[3, 5]] = np.nan
    row = sanity_rows(setting, {"colour_histogram": features.__getitem__})[1]
    assert row.note == "2 images could not be read again"
    assert row.val_f1 > 0.8


@pytest.mark.parametrize("grouped", [False, True])
def test_the_reference_is_scikit_learn_on_the_folds_of_the_heads(grouped: bool) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    selection = pytest.importorskip("sklearn.model_selection")
    setting, features = setting_of()
    groups = np.arange(60) // 2 if grouped else None
    setting = replace(setting, targets=replace(setting.targets, groups=groups))
    features = (features + np.random.default_rng(3).normal(size=features.shape)).astype(np.float32)
    labels = setting.targets.targets[:, 0]
    found = []
    plan = make_plan(setting.targets, setting.split, setting.protocol, setting.image_ids)
    decided = np.zeros((plan.repeats, 60))
    for fold in plan.folds:
        train = fold.train
        scaled = (features - features[train].mean(0)) / features[train].std(0)
        cut = selection.StratifiedGroupKFold(5) if grouped else selection.StratifiedKFold(5)
        cuts = list(cut.split(scaled[train], labels[train], None if groups is None else groups[train]))
        model = linear.LogisticRegressionCV(cv=cuts, max_iter=2000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model.fit(scaled[train], labels[train])
        found.append(model.predict(scaled[fold.score]))
        if fold.repeat is not None:
            decided[fold.repeat, fold.score] = found[-1]
    val = [f1(each[plan.val_rows], labels[plan.val_rows]) for each in decided]
    row = reference_row(setting, "ResNet50", features.__getitem__)
    assert row.baseline == "logistic_regression_cv"
    assert row.note == "on ResNet50"
    assert row.val_f1 == pytest.approx(np.mean(val))
    assert row.test_f1 == pytest.approx(f1(found[-1], labels[plan.folds[-1].score]))
    assert 0.5 < row.val_f1 < 1


def f1(decided: Float32, labels: Float32) -> float:
    return float(2 * (decided * labels).sum() / (decided.sum() + labels.sum()))


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.MULTILABEL])
def test_baselines_for_every_task(task: Task) -> None:
    setting, features = setting_of(90)
    wanted = np.eye(3, dtype=np.float32)[np.arange(90) % 3]
    if task is Task.MULTILABEL:
        wanted[:, 2] = 0
    targets = Targets(targets=wanted, classes=("a", "b", "c"), task=task)
    setting = replace(setting, targets=targets)
    features = features + 3 * wanted[:, [0, 1, 2, 0]]
    embeddings = Embeddings(image_ids=tuple(setting.image_ids), features=features.astype(np.float32))
    scores = selection_scores("ResNet50", embeddings, setting, params=7)
    assert scores.knn_f1 > 0.5
    assert np.isfinite([scores.logme, scores.h_score]).all()
    assert len(sanity_rows(setting, {"colour_histogram": features.astype(np.float32).__getitem__})) == 2


def test_no_test_image_reaches_a_selection_score() -> None:
    setting, features = setting_of()
    first = selection_scores("A", Embeddings(image_ids=(), features=features), setting, params=1)
    moved, targets = features.copy(), setting.targets.targets.copy()
    moved[setting.split.test] = 99
    targets[setting.split.test] = 1 - targets[setting.split.test]
    other = replace(setting, targets=replace(setting.targets, targets=targets))
    second = selection_scores("A", Embeddings(image_ids=(), features=moved), other, params=1)
    np.testing.assert_equal(first, second)


def test_the_published_table_covers_the_registry() -> None:
    from benchmark.backbones.registry import registry

    found = {backbone.name: published_top1(backbone.name) for backbone in registry()}
    assert all(45 < value < 90 for value in found.values()), found
    assert published_top1("EfficientNetB0") == 77.1
    assert np.isnan(published_top1("Unheard"))


def test_weighted_tau_and_regret() -> None:
    assert weighted_tau([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert weighted_tau([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert np.isnan(weighted_tau([1, 2], [5, 5]))
    assert np.isnan(weighted_tau([1, np.nan], [5, 6]))
    # Mistakes at the top count more than mistakes at the bottom.
    assert weighted_tau([4, 3, 2, 1], [3, 4, 2, 1]) < weighted_tau([4, 3, 2, 1], [4, 3, 1, 2])
    tuned = {"A": 0.9, "B": 0.95, "C": 0.7}
    assert regret({"A": 3.0, "B": 2.0, "C": 1.0}, tuned) == pytest.approx(0.05)
    assert regret({"A": 1.0, "B": 2.0}, tuned) == 0
    assert np.isnan(regret({"A": 1.0}, tuned))


def decided(error: float, seed: int, images: int, test: int) -> Predictions:
    """Answers of a backbone that errs so often: even images are positive, the last ones the test part."""
    wrong = np.random.default_rng(seed).random(images + test) < error
    positive = ((np.arange(images + test) % 2 == 0) != wrong).astype(np.float32)[:, None]
    return Predictions(
        val_rows=np.arange(images),
        val=positive[None, :images],
        val_thresholds=np.full((1, images), 0.5),
        test_rows=np.arange(images, images + test),
        test=positive[images:],
        test_threshold=0.5,
    )


def fresh_scores(images: int, test: int, errors: tuple[float, ...] = (0.3, 0.15, 0.01)) -> FreshScores:
    labels = (np.arange(images + test)[:, None] % 2 == 0).astype(np.float32)
    targets = Targets(targets=labels, classes=("no", "yes"), task=Task.BINARY, positive=1)
    predictions = {
        name: decided(error, seed, images, test)
        for seed, (name, error) in enumerate(zip(("VGG16", "ResNet50", "Xception"), errors, strict=False))
    }
    return FreshScores.of(predictions, targets, None, {"VGG16": 0.8, "Xception": 0.9})


def test_rules_are_compared_with_the_test_part_else_with_other_folds() -> None:
    assert fresh_scores(40, 400).where == "test part"
    for fresh in (fresh_scores(40, 400), fresh_scores(400, 0)):
        assert fresh.names == ("VGG16", "ResNet50", "Xception")
        np.testing.assert_array_equal(fresh.above, np.tri(3, k=-1) > 0)
        assert fresh.losses[0, 1] < 0.29 < fresh.losses[0, 2]
    assert fresh.where == "other folds"
    nothing = FreshScores.of({}, setting_of()[0].targets, None, {})
    assert baselines_table([], [], {}, nothing)["backbones"].tolist() == [0] * 6


def test_luck_is_the_share_of_orders_that_do_as_well() -> None:
    assert order_by_luck([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(1 / 24)
    assert order_by_luck([1, 2, 3, 4], [8, 7, 6, 5]) == 1
    many = np.arange(12.0).tolist()
    assert order_by_luck(many, many) == pytest.approx(1 / 1000)
    assert np.isnan(order_by_luck([1, 2], [3, 3]))


def test_the_table_holds_every_baseline_once() -> None:
    setting, features = setting_of()
    scores = [
        SelectionScores(backbone=name, params=size, imagenet_top1=published_top1(name), logme=size / 9)
        for name, size in (("VGG16", 3.0), ("ResNet50", 2.0), ("Xception", 1.0))
    ]
    sanity = sanity_rows(setting, {"colour_histogram": features.__getitem__})
    fresh, val_f1 = fresh_scores(40, 400), {"VGG16": 0.7, "ResNet50": 0.9, "Xception": 0.8}
    frame = baselines_table(scores, sanity, val_f1, fresh)
    assert tuple(frame.columns) == COLUMNS
    wanted = ["majority", "colour_histogram", "heads", "params", "imagenet_top1", "knn", "logme", "h_score"]
    assert frame["baseline"].tolist() == wanted
    rows = frame.set_index("baseline")
    assert rows.loc["params", "weighted_tau"] == pytest.approx(-1)
    assert rows.loc["params", "pairs_right"] == 0
    assert rows.loc["params", "first_choice"] == "VGG16"
    assert rows.loc["params", "regret_low"] < 0.29 < rows.loc["params", "regret_high"]
    assert rows.loc["imagenet_top1", "first_choice"] == "Xception"
    assert rows.loc["imagenet_top1", "regret"] == 0
    assert rows.loc["heads", "weighted_tau"] < 1, "the test part decides, not the heads themselves"
    assert rows.loc["heads", "pairs_right"] == 2
    assert rows.loc["heads", "pairs_told_apart"] == 3
    assert rows.loc["imagenet_top1", "note"] == "too few to tell: 17% of random orders do as well"
    assert rows.loc["knn", "backbones"] == 0
    assert rows.loc["knn", "note"] == "too few backbones to tell"
    assert rows.loc["params", "fine_tuned"] == 2
    assert rows.loc["params", "fine_tuned_regret"] == pytest.approx(0.1)
    table = scores_table(scores, val_f1, fresh)
    assert table["val_f1"].tolist() == [0.7, 0.9, 0.8]
    assert table["fresh_f1"].tolist() == fresh.f1.tolist()
    equal = baselines_table(scores, sanity, val_f1, fresh_scores(40, 40, (0.1, 0.1, 0.1)))
    assert equal["note"].str.contains("no two backbones").sum() == 4
