"""The table of faults adds up what drivers report, whoever they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torture_table import TABLE_VARIABLE, Row, add_row, format_table, load_rows


def test_rows_of_one_fault_add_up_across_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.jsonl"
    monkeypatch.setenv(TABLE_VARIABLE, str(table))
    add_row("kill", injected=3, survived=2, rows_lost=1)
    add_row("flip", injected=1, survived=1)
    code = "from torture_table import add_row; add_row('kill', injected=4, survived=4, rows_wrong=2)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
    rows = load_rows(table)
    assert rows == [Row("kill", 7, 6, 1, 2), Row("flip", 1, 1, 0, 0)]
    lines = format_table(rows).splitlines()
    assert lines[0].split() == ["fault", "injected", "survived", "rows", "lost", "rows", "wrong"]
    assert lines[-1].split() == ["total", "8", "7", "1", "2"]
    assert len({len(line) for line in lines}) == 1


def test_without_a_table_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TABLE_VARIABLE)
    add_row("kill", injected=1, survived=1)
    assert load_rows(tmp_path / "none") == []
