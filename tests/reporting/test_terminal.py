"""The board in terminals of different widths."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from benchmark.records import Leaderboard, Outcome, Targets
from benchmark.reporting import BoardTable

Results = tuple[Leaderboard, tuple[Outcome, ...], Targets]


def printed(board: Leaderboard, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(BoardTable(board))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 160, 200])
def test_nothing_is_cut_or_wrapped_at_any_width(results: Results, width: int) -> None:
    lines = printed(results[0], width).splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line]
    for position in range(6):
        own = [line for line in lines if f"MobileNet_{position} " in line]
        assert len(own) == 1
        assert f"{0.97 - 0.004 * position:.3f} [" in own[0]


def test_what_ranks_the_board_is_always_shown(results: Results) -> None:
    name = "val_balanced_accuracy"
    values = {name: 0.9, f"{name}_low": 0.8, f"{name}_high": 0.95, "test_balanced_accuracy": 0.85}
    rows = tuple(dict(row) | values for row in results[0].rows)
    by_recalls = dataclasses.replace(results[0], rows=rows, metric="balanced_accuracy")
    narrow = printed(by_recalls, 80)
    assert "val balanced accuracy [95 %]" in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    assert "balanced accuracy" not in printed(results[0], 200)


def test_wide_terminals_show_more(results: Results) -> None:
    narrow, wide = printed(results[0], 80), printed(results[0], 200)
    assert "images/s" in wide
    assert "family" in wide
    assert "family" not in narrow


def test_failed_backbones_show_their_reason_and_statements_stand_around(results: Results) -> None:
    text = printed(results[0], 100)
    assert "=1+1 | <b>no weights</b>" in text
    assert text.index("NOTE") < text.index("rank") < text.index("Backbones | 1 to 4")


def test_markup_in_names_is_not_interpreted(results: Results) -> None:
    board = results[0]
    odd = dict(board.rows[0]) | {"backbone": "Net[red]@/a/b.weights.h5"}
    assert "Net[red]@/a/b" in printed(dataclasses.replace(board, rows=(odd,)), 120)


def test_long_names_lose_their_middle_not_their_line(results: Results) -> None:
    board = results[0]
    long = dict(board.rows[0]) | {"backbone": "MobileNetV3Small_0.75@" + "x" * 80 + ".weights.h5"}
    lines = printed(dataclasses.replace(board, rows=(long,)), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("MobileNetV3Small" in line and "…" in line for line in lines)


def test_noisy_timings_are_marked_where_they_stand(results: Results) -> None:
    board = results[0]
    rows = [dict(row) | {"latency_ms": 6.5, "noisy": number == 0} for number, row in enumerate(board.rows)]
    text = printed(dataclasses.replace(board, rows=tuple(rows)), 220)
    assert text.count("6.5 (noisy)") == 1
    assert text.count("(noisy)") == 2, "its images/s, too"
