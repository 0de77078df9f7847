"""Splits: disjoint, complete, stratified, whole groups, decided by content and seed alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data.listing import SplitPart
from benchmark.data.split import check_enough, split_images
from benchmark.errors import DataError
from benchmark.records import Int64, Split


def ids(count: int, salt: int = 0) -> tuple[str, ...]:
    return tuple(sorted(hashlib.sha256(f"{salt}/{n}".encode()).hexdigest() for n in range(count)))


def parts_of(split: Split, count: int) -> Int64:
    parts = np.full(count, -1)
    for number, rows in enumerate((split.train, split.val, split.test)):
        assert np.all(parts[rows] == -1), "parts overlap"
        assert np.all(np.diff(rows) > 0), "rows are sorted"
        parts[rows] = number
    assert np.all(parts >= 0), "an image is in no part"
    return parts


labels = st.lists(st.integers(0, 2), min_size=9, max_size=120).filter(
    lambda drawn: all(drawn.count(label) >= 3 for label in set(drawn))
)


@given(labels=labels, seed=st.integers(0, 5))
def test_classes_are_shared_out_in_proportion(labels: list[int], seed: int) -> None:
    targets = np.array(labels)
    parts = parts_of(split_images(ids(len(targets)), targets, seed=seed), len(targets))
    for label in set(labels):
        counts = np.bincount(parts[targets == label], minlength=3)
        total = counts.sum()
        assert counts.min() >= 1
        assert abs(counts[1] - 0.2 * total) <= 0.5 or counts[1] == 1
        assert counts[1] == counts[2]


@given(labels=labels, data=st.data())
def test_the_order_of_images_does_not_matter(labels: list[int], data: st.DataObject) -> None:
    names, targets = ids(len(labels)), np.array(labels)
    order = data.draw(st.permutations(range(len(labels))))
    parts = parts_of(split_images(names, targets), len(names))
    shuffled = parts_of(split_images([names[row] for row in order], targets[order]), len(names))
    assert np.array_equal(parts[list(order)], shuffled)


@settings(deadline=None)
@given(
    groups=st.lists(st.integers(0, 25), min_size=40, max_size=150),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_groups_stay_whole_and_their_numbers_do_not_matter(
    groups: list[int], seed: int, data: st.DataObject
) -> None:
    count = len(groups)
    targets = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    numbers = np.array(groups)
    parts = parts_of(split_images(ids(count), targets, groups=numbers, seed=seed), count)
    assert all(len(set(parts[numbers == group])) == 1 for group in set(groups))
    renamed = np.random.default_rng(seed).permutation(26)[numbers]
    assert np.array_equal(
        parts, parts_of(split_images(ids(count), targets, groups=renamed, seed=seed), count)
    )


def test_even_groups_come_near_the_shares() -> None:
    targets = np.arange(600) % 2
    parts = parts_of(split_images(ids(600), targets, groups=np.arange(600) // 6), 600)
    for label in (0, 1):
        assert np.allclose(np.bincount(parts[targets == label]) / 300, [0.6, 0.2, 0.2], atol=0.03)


def test_three_groups_of_a_class_reach_three_parts() -> None:
    targets = np.repeat([0, 1], 30)
    groups = np.concatenate([np.repeat([0, 1, 2], 10), 3 + np.arange(30) // 3])
    for seed in range(20):
        parts = parts_of(split_images(ids(60), targets, groups=groups, seed=seed), 60)
        assert all(set(parts[targets == label]) == {0, 1, 2} for label in (0, 1))


def test_several_labels_an_image_are_spread() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((500, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(np.int64)
    parts = parts_of(split_images(ids(500), targets), 500)
    shares = np.array([targets[parts == part].sum(axis=0) for part in range(3)]) / targets.sum(axis=0)
    assert np.abs(shares[:, :3] - np.array([[0.6], [0.2], [0.2]])).max() < 0.03
    assert (shares > 0).all()


@pytest.mark.parametrize("labels", [[0.06, 0.06, 0.06], [0.4, 0.3, 0.1]])
@pytest.mark.parametrize("grouped", [False, True])
def test_images_without_a_label_are_spread_too(labels: list[float], grouped: bool) -> None:
    targets = (np.random.default_rng(0).random((500, 3)) < labels).astype(np.int64)
    groups = np.arange(500) // 2 if grouped else None
    bare = ~targets.any(axis=1)
    parts = parts_of(split_images(ids(500), targets, groups=groups), 500)
    assert np.allclose(np.bincount(parts[bare]) / bare.sum(), [0.6, 0.2, 0.2], atol=0.02)
    given = [SplitPart.TEST if row < 100 else SplitPart.TRAIN for row in range(500)]
    drawn = split_images(ids(500), targets, groups=groups, parts=given)
    assert abs(bare[drawn.val].sum() / bare[100:].sum() - 0.25) < 0.02


def test_seeds_draw_differently() -> None:
    targets = np.arange(100) % 2
    drawn = {tuple(split_images(ids(100), targets, seed=seed).test) for seed in range(5)}
    assert len(drawn) == 5


def test_adding_images_moves_few() -> None:
    names = ids(1000)
    targets = np.zeros(1000, np.int64)
    before = dict(zip(names, parts_of(split_images(names, targets), 1000), strict=True))
    more = tuple(sorted({*names, *ids(50, salt=1)}))
    after = dict(zip(more, parts_of(split_images(more, np.zeros(1050, np.int64)), 1050), strict=True))
    assert sum(before[name] != after[name] for name in names) < 30


def test_val_is_taken_from_train_where_only_test_is_given() -> None:
    parts = [SplitPart.TEST if row % 5 == 0 else SplitPart.TRAIN for row in range(100)]
    split = split_images(ids(100), np.arange(100) % 2, parts=parts)
    assert split.given
    assert split.val_drawn
    assert set(split.test) == set(range(0, 100, 5))
    assert len(split.val) == 20


def test_no_test_part_where_none_is_given() -> None:
    parts = [SplitPart.VAL if row % 4 == 0 else SplitPart.TRAIN for row in range(20)]
    split = split_images(ids(20), np.arange(20) % 2, parts=parts)
    assert len(split.test) == 0
    assert not split.val_drawn


def test_a_missing_train_part_is_an_error() -> None:
    with pytest.raises(DataError, match="no images in the train part"):
        split_images(ids(4), np.array([0, 1, 0, 1]), parts=[SplitPart.TEST] * 4)


def test_a_class_too_small_is_named() -> None:
    targets = np.array([0, 0, 0, 1, 1])
    with pytest.raises(DataError, match="class 'rare': a class has too few images to split"):
        check_enough(["common", "rare"], targets, None, None)
    with pytest.raises(DataError, match="class 'rare': a class has too few groups of images"):
        check_enough(["common", "rare"], np.repeat([0, 1], 9), np.repeat([0, 1, 2, 3], [3, 3, 3, 9]), None)
