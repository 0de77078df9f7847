"""A metric and a column, added to a copy of the package as docs/extending.md says, each by one file."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark

PACKAGE = Path(benchmark.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "extending.md").read_text()
BOARD = """
import json, sys
from pathlib import Path
import numpy as np
from benchmark.ranking import BoardOptions, build_leaderboard
from benchmark.records import Predictions, Scored, Task, Targets
from benchmark.reporting import Extras, plot_makers, read_board, write_board, write_page

def outcome(name, wrong):
    val = np.where((targets.targets > 0.5) ^ wrong[:, None], 0.9, 0.1).astype(np.float32)
    predictions = Predictions(
        val_rows=np.arange(200), val=val[None, :200], val_thresholds=np.full((1, 200), 0.5),
        test_rows=np.arange(200, 300), test=val[200:], test_threshold=0.5,
    )
    return Scored(backbone=name, family="f", source="keras", predictions=predictions)

rows = np.arange(300)
labels = np.float32(rows % 10 == 1)[:, None]
targets = Targets(targets=labels, classes=("no", "yes"), task=Task.BINARY, positive=1)
# One finds all with false alarms, the other misses a half: F1 prefers this one, the geometric mean that one.
outcomes = [outcome("Alarmed", np.isin(rows % 10, [2, 4])), outcome("Blind", rows % 20 == 1)]
board = build_leaderboard(outcomes, targets, BoardOptions(metric=sys.argv[1]))
folder = Path(sys.argv[2])
plots = [make() for make in plot_makers(board)]
write_board(board, outcomes, targets, folder, plots=plots)
write_page(board, Extras(plots=plots), folder)
assert read_board(folder / "leaderboard.json").metric == sys.argv[1]
"""


def block(section: str) -> str:
    """The first Python block of a section of the page."""
    found = re.search(rf"## {section}\n.*?```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def insert(file: Path, name: str, code: str) -> None:
    """Put code at the end of the tuple that a module's variable is, or is made of."""
    text = file.read_text()
    (value,) = (
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    ends = [node.end_lineno for node in ast.walk(value) if isinstance(node, ast.Tuple)]
    lines = text.splitlines(keepends=True)
    last = max(end for end in ends if end is not None) - 1  # the line with the closing bracket
    file.write_text("".join([*lines[:last], f"{code.rstrip()},\n", *lines[last:]]))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "benchmark", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def built(checkout: Path, metric: str) -> Path:
    """The folder of a board that the changed package made, ranked by a metric."""
    folder = checkout / metric
    command = [sys.executable, "-c", BOARD, metric, str(folder)]
    subprocess.run(command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True)
    return folder


def touched(checkout: Path) -> list[str]:
    """Files of the package that differ from ours."""
    copy = checkout / "benchmark"
    names = [path.relative_to(copy) for path in copy.rglob("*.py")]
    return sorted(
        str(name)
        for name in names
        if not (PACKAGE / name).exists() or (PACKAGE / name).read_bytes() != (copy / name).read_bytes()
    )


def test_a_metric_is_one_object(checkout: Path) -> None:
    insert(checkout / "benchmark/statistics/metrics.py", "METRICS", block("A metric"))
    assert touched(checkout) == ["statistics/metrics.py"]
    folders = [built(checkout, metric) for metric in ("f1", "geometric_mean")]
    by_f1, by_mean = (json.loads((one / "leaderboard.json").read_text()) for one in folders)
    assert [row["backbone"] for row in by_f1["rows"]] == ["Blind", "Alarmed"]
    assert [row["backbone"] for row in by_mean["rows"]] == ["Alarmed", "Blind"]
    assert by_mean["winner"] == "Alarmed"
    first, second = by_mean["rows"]
    assert first["val_geometric_mean"] == pytest.approx((1.0 * 140 / 180) ** 0.5)
    assert second["val_geometric_mean"] == second["test_geometric_mean"] == pytest.approx(0.5**0.5)
    assert second["val_geometric_mean_low"] < 0.5**0.5 < second["val_geometric_mean_high"]
    page = (checkout / "geometric_mean" / "leaderboard.html").read_text()
    assert "val geometric mean [95 %]" in page
    assert page.index('<th class="c-val_geometric_mean number"') < page.index('<th class="c-val_f1 number"')
    assert "validation geometric mean with its 95 %" in page
    assert "the share rightly left alone" in page
    usual = (checkout / "f1" / "leaderboard.html").read_text()
    assert 'class="c-val_geometric_mean number wide extra"' in usual, "shown when a reader asks for it"


def test_a_column_is_one_object(checkout: Path) -> None:
    insert(checkout / "benchmark/ranking/columns.py", "COLUMNS", block("A column"))
    assert touched(checkout) == ["ranking/columns.py"]
    folder = built(checkout, "f1")
    rows = json.loads((folder / "leaderboard.json").read_text())["rows"]
    assert all(row["f1_drop"] == row["val_f1"] - row["test_f1"] for row in rows)
    assert "f1_drop" in (folder / "leaderboard.csv").read_text().splitlines()[0].split(",")
    assert 'title="val_f1 less test_f1"' in (folder / "leaderboard.html").read_text()
    assert "drop" not in (folder / "leaderboard.md").read_text()
