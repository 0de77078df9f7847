"""Boards and fine-tuning over several data sets, with networks of two layers."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from benchmark.errors import NothingScored
from benchmark.options import StudyOptions
from benchmark.pipeline import study_backbones
from benchmark.pipeline.studying import StudyResult
from benchmark.records import Backbone, Silent

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
Study = Callable[..., StudyResult]


class Witness(Silent):
    """An observer that writes messages down."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def options(photos: Path, tiny: ModuleType, tmp_path: Path) -> StudyOptions:
    """Two data sets under two seeds; one epoch of a recipe that always trains."""
    other = shutil.copytree(photos, tmp_path / "other")
    for picture in sorted(other.glob("*/*.png"))[::3]:
        picture.unlink()
    return StudyOptions.check(
        {
            "data": (photos, other),
            "weights": "random",
            "size": tiny.SIZE,
            "seeds": 2,
            "recipe": "two-phase-f1",
            "epochs": (1, 0),
            "image_size": tiny.SIZE,
            "groups": "none",
            "jobs": 1,
            "cache": tmp_path / "cache",
            "results": tmp_path / "results",
        }
    )


@pytest.fixture
def pair(tiny: ModuleType) -> tuple[Backbone, Backbone]:
    return tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)


@pytest.fixture
def study(options: StudyOptions, pair: tuple[Backbone, Backbone]) -> Study:
    return partial(study_backbones, options, known=pair)


def models(result: StudyResult) -> dict[Path, int]:
    """When each model was written."""
    return {
        path: path.stat().st_mtime_ns for path in result.folder.glob("seed*/*/finetune/*/*/manifest.json")
    }


def test_a_study_is_written_and_goes_on_where_it_stopped(study: Study) -> None:
    told = Witness()
    done = study(told)
    assert done.failed == ()
    assert "4 boards" in told.messages[0], "the cost stands first"
    assert "8 models" in told.messages[0]
    runs = done.tables.runs
    keys = [(run["data"], run["seed"], run["backbone"]) for run in runs]
    assert len(set(keys)) == len(keys) == 8
    before = models(done)
    assert len(before) == 8
    for run in runs:
        where = f"seed{run['seed']}/{run['data']}"
        (path,) = done.folder.glob(f"{where}/finetune/{run['backbone']}/*/metrics.json")
        metrics = json.loads(path.read_text())
        assert run["tuned_f1"] == metrics[metrics["kept"]]["test"]["f1"]
        with (done.folder / where / "leaderboard.csv").open() as file:
            row = next(row for row in csv.DictReader(file) if row["backbone"] == run["backbone"])
        assert run["val_f1"] == pytest.approx(float(row["val_f1"]))
        assert run["params"] > 0
    with (done.folder / "study.csv").open() as file:
        rules = list(csv.DictReader(file))
    assert [row["rule"] for row in rules] == [row["rule"] for row in done.tables.rules]
    assert "Too few data sets for an interval" in (done.folder / "study.md").read_text()

    gone = next(iter(before))
    shutil.rmtree(gone.parent)
    again = study(Witness())
    assert again.tables == done.tables
    after = models(again)
    assert {path for path in after if after[path] != before[path]} == {gone}, "only that one was trained"


def test_what_fails_is_told_and_costs_nothing_else(
    options: StudyOptions, pair: tuple[Backbone, Backbone], tiny: ModuleType, tmp_path: Path
) -> None:
    """A backbone that cannot be built, and a data set without a class."""
    poor = tmp_path / "poor"
    (poor / "alone").mkdir(parents=True)
    shutil.copy(next(options.data[0].glob("*/*.png")), poor / "alone")
    broken = tiny.tiny_backbone("Broken", 8, build=tiny.explode)
    asked = options.but(data=(poor, *options.data), seeds=1)
    result = study_backbones(asked, known=(*pair, broken))
    assert [row["data"] for row in result.tables.data] == [path.name for path in options.data]
    assert {run["backbone"] for run in result.tables.runs} == {one.name for one in pair}
    assert any(line.startswith("poor, seed 0: no board") for line in result.failed)
    assert any("Broken was not ranked" in line and "no such architecture" in line for line in result.failed)
    assert set(result.failed) <= set(result.tables.sentences)


def test_nothing_to_compare_is_an_error(options: StudyOptions, tiny: ModuleType) -> None:
    broken = tuple(tiny.tiny_backbone(name, 8, build=tiny.explode) for name in ("Broken", "Gone"))
    with pytest.raises(NothingScored, match="no such architecture"):
        study_backbones(options.but(seeds=1), known=broken)


def test_only_the_first_of_the_first_board_are_tuned(options: StudyOptions, tiny: ModuleType) -> None:
    three = [tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (4, 8, 16)]
    result = study_backbones(options.but(top=2, seeds=1), known=three)
    for data in options.data:
        with (result.folder / "seed0" / data.name / "leaderboard.csv").open() as file:
            first = [row["backbone"] for row in csv.DictReader(file)][:2]
        tuned = {run["backbone"] for run in result.tables.runs if run["data"] == data.name}
        assert tuned == set(first)
