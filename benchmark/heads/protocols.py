"""Which images train, choose and score: the plan of a protocol, without any training.

cv: repeated stratified (grouped) folds over train + validation; each fold's training part is cut once more
into images that train and images that choose. holdout: the same with the given train and validation parts.
reference: one head on the given train part, the validation part chooses the epoch. Only the final head's
``score`` rows are test rows; no test row trains or chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from benchmark.errors import DataError
from benchmark.heads.folds import fold_data, hash_keys, inner_split, make_folds, salted_order
from benchmark.records import HeadProtocol, Int64, ProtocolName, Split, Targets

REFERENCE_RATE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One head that is wanted, and where its choices come from."""

    label: str  # for example ``cv/0/3`` or ``final``; seeds derive from it
    repeat: int | None  # the row of the validation probabilities for its scores; None for the final head
    train: Int64  # rows of the refitted head
    inner: Int64  # rows that train while choosing
    choose: Int64  # rows that choose learning rate, weight decay and threshold (reference: the epoch)
    score: Int64  # rows that the refitted head predicts


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldPlan:
    """All heads of a protocol.

    Attributes:
        folds: the final head, which scores the test part, comes last and is absent without one.
        used: int64 rows that may train or choose, ascending.
        val_rows: int64 (V,) rows with validation probabilities, ascending.
        repeats: R.
        standardised: whether embeddings are standardised.
        rates: G learning rates of the grid.
        decays: G L2 penalties of the grid.
        notes: what was not as asked.
    """

    folds: tuple[Fold, ...]
    used: Int64
    val_rows: Int64
    repeats: int
    standardised: bool
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    notes: tuple[str, ...]


def make_plan(targets: Targets, split: Split, protocol: HeadProtocol, image_ids: Sequence[str]) -> FoldPlan:
    """Plan a protocol.

    Args:
        targets: labels and groups of N images; labels of test rows are not looked at.
        split: the parts.
        protocol: the protocol.
        image_ids: N image ids.

    Raises:
        DataError: the parts or classes are too small.
    """
    planner = _Planner(targets, split, protocol, tuple(image_ids))
    if protocol.name is ProtocolName.REFERENCE:
        return planner.reference()
    if protocol.name is ProtocolName.HOLDOUT:
        return planner.holdout()
    return planner.cross_validation()


def final_plan(targets: Targets, split: Split, protocol: HeadProtocol, image_ids: Sequence[str]) -> FoldPlan:
    """The plan of the last head of ``make_plan`` alone: it scores the test part, where there is one.

    Raises:
        DataError: the parts or classes are too small.
    """
    planner = _Planner(targets, split, protocol, tuple(image_ids))
    if protocol.name is ProtocolName.REFERENCE:
        return planner.reference()
    return planner.final()


def validated_parts(name: ProtocolName) -> tuple[str, ...]:
    """The parts that the ``val_rows`` of a plan come from."""
    return ("train", "val") if name is ProtocolName.CV else ("val",)


class _Planner:
    def __init__(
        self, targets: Targets, split: Split, protocol: HeadProtocol, image_ids: tuple[str, ...]
    ) -> None:
        self._data = fold_data(targets, hash_keys(image_ids, protocol.seed))
        self._split = split
        self._protocol = protocol
        self._notes: list[str] = []
        self._pool = np.sort(np.concatenate([split.train, split.val]))

    def cross_validation(self) -> FoldPlan:
        protocol = self._protocol
        folds = []
        for repeat in range(protocol.repeats):
            outer = make_folds(self._data, self._pool, protocol.folds, f"outer|{repeat}")
            self._notes += filter(None, [outer.note])
            for number, part in enumerate(outer.parts):
                train = np.setdiff1d(self._pool, part)
                folds.append(self._fold(f"cv/{repeat}/{number}", repeat, train, part))
        return self._plan([*folds, *self._last()], self._pool, protocol.repeats)

    def holdout(self) -> FoldPlan:
        self._need(self._split.val, "validation")
        fold = self._fold("holdout", 0, self._split.train, self._split.val)
        return self._plan([fold, *self._last()], self._split.val, 1)

    def final(self) -> FoldPlan:
        return self._plan([self._final()], self._pool, 1)

    def reference(self) -> FoldPlan:
        train, val, test = (
            self._ordered(part) for part in (self._split.train, self._split.val, self._split.test)
        )
        self._need(train, "training")
        self._need(val, "validation")
        score = np.concatenate([val, test])
        fold = Fold(label="reference", repeat=0, train=train, inner=train, choose=val, score=score)
        return FoldPlan(
            folds=(fold,),
            used=self._pool,
            val_rows=self._split.val,
            repeats=1,
            standardised=False,
            rates=(REFERENCE_RATE,),
            decays=(0.0,),
            notes=(),
        )

    def _plan(self, folds: Sequence[Fold], val_rows: Int64, repeats: int) -> FoldPlan:
        grid = list(product(self._protocol.learning_rates, self._protocol.weight_decays))
        return FoldPlan(
            folds=tuple(folds),
            used=self._pool,
            val_rows=np.sort(val_rows),
            repeats=repeats,
            standardised=True,
            rates=tuple(rate for rate, _ in grid),
            decays=tuple(decay for _, decay in grid),
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def _last(self) -> list[Fold]:
        return [self._final()] if len(self._split.test) else []

    def _final(self) -> Fold:
        return self._fold("final", None, self._pool, self._split.test)

    def _fold(self, label: str, repeat: int | None, train: Int64, score: Int64) -> Fold:
        self._need(train, "training")
        inner, choose, note = inner_split(self._data, train, self._protocol.folds, f"inner|{label}")
        self._notes += filter(None, [note])
        return Fold(
            label=label,
            repeat=repeat,
            train=self._ordered(train),
            inner=self._ordered(inner),
            choose=self._ordered(choose),
            score=score,
        )

    def _ordered(self, rows: Int64) -> Int64:
        """Rows by hashed image id: what depends on their order does not depend on the order of files."""
        return rows[salted_order(self._data.keys[rows], "rows")]

    def _need(self, rows: Int64, part: str) -> None:
        if not len(rows):
            raise DataError(
                f"the {part} part is empty",
                expected="at least two images per class in it",
                got="0 images",
                next_step="Check the folders, the CSV's split column or `limit`.",
            )
