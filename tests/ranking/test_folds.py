"""Folds: disjoint, complete, stratified, grouped, and a function of ids, labels and seed alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import DataError
from benchmark.heads.folds import FoldData, fold_data, hash_keys, inner_split, make_folds, salted_order
from benchmark.records import Int64, Targets, Task


def data_of(labels: Int64, groups: Int64 | None = None, seed: int = 0) -> FoldData:
    ids = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(len(labels))]
    classes = int(labels.max()) + 1
    targets = Targets(
        targets=np.eye(classes, dtype=np.float32)[labels],
        classes=tuple(f"c{number}" for number in range(classes)),
        task=Task.MULTICLASS,
        groups=groups,
    )
    return fold_data(targets, hash_keys(ids, seed))


@given(
    sizes=st.lists(st.integers(5, 40), min_size=2, max_size=4),
    count=st.integers(2, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_parts_are_disjoint_complete_and_stratified(sizes: list[int], count: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(labels))
    folds = make_folds(data_of(labels, seed=seed), rows, count, "x")
    assert np.array_equal(np.sort(np.concatenate(folds.parts)), rows)
    assert len(folds.parts) == count
    assert not folds.note
    for label in range(len(sizes)):
        held = [int((labels[part] == label).sum()) for part in folds.parts]
        assert max(held) - min(held) <= 1
    lengths = [len(part) for part in folds.parts]
    assert max(lengths) - min(lengths) <= 1


@given(seed=st.integers(0, 200), count=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_groups_stay_together_and_classes_are_balanced(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 40, 200)
    labels = (generator.random(40) < 0.4).astype(np.int64)[groups]
    labels[groups < 6] = 1
    labels[groups > 33] = 0
    folds = make_folds(data_of(labels, groups), np.arange(200), count, "x")
    assert np.array_equal(np.sort(np.concatenate(folds.parts)), np.arange(200))
    for first in range(len(folds.parts)):
        for second in range(first):
            assert not set(groups[folds.parts[first]]) & set(groups[folds.parts[second]])
    wanted = labels.sum() / count
    for part in folds.parts:
        assert abs(labels[part].sum() - wanted) <= 0.5 * wanted + 5


@given(seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("grouped", [False, True])
def test_row_order_does_not_matter(grouped: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    groups = generator.integers(0, 25, 60) if grouped else None
    first = data_of(labels, groups)
    order = generator.permutation(60)
    renumbered = None if groups is None else (1000 - groups)[order]
    second = FoldData(
        keys=first.keys[order],
        labels=first.labels[order],
        groups=renumbered,
        exclusive=True,
        names=first.names,
    )
    parts = make_folds(first, np.arange(60), 5, "x").parts
    shuffled = make_folds(second, np.arange(60), 5, "x").parts
    # Row k of the second set is row order[k] of the first.
    assert [set(part) for part in parts] == [set(order[part]) for part in shuffled]


def test_salt_and_seed_make_other_parts() -> None:
    labels, rows = np.arange(60) % 2, np.arange(60)
    first = make_folds(data_of(labels), rows, 5, "x").parts
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(first, make_folds(data_of(labels), rows, 5, "y").parts, strict=True)
    )
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(first, make_folds(data_of(labels, seed=1), rows, 5, "x").parts, strict=True)
    )


def test_the_order_is_a_permutation_that_looks_random() -> None:
    keys = hash_keys([str(number) for number in range(5000)], 0)
    first, second = salted_order(keys, "a"), salted_order(keys, "b")
    assert np.array_equal(np.sort(first), np.arange(5000))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05


def test_small_classes_make_fewer_folds_with_a_note() -> None:
    labels = np.array([0] * 30 + [1] * 3)
    folds = make_folds(data_of(labels), np.arange(33), 5, "x")
    assert len(folds.parts) == 3
    assert folds.note == "3 parts instead of 5: too few images or groups of 'c1'"


def test_one_image_of_a_class_is_an_error() -> None:
    with pytest.raises(DataError, match="class 'c1' has too few images to hold some out") as caught:
        make_folds(data_of(np.array([0] * 9 + [1])), np.arange(10), 5, "x")
    assert caught.value.got == "1"


def test_a_class_in_one_group_is_an_error() -> None:
    labels, groups = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 4, 4])
    with pytest.raises(DataError, match="class 'c1' has too few groups"):
        make_folds(data_of(labels, groups), np.arange(6), 5, "x")


def test_every_label_of_a_multi_label_set_is_spread() -> None:
    generator = np.random.default_rng(0)
    wanted = (generator.random((200, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.03]).astype(np.float32)
    targets = Targets(targets=wanted, classes=tuple("abcdef"), task=Task.MULTILABEL)
    ids = [str(row) for row in range(200)]
    folds = make_folds(fold_data(targets, hash_keys(ids, 0)), np.arange(200), 5, "x")
    held = np.stack([wanted[part].sum(0) for part in folds.parts])
    assert len(folds.parts) == 5
    assert (np.ptp(held, axis=0) <= np.maximum(2, 0.25 * held.mean(0))).all(), held
    assert np.ptp([len(part) for part in folds.parts]) <= 6


def test_the_inner_split_keeps_groups_until_it_cannot() -> None:
    labels, rows = np.arange(40) % 2, np.arange(40)
    groups = np.arange(40) // 4
    labels = groups % 2
    train, choose, note = inner_split(data_of(labels, groups), rows, 5, "x")
    assert not set(groups[train]) & set(groups[choose])
    assert not note
    assert np.array_equal(np.sort(np.concatenate([train, choose])), rows)
    coarse = labels.copy()
    train, choose, note = inner_split(data_of(labels, coarse), rows, 5, "x")
    assert "too coarse" in note
    assert len(choose) == 8


def test_a_single_image_of_a_class_trains_and_does_not_choose() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2])
    train, choose, _ = inner_split(data_of(labels), np.arange(21), 5, "x")
    assert 20 in train
    assert set(labels[choose]) == {0, 1}
    with pytest.raises(DataError, match="too few images to choose"):
        inner_split(data_of(np.array([0] * 10 + [1])), np.arange(11), 5, "x")
