"""The line in a notebook's cell, with a clock and a display that belong to the test."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from benchmark.reporting import CellLine, notebook


class Cell:
    """A display that remembers each text of its line, and a clock that only it moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[str] = []
        self.html = ""

    def monotonic(self) -> float:
        return self.now

    def display(self, shown: dict[str, str], **_: object) -> Cell:
        self.update(shown)
        return self

    def update(self, shown: dict[str, str], **_: object) -> None:
        self.lines.append(shown["text/plain"])
        self.html = shown["text/html"]


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell = Cell()
    monkeypatch.setattr(notebook, "time", cell)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=cell.display))
    return cell


def test_the_cost_of_a_study_stays_in_the_line_while_its_parts_advance(cell: Cell) -> None:
    with CellLine() as line:
        cell.now += 1
        line.message("6 boards in about 3 min")
        assert cell.lines == ["6 boards in about 3 min"]
        line.started("boards", 6)
        line.started("heads", 4)
        cell.now += 1
        line.advanced("heads", 1, "MobileNet")
        assert cell.lines[-1] == "boards: 0 of 6; heads: 1 of 4, MobileNet; 6 boards in about 3 min"
        assert "<progress max=6 value=0" in cell.html
        cell.now += 1
        line.message("walls has <no> groups")
        assert cell.lines[-1] == "boards: 0 of 6; walls has <no> groups; 6 boards in about 3 min"
        assert "&lt;no&gt;" in cell.html
        line.finished("heads")
        cell.now += 1
        line.advanced("boards", 1, "walls")
        assert cell.lines[-1] == "boards: 1 of 6, walls; 6 boards in about 3 min"
    assert cell.lines[-1] == "done in 4 s"


def test_what_a_task_says_at_its_end_is_kept_and_a_later_word_replaces_it(cell: Cell) -> None:
    line = CellLine()
    line.started("estimate", 0)
    line.finished("estimate", "about 2 min")
    assert not cell.lines, "what is done at once needs no line"
    cell.now += 1
    line.started("backbones", 2)
    line.advanced("backbones", 1)
    assert cell.lines == ["backbones: 1 of 2; about 2 min"]
    cell.now += 0.1
    line.advanced("backbones", 2)
    assert len(cell.lines) == 1, "too soon"
    line.finished("backbones")
    cell.now += 1
    line.message("Predicted 2 min, took 1 min.")
    assert cell.lines[-1] == "Predicted 2 min, took 1 min."
    assert "<progress" not in cell.html
