"""timm's networks on boards beside others, and what they are shipped as. Skipped where PyTorch is absent."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.backbones.own_networks import write_onnx
from tests.backbones.test_extending_sources import backbones, installed
from tests.pipeline.tiny import draw_photos

pytest.importorskip("timm", reason="timm is not installed: pip install backbone-benchmark[timm]")
pytest.importorskip("torch", reason="PyTorch is not installed")

CONVOLUTIONS = "timm:mobilenetv3_small_050.lamb_in1k"
ATTENTION = "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
QUICK = ("--jobs", 1, "--groups", "none", "--repeats", 1, "--epochs", 3)


class Desk:
    """Folders of their own, and commands that have to succeed in them."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.photos, self.site = photos, installed(folder / "site")
        self._places = ("--cache", folder / "cache", "--results", folder / "results")
        self.board = folder / "results" / photos.name

    def __call__(self, *words: object, places: bool = True) -> list[dict[str, object]]:
        done = backbones(
            *words, *(self._places if places else ()), "--format", "json", "--quiet", site=self.site
        )
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found

    def shipped(self, name: str, file: str) -> None:
        """A network of the board, exported: its scores are the board's, whatever runs it."""
        rows = self("export", "--from-board", self.photos, "--backbone", name, "--to", "onnx,openvino")
        assert [(one["target"], one["status"]) for one in rows] == [
            ("onnx", "passed"),
            ("openvino", "passed"),
        ]
        assert all(float(str(one["max_difference"])) < 1e-3 for one in rows)
        folder = Path(str(rows[0]["folder"])).parents[1]
        assert (folder / file).is_file()
        with (self.board / "leaderboard.csv").open() as lines:
            row = next(one for one in csv.DictReader(lines) if one["backbone"] == name)
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["weights_sha256"] == row["weights_sha256"]
        assert manifest["metrics"]["test"]["f1"] == pytest.approx(float(row["test_f1"]), abs=0.02)
        for place in (folder, folder / "export" / "onnx"):
            (whole, *_) = self("evaluate", place, self.photos)
            assert whole["f1"] == pytest.approx(float(row["test_f1"]), abs=0.02)
        predicted = self("predict", folder, next(self.photos.glob("*/*.png")), places=False)
        assert len(predicted) == 1


def test_all_sources_on_one_board_and_convolutions_shipped(tmp_path: Path) -> None:
    desk = Desk(tmp_path, draw_photos(tmp_path / "photos", 20))
    own = f"file:{write_onnx(tmp_path / 'own.onnx')}?mean=0.5,0.5,0.5&std=0.25,0.25,0.25"
    names = f"MobileNet_0.25@random,{CONVOLUTIONS}@random,toy:conv8,{own}"
    rank = ("rank", desk.photos, "--backbones", names, "--size", 64, *QUICK)
    rows = desk(*rank)
    assert {row["source"]: row["status"] for row in rows} == dict.fromkeys(
        ("keras", "timm", "toy", "file"), "scored"
    )
    assert [row["val_f1"] for row in desk(*rank)] == [row["val_f1"] for row in rows], "resumed"
    assert f"{CONVOLUTIONS}@random" in (desk.board / "leaderboard.html").read_text()
    desk.shipped(f"{CONVOLUTIONS}@random", "model.onnx")


def test_attention_on_three_classes_is_shipped(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(60):
        pixels = generator.integers(0, 90, (24, 24, 3))
        pixels[..., number % 3] += 70
        path = tmp_path / "colours" / ("red", "green", "blue")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    desk = Desk(tmp_path, tmp_path / "colours")
    desk("rank", desk.photos, "--backbones", f"{ATTENTION}@random", *QUICK)
    desk.shipped(f"{ATTENTION}@random", "model.onnx")


def test_tensorflow_may_be_there_first(tmp_path: Path) -> None:
    """Triton, which PyTorch brings along, ends a process that has loaded TensorFlow."""
    code = (
        "import tensorflow, sys; from pathlib import Path; from benchmark.backbones import *; "
        f"found = load_network(select('{CONVOLUTIONS}')[0], parse_weights('random'), 64, cache=Path('.'));"
        "import torchvision; print(len(found.weights_sha256))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "64\n"), done.stderr
