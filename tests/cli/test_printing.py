"""What reaches the screen: nothing that a file name could do to it, no padding, the next command."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_places import QUICK, SMALL, Place, Run

import benchmark.cli
from benchmark.cli.commands import _what_now
from benchmark.cli.observer import Lines
from benchmark.cli.printing import put, say
from benchmark.options import RankOptions

PACKAGE = Path(benchmark.cli.__file__).parent


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_only_the_printing_room_prints(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert path.name == "printing.py" or "print" not in calls


def test_what_is_said_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31mred\x07\u202e\r" + os.fsdecode(b"\xff")
    say(evil)
    put(f"{evil}\n")
    lines = Lines()
    lines.started(evil, 3)
    lines.finished(evil, evil)
    lines.message(evil)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "red" in text
        assert all(line.isprintable() for line in text.splitlines())


def test_a_ranking_ends_with_the_pick_the_page_and_the_next_command(backbones: Run, place: Place) -> None:
    answer = backbones("rank", place.data, *SMALL, *QUICK, *place.folders)
    assert answer.status == 0, answer.err
    *_, pick, following = answer.err.strip().splitlines()
    assert "leaderboard.html" in pick
    if pick.startswith("Pick: MobileNet_0.25"):
        assert following.startswith("Next: backbones finetune ")
        assert "--winner MobileNet_0.25" in following
    else:
        assert pick.startswith("No pick")
        assert following.startswith("Next: backbones audit ")
    assert str(place.data) in following
    assert "--results" in following
    assert "images read" in answer.out
    assert not [line for line in answer.out.splitlines() if line != line.rstrip()], "padding in a pipe"


def test_a_pick_that_cannot_be_trained_here_is_shipped_as_it_is() -> None:
    name = "timm:resnet18.a1_in1k"
    row = {"backbone": name, "source": "timm", "size_bytes": 4e7, "val_f1": 0.9}
    board = SimpleNamespace(winner=name, rows=(row,), columns=tuple(row), metric="f1", loss_bound=0.01)
    ranked: Any = SimpleNamespace(board=board, folder=Path("results/walls"))
    *_, following = _what_now(ranked, RankOptions.check({"data": "walls"}))
    assert following == f"Next: backbones export --from-board walls --backbone {name} --to onnx,openvino"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_tie_column_never_goes(width: int) -> None:
    from benchmark.ranking import COLUMNS, Surface
    from benchmark.reporting.terminal import fitting_columns

    cells = {each: ["0.974 [0.954, 0.985]"] for each in COLUMNS if Surface.TERMINAL in each.surfaces}
    fitting = {column.name for column in fitting_columns(cells, width, ranked_by="val_f1")}
    assert {"rank", "backbone", "tie_group", "val_f1", "size_bytes"} <= fitting
