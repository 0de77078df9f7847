"""Whom to export before the choice, and what a board says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.ranking import COLUMNS, ExportScore, best_export, next_to_export, with_exports
from benchmark.ranking.board import build_leaderboard
from benchmark.records import Leaderboard, Predictions, Scored, Targets, Task

LOSS = 0.02
GOOD = ExportScore(f1=0.94, f1_low=0.9, f1_high=0.97, lost=0.01, images=120, size_bytes=982_000)
BAD = ExportScore(f1=0.5, f1_low=0.4, f1_high=0.6, lost=0.45, images=120, size_bytes=982_000)


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    """``large`` wins, ``small`` and ``middle`` are tied with it, ``poor`` is not."""
    truth = np.repeat([True, False], 60)[:, None]
    sizes = {"large": (2, 9000), "small": (4, 500), "middle": (3, 3000), "poor": (45, 100)}
    outcomes = []
    for name, (mistakes, params) in sizes.items():
        decided = truth.copy()
        decided[np.random.default_rng(params).choice(120, mistakes, replace=False)] ^= True
        predictions = Predictions(
            val_rows=np.arange(120),
            val=np.where(decided, 0.9, 0.1).astype(np.float32)[None],
            val_thresholds=np.full((1, 120), 0.5),
            test_rows=np.zeros(0, np.int64),
            test=np.zeros((0, 1), np.float32),
            test_threshold=0.5,
        )
        facts = {"backbone": name, "family": "f", "source": "keras", "weights": "imagenet"}
        outcomes.append(Scored(**facts, params=params, predictions=predictions))  # type: ignore[arg-type]
    targets = Targets(
        targets=truth.astype(np.float32), classes=("no", "yes"), task=Task.BINARY, positive=1, groups=None
    )
    found = build_leaderboard(outcomes, targets)
    assert {row["backbone"] for row in found.rows if row["tie_group"] == 1} == {"large", "small", "middle"}
    return found


def walk(board: Leaderboard, kept: set[str]) -> list[str]:
    """The order in which backbones are exported where only these keep their F1."""
    scores: dict[str, ExportScore | str] = {}
    while (name := next_to_export(board, scores, max_loss=LOSS)) is not None:
        assert name not in scores
        scores[name] = GOOD if name in kept else BAD
    return list(scores)


def test_picks_are_exported_and_others_where_no_pick_keeps_its_f1(board: Leaderboard) -> None:
    picks = [row["backbone"] for row in board.rows if row["pick"]]
    assert picks
    assert walk(board, set(picks)) == picks, "nobody else where the picks hold"
    assert walk(board, {picks[-1]}) == picks
    tied = [name for name in ("small", "middle", "large") if name not in picks]
    assert tied
    assert walk(board, {tied[0]}) == [*picks, tied[0]], "smallest first, until one holds"
    assert walk(board, set()) == [*picks, *tied], "never those that are worse anyway"


def test_of_many_that_are_tied_some_are_enough(board: Leaderboard) -> None:
    row = next(row for row in board.rows if row["tie_group"] == 1 and not row["pick"])
    many = replace(board, rows=(*board.rows, *({**row, "backbone": f"more{number}"} for number in range(30))))
    picks = [row["backbone"] for row in board.rows if row["pick"]]
    tried = walk(many, set())
    assert len(tried) == len(picks) + 5, "each takes a minute or more"
    found = with_exports(many, "onnx", dict.fromkeys(tried, BAD), max_loss=LOSS)
    tied = sum(row["tie_group"] == 1 for row in many.rows)
    said = (
        f"None of the {len(tried)} that were exported as onnx may be shipped so; tied with the best, and not "
    )
    assert found.notes[len(picks)] == f"{said}exported: {tied - len(tried)}."


def test_nobody_is_exported_without_picks(board: Leaderboard) -> None:
    rows = tuple({**row, "pick": ""} for row in board.rows)
    without = Leaderboard(**{name: getattr(board, name) for name in board.__slots__} | {"rows": rows})
    assert next_to_export(without, {}, max_loss=LOSS) is None
    assert with_exports(without, "onnx", {}, max_loss=LOSS) is without


def test_columns_stand_in_their_order_and_say_what_was_found(board: Leaderboard) -> None:
    found = with_exports(board, "tflite-int8", {"large": GOOD, "small": "no such operator"}, max_loss=1.0)
    order = [each.name for each in COLUMNS]
    assert list(found.columns) == sorted(found.columns, key=order.index)
    assert [name for name in found.columns if name.startswith("export")] == [
        *("export_target", "export_f1", "export_f1_low", "export_f1_high", "export_bytes", "export_reason")
    ]
    rows = {row["backbone"]: row for row in found.rows}
    assert (rows["large"]["export_f1"], rows["large"]["export_bytes"]) == (0.94, 982_000)
    assert rows["large"]["export_reason"] == ""
    assert rows["small"]["export_reason"] == "could not be scored: no such operator"
    assert np.isnan(rows["small"]["export_f1"])
    assert rows["poor"]["export_target"] == ""
    assert all(set(row) == set(found.columns) for row in found.rows)
    (said,) = (text for text in found.statements if text.startswith("As tflite-int8, "))
    assert said.startswith("As tflite-int8, large has F1 0.940 [0.900, 0.970] instead of 0.950 ")
    assert said.endswith("in 0.982 MB.")


def test_a_pick_that_the_export_ruins_is_said_and_another_named(board: Leaderboard) -> None:
    pick = next(str(row["backbone"]) for row in board.rows if row["pick"])
    other = next(str(row["backbone"]) for row in board.rows if row["tie_group"] == 1 and not row["pick"])
    found = with_exports(board, "tflite-int8", {pick: BAD, other: GOOD}, max_loss=0.1)
    assert f"Do not ship {pick} (" in found.notes[0]
    assert "F1, more than 0.1." in found.notes[0]
    assert found.notes[1] == f"{other} may be shipped as tflite-int8: F1 0.940 [0.900, 0.970]."
    assert found.notes[2:] == board.notes
    best = best_export(found)
    assert best is not None
    assert best["backbone"] == other
    nobody = with_exports(board, "tflite-int8", {pick: "no such operator.", other: BAD}, max_loss=0.1)
    assert nobody.notes[0].endswith("could not be scored: no such operator.")
    assert nobody.notes[1].startswith("None of the 2 that were exported as tflite-int8 may be shipped so; ")
    assert nobody.notes[1].endswith("not exported: 1.")
    assert best_export(nobody) is None


def test_the_parity_gate_speaks_too_and_what_stands_on_it_reads_so(board: Leaderboard) -> None:
    pick = next(str(row["backbone"]) for row in board.rows if row["pick"])
    bound = "label agreement stands exactly on the tolerance, 0.95, on 20 images"
    close = ExportScore(
        f1=0.97, f1_low=0.9, f1_high=0.99, lost=0.0, images=120, size_bytes=1_000, bounds=(bound,)
    )
    found = with_exports(board, "onnx", {pick: close}, max_loss=LOSS)
    assert found.statements[-1].endswith(f"; {bound}.")
    assert not [note for note in found.notes if "Do not ship" in note]
    outside = ExportScore(
        f1=0.97,
        f1_low=0.9,
        f1_high=0.99,
        lost=0.0,
        images=120,
        size_bytes=1_000,
        outside="mean difference 0.2",
    )
    found = with_exports(board, "onnx", {pick: outside}, max_loss=LOSS)
    assert "it mean difference" not in found.notes[0]
    assert found.notes[0].endswith("is outside its tolerance: mean difference 0.2.")


def test_a_sample_that_is_harder_than_all_images_is_not_the_exports_fault(board: Leaderboard) -> None:
    pick = next(row for row in board.rows if row["pick"])
    sampled = ExportScore(
        f1=pick["val_f1"] - 0.05, f1_low=0.8, f1_high=0.99, lost=0.001, images=60, size_bytes=1_000
    )
    found = with_exports(board, "onnx", {pick["backbone"]: sampled}, max_loss=LOSS)
    assert found.notes == board.notes
    without = pick["val_f1"] - 0.049
    assert f"instead of {without:.3f} on 60 of the validated images, in" in found.statements[-1]
    lossy = replace(sampled, f1=pick["val_f1"], lost=0.03)
    found = with_exports(board, "onnx", {pick["backbone"]: lossy}, max_loss=LOSS)
    assert found.notes[0].endswith("it loses 0.030 F1, more than 0.02.")
