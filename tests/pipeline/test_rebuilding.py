"""A rebuilt board is the published one, whoever asked for it and whatever stands on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from benchmark.errors import CacheDamaged, DataError
from benchmark.pipeline import Ranked, RankRequest, rank_backbones, rebuild_report, tasks
from benchmark.pipeline.stored import portable_options, stored_request
from benchmark.records import (
    Backbone,
    Precision,
    Pruned,
)
from benchmark.reporting import DataRecord, RunRecord

pytestmark = pytest.mark.faults("boards built again from what is stored")
Make = Callable[..., RankRequest]


def rebuilt(request: RankRequest) -> Ranked:
    return rebuild_report(request.options.data, results=request.options.results, cache=request.options.cache)


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but its log and its record."""
    volatile = {"run.log", "run.json"}
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in volatile
    }


@pytest.fixture
def motley(photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path) -> RankRequest:
    """A scored, a skipped and a failed backbone, groups, a rejected file, a limit; asked for from Python."""
    data = Path(shutil.copytree(photos, tmp_path / "walls"))
    (data / "sound" / "broken.png").write_bytes(b"no image")
    field: tuple[Backbone, ...] = (
        tiny.tiny_backbone("Tiny8", 8),
        replace(tiny.tiny_backbone("Renamed", 12), architecture="Tiny12"),
        tiny.tiny_backbone("Large", 64),
        tiny.tiny_backbone("Broken", 16, build=tiny.explode),
    )
    request = request_for(data, *field, groups="auto", max_loss=0.5)
    return request.but(max_size_mb=4 * 28 * 20 / 1e6)


def test_every_file_is_as_it_was_published(motley: RankRequest, tmp_path: Path) -> None:
    first = rank_backbones(motley)
    statuses = {row["backbone"]: row["status"] for row in first.board.rows}
    assert statuses == {"Tiny8": "scored", "Renamed": "scored", "Large": "skipped", "Broken": "failed"}
    published = contents(first.run)
    shutil.rmtree(motley.options.cache)
    for name in ("leaderboard.json", "leaderboard.html", "images.csv", "audit_summary.csv", "rejected.csv"):
        (first.folder / name).unlink()
    second = rebuilt(motley)
    assert second.run != first.run
    assert contents(second.run) == published
    assert contents(first.run) == published, "a finished run is not touched"
    for name, content in published.items():
        assert (second.folder / name).read_bytes() == content
    third = rebuilt(motley)
    assert contents(third.run) == published
    shutil.rmtree(third.folder / "runs")
    assert contents(rebuilt(motley).run) == published, "the copy at the top will do"


def test_a_file_that_broke_since_changes_nothing_that_was_published(motley: RankRequest) -> None:
    first = rank_backbones(motley)
    (motley.options.data / "cracked" / "later.png").write_bytes(b"no image either")
    assert contents(rebuilt(motley).run) == contents(first.run)


def test_images_that_changed_leave_the_published_board_alone(motley: RankRequest, tiny: ModuleType) -> None:
    first = rank_backbones(motley)
    published = (first.folder / "leaderboard.json").read_bytes()
    tiny.draw_photos(motley.options.data, count=2, seed=9)
    with pytest.raises(DataError, match="not those of the latest run"):
        rebuilt(motley)
    assert (first.folder / "leaderboard.json").read_bytes() == published
    assert [path.name for path in (first.folder / "runs").iterdir()] == [first.run.name]


def test_a_damaged_outcome_leaves_the_published_board_alone(motley: RankRequest) -> None:
    first = rank_backbones(motley)
    published = {path: path.read_bytes() for path in first.folder.glob("*.*")}
    outcomes = tuple((first.folder / "outcomes").glob("Tiny8-*.outcome"))
    for outcome in outcomes:  # with and without regard to groups
        whole = outcome.read_bytes()
        outcome.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CacheDamaged, match="SHA-256 does not match"):
        rebuilt(motley)
    for outcome in outcomes:
        outcome.unlink()
    with pytest.raises(CacheDamaged, match="is gone"):
        rebuilt(motley)
    assert {path: path.read_bytes() for path in first.folder.glob("*.*")} == published


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("jobs", "1"),
        ("size", True),
        ("groups", 1),
        ("engine", "steam"),
        ("weights", 3),
        ("strict", [1]),
        ("epochs", "twenty"),
        ("max_loss", "0.5"),
        ("threshold", {"kind": "tuned"}),
        ("steam", True),
    ],
)
def test_options_of_other_types_are_refused(
    photos: Path, request_for: Make, tiny: ModuleType, option: str, value: object
) -> None:
    request = request_for(photos, tiny.tiny_backbone())
    record = record_of(request)
    record = replace(record, options={**record.options, option: value})
    folders = {"data": photos, "results": photos, "cache": photos}
    with pytest.raises(DataError, match=f"run.json: `{option}`"):
        stored_request(record, **folders)
    whole = replace(record, options={name: record.options[name] for name in record.options if name != option})
    assert stored_request(whole, **folders).options.data == photos, "one that is not there has its default"


def record_of(request: RankRequest) -> RunRecord:
    return RunRecord(
        identifier="1",
        started="",
        options=portable_options(request),
        protocol=request.protocol,
        versions={},
        data=DataRecord(source="", name="", fingerprint="", images=0, classes=(), bit_depth=12),
        backbones={},
    )


def test_a_request_survives_its_record(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    request = request_for(
        photos,
        tiny.tiny_backbone(),
        weights=tmp_path,
        size="native",
        resize="area",
        engine="openvino",
        groups="g",
        positive="cracked",
        limit=7,
        seed=2,
        max_loss=0.25,
        search="halving",
        threshold="recall=0.9",
        average="macro",
    )
    again = stored_request(
        RunRecord.from_json(record_of(request).to_json()),
        data=photos,
        results=request.options.results,
        cache=request.options.cache,
    )
    assert again == replace(request.but(bit_depth=12), backbones=())


def test_pruned_backbones(photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path) -> None:
    """They keep their figures, and do not stand among those that were scored on all images."""
    many = tiny.draw_photos(tmp_path / "many", 120)
    field = tuple(tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (2, 8, 16))
    request = request_for(many, *field, search="halving", max_loss=0.2)
    first = rank_backbones(request)
    pruned = {row["backbone"] for row in first.board.rows if row["status"] == "pruned"}
    assert pruned
    assert pruned == {outcome.backbone for outcome in first.outcomes if isinstance(outcome, Pruned)}
    shown = set(pd.read_csv(first.folder / "per_class_f1.csv").backbone)
    assert shown == {outcome.backbone for outcome in first.outcomes} - pruned
    assert contents(rebuilt(request).run) == contents(first.run)


def falling_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine that is opened from now on says that it fell back."""
    opened = tasks.open_engine

    def open_with_note(wanted: Any, *, sample: Any) -> Any:  # noqa: ANN401
        frozen = opened(replace(wanted, precision=Precision.FLOAT32), sample=sample)
        frozen.notes = ("fell back to float32",)
        return frozen

    monkeypatch.setattr(tasks, "open_engine", open_with_note)


def test_notes_survive_a_cached_rerun_and_a_rebuild(
    photos: Path, request_for: Make, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    falling_back(monkeypatch)
    first = rank_backbones(request)
    assert first.board.rows[0]["notes"] == "fell back to float32"
    monkeypatch.undo()
    again = rank_backbones(request)
    assert again.images_embedded == 0
    assert contents(again.run) == contents(first.run)
    assert contents(rebuilt(request).run) == contents(first.run)
    # Other heads, same embeddings.
    other = rank_backbones(replace(request, protocol=replace(request.protocol, seed=3)))
    assert other.board.rows[0]["notes"] == "fell back to float32"
    # Whoever asks for just that arithmetic falls back from nothing.
    asked = request.but(precision=Precision.FLOAT32)
    assert rank_backbones(asked).board.rows[0]["notes"] == ""
