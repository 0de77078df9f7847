"""The top level of a data set's results is the latest run, and nothing of an earlier one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from PIL import Image

from benchmark.embeddings import EmbeddingStore
from benchmark.pipeline import RankRequest, audit_data, rank_backbones, rebuild_report
from benchmark.pipeline.measurements import Measurement, add_measurement

Make = Callable[..., RankRequest]


@pytest.fixture
def faulty(photos: Path, tmp_path: Path) -> Path:
    """Photographs with a broken file and one that was saved twice."""
    data = Path(shutil.copytree(photos, tmp_path / "walls"))
    (data / "sound" / "broken.png").write_bytes(b"no image")
    with Image.open(data / "sound" / "0-003.png") as image:
        image.save(data / "sound" / "again.bmp")
    return data


def mend(data: Path) -> None:
    (data / "sound" / "broken.png").unlink()
    (data / "sound" / "again.bmp").unlink()


def test_what_was_mended_is_not_listed_any_more(faulty: Path, request_for: Make, tiny: ModuleType) -> None:
    request = request_for(faulty, tiny.tiny_backbone("Tiny8", 8))
    first = rank_backbones(request)
    assert (first.folder / "rejected.csv").exists()
    assert (first.folder / "audit_pairs.png").exists()
    own = first.folder / "plots" / "mine.png"
    own.write_bytes(b"mine")
    for folder in (first.run, first.folder):  # as a version that drew something else left it
        (folder / "plots" / "val_f1_per_epoch_all.png").write_bytes(b"old")
    mend(faulty)
    second = rank_backbones(request)
    assert not (second.folder / "rejected.csv").exists()
    assert not (second.folder / "audit_pairs.png").exists()
    assert {path.name for path in own.parent.iterdir()} == {
        "mine.png",
        *(path.name for path in (second.run / "plots").iterdir()),
    }
    assert not (own.parent / "val_f1_per_epoch_all.png").exists()
    assert (second.folder / "outcomes").is_dir()
    assert (first.run / "rejected.csv").exists(), "an earlier run keeps its own"


def test_a_broken_file_that_goes_changes_the_pages_though_not_the_board(
    faulty: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(faulty, tiny.tiny_backbone("Tiny8", 8))
    assert "broken.png" in (rank_backbones(request).folder / "leaderboard.html").read_text()
    (faulty / "sound" / "broken.png").unlink()
    second = rank_backbones(request)
    assert "broken.png" not in (second.folder / "leaderboard.html").read_text()
    assert not (second.folder / "rejected.csv").exists()
    assert "rejected" not in pd.read_csv(second.folder / "audit_summary.csv").code.tolist()


def test_an_identical_run_leaves_identical_files(photos: Path, request_for: Make, tiny: ModuleType) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    first, second = rank_backbones(request), rank_backbones(request)
    volatile = {"run.log", "run.json"}
    content = [
        {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for run in (first.run, second.run)
    ]
    assert content[0].keys() == content[1].keys()
    assert all(content[0][name] == content[1][name] for name in content[0].keys() - volatile)


def test_a_backbone_that_was_timed_again_has_its_new_latency_in_the_files(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    rank_backbones(request)
    cache = request.options.cache
    (entry,) = EmbeddingStore(cache).entries()
    assert entry.key is not None
    add_measurement(cache, entry.key, Measurement(latency_ms=24.5, images_per_second=50.0))
    ranked = rank_backbones(request)
    assert ranked.board.frame.latency_ms.tolist() == [24.5]
    assert pd.read_csv(ranked.folder / "leaderboard.csv").latency_ms.tolist() == [24.5]


def test_another_question_makes_another_page_though_the_figures_are_the_same(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    """One backbone, no test part: neither what ranks nor what the winner may give away changes a figure."""
    names = sorted(path.as_posix() for path in photos.rglob("*.png"))
    rows = [
        f"{name},{name.split('/')[-2]},{'val' if number % 3 else 'train'}"
        for number, name in enumerate(names)
    ]
    table = tmp_path / "parts.csv"
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    request = request_for(table, tiny.tiny_backbone("Tiny8", 8), groups="none")
    rank_backbones(request)
    folder = rank_backbones(request.but(rank_by="balanced_accuracy")).folder
    assert json.loads((folder / "leaderboard.json").read_text())["metric"] == "balanced_accuracy"
    assert "<dt>ranked by</dt><dd>balanced accuracy" in (folder / "leaderboard.html").read_text()
    rank_backbones(request.but(max_loss=0.05))
    page = (folder / "leaderboard.html").read_text()
    assert "<dt>ranked by</dt><dd>F1" in page
    assert "<dt>a winner may give away</dt><dd>0.05<" in page


def test_a_rebuilt_board_keeps_the_audit(faulty: Path, request_for: Make, tiny: ModuleType) -> None:
    request = request_for(faulty, tiny.tiny_backbone("Tiny8", 8))
    first = rank_backbones(request)
    rebuilt = rebuild_report(
        request.options.data, results=request.options.results, cache=request.options.cache
    )
    for name in ("audit_summary.csv", "audit_pairs.csv", "audit_pairs.png"):
        assert (rebuilt.run / name).read_bytes() == (first.run / name).read_bytes()
        assert (rebuilt.folder / name).exists()


def test_a_later_audit_leaves_nothing_of_an_earlier_one(
    faulty: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(faulty, tiny.tiny_backbone("Tiny8", 8))
    _, folder = audit_data(request.but(groups="auto"))
    (folder / "mine.txt").write_text("mine")
    names = {"audit_summary.csv", "audit_pairs.csv", "mine.txt"}
    gone = {"audit_pairs.png", "groups.png", "rejected.csv"}
    assert {path.name for path in folder.iterdir()} == names | gone
    mend(faulty)
    audit_data(request)
    assert {path.name for path in folder.iterdir()} == names
