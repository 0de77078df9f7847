"""Ranking with the picks exported before the choice: ``rank --export-to``."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_places import QUICK, SMALL, Answer, Place, Run
from PIL import Image

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's
]
SHARED = Path(__file__).resolve().parents[3] / "shared"
# What turns every decision round, and what cannot be converted at all.
SPOILING = """
from benchmark.deployment.targets.keras import TARGET as KERAS


class Spoiling(type(KERAS)):
    example = KERAS.example.replace("verbose=0)[0]", "verbose=0)[0][::-1]")

    def load(self, path, threads):
        answers = super().load(path, threads)
        return lambda images: answers(images)[:, ::-1]


class Refusing(type(KERAS)):
    def convert(self, model, images, path):
        raise ValueError("no such operator")


SPOILED, REFUSED = Spoiling(), Refusing()
"""


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that networks with random weights tell apart."""
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "colours"
    for number in range(120):
        pixels = generator.integers(0, 90, (24, 24, 3))
        pixels[..., number % 3] += 70
        path = folder / ("red", "green", "blue")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def exports(place: Place) -> dict[str, tuple[int, int]]:
    """Every exported file: when it was written, and where."""
    found = place.board.glob("finetune/*/frozen/export/*/*")
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def table(place: Place) -> list[dict[str, str]]:
    with (place.board / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def test_random_weights_are_exported_once(tmp_path: Path, colours: Path, backbones: Run) -> None:
    place = Place(tmp_path, colours)
    words = ("rank", place.data, *SMALL, *QUICK, *place.folders, "--jobs", 2)
    plain = backbones(*words, "--format", "json", "--quiet")
    assert plain.status == 0, plain.err
    assert plain.rows[0]["pick"], "there is something to export"
    assert not [name for name in plain.rows[0] if name.startswith("export")]
    bare = (place.board / "leaderboard.csv").read_bytes()
    assert not exports(place)

    answer = backbones(*words, "--export-to", "tflite-float32")
    assert answer.status == 0, answer.err
    (row,) = table(place)
    assert row["export_target"] == "tflite-float32"
    assert row["export_reason"] == ""
    for end in ("", "_low", "_high"):  # float32 changes nothing
        assert float(row[f"export_f1{end}"]) == pytest.approx(float(row[f"val_f1{end}"]), abs=1e-3)
    assert int(row["export_bytes"]) > 100_000
    assert "exported F1" in answer.out
    assert "As tflite-float32, MobileNet_0.25 has F1" in answer.out
    assert "Next: backbones export --from-board" in answer.err + answer.out
    assert "--backbone MobileNet_0.25 --to tflite-float32" in answer.err + answer.out
    for page in ("leaderboard.md", "leaderboard.html"):
        assert "exported F1" in (place.board / page).read_text()
    made, shown = exports(place), (place.board / "leaderboard.csv").read_bytes()
    assert made

    again = backbones(*words, "--export-to", "tflite-float32", "--quiet")
    assert again.status == 0, again.err
    assert exports(place) == made, "a repeat converts nothing"
    assert (place.board / "leaderboard.csv").read_bytes() == shown
    assert backbones("report", place.data, *place.folders, "--quiet").status == 0
    assert (place.board / "leaderboard.csv").read_bytes() == shown, "a rebuilt board keeps it"
    assert backbones(*words, "--quiet").status == 0
    assert (place.board / "leaderboard.csv").read_bytes() == bare, "nobody asked"


@pytest.mark.slow
def test_a_cluster_exports_what_this_machine_would(tmp_path: Path, colours: Path, backbones: Run) -> None:
    pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    words = ("rank", colours, *SMALL, *QUICK, "--export-to", "tflite-float32", "--format", "json", "--quiet")
    rows = {}
    for name, how in {"alone": (), "cluster": ("--cluster", "local:2")}.items():
        place = Place(tmp_path / name, colours)
        answer = backbones(*words, *place.folders, *how)
        assert answer.status == 0, answer.err
        rows[name] = [{key: one[key] for key in one if key.startswith("export")} for one in answer.rows]
        (told,) = place.board.glob("finetune/*/frozen/export/tflite-float32/parity.json")
        assert json.loads(told.read_text())["latency_p50_ms"] > 0
    assert rows["alone"][0]["export_target"] == "tflite-float32"
    assert rows["cluster"] == rows["alone"]


def spoil(
    tmp_path: Path, colours: Path, run: Run, target: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Answer, list[dict[str, str]]]:
    """Rank with a target of another package; the answer, and the table."""
    site = tmp_path / "site"
    facts = site / "spoiling-0.1.dist-info"
    facts.mkdir(parents=True)
    (site / "spoiling.py").write_text(SPOILING)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: spoiling\nVersion: 0.1\n")
    names = "[backbone_benchmark.targets]\nspoiled = spoiling:SPOILED\nrefused = spoiling:REFUSED\n"
    (facts / "entry_points.txt").write_text(names)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    place = Place(tmp_path, colours)
    two = ("--backbones", "MobileNet_0.25,MobileNet_0.5")
    answer = run("rank", colours, *SMALL, *two, *QUICK, *place.folders, "--export-to", target)
    return answer, table(place)


def test_a_pick_that_the_export_ruins_is_said_and_others_are_tried(
    tmp_path: Path, colours: Path, backbones: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, rows = spoil(tmp_path, colours, backbones, "spoiled", monkeypatch)
    assert answer.status == 0, answer.err
    pick = next(row for row in rows if row["pick"])
    assert float(pick["export_f1"]) < float(pick["val_f1"]) - 0.02
    assert "is outside its tolerance" in pick["export_reason"]
    tried = [row for row in rows if row["export_target"]]
    assert len(tried) == sum(row["tie_group"] == "1" or bool(row["pick"]) for row in rows)
    text = " ".join(answer.out.split())
    assert f"Do not ship {pick['backbone']} (" in text
    assert "may be shipped so" in text
    assert "Next: backbones finetune" in answer.out + answer.err, "no export to go on with"
    page = (tmp_path / "results" / colours.name / "leaderboard.html").read_text()
    assert "backbones finetune" in page
    assert "--from-board" not in page, "nor on the page"


def test_an_export_that_cannot_be_made_is_a_reason(
    tmp_path: Path, colours: Path, backbones: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, rows = spoil(tmp_path, colours, backbones, "refused", monkeypatch)
    assert answer.status == 0, answer.err
    pick = next(row for row in rows if row["pick"])
    assert "no such operator" in pick["export_reason"]
    assert pick["export_f1"] == ""
    assert not list(tmp_path.rglob("*.export.json")), "tried again next time"


def test_a_format_that_there_is_not_is_refused_before_any_work(place: Place, backbones: Run) -> None:
    refused = backbones("rank", place.data, *SMALL, *place.folders, "--export-to", "tflite-int9")
    assert refused.status == 2
    assert "tflite-int9" in refused.said
    assert not place.results.exists()
    assert not place.cache.exists()


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no shared photographs and weights")
def test_photographs_as_int8(tmp_path: Path, backbones: Run) -> None:
    place = Place(tmp_path, SHARED / "data" / "brick_cracks")
    options = ("--backbones", "MobileNet_0.25", "--weights", SHARED / "weights", "--repeats", 1, "--quiet")
    answer = backbones("rank", place.data, *options, *place.folders, "--export-to", "tflite-int8")
    assert answer.status == 0, answer.err
    (row,) = table(place)
    low, f1, high = (float(row[f"export_f1{end}"]) for end in ("_low", "", "_high"))
    assert low < f1 < high
    assert f1 == pytest.approx(float(row["val_f1"]), abs=0.05)
    assert f1 != float(row["val_f1"]) or low != float(row["val_f1_low"]), "int8 moves some probabilities"
    assert 200_000 < int(row["export_bytes"]) < int(row["size_bytes"]) * 0.6
