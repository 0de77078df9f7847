"""Suspicious labels and hard images lie beside the board, with every run and after every report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.backbones import select
from benchmark.data import load_images
from benchmark.options import DataOptions
from benchmark.pipeline import RankRequest, labels, rank_backbones, rebuild_report
from benchmark.pipeline.cosmetics import Cosmetics
from benchmark.pipeline.labels import LABEL_FILES, write_labels
from benchmark.ranking import Suspicion
from benchmark.ranking.suspicion import SuspiciousLabel
from benchmark.records import ImageSet

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRICKS, WEIGHTS = SHARED / "data" / "brick_cracks", SHARED / "weights"
SUSPICIOUS, HARDEST, SHEET = LABEL_FILES
Make = Callable[..., RankRequest]


def test_the_hardest_images_are_listed_by_every_run_and_report(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16))
    first = rank_backbones(request)
    table = pd.read_csv(first.folder / HARDEST)
    assert first.board.winner
    assert table.probability.is_monotonic_increasing
    assert table.path.map(lambda path: (photos / path).is_file()).all()
    assert table.label.tolist() == [Path(path).parts[0] for path in table.path]
    (said,) = [line for line in first.board.statements if line.startswith("Wrong labels: ")]
    assert said.endswith("random weights see too little to find any.")
    assert not (first.folder / SUSPICIOUS).exists()
    for again in (
        rank_backbones(request),
        rebuild_report(photos, results=request.options.results, cache=request.options.cache),
    ):
        assert again.board.statements == first.board.statements
        for name in LABEL_FILES:
            for folder in (again.run, again.folder):
                assert (folder / name).exists() == (first.run / name).exists()
        assert (again.folder / HARDEST).read_bytes() == (first.run / HARDEST).read_bytes()


def test_what_an_earlier_run_suspected_goes(photos: Path, request_for: Make, tiny: ModuleType) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    first = rank_backbones(request)
    assert not (first.run / SUSPICIOUS).exists(), "60 drawings are labelled well"
    for name in (SUSPICIOUS, SHEET):
        (first.folder / name).write_text("of an earlier run")
    second = rank_backbones(request)
    assert not (second.folder / SUSPICIOUS).exists()
    assert not (second.folder / SHEET).exists()


@pytest.fixture
def images(photos: Path, tmp_path: Path) -> ImageSet:
    return load_images(photos, cache=tmp_path / "cache", options=DataOptions(jobs=1))


def suspicion() -> Suspicion:
    suspects = tuple(
        SuspiciousLabel(row=row, label="=cracked", suggested="sound", denied_by=("A", "B"), score=0.9)
        for row in (4, 2)
    )
    return Suspicion(
        suspects=suspects,
        hardest=(),
        denied=2,
        labels=60,
        share=0.03,
        share_low=0.01,
        share_high=0.1,
        backbones=("A", "B"),
    )


def test_a_suspicious_label_is_listed_and_drawn(images: ImageSet, tmp_path: Path) -> None:
    write_labels(suspicion(), images, tmp_path, Cosmetics())
    table = pd.read_csv(tmp_path / SUSPICIOUS)
    assert table.path.tolist() == [images.paths[4], images.paths[2]]
    assert table.label[0] == "'=cracked", "no spreadsheet runs it"
    assert table.denied_by[0] == "A; B"
    with Image.open(tmp_path / SHEET) as sheet:
        assert sheet.width > 2 * 160
        colours = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 50, "pictures, not only words"


def test_a_sheet_that_cannot_be_drawn_is_a_note(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("no font")

    monkeypatch.setattr(labels, "draw_captioned", fail)
    cosmetics = Cosmetics()
    write_labels(suspicion(), images, tmp_path, cosmetics)
    assert cosmetics.notes == [f"{SHEET} could not be made (ValueError: no font); everything else is there."]
    assert (tmp_path / SUSPICIOUS).exists()


@pytest.mark.timeout(600)
@pytest.mark.skipif(not BRICKS.exists() or not WEIGHTS.exists(), reason="the photographs are not here")
def test_flips_planted_in_photographs_are_found_and_without_any_none_stands_out(
    request_for: Make, tmp_path: Path
) -> None:
    data = tmp_path / "bricks"
    shutil.copytree(BRICKS, data, copy_function=shutil.copyfile)
    request = request_for(data, *select("MobileNet_0.25,MobileNetV3Small_0.75"))
    request = request.but(weights=WEIGHTS, size=224, jobs=0)
    request = replace(request, protocol=replace(request.protocol, epochs=20, repeats=2))
    clean = rank_backbones(request)
    assert any("none stands out" in line for line in clean.board.statements)
    assert not (clean.folder / SUSPICIOUS).exists()
    random = np.random.default_rng(0)
    pool = np.concatenate([clean.images.split.train, clean.images.split.val])
    planted = set()
    for row in random.choice(pool, round(0.03 * len(pool)), replace=False).tolist():
        path = Path(clean.images.paths[row])
        other = next(name for name in clean.images.classes if name != path.parts[0])
        # Names that count up would make one group of them, whose denials count as one.
        target = f"{other}/{row:03d}-{path.name}"
        (data / path).rename(data / target)
        planted.add(target)
    found = rank_backbones(request)
    assert found.images_embedded == 0
    split = found.images.split
    validated = {found.images.paths[row] for row in (*split.train, *split.val)}
    wanted = planted & validated
    listed = pd.read_csv(found.folder / SUSPICIOUS).path.tolist()[: len(wanted)]
    assert len(wanted) >= 8
    assert len(wanted & set(listed)) >= 0.7 * len(wanted)
    assert (found.folder / SHEET).exists()
