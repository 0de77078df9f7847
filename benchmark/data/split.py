"""Drawing train, val and test parts: by content and seed alone, stratified, groups whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.data.listing import SplitPart
from benchmark.data.reading import reasons_of
from benchmark.drawing import fill_parts
from benchmark.errors import DataError
from benchmark.records import Bool, Float64, Int64, Rejected, Split

SHARES = {SplitPart.TRAIN: 0.6, SplitPart.VAL: 0.2, SplitPart.TEST: 0.2}


def split_images(
    image_ids: Sequence[str],
    targets: Int64,
    *,
    groups: Int64 | None = None,
    parts: Sequence[SplitPart] | None = None,
    seed: int = 0,
) -> Split:
    """Split images into train (60 %), val (20 %) and test (20 %), or complete the parts that a user gave.

    Within a class, images are ordered by the SHA-256 of seed and image id: neither names nor the order of
    files matter. Images without any label count as a class. Groups, and images with several labels, go one
    by one in the order of the SHA-256 of seed and smallest image id, each to the part whose class proportions
    suffer least.

    Args:
        image_ids: N image ids.
        targets: int64 (N,) class positions, or (N, C) of 0 and 1.
        groups: int64 (N,) group numbers, or None.
        parts: N given parts, or None. Where they hold no val, it is taken from train (a quarter of it); where
            they hold no test, test stays empty.
        seed: of the drawing.

    Raises:
        DataError: parts were given, but no train part.
    """
    membership = _membership(targets)
    if parts is None:
        drawn = _draw(image_ids, membership, groups, SHARES, seed)
        return _split(drawn, given=False, val_drawn=True)
    given = np.asarray([int(part) for part in parts], np.int64)
    if not np.any(given == SplitPart.TRAIN):
        raise DataError("no images in the train part", expected="train, and val or test beside it")
    val_drawn = not np.any(given == SplitPart.VAL)
    if val_drawn:
        given = _take_val(given, image_ids, membership, groups, seed)
    return _split(given, given=True, val_drawn=val_drawn)


def _split(parts: Int64, *, given: bool, val_drawn: bool) -> Split:
    train, val, test = (np.flatnonzero(parts == part).astype(np.int64) for part in SplitPart)
    return Split(train=train, val=val, test=test, given=given, val_drawn=val_drawn)


def _membership(targets: Int64) -> Bool:
    """Boolean (N, C): which classes each image belongs to; images of none have a last column of their own."""
    if targets.ndim == 2:
        classes = targets.astype(bool)
        none = ~classes.any(axis=1, keepdims=True)
        return np.hstack([classes, none]) if none.any() else classes
    membership: Bool = targets[:, None] == np.arange(int(targets.max(initial=0)) + 1)[None]
    return membership


def _take_val(
    given: Int64, image_ids: Sequence[str], membership: Bool, groups: Int64 | None, seed: int
) -> Int64:
    rows = np.flatnonzero(given == SplitPart.TRAIN).tolist()
    shares = {SplitPart.TRAIN: 0.75, SplitPart.VAL: 0.25}
    inner = None if groups is None else groups[rows]
    drawn = _draw([image_ids[row] for row in rows], membership[rows], inner, shares, seed)
    completed = given.copy()
    completed[rows] = drawn
    return completed


def _draw(
    image_ids: Sequence[str],
    membership: Bool,
    groups: Int64 | None,
    shares: dict[SplitPart, float],
    seed: int,
) -> Int64:
    """int64 (N,): the part of each image."""
    single = bool(np.all(membership.sum(axis=1) == 1))
    if groups is None and single:
        return _draw_singles(image_ids, membership, shares, seed)
    numbers = np.arange(len(image_ids), dtype=np.int64) if groups is None else groups
    return _draw_groups(image_ids, membership, numbers, shares, seed)


def check_enough(
    classes: Sequence[str],
    targets: Int64,
    groups: Int64 | None,
    parts: Sequence[SplitPart] | None,
    lost: Mapping[str, Sequence[Rejected]] | None = None,
) -> None:
    """See that every class has an image (a group, where there are groups) for every part that will be drawn.

    Args:
        classes: C names.
        targets: int64 (N,) class positions, or (N, C) of 0 and 1.
        groups: int64 (N,) group numbers, or None.
        parts: N given parts, or None.
        lost: files that were left out, by class name, for the error.

    Raises:
        DataError: names the first class that has too few. Classes of multi-label sets need a single image.
    """
    membership = _membership(targets)
    everywhere = membership
    if targets.ndim == 2:
        wanted = 1
    elif parts is None:
        wanted = len(SHARES)
    else:
        wanted = 1 if SplitPart.VAL in parts else 2
        membership = membership[np.asarray(parts) == SplitPart.TRAIN]
        groups = None if groups is None else groups[np.asarray(parts) == SplitPart.TRAIN]
    for column, name in enumerate(classes):
        rows = membership[:, column] if column < membership.shape[1] else np.zeros(0, bool)
        count = int(rows.sum()) if groups is None else len(np.unique(groups[rows]))
        if count < wanted:
            elsewhere = _other_parts(everywhere, column, parts)
            if not count and elsewhere:
                raise _only_in(name, elsewhere)
            raise _too_few(name, count, wanted, groups is not None, (lost or {}).get(name, ()))


def _other_parts(membership: Bool, column: int, parts: Sequence[SplitPart] | None) -> dict[str, int]:
    """Images of a class in the given parts that are not train, by name of the part."""
    if parts is None or column >= membership.shape[1]:
        return {}
    given = np.asarray(parts)
    counts = {part.name.lower(): int(membership[given == part, column].sum()) for part in SplitPart}
    return {name: count for name, count in counts.items() if count and name != "train"}


def _only_in(name: str, elsewhere: Mapping[str, int]) -> DataError:
    return DataError(
        f"a class stands only in {' and '.join(elsewhere)}: nothing can be learned of it",
        where=f"class {name!r}",
        expected="images of it in train",
        got=", ".join(f"{count} in {part}" for part, count in {"train": 0, **elsewhere}.items()),
        next_step="Move some of its images to train, or leave the class out.",
    )


def _too_few(name: str, count: int, wanted: int, grouped: bool, lost: Sequence[Rejected]) -> DataError:
    left_out = f" ({len(lost)} left out: {reasons_of(lost)})" if lost else ""
    unit = "groups of images" if grouped else "images"
    return DataError(
        f"a class has too few {unit} to split",
        where=f"class {name!r}",
        expected=f"at least {wanted}",
        got=f"{count}{left_out}",
        next_step="Add images of this class, leave the class out, or give the parts yourself.",
    )


def order_key(seed: int, image_id: str) -> bytes:
    """Where an image stands in a drawing: SHA-256 of seed and image id; test comes first, train last."""
    return hashlib.sha256(f"{seed}:{image_id}".encode()).digest()


def _draw_singles(
    image_ids: Sequence[str], membership: Bool, shares: dict[SplitPart, float], seed: int
) -> Int64:
    drawn = np.zeros(len(image_ids), np.int64)
    for column in range(membership.shape[1]):
        rows = sorted(
            np.flatnonzero(membership[:, column]).tolist(), key=lambda row: order_key(seed, image_ids[row])
        )
        start = 0
        for part in sorted(shares, reverse=True)[:-1]:
            count = max(1, round(shares[part] * len(rows))) if rows else 0
            drawn[rows[start : start + count]] = part
            start += count
    return drawn


def _draw_groups(
    image_ids: Sequence[str], membership: Bool, groups: Int64, shares: dict[SplitPart, float], seed: int
) -> Int64:
    names, inverse = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), membership.shape[1]))
    np.add.at(counts, inverse, membership.astype(np.float64))
    smallest = [""] * len(names)
    for image_id, number in zip(image_ids, inverse.tolist(), strict=True):
        smallest[number] = min(smallest[number] or image_id, image_id)
    order = sorted(range(len(names)), key=lambda number: order_key(seed, smallest[number]))
    parts = sorted(shares)
    wanted = np.array([[shares[part]] for part in parts]) * np.maximum(counts.sum(axis=0), 1.0)
    # Chi-square distances: a part that should hold more is measured by more.
    drawn = fill_parts(counts, order, wanted)
    _complete(counts, order, drawn, wanted)
    return np.asarray(parts, np.int64)[drawn][inverse]


def _complete(counts: Float64, order: Sequence[int], drawn: Int64, wanted: Float64) -> None:
    """Move groups, in place, until every part has every class that can be spared elsewhere."""
    has = counts > 0
    for part in range(len(wanted)):
        for column in range(counts.shape[1]):
            if not np.any(has[drawn == part, column]):
                movable = [number for number in order if has[number, column] and _spared(has, drawn, number)]
                if movable:
                    # The smallest disturbs the shares least; the first of equals in the order of the drawing.
                    drawn[min(movable, key=lambda number: counts[number].sum())] = part


def _spared(has: Bool, drawn: Int64, number: int) -> bool:
    """Whether a group's part keeps each of the group's classes without it."""
    others = (drawn == drawn[number]) & (np.arange(len(drawn)) != number)
    return bool(np.all(has[others].any(axis=0) | ~has[number]))
