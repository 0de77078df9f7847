"""The baselines beside a board: pixels are looked at once, what fails is told in the table."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from benchmark.audit import audit
from benchmark.data import load_images
from benchmark.execution import LocalRunner
from benchmark.execution.runner import Result, dead
from benchmark.pipeline import Ranked, RankRequest, baselines, rank_backbones, rebuild_report
from benchmark.pipeline.baselines import are_settled, baseline_tables
from benchmark.pipeline.heads import HeadJob
from benchmark.ranking import SanityRow
from benchmark.records import HeadProtocol, ImageSet, Leaderboard

Make = Callable[..., RankRequest]


@pytest.fixture
def job(photos: Path, tmp_path: Path) -> HeadJob:
    cache = tmp_path / "cache"
    images = load_images(photos, cache=cache)
    audit(images, cache=cache)
    return HeadJob(
        images=images,
        protocol=HeadProtocol(repeats=1),
        cache=cache,
        folder=tmp_path / "outcomes",
        runner=LocalRunner(1),  # what a test changes in this process holds for its tasks
    )


class Dying:
    """A runner whose processes die."""

    is_local = True

    def run(self, *_: object, **__: object) -> Iterator[tuple[int, Result]]:
        yield 0, dead()


def colour_row(job: HeadJob) -> dict[str, Any]:
    (row,) = [row for row in baseline_tables(job, {}, {}).methods if row["baseline"] == "colour_histogram"]
    return row


def moved(images: ImageSet, root: Path) -> ImageSet:
    return replace(images, root=root)


def test_colours_that_the_audit_saw_are_enough_for_any_seed_and_protocol(
    job: HeadJob, tmp_path: Path
) -> None:
    gone = replace(job, images=moved(job.images, tmp_path / "gone"))
    first = colour_row(gone)
    assert math.isfinite(first["val_f1"])
    assert first["note"] == ""
    other = replace(gone, protocol=replace(gone.protocol, seed=3, repeats=2))
    assert math.isfinite(colour_row(other)["val_f1"])
    assert str(colour_row(gone)) == str(first)


def test_what_is_stored_is_not_computed_again(job: HeadJob, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not are_settled(job, None)
    first = colour_row(job)
    assert are_settled(job, None)
    monkeypatch.setattr(baselines, "sanity_rows", None)
    assert str(colour_row(job)) == str(first)


def test_images_that_went_away_are_counted_and_asked_for_again(job: HeadJob, tmp_path: Path) -> None:
    shutil.rmtree(job.cache / "audit")
    copy = Path(shutil.copytree(job.images.root, tmp_path / "copy"))
    images = moved(job.images, copy)
    (copy / images.paths[0]).rename(tmp_path / "away.png")
    partly = colour_row(replace(job, images=images))
    assert partly["note"] == "1 image could not be read again"
    assert math.isfinite(partly["val_f1"])
    assert not are_settled(job, None), "next time it may be there"
    (tmp_path / "away.png").rename(copy / images.paths[0])
    assert colour_row(replace(job, images=images))["note"] == ""


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd\nimage"), OSError(5, "input/output")])
def test_no_error_of_the_histograms_ends_the_run(
    job: HeadJob, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(baselines, "colour_histograms", fail)
    rows = {row["baseline"]: row for row in baseline_tables(job, {}, {}).methods}
    assert type(error).__name__ in rows["colour_histogram"]["note"]
    assert "\n" not in rows["colour_histogram"]["note"]
    assert math.isnan(rows["colour_histogram"]["val_f1"])
    assert math.isfinite(rows["majority"]["val_f1"])
    assert not are_settled(job, None)


def test_what_scores_like_a_guess_is_no_shortcut(job: HeadJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant answers beat backbones at chance in F1, and tell nothing of the classes."""
    scores = {"majority": 0.671, "colour_histogram": 0.958, "image_size": 0.671, "file_size": math.nan}
    rows = tuple(SanityRow(baseline=name, val_f1=f1, test_f1=f1) for name, f1 in scores.items())
    monkeypatch.setattr(baselines, "_sanity", lambda *_: rows)
    row = {"rank": 1, "val_f1": 0.549, "val_f1_low": 0.496, "val_f1_high": 0.604}
    board = Leaderboard(
        columns=tuple(row), rows=(row,), winner=None, loss_bound=math.nan, statements=(), notes=()
    )
    (note,) = baselines.shortcut_notes(job, board, None)
    assert note.startswith("SHORTCUT: colours alone reach F1 0.958")


def test_shortcuts_are_compared_with_the_highest_f1_whatever_ranks(
    job: HeadJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple(
        SanityRow(baseline=name, val_f1=f1, test_f1=f1)
        for name, f1 in {"majority": 0.5, "colour_histogram": 0.8, "file_size": 0.88}.items()
    )
    monkeypatch.setattr(baselines, "_sanity", lambda *_: rows)
    first = {"rank": 1, "val_f1": 0.80, "val_f1_low": 0.75, "val_f1_high": 0.85}
    other = {"rank": 2, "val_f1": 0.90, "val_f1_low": 0.85, "val_f1_high": 0.95}
    board = Leaderboard(
        columns=tuple(first), rows=(first, other), winner="A", loss_bound=0.1, statements=(), notes=()
    )
    (note,) = baselines.shortcut_notes(job, board, None)
    assert "file sizes alone reach F1 0.880, as much as the best backbone (0.900 [0.850, 0.950])" in note


def test_a_process_that_dies_is_a_note(job: HeadJob) -> None:
    job = replace(job, runner=Dying())  # type: ignore[arg-type]
    assert "died" in colour_row(job)["note"]


def test_every_backbone_has_its_scores_beside_the_board(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    backbones = [tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)]
    request = request_for(photos, *backbones, tiny.tiny_backbone("Broken", build=tiny.explode))
    ranked: Ranked = rank_backbones(request)
    table = pd.read_csv(ranked.folder / "baseline_scores.csv")
    scored = ranked.board.frame.query("status == 'scored'")
    assert table.backbone.tolist() == scored.backbone.tolist(), "in the order of the board"
    assert table.val_f1.tolist() == scored.val_f1.tolist()
    assert table[["params", "knn_f1", "logme", "h_score"]].notna().all(axis=None)
    page = (ranked.folder / "leaderboard.html").read_text()
    assert "baseline_scores.csv" in page
    assert "logistic_regression_cv" in page
    methods = pd.read_csv(ranked.folder / "baselines.csv", index_col="baseline")
    reference = methods.loc["logistic_regression_cv"]
    assert methods.query("kind == 'selection'").compared_with.eq("test part").all()
    assert table.fresh_f1.tolist() == scored.test_f1.tolist()
    assert (reference.kind, reference.note) == ("reference", f"on {scored.backbone.iloc[0]}")
    assert 0 < reference.val_f1 <= 1
    assert 0 < reference.test_f1 <= 1
    names = ("baselines.csv", "baseline_scores.csv")
    first = {name: (ranked.folder / name).read_bytes() for name in names}
    again = rebuild_report(request.options.data, results=request.options.results, cache=request.options.cache)
    assert {name: (again.run / name).read_bytes() for name in names} == first


def test_without_a_test_part_rules_are_compared_with_other_folds(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    for path in sorted(photos.rglob("*.png")):
        part = (
            tmp_path
            / "parts"
            / ("val" if path.stem.endswith(("0", "1", "2")) else "train")
            / path.parent.name
        )
        part.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, part / path.name)
    backbones = [tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)]
    request = request_for(tmp_path / "parts", *backbones)
    ranked = rank_backbones(request)
    methods = pd.read_csv(ranked.folder / "baselines.csv", index_col="baseline")
    assert methods.query("kind == 'selection'").compared_with.eq("other folds").all()
    assert methods.loc["heads", "backbones"] == 2
    scores = pd.read_csv(ranked.folder / "baseline_scores.csv")
    assert scores.fresh_f1.between(0, 1).all()
    again = rebuild_report(request.options.data, results=request.options.results, cache=request.options.cache)
    assert (again.run / "baselines.csv").read_bytes() == (ranked.folder / "baselines.csv").read_bytes()


def test_embeddings_that_were_cleaned_away_cost_the_reference_and_nothing_else(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    folder = rank_backbones(request).folder
    for path in (*folder.glob("outcomes/sanity-*.json"), *request.options.cache.glob("Tiny8-*/*")):
        path.unlink()
    rebuild_report(photos, results=request.options.results, cache=request.options.cache)
    methods = pd.read_csv(folder / "baselines.csv", index_col="baseline")
    assert "no longer cached" in methods.loc["logistic_regression_cv", "note"]
    assert math.isfinite(methods.loc["colour_histogram", "val_f1"])
    assert not list(folder.glob("outcomes/sanity-*.json")), "next time they may be there"


def test_of_several_fine_tuned_models_validation_chooses_and_the_test_part_tells(
    job: HeadJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipe: validation F1, test F1."""
    f1 = {"a": (0.9, 0.7), "b": (0.8, 0.95), "c": (0.9, 0.99)}
    for recipe in f1:
        folder = job.folder.parent / "finetune" / "Tiny8" / recipe
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()

    def manifest(folder: Path) -> SimpleNamespace:
        val, test = f1[folder.name]
        metrics = {"val": {"f1": val}, "test": {"f1": test}}
        return SimpleNamespace(backbone="Tiny8", data_fingerprint=job.images.fingerprint(), metrics=metrics)

    monkeypatch.setattr(baselines, "load_manifest", manifest)
    assert baselines.fine_tuned(job) == {"Tiny8": 0.7}
