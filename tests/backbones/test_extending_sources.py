"""A package of somebody else adds a source: the one of docs/extending.md, installed and ranked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.backbones.own_networks import write_onnx
from tests.pipeline.tiny import draw_photos

DOCS = Path(__file__).parents[2] / "docs"


def installed(site: Path) -> Path:
    """What ``pip install`` leaves of the page's package: one file of code touched, and its pyproject.toml."""
    section = (DOCS / "extending.md").read_text().split("## A source")[1]
    code, project = (
        re.search(pattern, section, re.S)[1]  # type: ignore[index]
        for pattern in (r"```python\n(# toy_source.py\n.*?)```", r"```toml\n(.*?)```")
    )
    facts = site / "backbones_toy-0.1.dist-info"
    facts.mkdir(parents=True)
    (site / "toy_source.py").write_text(code)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: backbones-toy\nVersion: 0.1\n")
    entries = tomllib.loads(project)["project"]["entry-points"]["backbone_benchmark.sources"]
    lines = [f"{name} = {value}\n" for name, value in entries.items()]
    (facts / "entry_points.txt").write_text("".join(["[backbone_benchmark.sources]\n", *lines]))
    return site


def backbones(*words: object, site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_networks_are_listed_and_ranked_beside_others(tmp_path: Path) -> None:
    site = installed(tmp_path / "site")
    listed = backbones("list", "--backbones", "toy:all", "--format", "json", site=site)
    assert listed.returncode == 0, listed.stderr
    assert [(row["name"], row["licence"]) for row in json.loads(listed.stdout)] == [
        ("toy:conv16", "cc0-1.0"),
        ("toy:conv8", "cc0-1.0"),
    ][::-1]
    done = backbones(
        *("rank", draw_photos(tmp_path / "photos", 20), "--backbones", "toy:*,MobileNet_0.25@random"),
        *("--size", 32, "--engine", "openvino", "--jobs", 1, "--groups", "none", "--repeats", 1),
        *("--cache", tmp_path / "cache", "--results", tmp_path / "results", "--format", "json"),
        site=site,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["backbone"]: row for row in json.loads(done.stdout)}
    assert {row["status"] for row in rows.values()} == {"scored"}
    assert rows["toy:conv8"]["source"] == "toy"
    assert rows["toy:conv8"]["engine"] == "openvino"
    assert rows["toy:conv8"]["embedding_dim"] == 8
    assert rows["toy:conv8"]["weights_sha256"] != rows["toy:conv16"]["weights_sha256"]


def test_one_board_of_keras_a_plug_in_and_files_resumes_and_renders(tmp_path: Path) -> None:
    """With a model directory of this program among them: its network before its head, beside its original."""
    site, photos = installed(tmp_path / "site"), draw_photos(tmp_path / "photos", 20)
    places = ("--cache", tmp_path / "cache", "--results", tmp_path / "results")
    how = ("--size", 32, "--jobs", 1, "--groups", "none", "--repeats", 1, "--epochs", 3, *places)

    def done(*words: object) -> subprocess.CompletedProcess[str]:
        answer = backbones(*words, site=site)
        assert answer.returncode == 0, answer.stderr
        return answer

    name, shipped = "MobileNet_0.25@random", tmp_path / "mobilenet"
    done("rank", photos, "--backbones", name, *how)
    done("finetune", photos, "--recipe", "frozen", "--winner", name, *places)
    (folder,) = (tmp_path / "results" / "photos" / "finetune").glob("*/frozen")
    folder.rename(shipped)
    own = f"file:{write_onnx(tmp_path / 'own.onnx')}?mean=0.5,0.5,0.5&std=0.25,0.25,0.25&pretraining=walls"
    names = f"{name},toy:conv8,{own},file:{shipped}"
    rank = ("rank", photos, "--backbones", names, *how, "--format", "json")
    rows = {row["backbone"]: row for row in json.loads(done(*rank).stdout)}
    assert {row["source"]: row["status"] for row in rows.values()} == {
        "keras": "scored",
        "toy": "scored",
        "file": "scored",
    }
    assert rows[f"file:{tmp_path / 'own.onnx'}"]["pretraining"] == "walls"
    original, copy = rows[name], rows[f"file:{shipped}"]
    assert copy["embedding_dim"] == original["embedding_dim"]
    assert copy["val_f1"] == pytest.approx(original["val_f1"], abs=0.05), "the same features, in another way"
    board = tmp_path / "results" / "photos" / "leaderboard.html"
    before = board.read_text()
    again = done(*rank)
    assert {row["backbone"]: row["val_f1"] for row in json.loads(again.stdout)} == {
        name: row["val_f1"] for name, row in rows.items()
    }
    board.unlink()
    done("report", photos, *places)
    for row in rows.values():
        assert row["backbone"] in before
        assert row["backbone"] in board.read_text()
