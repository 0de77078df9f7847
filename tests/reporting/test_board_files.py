"""The board as files, and back."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cells import cell_text, csv_bytes, safe_cell
from benchmark.errors import DataError
from benchmark.options import RankOptions
from benchmark.records import Leaderboard, Outcome, Rejected, Targets
from benchmark.reporting import (
    BOARD_FILES,
    Extras,
    class_scores,
    next_commands,
    plot_makers,
    read_board,
    remove_files,
    write_board,
    write_page,
    write_rejected,
)
from benchmark.reporting.formats import count, megabytes, seconds
from benchmark.statistics import LearningCurve

Results = tuple[Leaderboard, tuple[Outcome, ...], Targets]
_OF_A_DEVICE = "plots/f1_vs_device_latency.png"  # of boards that show one


def cells(board: Leaderboard) -> list[dict[str, object]]:
    return [{key: None if value != value else value for key, value in row.items()} for row in board.rows]


def write_all(
    board: Leaderboard,
    outcomes: tuple[Outcome, ...],
    targets: Targets,
    folder: Path,
    *,
    baselines: Sequence[Mapping[str, Any]] = (),
    baseline_scores: Sequence[Mapping[str, Any]] = (),
    learning: Mapping[str, LearningCurve] = MappingProxyType({}),
    rejected: tuple[Rejected, ...] = (),
) -> None:
    """The board with its plots and its page."""
    makers = plot_makers(board, class_scores(outcomes, targets), learning)
    plots = tuple(make() for make in makers)
    write_board(
        board,
        outcomes,
        targets,
        folder,
        plots=plots,
        baselines=baselines,
        baseline_scores=baseline_scores,
        learning=learning,
        rejected=rejected,
    )
    extras = Extras(
        title="walls <1>",
        baselines=baselines,
        has_baseline_scores=bool(baseline_scores),
        rejected=rejected,
        plots=plots,
    )
    write_page(board, extras, folder)


@pytest.fixture
def written(results: Results, learning: dict[str, LearningCurve], tmp_path: Path) -> Path:
    rejected = (Rejected(path="=cmd.jpg", reason="an empty file"), Rejected(path="\udcff.jpg", reason="<i>"))
    write_all(
        *results,
        tmp_path,
        baselines=[{"baseline": "kNN", "val_f1": 0.5}],
        baseline_scores=[{"backbone": "=A", "logme": 0.5}],
        learning=learning,
        rejected=rejected,
    )
    return tmp_path


def test_every_file_of_a_board_is_written(written: Path) -> None:
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert names == {
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
        "leaderboard.html",
        "per_class_f1.csv",
        "baselines.csv",
        "baseline_scores.csv",
        "learning_curve.csv",
        "rejected.csv",
        "plots/f1_vs_size.png",
        "plots/ranks.png",
        "plots/learning_curve.png",
    }
    assert set(BOARD_FILES) == names | {_OF_A_DEVICE, "plots/per_class_f1.png"}


def test_a_learning_curve_is_a_tidy_table(written: Path, learning: dict[str, LearningCurve]) -> None:
    rows = list(csv.DictReader((written / "learning_curve.csv").read_text().splitlines()))
    assert list(rows[0]) == ["backbone", "images", "f1", "low", "high", "kind"]
    assert [cell_text(row["backbone"]) for row in rows[::5]] == list(learning)
    assert [int(row["images"]) for row in rows[:5]] == [40, 80, 160, 320, 640]
    assert [row["kind"] for row in rows[:5]] == ["measured"] * 4 + ["predicted"]
    predicted = learning["MobileNet_1"].predicted
    assert [float(rows[-1][name]) for name in ("f1", "low", "high")] == [
        predicted.value,
        predicted.low,
        predicted.high,
    ]


def test_a_later_board_leaves_nothing_of_an_earlier_one_but_users_files(
    written: Path, results: Results
) -> None:
    own = {"notes.csv", "plots/mine.png"}
    for name in own:
        (written / name).write_text("mine")
    write_all(*results, written)
    left = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert own <= left
    drawn_elsewhere = {"plots/learning_curve.png", "plots/per_class_f1.png", _OF_A_DEVICE}
    optional = {"baselines.csv", "baseline_scores.csv", "learning_curve.csv", "rejected.csv"}
    assert left - own == set(BOARD_FILES) - optional - drawn_elsewhere
    assert "baseline_scores.csv" not in (written / "leaderboard.html").read_text()


def test_files_are_removed_and_folders_of_such_a_name_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    remove_files(tmp_path, ["a", "b", "c", "d"])
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_list_of_rejected_files_goes_with_the_last_of_them(tmp_path: Path) -> None:
    write_rejected([Rejected(path="a.jpg", reason="an empty file")], tmp_path)
    assert (tmp_path / "rejected.csv").read_text() == "path,reason\na.jpg,an empty file\n"
    write_rejected([], tmp_path)
    assert not list(tmp_path.iterdir())


def test_csv_has_every_column_and_every_digit(written: Path, results: Results) -> None:
    header, *rows = csv.reader(io.StringIO((written / "leaderboard.csv").read_text()))
    assert tuple(header) == results[0].columns
    shown = [["" if value is None else str(value) for value in row.values()] for row in cells(results[0])]
    assert [[cell_text(cell) for cell in row] for row in rows] == shown


def test_json_is_strict_and_reads_back_whole(written: Path, results: Results) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    json.loads((written / "leaderboard.json").read_text(), parse_constant=refuse)
    board = read_board(written / "leaderboard.json")
    assert (board.winner, board.loss_bound) == ("MobileNet_0", 0.0213)
    assert (board.statements, board.notes) == (results[0].statements, results[0].notes)
    assert cells(board) == cells(results[0])
    assert math.isnan(board.rows[-1]["val_f1"])
    assert board.rows[-1]["rank"] is None


def test_pandas_reads_the_csv(written: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(written / "leaderboard.csv")
    assert frame.loc[0, "val_f1"] == 0.97 + 1e-15
    assert frame["rank"].isna().sum() == 1


def test_markdown_table_keeps_its_shape(written: Path) -> None:
    lines = (written / "leaderboard.md").read_text().splitlines()
    table = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table[:8]}) == 1
    assert any("=1+1 \\| &lt;b>no weights" in line for line in lines)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_self_contained_and_escaped(written: Path) -> None:
    page = Tags()
    page.feed((written / "leaderboard.html").read_text())
    assert not [attrs for tag, attrs in page.seen if tag in {"link", "iframe", "b2", "i2"}]
    sources = [attrs["src"] for tag, attrs in page.seen if tag == "img"]
    assert len(sources) == 3, "with the chart where there are no scripts"
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<random>" in page.text
    assert "<b>no weights</b>" in page.text
    assert "walls <1>" in page.text
    assert [attrs["href"] for tag, attrs in page.seen if tag == "a"] == ["baseline_scores.csv"]
    assert not [tag for tag, _ in page.seen if tag == "random"]


@pytest.mark.parametrize(("source", "told"), [("keras", "finetune"), ("timm", "--to onnx,openvino")])
def test_the_page_tells_a_winner_what_can_be_done_with_it(
    results: Results, source: str, told: str, tmp_path: Path
) -> None:
    board = results[0]
    rows = tuple({**row, "source": source} for row in board.rows)
    write_page(replace(board, rows=rows), Extras(title="walls", source="walls"), tmp_path)
    page = (tmp_path / "leaderboard.html").read_text()
    assert told in page
    assert ("tflite-int8" in page) is (source == "keras")


def test_fine_tuning_is_advised_with_what_says_how_images_are_read(results: Results) -> None:
    board = replace(results[0], rows=tuple({**row, "source": "keras"} for row in results[0].rows))
    options = RankOptions.check({"data": "walls", "layout": "classes", "follow_links": True, "folds": 4})
    for asked in (options.model_dump(), options.model_dump(mode="json")):
        tuning = next_commands(board, "walls", asked)[-1]
        assert tuning == [
            *("backbones", "finetune", "walls", "--winner", str(board.winner)),
            *("--layout", "classes", "--follow-links"),
        ]
        (auditing,) = next_commands(replace(board, winner=None), "walls", asked)
        assert auditing == ["backbones", "audit", "walls", "--layout", "classes", "--follow-links"]


def test_headings_of_the_page_say_what_they_mean(written: Path) -> None:
    page = Tags()
    page.feed((written / "leaderboard.html").read_text())
    headings = {
        str(attrs["class"]).split()[0]: attrs for tag, attrs in page.seen if tag == "th" and "title" in attrs
    }
    on_demand = {name for name, attrs in headings.items() if "extra" in str(attrs["class"]).split()}
    assert {"c-engine", "c-test_accuracy", "c-weights_sha256"} < on_demand
    headings = {name: attrs for name, attrs in headings.items() if name not in on_demand}
    assert len(headings) == 11, "latency is not known, so it has no column"
    assert headings["c-size_bytes"]["title"] == "backbone and head in float32"
    falls = {name for name, attrs in headings.items() if "data-falls" in attrs}
    assert falls == {"c-val_f1", "c-test_f1", "c-test_precision", "c-test_recall", "c-images_per_second"}
    wide = {name for name, attrs in headings.items() if "wide" in str(attrs["class"]).split()}
    assert wide == {"c-tie_group", "c-test_precision", "c-test_recall"}


def test_formulas_never_start_a_cell(written: Path) -> None:
    for name in ("leaderboard.csv", "rejected.csv", "baseline_scores.csv"):
        for line in csv.reader(io.StringIO((written / name).read_text())):
            assert not [cell for cell in line if cell.startswith(("=", "@", "\t", "\r"))]


@given(st.text())
def test_any_text_survives_a_cell(value: str) -> None:
    cell = safe_cell(value)
    assert not str(cell).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell_text(str(cell)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_every_digit(value: float) -> None:
    line = csv_bytes(("x",), [{"x": value}, {"x": np.float64(value)}]).decode().splitlines()
    assert [float(cell) for cell in line[1:]] == [value, value]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.json", ""), ("a.json", "{}"), ("a.json", "["), ("a.json", '{"schema": 9}')),
        (
            "a.json",
            '{"schema": 1, "columns": ["rank", "backbone", "status", "val_f1"], "rows": [], '
            '"winner": "\\ud800", "loss_bound": 0.1, "statements": [], "notes": []}',
        ),
    ],
)
def test_a_file_that_is_no_board_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="not a leaderboard"):
        read_board(tmp_path / name)


def test_a_missing_board_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaderboard\.json: cannot be read"):
        read_board(tmp_path / "leaderboard.json")


def test_nothing_scored_still_makes_files(results: Results, tmp_path: Path) -> None:
    import dataclasses

    board, _, targets = results
    empty = dataclasses.replace(board, rows=board.rows[-1:], winner=None, loss_bound=math.nan)
    write_all(empty, (), targets, tmp_path)
    assert "No backbone was scored" in (tmp_path / "leaderboard.html").read_text()
    assert not (tmp_path / "plots").exists()


def test_class_scores_agree_with_scikit_learn(results: Results) -> None:
    from sklearn.metrics import f1_score

    _, outcomes, targets = results
    rows = class_scores(outcomes, targets)
    assert [row["class"] for row in rows[:2]] == ["sound", "cracked"]
    predictions = outcomes[0].predictions
    true = targets.targets[predictions.val_rows, 0]
    for label, row in enumerate(rows[:2]):
        wanted = np.mean([f1_score(true, val[:, 0] >= 0.5, pos_label=label) for val in predictions.val])
        assert row["val_f1"] == pytest.approx(wanted)
        assert row["images"] == 20


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (megabytes(874_000), "874 kB"),
        (megabytes(1_764_000), "1.76 MB"),
        (megabytes(1_390_000_000), "1.39 GB"),
        (megabytes(math.nan), ""),
        (count(441_000), "441k"),
        (seconds(0.44), "0.4 s"),
        (seconds(185), "3:05"),
        (seconds(3723), "1:02:03"),
    ],
)
def test_numbers_for_people(shown: str, wanted: str) -> None:
    assert shown == wanted
