"""Exports of a board while another run makes its own board the latest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from benchmark.deployment import kit
from benchmark.errors import JobError
from benchmark.execution import Call, Machine, pack, unpack
from benchmark.execution.runner import Function, Result
from benchmark.pipeline import Ranked, RankRequest, rank_backbones
from benchmark.pipeline.exporting import PickExports, export_bytes, export_task
from benchmark.pipeline.heads import head_job
from benchmark.pipeline.rebuilding import latest_run, rebuild_report
from benchmark.records import Silent
from benchmark.reporting import RunRecord
from benchmark.storage import sha256_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's
    pytest.mark.timeout(600),
]
Make = Callable[..., RankRequest]
TARGET = "keras"


class Meanwhile(Silent):
    """Does something once, as soon as something holds."""

    def __init__(self, holds: Callable[[], bool], do: Callable[[], object]) -> None:
        self._holds, self._do = holds, do
        self.done = False

    def _look(self) -> None:
        if not self.done and self._holds():
            self.done = True
            self._do()

    def started(self, task: str, total: int) -> None:
        self._look()

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self._look()

    def message(self, text: str) -> None:
        self._look()


def rows(folder: Path) -> dict[str, dict[str, object]]:
    return {row["backbone"]: row for row in json.loads((folder / "leaderboard.json").read_text())["rows"]}


class Elsewhere:
    """Exports as a cluster does, with packages of other versions; or its scheduler is gone."""

    is_local = False
    workers = threads = 1

    def __init__(self, handed: Path, *, is_lost: bool = False) -> None:
        self.handed_over = handed
        self.exported = 0
        self._is_lost = is_lost

    def computes_as(self, machine: Machine) -> bool:
        return True

    def run(self, function: Function, calls: Sequence[Call], **_: object) -> Generator[tuple[int, Result]]:
        assert function is export_task
        if self._is_lost:
            raise JobError("the scheduler is gone")
        self.exported += 1
        told = function(calls[0].argument, 1)
        found = unpack(told["packed"])
        other = {**found, "versions": {TARGET: ("of another time",)}}
        yield 0, {**told, "packed": pack(other, self.handed_over)}


def test_exports_of_other_versions_are_not_taken_for_this_machines_and_a_lost_cluster_ends_the_run(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny", 8), max_loss=0.5)
    ranked = rank_backbones(request)
    _, images = latest_run(photos, request.options.results, request.options.cache, Silent())
    picks = PickExports(TARGET, head_job(request, images, ranked.folder), 0.5)
    elsewhere = Elsewhere(tmp_path / "handed")
    for count in (1, 2):
        (row,) = picks.found(ranked, replace(request, runner=elsewhere), Silent()).rows
        assert row["export_reason"] == ""
        assert elsewhere.exported == count, "nothing of this machine's versions is known"
    with pytest.raises(JobError, match="scheduler is gone"):
        picks.found(ranked, replace(request, runner=Elsewhere(tmp_path, is_lost=True)), Silent())


def test_graphs_of_other_libraries_need_less_memory_than_what_is_converted(tmp_path: Path) -> None:
    for name in ("model.keras", "model.onnx"):
        (tmp_path / name).write_bytes(bytes(1_000_000))
    keras, graph = (
        export_bytes(tmp_path, SimpleNamespace(files={name: ""})) for name in ("model.keras", "model.onnx")
    )
    assert graph < keras - 50e6


def test_the_exports_are_of_the_runs_own_board(photos: Path, request_for: Make, tiny: ModuleType) -> None:
    ours = request_for(photos, tiny.tiny_backbone("Tiny", 8), max_loss=0.5)
    theirs = request_for(photos, tiny.tiny_backbone("Other", 12))
    folder = ours.options.results / photos.name
    meanwhile = Meanwhile((folder / "leaderboard.json").exists, lambda: rank_backbones(theirs))
    found = rank_backbones(ours.but(export_to=TARGET), meanwhile)
    assert meanwhile.done
    (row,) = found.board.rows
    assert row["export_reason"] == "", "the head is that of the board which asked"
    assert rows(found.run)["Tiny"]["export_target"] == TARGET
    assert list(rows(folder)) == ["Other"], "the board that was published since stays the latest"
    assert str(found.run) in found.replaced
    rank_backbones(ours.but(export_to=TARGET))
    assert rows(folder)["Tiny"]["export_f1"] == row["export_f1"], "it is the latest when it ran last"


def test_of_many_images_those_are_run_that_the_board_validated(
    request_for: Make, tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, part in enumerate(("train", "val")):
        tiny.draw_photos(tmp_path / "walls" / part, seed=seed)
    monkeypatch.setattr(kit, "_MOST_IMAGES", 8)
    request = request_for(tmp_path / "walls", tiny.tiny_backbone("Tiny", 8), max_loss=0.5)
    found = rank_backbones(request.but(export_to=TARGET))
    (kept,) = found.folder.rglob("*.export.json")
    assert '"images":8,' in "".join(kept.read_text().split())


def test_the_exports_are_of_the_images_as_they_were_ranked(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    """Links out of the folder, and parts that are classes: a usual reading finds nothing there."""
    data = tmp_path / "linked"
    data.mkdir()
    for name, label in (("train", "cracked"), ("test", "sound")):
        (data / name).symlink_to(photos / label, target_is_directory=True)
    request = request_for(data, tiny.tiny_backbone("Tiny", 8), max_loss=0.5, limit=50, seed=3)
    request = request.but(follow_links=True, layout="classes", export_to=TARGET)
    ranked = rank_backbones(request)
    (row,) = ranked.board.rows
    assert row["export_reason"] == ""
    model = ranked.folder / "finetune" / "Tiny" / "frozen"
    assert len((model / "split.csv").read_text().splitlines()) == 1 + 50


def test_a_model_that_another_run_replaced_meanwhile_is_not_scored(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny", 8), max_loss=0.5)
    folder = request.options.results / photos.name
    model = folder / "finetune" / "Tiny" / "frozen"

    def replaced() -> None:
        run, manifest = model / "run.json", json.loads((model / "manifest.json").read_text())
        run.write_text(run.read_text() + "\n")  # a whole model, and another one
        manifest["files"]["run.json"] = sha256_file(run)
        (model / "manifest.json").write_text(json.dumps(manifest))

    meanwhile = Meanwhile((model / "export" / TARGET).exists, replaced)
    (row,) = rank_backbones(request.but(export_to=TARGET), meanwhile).board.rows
    assert meanwhile.done
    assert "was replaced while it was exported" in row["export_reason"]
    assert not list(folder.rglob("*.export.json"))


def test_a_machine_that_cannot_store_exports_is_not_asked_again(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    field = [tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (8, 9, 10)]
    request = request_for(photos, *field, max_loss=0.5, export_to=TARGET)
    folder = request.options.results / photos.name
    meanwhile = Meanwhile((folder / "leaderboard.json").exists, (folder / "finetune").touch)
    rows = rank_backbones(request, meanwhile).board.rows
    assert sum(row["tie_group"] == 1 for row in rows) > 1
    (tried,) = (row for row in rows if row["export_target"])
    assert "finetune" in tried["export_reason"]


def test_a_rebuilt_board_does_not_replace_a_later_one(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny", 8))
    options = request.options
    first = rank_backbones(request)
    later = first.run.with_name("99999999-000000-abcdef")

    def publish() -> None:
        shutil.copytree(first.run, later)
        record = json.loads((later / "run.json").read_text()) | {"identifier": later.name}
        for place in (later, first.folder):
            (place / "run.json").write_text(json.dumps(record))

    runs = first.run.parent
    meanwhile = Meanwhile(lambda: len(list(runs.iterdir())) > 0, publish)
    found: Ranked = rebuild_report(photos, results=options.results, cache=options.cache, observer=meanwhile)
    assert meanwhile.done
    assert RunRecord.read(first.folder).identifier == later.name
    assert str(found.run) in found.replaced
