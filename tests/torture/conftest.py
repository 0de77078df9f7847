"""Fault drivers: their table is printed when the tests end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))
from store_shelves import Shelf, fill
from torture_table import add_row


@pytest.fixture
def torture_row() -> Callable[..., None]:
    """``torture_row(fault, injected=, survived=, rows_lost=, rows_wrong=)`` adds to the table."""
    return add_row


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """60 images, 5 values each, in three parts."""
    return fill(tmp_path / "cache", rows=60, per_part=20)
