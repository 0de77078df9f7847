"""Stratified parts of a set of images: folds and inner splits.

What goes where depends on image ids, labels, groups and a seed alone: images are ordered by the SHA-256 of a
seed and their id, so renaming files or reordering rows changes nothing. Groups move whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmark.drawing import fill_parts
from benchmark.errors import DataError
from benchmark.records import Bool, Int64, Targets, Task

UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldData:
    """What folds are made from."""

    keys: UInt64  # (N,) of ``hash_keys``
    labels: Bool  # (N, K) what is kept in proportion: one column per class or label
    groups: Int64 | None  # (N,) images with one number stay together; None when every image stands alone
    exclusive: bool  # whether every row has exactly one label
    names: tuple[str, ...]  # of the K labels, for messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """One way to cut a set of rows into parts."""

    parts: tuple[Int64, ...]  # the rows of each, ascending
    note: str = ""  # what was not as asked


def fold_data(targets: Targets, keys: UInt64) -> FoldData:
    """What of the targets folds need."""
    labels = np.asarray(targets.targets > 0.5)
    names = targets.classes
    if targets.task is Task.BINARY:
        positive = 1 if targets.positive is None else targets.positive
        labels = np.concatenate([~labels, labels], 1)
        names = (targets.classes[1 - positive], targets.classes[positive])
    return FoldData(
        keys=keys,
        labels=labels,
        groups=targets.groups,
        exclusive=targets.task is not Task.MULTILABEL,
        names=names,
    )


def hash_keys(image_ids: Sequence[str], seed: int) -> UInt64:
    """The first 64 bits of SHA-256(seed | image id), uint64 (N,)."""
    digests = [hashlib.sha256(f"{seed}|{image_id}".encode()).digest()[:8] for image_id in image_ids]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def salted_order(keys: UInt64, salt: str) -> Int64:
    """An order of images that depends on their keys and the salt alone, int64 (n,).

    The keys are mixed with the salt's hash by the finaliser of SplitMix64 (Steele, Lea and Flood, 2014): each
    image is hashed once for all folds.
    """
    mixed = keys ^ hash_keys([salt], 0)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.lexsort((keys, mixed ^ (mixed >> np.uint64(31))))


def hashed_order(image_ids: Sequence[str], seed: int, salt: str) -> Int64:
    """``salted_order`` of image ids."""
    return salted_order(hash_keys(image_ids, seed), salt)


def make_folds(data: FoldData, rows: Int64, count: int, salt: str) -> Folds:
    """Cut rows into ``count`` stratified parts, at least 2, whose complements hold every class.

    Fewer are made, with a note, where a class is too small; a different salt makes different parts.

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
        next_step="Give finer groups (`groups`), or more images.",
    )


def inner_split(data: FoldData, rows: Int64, count: int, salt: str) -> tuple[Int64, Int64, str]:
    """Cut the training rows of a fold in two: rows that train and rows that choose.

    A class with a single image among these rows trains and does not choose. Where groups leave no way, groups
    are split: then only the choices are optimistic, not the scores.

    One part in ``count`` chooses. The note is empty when all was as asked.

    Raises:
        DataError: fewer than two classes have two images among these rows.
    """
    if data.groups is not None:
        try:
            choose = make_folds(data, rows, count, salt).parts[0]
        except DataError:
            alone = replace(data, groups=None)
            return *inner_split(alone, rows, count, salt)[:2], "groups too coarse to choose by: images chose"
        return np.setdiff1d(rows, choose), choose, ""
    single = data.labels[rows].sum(0) == 1 if data.exclusive else np.zeros(data.labels.shape[1], bool)
    several = rows[~data.labels[rows][:, single].any(1)]
    if data.exclusive and data.labels[several].any(0).sum() < 2:
        raise DataError(
            "too few images to choose an epoch and score on others",
            expected="at least 3 images in each of two classes outside the test part",
            got=f"{len(rows)} images in a fold's training part",
            next_step="Add images.",
        )
    choose = make_folds(replace(data, labels=data.labels[:, ~single]), several, count, salt).parts[0]
    return np.setdiff1d(rows, choose), choose, ""


def _units(data: FoldData, rows: Int64) -> tuple[Int64, Int64]:
    """Group numbers that occur, and for each row the position of its group among them."""
    if data.groups is None:
        return rows, np.arange(len(rows), dtype=np.int64)
    found, position = np.unique(data.groups[rows], return_inverse=True)
    return found, np.asarray(position, np.int64)


def _smallest_class(data: FoldData, rows: Int64) -> int:
    """Number of groups (images) that hold the rarest class; of multi-label sets, of all groups.

    Raises:
        DataError: fewer than two for a class.
    """
    present = _units_per_label(data, rows)
    if not data.exclusive:  # a rare label must not decide how the common ones are validated
        return len(_units(data, rows)[0])
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
    """Whether the part holds something and what remains without it still holds every label that can."""
    whole = data.labels[rows].sum(0)
    remaining = whole - data.labels[part].sum(0)
    needed = whole > 0 if data.exclusive else _units_per_label(data, rows) >= 2
    return len(part) > 0 and bool((remaining[needed] > 0).all())


def _cut(data: FoldData, rows: Int64, count: int, salt: str) -> tuple[Int64, ...]:
    order = salted_order(data.keys[rows], salt)
    if data.groups is None and data.exclusive:
        part_of = _dealt(data.labels[rows], order, count)
    else:
        part_of = _greedy(data, rows, order, count)
    return tuple(np.sort(rows[part_of == part]) for part in range(count))


def _dealt(labels: Bool, order: Int64, count: int) -> Int64:
    """Deal the images of each class in turn, the next class where the last stopped: sizes differ by one."""
    part_of = np.zeros(len(labels), np.int64)
    start = 0
    for column in labels.T:
        members = order[column[order]]
        part_of[members] = (start + np.arange(len(members))) % count
        start += len(members)
    return part_of


def _greedy(data: FoldData, rows: Int64, order: Int64, count: int) -> Int64:
    """Put each group where the labels then stand closest to their share: largest first, then rarest label."""
    _, position = _units(data, rows)
    units = int(position.max()) + 1
    columns = np.concatenate([data.labels[rows], np.ones((len(rows), 1))], 1)
    amounts = np.zeros((units, columns.shape[1]))
    np.add.at(amounts, position, columns)
    rank = np.full(units, len(rows), np.int64)
    np.minimum.at(rank, position[order], np.arange(len(rows)))
    wanted = amounts.sum(0) / count
    rarest = np.where(amounts > 0, wanted, np.inf).min(1)
    # Squares of relative excess: the rarest label counts as much as the most frequent one.
    weights = np.tile(np.maximum(wanted, 1e-12) ** 2, (count, 1))
    return fill_parts(amounts, np.lexsort((rank, rarest, -amounts[:, -1])), weights)[position]
