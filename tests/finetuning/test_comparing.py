from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmark.finetuning import BoardScore, FinetuneRequest
from benchmark.finetuning.comparing import BoardComparison, GroupCounts, keeps_together, other_test_f1
from benchmark.finetuning.model_directory import StoredRun
from benchmark.records import ImageSet

Request = Callable[..., FinetuneRequest]
BOARD = BoardScore(low=0.967, high=0.992, kind="cross-validation", same_data=True, weights_sha256="0")


@pytest.mark.parametrize(
    ("f1", "place"),
    [(0.98, "inside"), (0.967, "inside"), (0.992, "inside"), (0.9669, "below"), (0.9921, "above")],
)
def test_where_a_test_f1_lies(f1: float, place: str) -> None:
    (sentence,) = BoardComparison(test_f1=f1, board=BOARD).sentences()
    assert sentence.endswith(f"lies {place} the board's cross-validation interval [0.967, 0.992].")
    assert BoardComparison(test_f1=f1, board=BOARD).record()["board"]["test_f1_is"] == place


def test_a_board_of_other_data_says_so() -> None:
    (sentence,) = BoardComparison(test_f1=0.98, board=replace(BOARD, same_data=False)).sentences()
    assert sentence.endswith("[0.967, 0.992] of other images, groups or parts.")


def test_nothing_is_compared_without_a_test_part() -> None:
    nothing = BoardComparison(board=BOARD, other_test_f1=0.9)
    assert nothing.sentences() == ()
    assert set(nothing.record().values()) == {None}


def test_the_two_kinds_of_split_are_told_apart() -> None:
    grouped = BoardComparison(grouping=GroupCounts(groups=9, torn=0), test_f1=0.8, other_test_f1=0.9)
    assert grouped.test_f1_by_split == {"plain": 0.9, "grouped": 0.8}
    plain = BoardComparison(test_f1=0.9, other_test_f1=0.8)
    assert plain.test_f1_by_split == grouped.test_f1_by_split
    torn = BoardComparison(grouping=GroupCounts(groups=9, torn=2), test_f1=0.9, other_test_f1=0.8)
    assert torn.test_f1_by_split == grouped.test_f1_by_split, "parts that tear groups apart are a plain split"
    assert "2 of 9 groups" in torn.sentences()[0]


def test_groups_are_counted(binary: ImageSet) -> None:
    assert GroupCounts.of(binary) is None
    assert not keeps_together(None)
    together = np.zeros(len(binary), np.int64)
    for number, rows in enumerate((binary.split.train, binary.split.val, binary.split.test)):
        together[rows] = number
    assert GroupCounts.of(replace(binary, groups=together)) == GroupCounts(groups=3, torn=0)
    together[binary.split.val[0]] = 0
    assert GroupCounts.of(replace(binary, groups=together)) == GroupCounts(groups=3, torn=1)


def run(f1: float | None, *, grouped: bool, comparable_digest: str = "k") -> StoredRun:
    phase = {"val": {"f1": 0.1}, "test": None if f1 is None else {"f1": f1}}
    return StoredRun(
        digest="0" * 64,
        comparable_digest=comparable_digest,
        grouped=grouped,
        kept="phase1",
        phases={"phase1": phase},
        notes=[],
        recipe={},
        cached_views=0,
        train_seconds=1.0,
    )


def test_the_newest_run_of_the_other_kind_counts() -> None:
    runs = [
        run(0.5, grouped=True),
        run(0.6, grouped=False, comparable_digest="other"),
        run(0.7, grouped=False),
        run(0.8, grouped=False),
    ]
    assert other_test_f1(runs, "k", grouped=True) == 0.7
    assert other_test_f1(runs, "k", grouped=False) == 0.5
    assert other_test_f1(runs, "nobody's", grouped=False) is None
    assert other_test_f1([run(None, grouped=False)], "k", grouped=True) is None


def test_runs_that_differ_in_their_split_alone_are_kin(binary: ImageSet, request_for: Request) -> None:
    asked = request_for()
    comparable = asked.comparable_digest(binary, "0")
    split = replace(binary.split, train=binary.split.val, val=binary.split.train)
    grouped = replace(binary, groups=np.arange(len(binary)) // 2, split=split)
    assert asked.comparable_digest(grouped, "0") == comparable
    assert asked.digest(grouped, "0") != asked.digest(binary, "0")
    relabelled = replace(binary, targets=1 - binary.targets)
    others = [
        asked.comparable_digest(replace(binary, positive=1 - (binary.positive or 0)), "0"),
        asked.comparable_digest(relabelled, "0"),
        asked.comparable_digest(binary, "1"),
        asked.but(seed=5).comparable_digest(binary, "0"),
        asked.but(class_weight="balanced").comparable_digest(binary, "0"),
        request_for(overrides={"epochs": (3, 2)}).comparable_digest(binary, "0"),
    ]
    assert len({comparable, *others}) == 1 + len(others)
