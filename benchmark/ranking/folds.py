"""Stratified parts of a set of images: folds and inner splits.

What goes where depends on image ids, labels, groups and a seed alone: images are ordered by the SHA-256 of a
salt and their id, so renaming files or reordering rows changes nothing. Groups move whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import DataError
from benchmark.records import Bool, Float64, Int64, Task, Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldData:
    """What folds are made from.

    Attributes:
        image_ids: N image ids.
        labels: bool (N, K) what is kept in proportion: one column per class or label.
        groups: int64 (N,) images with one number stay together; None when every image stands alone.
        exclusive: True when every row has exactly one label.
        names: K names for messages.
    """

    image_ids: tuple[str, ...]
    labels: Bool
    groups: Int64 | None
    exclusive: bool
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """One way to cut a set of rows into parts.

    Attributes:
        parts: for each part its rows, int64, ascending.
        note: what was not as asked; empty when all was.
    """

    parts: tuple[Int64, ...]
    note: str = ""


def fold_data(truth: Truth, image_ids: Sequence[str]) -> FoldData:
    """The side of the truth that folds need."""
    labels = np.asarray(truth.targets > 0.5)
    names = truth.classes
    if truth.task is Task.BINARY:
        positive = 1 if truth.positive is None else truth.positive
        labels = np.concatenate([~labels, labels], 1)
        names = (truth.classes[1 - positive], truth.classes[positive])
    return FoldData(
        image_ids=tuple(image_ids),
        labels=labels,
        groups=truth.groups,
        exclusive=truth.task is not Task.MULTILABEL,
        names=names,
    )


def hash_order(image_ids: Sequence[str], salt: str) -> Int64:
    """Positions of the ids in the order of SHA-256(salt | id), int64 (n,)."""
    digests = [hashlib.sha256(f"{salt}|{image_id}".encode()).digest() for image_id in image_ids]
    return np.asarray(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def make_folds(data: FoldData, rows: Int64, count: int, salt: str) -> Folds:
    """Cut rows into stratified parts whose complements hold every class.

    Args:
        data: of the whole image set.
        rows: int64 (n,) the rows to cut.
        count: wanted number of parts, at least 2; fewer are made, with a note, where a class is too small.
        salt: makes the order; a different salt makes different parts.

    Returns:
        At least two parts.

    Raises:
        DataError: a class has fewer than two images (or groups) among these rows, or the groups leave no
            way to train without one of the parts.
    """
    possible = min(count, _smallest_class(data, rows))
    for parts_count in range(possible, 1, -1):
        parts = _cut(data, rows, parts_count, salt)
        if all(_has_every_label(data, rows, part) for part in parts):
            note = "" if parts_count == count else _fewer_note(data, rows, count, parts_count)
            return Folds(parts=parts, note=note)
    raise DataError(
        "the groups are too coarse to cross-validate: without any part, a class is missing",
        expected="at least two parts whose complements hold every class",
        got=f"{len(rows)} images in {len(_units(data, rows)[0])} groups",
        next_step="Give finer groups (--groups), or more images.",
    )


def inner_split(data: FoldData, rows: Int64, count: int, salt: str) -> tuple[Folds, str]:
    """Cut the training rows of a fold in two: rows that train and rows that choose.

    Args:
        data: of the whole image set.
        rows: int64 (n,) training rows of the fold.
        count: one part in ``count`` chooses.
        salt: as in ``make_folds``.

    Returns:
        Folds of two parts (train, choose), and a note: groups were split where they leave no other way (then
        only the choices are optimistic, not the scores).

    Raises:
        DataError: a class has a single image among these rows.
    """
    try:
        folds, note = make_folds(data, rows, count, salt), ""
    except DataError:
        if data.groups is None:
            raise
        alone = FoldData(
            image_ids=data.image_ids,
            labels=data.labels,
            groups=None,
            exclusive=data.exclusive,
            names=data.names,
        )
        folds, note = (
            make_folds(alone, rows, count, salt),
            "too few groups for a grouped inner split: images of one group chose",
        )
    choose = folds.parts[0]
    return Folds(parts=(np.setdiff1d(rows, choose), choose)), note


def _units(data: FoldData, rows: Int64) -> tuple[Int64, Int64]:
    """Group numbers that occur, and for each row the position of its group among them."""
    if data.groups is None:
        return rows, np.arange(len(rows), dtype=np.int64)
    found, position = np.unique(data.groups[rows], return_inverse=True)
    return found, np.asarray(position, np.int64)


def _smallest_class(data: FoldData, rows: Int64) -> int:
    """Number of groups (images) that hold the rarest class; labels of a multi-label set may be too rare.

    Raises:
        DataError: fewer than two for a class.
    """
    present = _units_per_label(data, rows)
    if not data.exclusive:
        present = present[present >= 2]
        return int(present.min()) if len(present) else min(len(_units(data, rows)[0]), len(rows))
    rarest = int(present.argmin())
    if present[rarest] < 2:
        one = "groups" if data.groups is not None else "images"
        raise DataError(
            f"class '{data.names[rarest]}' has too few {one} to hold some out",
            expected=f"at least 2 {one} per class outside the test part",
            got=str(present[rarest]),
            next_step="Add images of that class, or leave the class out.",
        )
    return int(present[rarest])


def _units_per_label(data: FoldData, rows: Int64) -> Int64:
    units, position = _units(data, rows)
    holds = np.zeros((len(units), data.labels.shape[1]), bool)
    np.logical_or.at(holds, position, data.labels[rows])
    return np.asarray(holds.sum(0), np.int64)


def _fewer_note(data: FoldData, rows: Int64, wanted: int, made: int) -> str:
    present = _units_per_label(data, rows)
    considered = np.where(present >= 2, present, present.max() + 1)
    name = data.names[int(considered.argmin())]
    return f"{made} parts instead of {wanted}: too few images or groups of '{name}'"


def _has_every_label(data: FoldData, rows: Int64, part: Int64) -> bool:
    """Whether what remains without the part still holds every label that can remain, and the part is not empty."""
    whole = data.labels[rows].sum(0)
    remaining = whole - data.labels[part].sum(0)
    needed = whole > 0 if data.exclusive else _units_per_label(data, rows) >= 2
    return len(part) > 0 and bool((remaining[needed] > 0).all())


def _cut(data: FoldData, rows: Int64, count: int, salt: str) -> tuple[Int64, ...]:
    order = hash_order([data.image_ids[row] for row in rows], salt)
    if data.groups is None and data.exclusive:
        part_of = _dealt(data.labels[rows], order, count)
    else:
        part_of = _greedy(data, rows, order, count)
    return tuple(np.sort(rows[part_of == part]) for part in range(count))


def _dealt(labels: Bool, order: Int64, count: int) -> Int64:
    """Deal the images of each class in turn, the next class where the last one stopped: sizes differ by one."""
    part_of = np.zeros(len(labels), np.int64)
    start = 0
    for column in labels.T:
        members = order[column[order]]
        part_of[members] = (start + np.arange(len(members))) % count
        start += len(members)
    return part_of


def _greedy(data: FoldData, rows: Int64, order: Int64, count: int) -> Int64:
    """Put each group, largest first, where the labels then stand closest to their share of every part."""
    _, position = _units(data, rows)
    units = int(position.max()) + 1
    columns = np.concatenate([data.labels[rows], np.ones((len(rows), 1))], 1)
    amounts = np.zeros((units, columns.shape[1]))
    np.add.at(amounts, position, columns)
    rank = np.full(units, len(rows), np.int64)
    np.minimum.at(rank, position[order], np.arange(len(rows)))
    chosen = np.zeros(units, np.int64)
    wanted = amounts.sum(0) / count
    load = np.zeros((count, columns.shape[1]))
    for unit in np.lexsort((rank, -amounts.max(1), -amounts.std(1))):
        chosen[unit] = part = _best_part(load, amounts[unit], wanted)
        load[part] += amounts[unit]
    return chosen[position]


def _best_part(load: Float64, amount: Float64, wanted: Float64) -> int:
    """The part whose squared relative excess grows least by taking the amount; the emptier, then first of equals."""
    share = np.maximum(wanted, 1e-12)
    growth = (((load + amount) / share - 1) ** 2 - (load / share - 1) ** 2).sum(1)
    return int(np.lexsort((load[:, -1], np.round(growth, 9)))[0])
