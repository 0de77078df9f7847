"""From a folder to a board, with real networks of two layers in this process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.engines import FrozenBackbone, Speed
from benchmark.errors import NothingScored
from benchmark.pipeline import Ranked, RankRequest, rank_backbones, rebuild_report
from benchmark.records import Engine, Leaderboard, Status
from benchmark.reporting import RunRecord, compare_runs

Make = Callable[..., RankRequest]
TIMINGS = {"images_per_second", "latency_ms", "latency_p95_ms", "noisy", "embed_seconds", "head_seconds"}


def facts(board: Leaderboard) -> list[dict[str, Any]]:
    """The rows of a board without what a clock decided; text, so that nan equals nan."""
    return [{name: str(value) for name, value in row.items() if name not in TIMINGS} for row in board.rows]


@pytest.fixture(scope="module")
def pair(tiny: ModuleType) -> tuple[Any, Any]:
    return tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)


def test_a_folder_becomes_a_board_with_all_its_files(
    photos: Path, request_for: Make, pair: tuple[Any, Any]
) -> None:
    ranked = rank_backbones(request_for(photos, *pair))
    frame = ranked.board.frame
    assert frame.status.tolist() == ["scored", "scored"]
    assert frame.val_f1.max() > 0.8, "a dark diagonal on grey noise is easy"
    assert frame["rank"].tolist() == [1, 2]
    assert ranked.images_embedded == 2 * 60
    written = {str(path.relative_to(ranked.folder)) for path in ranked.folder.rglob("*") if path.is_file()}
    assert {
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
        "leaderboard.html",
        "run.json",
    } <= written
    assert {"images.csv", "baselines.csv", "audit_summary.csv", "per_class_f1.csv"} <= written
    assert {name for name in written if name.startswith("plots/")}
    assert (ranked.run / "run.log").read_text()
    again = pd.read_csv(ranked.folder / "leaderboard.csv")
    assert again.val_f1.tolist() == frame.val_f1.tolist(), "CSV keeps every digit"


def listed(walls: Path, part_of: Callable[[int], str]) -> Path:
    """A CSV of the photographs of a folder, in the parts of their numbers; four in a row are one wall's."""
    names = sorted(str(path.relative_to(walls)) for path in walls.rglob("*.png"))
    rows = [
        f"{name},{name.split('/')[0]},{part_of(number)},wall{number // 4}"
        for number, name in enumerate(names)
    ]
    table = walls / "walls.csv"
    table.write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    return table


def test_what_the_audit_knows_stands_on_the_board(
    tmp_path: Path, request_for: Make, pair: tuple[Any, Any], tiny: ModuleType
) -> None:
    """Whoever runs ``rank`` alone learns what was read, what was left out, and that groups are torn."""
    table = listed(
        tiny.draw_photos(tmp_path / "walls", count=20), lambda number: "test" if number % 4 == 0 else "train"
    )
    (table.parent / "torn.jpg").write_bytes(b"no picture")
    with table.open("a") as file:
        file.write("torn.jpg,sound,train,wall99\n")
    ranked = rank_backbones(request_for(table, pair[0]))
    stored = json.loads((ranked.folder / "leaderboard.json").read_text())
    page = (ranked.folder / "leaderboard.html").read_text()
    markdown = (ranked.folder / "leaderboard.md").read_text()
    log = (ranked.run / "run.log").read_text()
    assert stored["summary"].startswith("40 images read, 2 classes: cracked 20 (positive), sound 20")
    for where in (page, markdown, log):
        assert "40 images read, 2 classes: cracked 20" in where
    for said in ("10 of 10 groups (40 of 40 images)", "1 of 41 files left out (1 .jpg: not a JPEG"):
        assert any(said in note for note in stored["notes"])
        assert said in page
        assert said in markdown.replace("\\", "")


@pytest.mark.parametrize("protocol", [None, "cv"])
def test_only_folds_are_compared_with_folds_that_ignore_groups(
    tmp_path: Path, request_for: Make, pair: tuple[Any, Any], tiny: ModuleType, protocol: str | None
) -> None:
    """Given parts stay what they are: no groups would train the same heads again and flatter nothing."""
    table = listed(
        tiny.draw_photos(tmp_path / "walls", count=24),
        lambda number: "val" if number // 4 % 3 == 0 else "train",
    )
    ranked = rank_backbones(request_for(table, pair[0], protocol=protocol))
    assert ("val_f1_ungrouped" in ranked.board.columns) is (protocol == "cv")
    if protocol is None:
        assert not any("Splitting related images" in line for line in ranked.board.statements)


def test_a_shortcut_is_named_at_the_top(
    tmp_path: Path, request_for: Make, pair: tuple[Any, Any], tiny: ModuleType
) -> None:
    """One class was saved in a quality of its own."""
    walls = tiny.draw_photos(tmp_path / "walls", count=30)
    for path in (walls / "cracked").glob("*.png"):
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    ranked = rank_backbones(request_for(walls, pair[0]))
    assert any(
        note.startswith("SHORTCUT: JPEG qualities alone reach F1 1.000") for note in ranked.board.notes[:4]
    )
    assert "SHORTCUT" in (ranked.folder / "leaderboard.html").read_text()


def test_a_board_at_chance_crowns_nobody(
    tmp_path: Path, request_for: Make, pair: tuple[Any, Any], tiny: ModuleType
) -> None:
    random = np.random.default_rng(5)
    for number in range(80):
        path = tmp_path / "noise" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.drawing(random, cracked=False)).save(path)
    ranked = rank_backbones(request_for(tmp_path / "noise", *pair))
    assert ranked.board.winner is None
    assert not any("SHORTCUT" in note for note in ranked.board.notes)
    page = (ranked.folder / "leaderboard.html").read_text()
    assert "No winner is named: see below why" in page
    assert "Chance-level scores" in page


def test_a_picture_that_fails_is_a_note_and_costs_nothing(
    photos: Path, request_for: Make, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.pipeline import outputs

    def fails(*_: object) -> None:
        raise ValueError("glyph \udce9 missing")

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_page", fails)
        patch.setattr(outputs, "plot_makers", lambda *_: (fails,))
        first = rank_backbones(request_for(photos, pair[0]))
    stored = json.loads((first.folder / "leaderboard.json").read_text())
    assert any("A plot could not be made (ValueError" in note for note in stored["notes"])
    assert any("leaderboard.html could not be made" in note for note in first.board.notes)
    assert not (first.folder / "leaderboard.html").exists()
    again = rank_backbones(request_for(photos, pair[0]))
    assert not any("could not be made" in note for note in again.board.notes)
    assert (again.folder / "leaderboard.html").exists()
    assert list((again.folder / "plots").glob("*.png"))


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_odd_names_of_files_and_classes_kill_neither_board_nor_pages(
    tmp_path: Path, request_for: Make, pair: tuple[Any, Any], tiny: ModuleType
) -> None:
    walls = tiny.draw_photos(tmp_path / "[red]walls", count=15)
    (walls / "cracked").rename(walls / os.fsdecode(b"crack\xe9 \x1b[31m"))
    (walls / "sound").rename(walls / "[bold]sound\u202e\n")
    for place, path in enumerate(sorted(walls.rglob("*.png"))):
        if place % 10 == 0:
            path.rename(path.with_name(f"new\nline\x07{place}" + os.fsdecode(b"\xff.png")))
    ranked = rank_backbones(request_for(walls, pair[0]))
    for path in ranked.folder.rglob("*"):
        if path.suffix in {".csv", ".md", ".html", ".json", ".log"} and path.is_file():
            content = path.read_bytes().decode()
            assert not set(content) & {"\x1b", "\x07", "\u202e"}, path
    assert not any("could not be made" in note for note in ranked.board.notes)
    assert list((ranked.folder / "plots").glob("*.png"))


def test_the_second_run_computes_nothing_and_one_new_image_costs_one_embedding_each(
    photos: Path, tmp_path: Path, request_for: Make, tiny: ModuleType, pair: tuple[Any, Any]
) -> None:
    data = shutil.copytree(photos, tmp_path / "walls")
    first = rank_backbones(request_for(data, *pair))
    second = rank_backbones(request_for(data, *pair))
    assert second.images_embedded == 0
    assert facts(second.board) == facts(first.board)
    Image.fromarray(tiny.drawing(np.random.default_rng(99), cracked=True)).save(data / "cracked" / "new.png")
    assert rank_backbones(request_for(data, *pair)).images_embedded == 2


def test_renaming_and_shuffling_files_changes_no_digit(
    photos: Path, tmp_path: Path, request_for: Make, pair: tuple[Any, Any]
) -> None:
    first = rank_backbones(request_for(photos, *pair))
    other = tmp_path / "elsewhere" / "walls"
    for number, path in enumerate(sorted(photos.rglob("*.png"), reverse=True)):
        target = other / path.parent.name / f"renamed-{number * 7 % 60:03}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    request = request_for(other, *pair[::-1])
    second = rank_backbones(request.but(results=tmp_path / "other"))
    assert second.images_embedded == 0, "moving files costs nothing"
    assert facts(second.board) == facts(first.board)


def test_one_failure_never_ends_the_run(photos: Path, request_for: Make, tiny: ModuleType) -> None:
    broken = tiny.tiny_backbone("Broken", build=tiny.explode)
    poisoned = tiny.tiny_backbone("Poisoned", preprocess=tiny.poison)
    large = replace(tiny.tiny_backbone("Large"), min_size=64)
    request = request_for(photos, tiny.tiny_backbone("Fine"), broken, poisoned, large)
    rows = {row["backbone"]: row for row in rank_backbones(request).board.rows}
    assert rows["Fine"]["status"] == Status.SCORED
    assert rows["Broken"]["status"] == Status.FAILED
    assert "no such architecture" in rows["Broken"]["reason"]
    assert rows["Poisoned"]["status"] == Status.FAILED
    assert "NaN" in rows["Poisoned"]["reason"] or "finite" in rows["Poisoned"]["reason"]
    assert rows["Large"]["status"] == Status.SKIPPED
    assert "64 pixels" in rows["Large"]["reason"]


def test_a_wrong_embedding_dim_is_caught(photos: Path, request_for: Make, tiny: ModuleType) -> None:
    liar = replace(tiny.tiny_backbone("Liar", 8), embedding_dim=9)
    rows = {
        row["backbone"]: row
        for row in rank_backbones(request_for(photos, liar, tiny.tiny_backbone("Fine"))).board.rows
    }
    assert rows["Liar"]["status"] == Status.FAILED
    assert "9" in rows["Liar"]["reason"]
    assert rows["Fine"]["status"] == Status.SCORED


class Ends:
    """A tracker that listens for the end."""

    failed: bool | None = None

    def begin(self, *_: object) -> None: ...
    def file(self, *_: object) -> None: ...
    def score(self, *_: object) -> None: ...
    def end(self, *, failed: bool) -> None:
        self.failed = failed


def test_nothing_scored_is_an_error_and_still_leaves_a_board(
    photos: Path, request_for: Make, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Ends()
    monkeypatch.setattr("benchmark.pipeline.ranking.open_trackers", lambda _: {"ends": tracker})
    with pytest.raises(NothingScored, match="no such architecture") as caught:
        rank_backbones(request_for(photos, tiny.tiny_backbone("Broken", build=tiny.explode)))
    assert caught.value.exit_status == 1
    assert Path(caught.value.where).exists()
    assert tracker.failed, "trackers do not call it a success"


def test_a_noisy_latency_skips_nobody_and_is_marked(
    photos: Path, request_for: Make, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenBackbone, "speed", lambda *_: Speed(6.0, 70.0, 200.0, noisy=True))
    request = request_for(photos, *pair, max_latency_ms=5.0)
    for row in rank_backbones(request).board.rows:
        assert (row["status"], row["noisy"]) == ("scored", True)
        assert "no limit acts on it" in row["notes"]
    again = rebuild_report(photos, results=request.options.results, cache=request.options.cache)
    assert all(row["noisy"] for row in again.board.rows)


def test_the_cost_of_embedding_is_that_of_this_board_alone(
    photos: Path,
    request_for: Make,
    pair: tuple[Any, Any],
    tiny: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other data sets in the same cache, and the time that building takes, are no part of it."""
    monkeypatch.setattr(FrozenBackbone, "speed", lambda *_: Speed(6.0, 7.0, 200.0))
    request = request_for(photos, *pair)
    first = {row["backbone"]: row for row in rank_backbones(request).board.rows}
    other = tiny.draw_photos(tmp_path / "more" / "walls", count=40, seed=7)
    larger = request.but(data=other, results=tmp_path / "other")
    for row in rank_backbones(larger).board.rows:
        assert row["embed_seconds"] == 80 / 200
    for row in rank_backbones(request).board.rows:
        assert row["embed_seconds"] == first[row["backbone"]]["embed_seconds"] == 60 / 200


def test_limits_of_the_device_skip_with_a_reason(
    photos: Path, request_for: Make, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(photos, *pair, max_latency_ms=5.0)
    monkeypatch.setattr(FrozenBackbone, "speed", lambda *_: Speed(6.0, 7.0, 200.0))
    with pytest.raises(NothingScored, match="max_latency_ms=5"):
        rank_backbones(request)
    small = request.but(max_size_mb=4 * 28 * 8 / 1e6, max_latency_ms=None)
    rows = rank_backbones(small).board.rows
    assert [row["status"] for row in rows] == ["scored", "skipped"]
    assert "max_size_mb=" in rows[1]["reason"]


def test_the_stored_board_can_be_rebuilt_and_compared(
    photos: Path, request_for: Make, pair: tuple[Any, Any]
) -> None:
    request = request_for(photos, *pair)
    first = rank_backbones(request)
    shutil.rmtree(request.options.cache)
    rebuilt = rebuild_report(
        request.options.data, results=request.options.results, cache=request.options.cache
    )
    assert facts(rebuilt.board) == facts(first.board)
    assert compare_runs(first.run, rebuilt.run).scores == ()


def test_a_comparison_names_the_changed_weights(
    photos: Path, request_for: Make, pair: tuple[Any, Any]
) -> None:
    request = request_for(photos, pair[0])
    first = rank_backbones(request)
    second = rank_backbones(request.but(seed=7))
    comparison = compare_runs(first.run, second.run)
    assert "Tiny8" in {change.name for change in comparison.changes if change.kind.value == "weights"}


def test_the_record_says_what_ran(photos: Path, request_for: Make, pair: tuple[Any, Any]) -> None:
    ranked: Ranked = rank_backbones(request_for(photos, *pair))
    record = RunRecord.read(ranked.run)
    assert record.options["data"] == str(photos)
    assert record.versions["keras"]
    assert record.hardware["cores"] >= 1
    shas = {name: facts.weights_sha256 for name, facts in record.backbones.items()}
    assert len(set(shas.values())) == 2
    assert {row["backbone"]: row["weights_sha256"] for row in ranked.board.rows} == shas
    assert json.loads((ranked.run / "run.json").read_text())["options"]["weights"] == "random"


def test_an_outcome_that_was_damaged_is_computed_again(
    photos: Path, request_for: Make, pair: tuple[Any, Any]
) -> None:
    request = request_for(photos, pair[0])
    first = rank_backbones(request)
    (stored,) = (first.folder / "outcomes").glob("*.outcome")
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(bytes(content))
    assert facts(rank_backbones(request).board) == facts(first.board)


def test_the_tensorflow_engine_can_be_asked_for(
    photos: Path, request_for: Make, pair: tuple[Any, Any]
) -> None:
    request = request_for(photos, pair[0])
    ranked = rank_backbones(request.but(engine=Engine.TENSORFLOW))
    assert ranked.board.rows[0]["engine"] in {"tensorflow", Engine.TENSORFLOW}


@pytest.mark.parametrize("size", [10, 25])
def test_a_buffer_smaller_than_the_data_streams(
    photos: Path, request_for: Make, pair: tuple[Any, Any], tiny: ModuleType, size: int
) -> None:
    request = request_for(photos, pair[0])
    ranked = rank_backbones(replace(request, buffer_bytes=size * tiny.SIZE**2 * 3))
    assert ranked.images_embedded == 60
    assert not list((request.options.cache / "scratch").glob("*/pixels*")), "the buffer is gone"


def test_memory_that_runs_out_halves_the_batch_and_the_board_says_so(
    photos: Path, request_for: Make, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.engines.tensorflow_engine import TensorFlowBackbone

    embed = TensorFlowBackbone.embed

    def short_of_memory(self: TensorFlowBackbone, batches: Any) -> Any:  # noqa: ANN401
        for number, rows in enumerate(embed(self, batches)):
            if self.batch_size > 4 and number == 1:
                raise MemoryError
            yield rows

    request = request_for(photos, pair[0])
    request = request.but(engine=Engine.TENSORFLOW)
    undisturbed = rank_backbones(request.but(results=request.options.results / "undisturbed"))
    shutil.rmtree(request.options.cache)
    monkeypatch.setattr(TensorFlowBackbone, "embed", short_of_memory)
    ranked = rank_backbones(request)
    (row,) = ranked.board.rows
    assert "memory ran out at batch 16: went on with 8" in row["notes"]
    assert "memory ran out at batch 8: went on with 4" in row["notes"]
    assert row["val_f1"] == undisturbed.board.rows[0]["val_f1"]
