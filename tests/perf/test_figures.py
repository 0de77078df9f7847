"""The benchmark's own arithmetic; nothing here is timed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

import numpy as np
import pytest

from tests.perf.embedding import lowest_cosine
from tests.perf.figures import (
    Figure,
    Target,
    Unit,
    alternate,
    geometric_mean,
    mean_of_figures,
    number,
    quantity,
    times_as_good,
)
from tests.perf.halving import Board, agreement
from tests.perf.tables import csv_text, markdown


def speeds(*pairs: tuple[float, float], target: Target | None = None) -> Figure:
    return Figure.of_pairs(("embed", "predict"), Unit.IMAGES_PER_SECOND, pairs, target)


def test_a_ratio_says_how_many_times_as_fast() -> None:
    assert times_as_good(Unit.SECONDS, ours=2.0, theirs=6.0) == 3.0
    assert times_as_good(Unit.IMAGES_PER_SECOND, ours=60.0, theirs=20.0) == 3.0
    assert times_as_good(Unit.MEGABYTES, ours=110.0, theirs=100.0) == pytest.approx(1.1)


def test_ratios_are_of_pairs_not_of_medians() -> None:
    figure = speeds((10, 1), (40, 20), (30, 10))
    assert figure.ratios == (10, 2, 3)
    assert figure.ratio == 3
    assert (figure.ours, figure.theirs) == (30, 10)
    assert figure.row()["ratio [min, max]"] == "3.00 [2.00, 10.0]"


def test_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    assert alternate(lambda: side("A"), lambda: side("B"), 2) == ((1, 2), (3, 4))
    assert order == ["A", "B", "A", "B"]


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (None, ""),
        (Target(at_least=3), "yes"),
        (Target(at_least=3.1), "no"),
        (Target(at_most=29, of_ours=True), "no"),
        (Target(at_most=30, of_ours=True), "yes"),
    ],
)
def test_targets(target: Target | None, met: str) -> None:
    assert speeds((30, 10), target=target).met == met


def test_a_target_reads_as_it_is_checked() -> None:
    assert Target(at_least=4).text(Unit.SECONDS) == ">= 4"
    assert Target(at_most=120, of_ours=True).text(Unit.SECONDS) == "<= 120 s"
    assert Target(at_most=0.3, of_ours=True).text(Unit.SHARE) == "<= 30.0%"


def test_the_mean_of_figures_is_that_of_the_ratios_that_are_shown() -> None:
    few, many = speeds((8, 1), (2, 1), (3, 1)), speeds((12, 1), (27, 1), (48, 1))
    mean = mean_of_figures(("all", "predict"), [few, many], None)
    assert mean.ratio == pytest.approx((few.ratio * many.ratio) ** 0.5)
    assert mean.ratio == pytest.approx(9)
    assert (min(mean.ratios), max(mean.ratios)) == pytest.approx(((2 * 12) ** 0.5, (8 * 48) ** 0.5))
    assert geometric_mean([1, 100]) == pytest.approx(10)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (61.04, "61.0"), (1056.4, "1,056")]
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text
    assert quantity(math.nan, Unit.SECONDS) == ""
    assert quantity(0.0034, Unit.SECONDS) == "3.40 ms"
    assert quantity(0.284, Unit.SHARE) == "28.4%"


def test_tables_carry_every_figure_and_escape_bars() -> None:
    figures = [speeds((30, 10)), Figure(work="a | b", ours=1.0)]
    rows = list(csv.DictReader(io.StringIO(csv_text(figures))))
    assert [row["ratio"] for row in rows] == ["3", "nan"]
    text = markdown(figures, {"cores": 2})
    assert "a \\| b" in text
    assert text.rstrip().endswith("cores: 2")


def test_agreement_of_embeddings_ignores_what_all_images_share() -> None:
    rng = np.random.default_rng(0)
    ours = rng.standard_normal((8, 16)).astype(np.float32)
    assert lowest_cosine(ours, ours + 1000) == pytest.approx(1, abs=1e-5)
    assert lowest_cosine(ours, ours[::-1]) < 0.9


def board(winner: str, first: set[str], pruned: Iterable[str] = ()) -> Board:
    rows = [
        {"backbone": name, "status": "scored", "tie_group": 1, "images_embedded": 10, "flops": 5}
        for name in sorted(first)
    ]
    rows += [
        {"backbone": name, "status": "pruned", "reason": "larger than it need be", "tie_group": None}
        | {"images_embedded": 2, "flops": 5}
        for name in sorted(pruned)
    ]
    return Board.of({"winner": winner, "rows": rows, "statements": ["halving spent little", "other"]}, 1.0)


def test_searches_agree_apart_from_what_was_pruned_for_size() -> None:
    whole = board("A", {"A", "B", "C"})
    assert agreement(board("A", {"A", "B"}, {"C"}), whole) == "same winner (A), same tie group"
    assert "lost ['C']" in agreement(board("A", {"A", "B"}), whole)
    assert "ANOTHER WINNER" in agreement(board("B", {"A", "B", "C"}), whole)
    assert board("A", {"A"}, {"C"}).spent == 60
    assert whole.said == "halving spent little"
