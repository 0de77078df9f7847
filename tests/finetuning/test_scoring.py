from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmark.finetuning.scoring import METRICS, Scoring, beats, cross_entropy, loss_weights
from benchmark.records import Average, Split, Task, ThresholdKind, ThresholdRule


def split_of(count: int) -> Split:
    nothing = np.zeros(0, np.int64)
    return Split(train=np.arange(count), val=nothing, test=nothing, given=False)


def test_cross_entropy_equals_kerass() -> None:
    import keras

    generator = np.random.default_rng(0)
    raw = generator.random((40, 3)).astype(np.float32)
    shares = raw / raw.sum(-1, keepdims=True)
    one_hot = np.eye(3, dtype=np.float32)[generator.integers(0, 3, 40)]
    several = (generator.random((40, 3)) > 0.5).astype(np.float32)
    expected = float(keras.losses.CategoricalCrossentropy()(one_hot, shares))
    assert cross_entropy(shares, one_hot, Task.MULTICLASS) == pytest.approx(expected, rel=1e-5)
    expected = float(keras.losses.BinaryCrossentropy()(several, raw))
    assert cross_entropy(raw, several, Task.MULTILABEL) == pytest.approx(expected, rel=1e-5)


def test_certain_mistakes_have_a_finite_loss() -> None:
    wrong = np.array([[1.0], [0.0]], np.float32)
    assert cross_entropy(wrong, 1 - wrong, Task.BINARY) == pytest.approx(-np.log(1e-7), rel=1e-3)


def test_the_measured_scores_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    generator = np.random.default_rng(1)
    probabilities = generator.random((60, 1)).astype(np.float32)
    targets = (generator.random((60, 1)) > 0.6).astype(np.float32)
    scoring = Scoring(task=Task.BINARY, average=Average.BINARY, rule=ThresholdRule())
    found = scoring.measure(probabilities, targets, 0.3)
    said = probabilities >= 0.3
    assert set(found) == set(METRICS)
    for name in ("accuracy", "precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        assert found[name] == pytest.approx(score(targets.ravel(), said.ravel()))


def test_the_threshold_follows_the_rule_and_is_unused_for_classes() -> None:
    probabilities = np.array([[0.1], [0.2], [0.3], [0.9]], np.float32)
    targets = np.array([[0], [0], [1], [1]], np.float32)

    def threshold(rule: ThresholdRule, task: Task = Task.BINARY) -> float:
        average = Average.BINARY if task is Task.BINARY else Average.MACRO
        return Scoring(task=task, average=average, rule=rule).threshold(probabilities, targets)

    assert threshold(ThresholdRule(value=0.7)) == 0.7
    assert 0.2 < threshold(ThresholdRule(kind=ThresholdKind.TUNED)) <= 0.3
    assert 0.3 < threshold(ThresholdRule(kind=ThresholdKind.RECALL, value=0.5)) <= 0.9
    assert threshold(ThresholdRule(value=0.7), Task.MULTICLASS) == 0.5


def test_better_is_a_higher_f1_then_a_lower_loss() -> None:
    first = {"f1": 0.9, "loss": 0.4}
    assert beats(first, None)
    assert beats({"f1": 0.91, "loss": 9.0}, first)
    assert beats({"f1": 0.9, "loss": 0.3}, first)
    assert not beats(first, first)
    assert not beats({"f1": 0.89, "loss": 0.1}, first)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 3)))
def test_balanced_classes_weigh_the_same(labels: np.ndarray) -> None:
    targets = np.eye(4, dtype=np.float32)[labels]
    weights = loss_weights(targets, split_of(len(labels)), balanced=True, softmax=True)
    present = np.unique(labels)
    sums = [weights[labels == label, 0].sum() for label in present]
    assert np.allclose(sums, len(labels) / 4, rtol=1e-5)
    assert np.array_equal(weights, np.repeat(weights[:, :1], 4, 1))


def test_balanced_labels_weigh_yes_like_no() -> None:
    targets = np.array([[1, 0], [0, 0], [0, 0], [0, 0]], np.float32)
    weights = loss_weights(targets, split_of(4), balanced=True, softmax=False)
    assert np.allclose(weights[:, 0], [2, 2 / 3, 2 / 3, 2 / 3])
    assert np.allclose(weights[:, 1], 0.5)  # never seen: nothing to balance against


def test_only_training_images_are_counted() -> None:
    targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 1]]
    split = Split(train=np.array([0, 1, 3]), val=np.array([2]), test=np.array([4, 5, 6]), given=True)
    weights = loss_weights(targets, split, balanced=True, softmax=True)
    assert np.allclose(weights[:, 0], [0.75, 0.75, 0.75, 1.5, 1.5, 1.5, 1.5])
    assert np.all(loss_weights(targets, split, balanced=False, softmax=True) == 1)
