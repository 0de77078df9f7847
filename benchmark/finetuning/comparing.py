"""What a model's test F1 is to be seen beside: the same run on another split, and the board.

A random split flatters where images are related, such as patches of one wall; a split that keeps groups
together is harder and more honest. Whoever has both figures should see both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.finetuning.model_directory import StoredRun
from benchmark.records import ImageSet

PLAIN, GROUPED = "plain", "grouped"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardScore:
    """What a board says of a backbone with the weights that fine-tuning starts from.

    Attributes:
        low: lower end of the 95 % interval of its validation F1.
        high: upper end.
        kind: how the board validated, one word or two: ``cross-validation``, ``validation``.
        same_data: whether the board saw these very images, labels, groups and parts.
        weights_sha256: of the weights that the board ranked.
    """

    low: float
    high: float
    kind: str
    same_data: bool
    weights_sha256: str

    @property
    def interval(self) -> dict[str, float]:
        """The interval, by the names that metrics have."""
        return {"f1_low": self.low, "f1_high": self.high}

    def place_of(self, f1: float) -> str:
        """``inside``, ``below`` or ``above`` the interval."""
        return "below" if f1 < self.low else "above" if f1 > self.high else "inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCounts:
    """Groups of related images, and what the split does to them."""

    groups: int
    torn: int  # how many of them have images in more than one part

    @classmethod
    def of(cls, images: ImageSet) -> GroupCounts | None:
        """The groups of a data set; None where every image stands alone."""
        if images.groups is None:
            return None
        split = images.split
        parts = [np.unique(images.groups[rows]) for rows in (split.train, split.val, split.test)]
        _, counts = np.unique(np.concatenate(parts), return_counts=True)
        return cls(groups=len(counts), torn=int((counts > 1).sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardComparison:
    """The figures that belong side by side, each None where there is none."""

    grouping: GroupCounts | None = None
    test_f1: float | None = None  # of this model
    other_test_f1: float | None = None  # of the same run on the other kind of split
    board: BoardScore | None = None  # of this backbone and these weights

    @property
    def test_f1_by_split(self) -> dict[str, float]:
        """Test F1 on the plain and on the grouped split, where both are known; else empty."""
        if self.test_f1 is None or self.other_test_f1 is None:
            return {}
        own, other = (GROUPED, PLAIN) if keeps_together(self.grouping) else (PLAIN, GROUPED)
        found = {own: self.test_f1, other: self.other_test_f1}
        return {kind: found[kind] for kind in (PLAIN, GROUPED)}

    def record(self) -> dict[str, Any]:
        """What ``metrics.json`` says of it."""
        grouping, board = self.grouping, self.board
        return {
            "groups": None if grouping is None else grouping.groups,
            "torn_groups": None if grouping is None else grouping.torn,
            "test_f1_by_split": self.test_f1_by_split or None,
            "board": None
            if board is None or self.test_f1 is None
            else {
                "val_f1_low": board.low,
                "val_f1_high": board.high,
                "same_data": board.same_data,
                "test_f1_is": board.place_of(self.test_f1),
            },
        }

    def sentences(self) -> tuple[str, ...]:
        """The same in words."""
        return tuple(filter(None, (self._about_groups(), self._about_splits(), self._about_board())))

    def _about_groups(self) -> str:
        if self.grouping is None:
            return ""
        groups, torn = self.grouping.groups, self.grouping.torn
        if torn:
            return (
                f"{torn} of {groups} groups of related images stand in more than one part, as the parts were "
                "given: the scores may flatter."
            )
        return f"The split keeps {groups} groups of related images together."

    def _about_splits(self) -> str:
        found = self.test_f1_by_split
        if not found:
            return ""
        return (
            f"Test F1 {found[PLAIN]:.3f} on a plain split, {found[GROUPED]:.3f} on one that keeps groups of "
            "related images together."
        )

    def _about_board(self) -> str:
        if self.board is None or self.test_f1 is None:
            return ""
        board, other = self.board, "" if self.board.same_data else " of other images, groups or parts"
        return (
            f"Test F1 {self.test_f1:.3f} lies {board.place_of(self.test_f1)} the board's {board.kind} "
            f"interval [{board.low:.3f}, {board.high:.3f}]{other}."
        )


def keeps_together(grouping: GroupCounts | None) -> bool:
    """Whether a split keeps groups of related images together."""
    return grouping is not None and not grouping.torn


def other_test_f1(runs: Iterable[StoredRun], comparable_digest: str, *, grouped: bool) -> float | None:
    """Test F1 of the first run that differs from one in nothing but the kind of its split.

    Args:
        runs: records of finished runs, the newest first.
        comparable_digest: of the run.
        grouped: whether that run's split keeps groups together.
    """
    for run in runs:
        if run.comparable_digest == comparable_digest and run.grouped is not grouped:
            test = (run.phases[run.kept] or {}).get("test")
            return None if test is None else test.get("f1")
    return None
