"""Two runs compared: what changed is named."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmark.errors import DataError
from benchmark.records import HeadProtocol, ImageSet, Leaderboard, Outcome, Split, Targets, Task
from benchmark.reporting import (
    BackboneRecord,
    DataRecord,
    RunRecord,
    compare_runs,
    comparison_table,
    read_image_list,
    write_image_list,
)
from benchmark.reporting.board_files import json_bytes
from benchmark.reporting.compare import ChangeKind, RunComparison
from benchmark.storage import write_whole

Results = tuple[Leaderboard, tuple[Outcome, ...], Targets]


def image_set(
    ids: tuple[str, ...] = ("a" * 64, "b" * 64, "c" * 64, "d" * 64), labels: tuple[int, ...] = (0, 1, 0, 1)
) -> ImageSet:
    return ImageSet(
        name="walls",
        root=Path("/walls"),
        paths=tuple(f"{'NP'[label]}/={image_id[0]}.jpg" for image_id, label in zip(ids, labels, strict=True)),
        image_ids=tuple(ids),
        targets=np.array(labels, np.int64),
        classes=("N", "P"),
        task=Task.BINARY,
        positive=1,
        groups=None,
        split=Split(train=np.array([0, 1]), val=np.array([2]), test=np.arange(3, len(ids)), given=False),
    )


def record(images: ImageSet, **changes: object) -> RunRecord:
    fields: dict[str, Any] = {
        "identifier": "20260101-000000-abc",
        "started": "2026-01-01T00:00:00",
        "protocol": HeadProtocol(),
        "options": {"seed": 0, "size": 224, "cache": "/one"},
        "versions": {"keras": "3.15.1", "python": "3.11.9"},
        "hardware": {"cores": 2, "memory_bytes": 8e9},
        "data": DataRecord.of(images, Path("walls")),
        "seeds": {"folds": 0},
        "backbones": {
            "MobileNet_0": BackboneRecord(status="scored", weights="imagenet", weights_sha256="ab" * 32)
        },
        "timings": {"embed": 1.5},
    }
    fields |= changes
    return RunRecord(**fields)


@pytest.fixture
def write_run(results: Results, tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, images: ImageSet, board: Leaderboard | None = None, **changes: object) -> Path:
        folder = tmp_path / name
        write_whole(folder / "leaderboard.json", json_bytes(board or results[0]), root=folder)
        record(images, **changes).write(folder)
        write_image_list(images, folder)
        return folder

    return write


def test_a_run_record_reads_back(tmp_path: Path) -> None:
    own = record(image_set())
    own.write(tmp_path)
    assert RunRecord.read(tmp_path) == own
    assert RunRecord.read(tmp_path / "run.json") == own


def test_an_image_list_reads_back(tmp_path: Path) -> None:
    write_image_list(image_set(), tmp_path)
    listed = read_image_list(tmp_path)
    assert listed["a" * 64] == {"label": "N", "part": "train", "group": "", "path": "N/=a.jpg"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": 3}', '{"schema": 2, "data": {}, "backbones": {}, "options": {}}'],
)
def test_a_broken_record_is_refused(content: str) -> None:
    with pytest.raises(DataError, match="not the record of a run"):
        RunRecord.from_json(content)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "1"},
        {"schema": True},
        {"schema": 3},
        {"identifier": "../../elsewhere"},
        {"identifier": ""},
        {"identifier": 3},
        {"started": None},
        {"protocol": "cv"},
        {"arguments": ["rank", "walls"]},
        {"options": []},
        {"versions": {"keras": 3}},
        {"seeds": {"folds": "0"}},
        {"seeds": {"folds": 0.5}},
        {"timings": {"embed": "1.5"}},
        {"backbones": {"M": {"status": "done"}}},
        {"backbones": {"M": {"status": "scored", "input_size": "32"}}},
        {"backbones": {"M": {"status": "scored", "input_size": -1}}},
        {"backbones": {"M": {"status": "scored", "weights_sha256": "../x"}}},
        {"backbones": {"M": {"status": "scored", "surprise": 1}}},
        {"backbones": {"M": []}},
        {"data": {"source": "walls"}},
        {"data": None},
        {"surprise": 1},
    ],
)
def test_a_record_is_as_strict_as_a_manifest(change: dict[str, Any]) -> None:
    stored = json.loads(record(image_set()).to_json())
    assert RunRecord.from_json(json.dumps(stored)) == record(image_set())
    with pytest.raises(DataError, match="not the record of a run"):
        RunRecord.from_json(json.dumps({**stored, **change}))


@pytest.mark.parametrize(
    "change", [{"images": "4"}, {"images": -1}, {"classes": "NP"}, {"positive": "Q"}, {"surprise": 1}]
)
def test_the_data_of_a_record_is_checked(change: dict[str, Any]) -> None:
    stored = json.loads(record(image_set()).to_json())
    stored["data"] |= change
    with pytest.raises(DataError, match="not the record of a run"):
        RunRecord.from_json(json.dumps(stored))


def test_equal_runs_are_the_same(write_run: Callable[..., Path]) -> None:
    comparison = compare_runs(write_run("one", image_set()), write_run("two", image_set()))
    assert (comparison.changes, comparison.scores) == ((), ())
    assert comparison.statement == "The two boards are the same to the last digit."


def named(comparison: RunComparison) -> set[tuple[ChangeKind, str]]:
    return {(change.kind, change.name) for change in comparison.changes}


def test_a_changed_weight_file_is_named_first(write_run: Callable[..., Path], results: Results) -> None:
    board = results[0]
    rows = (dict(board.rows[0]) | {"val_f1": 0.5}, *board.rows[1:])
    other = {"MobileNet_0": BackboneRecord(status="scored", weights="imagenet", weights_sha256="cd" * 32)}
    comparison = compare_runs(
        write_run("one", image_set()),
        write_run(
            "two",
            image_set(),
            board=dataclasses.replace(board, rows=rows),
            backbones=other,
            versions={"keras": "3.16.0", "python": "3.11.9"},
            options={"seed": 1, "size": 224, "cache": "/two"},
        ),
    )
    assert comparison.changes[0].kind is ChangeKind.WEIGHTS
    assert "cdcdcdcdcdcd" in comparison.changes[0].after
    wanted = {
        (ChangeKind.WEIGHTS, "MobileNet_0"),
        (ChangeKind.VERSION, "keras"),
        (ChangeKind.ARGUMENT, "seed"),
    }
    assert named(comparison) == wanted
    assert [(score.backbone, score.column, score.after) for score in comparison.scores] == [
        ("MobileNet_0", "val_f1", 0.5)
    ]
    stream = io.StringIO()
    Console(file=stream, width=120).print(comparison_table(comparison))
    assert "3.16.0" in stream.getvalue()
    assert "1 backbones differ" in stream.getvalue()


def test_images_that_came_went_or_changed_are_named(write_run: Callable[..., Path]) -> None:
    before = image_set()
    after = image_set(ids=("a" * 64, "b" * 64, "c" * 64, "e" * 64, "f" * 64), labels=(0, 1, 1, 1, 0))
    after = dataclasses.replace(after, paths=(*after.paths[:3], before.paths[3], after.paths[4]))
    comparison = compare_runs(write_run("one", before), write_run("two", after))
    assert named(comparison) == {
        (ChangeKind.IMAGE_CHANGED, "P/=d.jpg"),
        (ChangeKind.IMAGE_ADDED, "N/=f.jpg"),
        (ChangeKind.LABEL, "P/=c.jpg"),
    }


def test_different_scores_without_a_cause_are_called_out(
    write_run: Callable[..., Path], results: Results
) -> None:
    board = results[0]
    rows = (dict(board.rows[0]) | {"val_f1": 0.5}, *board.rows[1:])
    comparison = compare_runs(
        write_run("one", image_set()), write_run("two", image_set(), dataclasses.replace(board, rows=rows))
    )
    assert "not reproducible" in comparison.statement


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json"):
        compare_runs(tmp_path, tmp_path)
