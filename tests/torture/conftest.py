"""Fault drivers: the shared table, printed when the tests end."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))
from store_shelves import Shelf, fill
from torture_table import TABLE_VARIABLE, add_row, format_table, load_rows


def pytest_configure(config: pytest.Config) -> None:
    """Rows go to TORTURE_TABLE where it is set, else to a file of this run."""
    if TABLE_VARIABLE not in os.environ:
        descriptor, name = tempfile.mkstemp(prefix="torture-", suffix=".jsonl")
        os.close(descriptor)
        os.environ[TABLE_VARIABLE] = name
        config.add_cleanup(lambda: _forget(name))


def _forget(name: str) -> None:
    os.environ.pop(TABLE_VARIABLE, None)
    Path(name).unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = load_rows(Path(os.environ.get(TABLE_VARIABLE, os.devnull)))
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(format_table(rows))


@pytest.fixture
def torture_row() -> Callable[..., None]:
    """``torture_row(fault, injected=, survived=, rows_lost=, rows_wrong=)`` adds to the table."""
    return add_row


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """60 images, 5 values each, in three parts."""
    return fill(tmp_path / "cache", rows=60, per_part=20)
