"""Protocols: who trains, who chooses, who is scored."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import DataError
from benchmark.heads.protocols import REFERENCE_RATE, FoldPlan, make_plan, validated_parts
from benchmark.records import HeadProtocol, ImageSet, Int64, ProtocolName, Split, Targets, Task


def plan_of(
    name: ProtocolName, *, groups: Int64 | None = None, count: int = 100
) -> tuple[FoldPlan, Split, Targets]:
    generator = np.random.default_rng(0)
    units = np.arange(count) if groups is None else groups
    order = generator.permutation(np.unique(units))
    place = np.searchsorted(np.sort(order), units)
    part = np.digitize(np.argsort(order)[place] / len(order), [0.6, 0.8])
    split = Split(
        train=np.flatnonzero(part == 0),
        val=np.flatnonzero(part == 1),
        test=np.flatnonzero(part == 2),
        given=False,
    )
    targets = Targets(
        targets=(units % 2 == 0).astype(np.float32)[:, None],
        classes=("a", "b"),
        task=Task.BINARY,
        positive=1,
        groups=groups,
    )
    ids = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)]
    return make_plan(targets, split, HeadProtocol(name=name), ids), split, targets


@pytest.mark.parametrize("name", list(ProtocolName))
@pytest.mark.parametrize("grouped", [False, True])
def test_who_trains_chooses_and_is_scored(name: ProtocolName, grouped: bool) -> None:
    groups = np.arange(100) // 2 if grouped else None
    plan, split, _ = plan_of(name, groups=groups)
    units = np.arange(100) if groups is None else groups
    for fold in plan.folds:
        for rows in (fold.train, fold.inner, fold.choose):
            assert not np.isin(rows, split.test).any()
        assert not np.isin(fold.inner, fold.choose).any()
        assert not set(units[fold.score]) & set(units[fold.train]) or name is ProtocolName.REFERENCE
        if name is not ProtocolName.REFERENCE:
            assert np.array_equal(np.sort(np.concatenate([fold.inner, fold.choose])), np.sort(fold.train))
            assert not set(units[fold.inner]) & set(units[fold.choose])
            assert not np.isin(fold.choose, fold.score).any()


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_images_in_groups_of_their_own_are_images_without_groups(task: Task) -> None:
    """Their fingerprints are one, so what is stored of one has to hold for the other."""
    count = 90
    alone = ImageSet(
        name="walls",
        root=Path("walls"),
        paths=[f"{row}.png" for row in range(count)],
        image_ids=sorted(hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)),
        targets=np.arange(count) % (2 if task is Task.BINARY else 3),
        classes=("a", "b", "c")[: 2 if task is Task.BINARY else 3],
        task=task,
        positive=1 if task is Task.BINARY else None,
        groups=None,
        split=Split(train=np.arange(50), val=np.arange(50, 70), test=np.arange(70, count), given=False),
    )
    grouped = replace(alone, groups=np.arange(count))
    assert grouped.fingerprint() == alone.fingerprint()
    assert Targets.of(grouped).groups is None
    folds, same = (
        make_plan(Targets.of(images), images.split, HeadProtocol(), images.image_ids).folds
        for images in (alone, grouped)
    )
    for one, other in zip(folds, same, strict=True):
        assert np.array_equal(one.score, other.score)
        assert np.array_equal(one.choose, other.choose)
    pairs = replace(alone, groups=np.arange(count) // 2)
    assert Targets.of(pairs).groups is pairs.groups


@pytest.mark.parametrize("name", list(ProtocolName))
def test_the_parts_that_are_validated(name: ProtocolName) -> None:
    plan, split, _ = plan_of(name)
    rows = np.concatenate([getattr(split, part) for part in validated_parts(name)])
    assert np.array_equal(np.sort(rows), plan.val_rows)


def test_cross_validation_scores_every_image_once_a_repeat() -> None:
    plan, split, targets = plan_of(ProtocolName.CV)
    assert [fold.label for fold in plan.folds[:6]] == [f"cv/0/{n}" for n in range(5)] + ["cv/1/0"]
    for repeat in range(3):
        scored = np.concatenate([fold.score for fold in plan.folds if fold.repeat == repeat])
        assert np.array_equal(np.sort(scored), plan.val_rows)
    final = plan.folds[-1]
    assert final.label == "final"
    assert final.repeat is None
    assert np.array_equal(final.score, split.test)
    assert np.array_equal(np.sort(final.train), plan.val_rows)
    shares = [float(targets.targets[fold.choose].mean()) for fold in plan.folds]
    assert np.ptp(shares) < 0.1
    assert len(plan.rates) == len(plan.decays) == 10
    assert len({tuple(fold.score) for fold in plan.folds}) == 16


def test_holdout_and_reference_use_the_given_parts() -> None:
    plan, split, _ = plan_of(ProtocolName.HOLDOUT)
    first, final = plan.folds
    assert np.array_equal(np.sort(first.train), split.train)
    assert np.array_equal(first.score, split.val)
    assert np.array_equal(np.sort(final.train), np.sort(np.concatenate([split.train, split.val])))
    plan, split, _ = plan_of(ProtocolName.REFERENCE)
    (fold,) = plan.folds
    assert np.array_equal(np.sort(fold.choose), split.val)
    assert plan.rates == (REFERENCE_RATE,)
    assert not plan.standardised


def test_an_empty_part_is_named() -> None:
    targets = Targets(
        targets=(np.arange(40) % 2).astype(np.float32)[:, None],
        classes=("a", "b"),
        task=Task.BINARY,
        positive=1,
    )
    nothing = np.zeros(0, np.int64)
    split = Split(train=np.arange(30), val=nothing, test=np.arange(30, 40), given=True)
    ids = [str(row) for row in range(40)]
    for name in (ProtocolName.HOLDOUT, ProtocolName.REFERENCE):
        with pytest.raises(DataError, match="the validation part is empty"):
            make_plan(targets, split, HeadProtocol(name=name), ids)
    assert len(make_plan(targets, split, HeadProtocol(), ids).folds) == 16
