"""Decisions and scores against scikit-learn and against naive counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.errors import ArgumentError
from benchmark.records import Average, Targets, Task, ThresholdKind, ThresholdRule
from benchmark.statistics import metrics

TUNED = ThresholdRule(kind=ThresholdKind.TUNED)
SETS = settings(max_examples=60, deadline=None)
PROBABILITIES = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, n, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.9, 1.0])),
        arrays(np.bool_, n),
    )
)


def decisions(rows: int, columns: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.bool_, (rows, columns))


BINARY_SETS = st.integers(1, 30).flatmap(lambda n: st.tuples(decisions(n, 1), decisions(n, 1)))
LABEL_SETS = st.tuples(st.integers(1, 20), st.integers(2, 4)).flatmap(
    lambda shape: st.tuples(decisions(*shape), decisions(*shape))
)
CLASS_SETS = st.tuples(st.integers(1, 20), st.integers(2, 4)).flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)),
        arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)),
        st.just(shape[1]),
    )
)


def naive_f1(decided: np.ndarray, targets: np.ndarray) -> float:
    tp = fp = fn = 0
    for found, true in zip(decided.tolist(), targets.tolist(), strict=True):
        tp += found and true
        fp += found and not true
        fn += true and not found
    return 0.0 if tp == 0 else 2 * tp / (2 * tp + fp + fn)


@SETS
@given(BINARY_SETS)
def test_binary_f1_is_the_naive_count(sets: tuple[np.ndarray, np.ndarray]) -> None:
    decided, targets = sets
    assert float(metrics.f1(decided, targets, Average.BINARY)) == pytest.approx(
        naive_f1(decided[:, 0], targets[:, 0])
    )


@SETS
@given(BINARY_SETS, st.sampled_from(list(Average)))
def test_two_classes_agree_with_sklearn(sets: tuple[np.ndarray, np.ndarray], average: Average) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    decided, targets = sets
    found = metrics.scores(decided, targets, average)
    labels = {
        Average.BINARY: None,
        Average.MACRO: np.unique(targets),  # a class that does not occur has no score
    }.get(average, [False, True])
    options = {"average": average.value, "zero_division": 0, "labels": labels}
    if average is Average.BINARY:
        options["pos_label"] = True
    pair = targets[:, 0], decided[:, 0]
    assert found["f1"] == pytest.approx(f1_score(*pair, **options))
    assert found["precision"] == pytest.approx(precision_score(*pair, **options))
    assert found["recall"] == pytest.approx(recall_score(*pair, **options))
    assert found["accuracy"] == pytest.approx(accuracy_score(*pair))


@SETS
@given(LABEL_SETS, st.sampled_from([Average.MACRO, Average.MICRO, Average.WEIGHTED]))
def test_multilabel_agrees_with_sklearn(sets: tuple[np.ndarray, np.ndarray], average: Average) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    decided, targets = sets
    found = metrics.scores(decided, targets, average)
    occurring = np.flatnonzero(targets.any(0))
    options = {"average": average.value, "zero_division": 0}
    if average is Average.MACRO and len(occurring):
        options["labels"] = occurring
    assert found["f1"] == pytest.approx(f1_score(targets, decided, **options))
    assert found["precision"] == pytest.approx(precision_score(targets, decided, **options))
    assert found["recall"] == pytest.approx(recall_score(targets, decided, **options))
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, decided))
    each = f1_score(targets, decided, average=None, zero_division=0)
    expected = np.where(targets.any(0), each, np.nan)
    assert metrics.per_class_f1(decided, targets) == pytest.approx(expected, nan_ok=True)


@SETS
@given(CLASS_SETS, st.sampled_from([Average.MACRO, Average.MICRO, Average.WEIGHTED]))
def test_multiclass_agrees_with_sklearn(sets: tuple[np.ndarray, np.ndarray, int], average: Average) -> None:
    from sklearn.metrics import f1_score

    predicted, true, classes = sets
    one_hot = np.eye(classes)
    found = float(metrics.f1(one_hot[predicted], one_hot[true], average))
    labels = np.unique(true) if average is Average.MACRO else np.arange(classes)
    options = {"average": average.value, "labels": labels, "zero_division": 0}
    assert found == pytest.approx(f1_score(true, predicted, **options))


def test_an_absent_class_is_no_zero() -> None:
    """Four classes, the last without an image: perfect decisions are perfect."""
    targets = np.eye(4)[[0, 1, 2, 0, 1, 2]]
    assert float(metrics.f1(targets, targets, Average.MACRO)) == 1.0
    assert np.isnan(metrics.per_class_f1(targets, targets)[3])


def test_leading_axes_are_kept() -> None:
    decided = np.random.default_rng(0).random((5, 3, 20, 1)) < 0.5
    targets = np.arange(20)[:, None] % 2
    each = metrics.f1(decided, targets, Average.MACRO)
    assert each.shape == (5, 3)
    assert each[2, 1] == pytest.approx(float(metrics.f1(decided[2, 1], targets, Average.MACRO)))


@SETS
@given(BINARY_SETS)
def test_balanced_accuracy_of_two_classes_is_scikit_learns(sets: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.metrics import recall_score

    decided, targets = sets
    # scikit-learn's balanced_accuracy_score warns of predicted classes that do not occur.
    wanted = recall_score(targets, decided, labels=np.unique(targets), average="macro", zero_division=0)
    assert metrics.scores(decided, targets, Average.BINARY)["balanced_accuracy"] == pytest.approx(wanted)


@SETS
@given(CLASS_SETS)
def test_balanced_accuracy_of_several_classes_is_scikit_learns(
    sets: tuple[np.ndarray, np.ndarray, int],
) -> None:
    from sklearn.metrics import recall_score

    decided, targets, classes = sets
    wanted = recall_score(targets, decided, labels=np.unique(targets), average="macro", zero_division=0)
    found = metrics.scores(np.eye(classes)[decided], np.eye(classes)[targets], Average.WEIGHTED)
    assert found["balanced_accuracy"] == pytest.approx(wanted)


def test_nothing_to_find_and_nothing_found_is_zero() -> None:
    nothing = np.zeros((4, 1), bool)
    assert metrics.scores(nothing, nothing, Average.BINARY) == {
        "f1": 0.0,
        "accuracy": 1.0,
        "precision": 0.0,
        "recall": 0.0,
        "balanced_accuracy": 1.0,  # of the one class that occurs
    }
    assert metrics.scores(np.zeros((0, 1)), np.zeros((0, 1)), Average.BINARY)["accuracy"] == 0.0


def test_decide_compares_in_double_precision() -> None:
    low = np.float32(0.3)
    threshold = float(np.nextafter(np.float64(low), 1.0))
    assert not metrics.decide([low], threshold, Task.BINARY).any()
    assert metrics.decide([low], float(low), Task.BINARY).all()


def test_decide_takes_thresholds_per_image_and_the_first_largest_class() -> None:
    probabilities = np.array([[0.4], [0.6]])
    assert metrics.decide(probabilities, [0.3, 0.7], Task.BINARY).tolist() == [[True], [False]]
    assert metrics.decide([[0.2, 0.4, 0.4]], 0.5, Task.MULTICLASS).tolist() == [[False, True, False]]
    assert metrics.decide([[0.2, 0.6, 0.7]], 0.5, Task.MULTILABEL).tolist() == [[False, True, True]]


@SETS
@given(PROBABILITIES)
def test_the_tuned_threshold_cannot_be_beaten(sets: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, targets = sets
    threshold = metrics.best_threshold(probabilities, targets, TUNED)

    def f1_at(cut: float) -> float:
        decided = metrics.decide(probabilities[:, None], cut, Task.BINARY)
        return float(metrics.f1(decided, targets[:, None], Average.BINARY))

    every = [*probabilities.astype(float).tolist(), 0.0, 2.0]
    assert f1_at(threshold) == max(f1_at(cut) for cut in every)


def test_the_tuned_threshold_stands_in_the_middle_of_the_widest_gap() -> None:
    assert metrics.best_threshold([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], TUNED) == pytest.approx(0.5)
    assert metrics.best_threshold([0.4, 0.6], [0, 0], TUNED) == 0.5


def test_neighbouring_probabilities_are_told_apart() -> None:
    low = np.float64(0.3)
    high = np.nextafter(low, 1.0)
    threshold = metrics.best_threshold([low, high], [0, 1], TUNED)
    assert low < threshold <= high


@SETS
@given(PROBABILITIES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_the_recall_threshold_decides_as_the_largest_that_reaches_it(
    sets: tuple[np.ndarray, np.ndarray], wanted: float
) -> None:
    probabilities, targets = sets
    if not targets.any():
        return
    rule = ThresholdRule(kind=ThresholdKind.RECALL, value=wanted)
    threshold = metrics.best_threshold(probabilities, targets, rule)
    assert (probabilities >= threshold)[targets].mean() >= wanted
    higher = probabilities[probabilities > probabilities[probabilities >= threshold].min()]
    if len(higher):
        assert (probabilities >= higher.min())[targets].mean() < wanted


@SETS
@given(
    PROBABILITIES,
    st.sampled_from([0.0, 0.5, 0.75, 0.9, 1.0]),
    st.sampled_from([Average.MACRO, Average.MICRO, Average.WEIGHTED]),
)
def test_the_recall_of_both_classes_is_reached_where_any_threshold_reaches_it(
    sets: tuple[np.ndarray, np.ndarray], wanted: float, average: Average
) -> None:
    """It neither rises nor falls with the threshold: calling everything positive misses all negatives."""
    probabilities, targets = sets
    if not targets.any():
        return

    def recall_at(cut: float) -> float:
        return metrics.scores((probabilities >= cut)[:, None], targets[:, None], average)["recall"]

    rule = ThresholdRule(kind=ThresholdKind.RECALL, value=wanted)
    threshold = metrics.best_threshold(probabilities, targets, rule, average)
    enough = min(wanted, max(recall_at(cut) for cut in np.unique(probabilities))) - 1e-9
    assert recall_at(threshold) >= enough
    assert all(recall_at(cut) < enough for cut in np.unique(probabilities[probabilities >= threshold])[1:])


@SETS
@given(PROBABILITIES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_the_precision_threshold_is_the_smallest_that_reaches_it(
    sets: tuple[np.ndarray, np.ndarray], wanted: float
) -> None:
    probabilities, targets = sets
    if not targets.any():
        return
    rule = ThresholdRule(kind=ThresholdKind.PRECISION, value=wanted)
    threshold = metrics.best_threshold(probabilities, targets, rule)
    precisions = [targets[probabilities >= cut].mean() for cut in np.unique(probabilities)]
    reached = targets[probabilities >= threshold].mean()
    if max(precisions) < wanted:
        assert reached == max(precisions)
        return
    assert reached >= wanted
    lower = probabilities[probabilities < threshold]
    assert all(targets[probabilities >= cut].mean() < wanted for cut in lower)


@pytest.mark.parametrize("kind", [ThresholdKind.TUNED, ThresholdKind.RECALL, ThresholdKind.PRECISION])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("images", [40, 6_000])
def test_a_rounding_difference_flips_no_image(kind: ThresholdKind, columns: int, images: int) -> None:
    generator = np.random.default_rng(0)
    targets = generator.random((images, columns)) < 0.4
    noisy = 0.4 * targets + 0.6 * generator.random(targets.shape)
    probabilities = (np.round(noisy * 20_000) / 20_000).astype(np.float32)
    if columns > 1:  # more levels than are tried as cuts
        probabilities = probabilities + np.arange(columns, dtype=np.float32) * np.float32(1.7e-5)
    average = Average.BINARY if columns == 1 else Average.MACRO
    rule = ThresholdRule(kind=kind, value=0.9)
    threshold = metrics.best_threshold(probabilities, targets, rule, average)
    assert np.abs(probabilities - threshold).min() > 1e-6
    decided = probabilities >= threshold
    assert np.array_equal(decided, probabilities - np.float32(5e-7) >= threshold)
    assert np.array_equal(decided, probabilities + np.float32(5e-7) >= threshold)


def test_labels_share_one_threshold() -> None:
    generator = np.random.default_rng(0)
    targets = generator.random((300, 3)) < 0.3
    probabilities = np.clip(targets * 0.3 + 0.6 * generator.random((300, 3)), 0, 1)
    threshold = metrics.best_threshold(probabilities, targets, TUNED, Average.MACRO)

    def f1_at(cut: float) -> float:
        decided = metrics.decide(probabilities, cut, Task.MULTILABEL)
        return float(metrics.f1(decided, targets, Average.MACRO))

    assert f1_at(threshold) == max(f1_at(cut) for cut in [threshold, *np.unique(probabilities)])
    rule = ThresholdRule(kind=ThresholdKind.RECALL, value=0.9)
    reached = metrics.best_threshold(probabilities, targets, rule, Average.MICRO)
    decided = metrics.decide(probabilities, reached, Task.MULTILABEL)
    assert metrics.scores(decided, targets, Average.MICRO)["recall"] >= 0.9


def test_many_distinct_probabilities_of_several_labels_are_thinned() -> None:
    generator = np.random.default_rng(1)
    targets = generator.random((6000, 2)) < 0.5
    probabilities = np.clip(0.5 * targets + 0.6 * generator.random((6000, 2)), 0, 1)
    threshold = metrics.best_threshold(probabilities, targets, TUNED, Average.MICRO)
    decided = metrics.decide(probabilities, threshold, Task.MULTILABEL)
    assert float(metrics.f1(decided, targets, Average.MICRO)) > 0.85


def test_a_fixed_threshold_is_returned_as_it_is() -> None:
    assert metrics.best_threshold([0.1], [1], ThresholdRule(value=0.37)) == 0.37


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.f1(np.ones((3, 2)), np.ones((3, 2)), Average.BINARY), "two classes"),
        (lambda: metrics.f1(np.ones((3, 1)), np.ones((4, 1)), Average.BINARY), "differ in shape"),
        (lambda: metrics.best_threshold([0.1], [1, 0], TUNED), "differ in shape"),
        (
            lambda: metrics.best_threshold([0.1], [1], ThresholdRule(kind=ThresholdKind.RECALL, value=99)),
            "out of range",
        ),
    ],
)
def test_errors_say_what_is_wrong(call: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()  # type: ignore[operator]


def test_class_names_follow_the_columns() -> None:
    two = Targets(
        targets=np.zeros((2, 1), np.float32), classes=("crack", "sound"), task=Task.BINARY, positive=0
    )
    assert metrics.scored_class_names(two) == ("sound", "crack")
    three = Targets(targets=np.zeros((2, 3), np.float32), classes=("a", "b", "c"), task=Task.MULTICLASS)
    assert metrics.scored_class_names(three) == ("a", "b", "c")
    assert metrics.per_class_f1(np.ones((4, 1)), np.array([[1], [1], [0], [1]])) == pytest.approx([0, 6 / 7])


def test_the_default_average() -> None:
    assert metrics.default_average(Task.BINARY) is Average.BINARY
    assert metrics.default_average(Task.MULTICLASS) is Average.MACRO
    assert metrics.default_average(Task.MULTILABEL) is Average.MACRO
    assert metrics.default_average(Task.BINARY, Average.MACRO) is Average.MACRO


def test_every_threshold_that_is_found_is_one() -> None:
    saturated, targets = np.float32([[1.0], [0.9], [0.5], [0.1]]), np.array([[0.0], [0.0], [1.0], [0.0]])
    found = metrics.best_threshold(saturated, targets, TUNED, Average.MICRO)
    assert not metrics.decide(saturated, found, Task.BINARY).any()
    assert found > 1
    for value, possible in {0.0: True, 1.0: True, found: True, found + 1e-9: False, -1e-9: False}.items():
        assert metrics.is_threshold(value) is possible
    assert not metrics.is_threshold(float("nan"))
