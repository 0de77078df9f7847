"""Boards and fine-tuning over several data sets, with networks of two layers."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from benchmark.errors import DataError, NothingScored, StorageError
from benchmark.options import StudyOptions
from benchmark.pipeline import RankRequest, study_backbones, studying
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.studying import StudyResult
from benchmark.records import Backbone, Observer, Silent

pytestmark = [
    pytest.mark.filterwarnings(
        # Keras converts variables without NumPy 2's copy keyword.
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]
Study = Callable[..., StudyResult]


class Witness(Silent):
    """An observer that writes messages down."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def options(photos: Path, tiny: ModuleType, tmp_path: Path) -> StudyOptions:
    """Two data sets under one seed; one epoch of a recipe that always trains."""
    other = shutil.copytree(photos, tmp_path / "other")
    return StudyOptions.check(
        {
            "data": (photos, other),
            "weights": "random",
            "size": tiny.SIZE,
            "seeds": 1,
            "limit": 40,
            "recipe": "two-phase-f1",
            "epochs": (1, 0),
            "image_size": tiny.SIZE,
            "groups": "none",
            "repeats": 1,
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
    assert "2 boards" in told.messages[0], "the cost stands first"
    assert "4 models" in told.messages[0]
    runs = done.tables.runs
    keys = [(run["data"], run["seed"], run["backbone"]) for run in runs]
    assert len(set(keys)) == len(keys) == 4
    before = models(done)
    assert len(before) == 4
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


def test_a_data_set_that_cannot_be_ranked_is_told_before_any_work(
    options: StudyOptions, pair: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    poor = tmp_path / "poor"
    (poor / "alone").mkdir(parents=True)
    shutil.copy(next(options.data[0].glob("*/*.png")), poor / "alone")
    with pytest.raises(DataError, match="poor"):
        study_backbones(options.but(data=(*options.data, poor)), known=pair)
    assert not list((tmp_path / "results").glob("study/seed*"))


def test_what_fails_is_told_and_costs_nothing_else(options: StudyOptions, tiny: ModuleType) -> None:
    """A backbone that cannot be built; of the three others, the first two of each board are tuned."""
    sound = [tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (4, 8, 16)]
    broken = tiny.tiny_backbone("Broken", 8, build=tiny.explode)
    result = study_backbones(options.but(top=2), known=(*sound, broken))
    assert [row["data"] for row in result.tables.data] == [path.name for path in options.data]
    for data in options.data:
        with (result.folder / "seed0" / data.name / "leaderboard.csv").open() as file:
            first = [row["backbone"] for row in csv.DictReader(file)][:2]
        assert {run["backbone"] for run in result.tables.runs if run["data"] == data.name} == set(first)
    assert len(result.failed) == 2
    assert all("Broken was not ranked" in line and "no such architecture" in line for line in result.failed)
    assert set(result.failed) <= set(result.tables.sentences)


def test_what_a_limit_leaves_out_has_not_failed(options: StudyOptions, tiny: ModuleType) -> None:
    small = [tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (4, 8)]
    large = replace(tiny.tiny_backbone("Large", 8), params=10**8)
    result = study_backbones(options.but(max_size_mb=100), known=(*small, large))
    assert result.failed == ()
    assert len([one for one in result.tables.sentences if one.startswith("Large was skipped: ")]) == 1


@pytest.mark.slow
def test_the_boards_pick_is_fine_tuned_wherever_it_stands(
    options: StudyOptions, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board names the last of four; of them the first one alone is asked for."""
    known = tuple(tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (4, 8, 12, 16))
    real, named = studying.rank_backbones, {}

    def ranking(request: RankRequest, observer: Observer) -> Ranked:
        ranked = real(request, observer)
        rows = [row for row in ranked.board.rows if row["rank"]]
        first, last = str(rows[0]["backbone"]), str(rows[-1]["backbone"])
        named[ranked.folder.name] = {first, last}
        return replace(ranked, board=replace(ranked.board, winner=last))

    monkeypatch.setattr(studying, "rank_backbones", ranking)
    result = study_backbones(options.but(top=1), known=known)
    for data, names in named.items():
        runs = {run["backbone"]: run for run in result.tables.runs if run["data"] == data}
        assert names <= set(runs)
        assert sum("winner" in run["picks"] for run in runs.values()) == 1
    assert any(sentence.startswith("Every rule chose among") for sentence in result.tables.sentences)


def test_a_data_set_without_a_test_part_judges_nothing(
    options: StudyOptions, pair: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    """Its validation images would judge the fine-tuning that they have chosen."""
    given = tmp_path / "given"
    for number, path in enumerate(sorted(options.data[0].glob("*/*.png"))):
        target = given / ("val" if number % 3 == 0 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    result = study_backbones(options.but(data=(options.data[0], given), limit=None), known=pair)
    assert [row["data"] for row in result.tables.data] == [options.data[0].name]
    assert not list(result.folder.glob("seed*/given/finetune"))
    assert [line for line in result.failed if line.startswith("given, seed 0: no test part")]


@pytest.mark.parametrize("step", ["rank_backbones", "finetune_backbones"])
def test_a_full_disk_ends_the_study(study: Study, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    calls = []

    def full(*_: object) -> None:
        calls.append(step)
        raise StorageError("no space left on the disk")

    monkeypatch.setattr(studying, step, full)
    with pytest.raises(StorageError, match="no space left"):
        study()
    assert len(calls) == 1, "nothing else was tried"


def test_nothing_to_compare_is_an_error(options: StudyOptions, tiny: ModuleType) -> None:
    broken = tuple(tiny.tiny_backbone(name, 8, build=tiny.explode) for name in ("Broken", "Gone"))
    with pytest.raises(NothingScored, match="no such architecture"):
        study_backbones(options, known=broken)
