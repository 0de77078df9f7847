"""Every column is written once, and docs/board.md lists them all."""

from __future__ import annotations

from pathlib import Path

from benchmark.ranking import COLUMNS, Column, Surface

PAGE = Path(__file__).parents[2] / "docs" / "board.md"


def table() -> str:
    lines = ["| column | what it holds | unit |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{each.name}` | {each.help} | {each.unit} |" for each in COLUMNS)])


def test_the_page_lists_every_column() -> None:
    assert table() in PAGE.read_text(), f"the table of {PAGE} should be:\n{table()}"


def test_every_column_stands_once() -> None:
    assert len({each.name for each in COLUMNS}) == len(COLUMNS)
    assert all(Column.named(each.name) is each for each in COLUMNS)
    priorities = [each.priority for each in COLUMNS if each.priority and Surface.TERMINAL in each.surfaces]
    assert len(set(priorities)) == len(priorities), "who goes first in a narrow terminal is decided"


def test_a_column_of_another_version_is_seen_by_programs_alone() -> None:
    later = Column.named("val_entropy")
    assert (later.blank, later.is_number, later.is_timing) == (None, False, False)
    assert not later.surfaces
