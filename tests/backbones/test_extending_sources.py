"""A package of somebody else adds a source: the one of docs/extending.md, installed and ranked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmark.backbones import select
from benchmark.data import load_images
from benchmark.pipeline.seen import about_seen
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
    board, name = tmp_path / "results" / "photos" / "leaderboard.html", "MobileNet_0.25@random"
    own = f"file:{write_onnx(tmp_path / 'own.onnx')}?mean=0.5,0.5,0.5&std=0.25,0.25,0.25&pretraining=walls"

    def done(*words: object) -> str:
        answer = backbones(*words, site=site)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def ranked(*names: str) -> dict[str, dict[str, Any]]:
        rows = json.loads(done("rank", photos, "--backbones", ",".join(names), *how, "--format", "json"))
        return {row["backbone"]: row for row in rows}

    first = ranked(name, "toy:conv8", own)
    assert {row["source"]: row["status"] for row in first.values()} == dict.fromkeys(
        ("keras", "toy", "file"), "scored"
    )
    assert first[f"file:{tmp_path / 'own.onnx'}"]["pretraining"] == "walls"
    done("finetune", photos, "--recipe", "frozen", "--winner", name, *places)
    (shipped,) = board.parent.glob("finetune/*/frozen")
    rows = ranked(name, "toy:conv8", own, f"file:{shipped}")
    assert {key: rows[key]["val_f1"] for key in first} == {key: row["val_f1"] for key, row in first.items()}
    original, copy = rows[name], rows[f"file:{shipped}"]
    assert copy["embedding_dim"] == original["embedding_dim"]
    assert copy["val_f1"] == pytest.approx(original["val_f1"], abs=0.05), "the same features, in another way"
    board.unlink()
    done("report", photos, *places)
    assert all(key in board.read_text() for key in rows)
    check_what_it_has_seen(shipped, photos, own)


def check_what_it_has_seen(shipped: Path, photos: Path, own: str) -> None:
    """A network that was trained on the images it is ranked on is said to be."""
    images = load_images(photos, cache=photos.parent / "cache")
    networks = select(f"{own},file:{shipped}")
    assert not list(about_seen(networks, images)), "its backbone was not trained"
    run = json.loads((shipped / "run.json").read_text())
    run["phases"]["phase2"], run["kept"] = run["phases"]["before"], "phase2"
    (shipped / "run.json").write_text(json.dumps(run))
    (note,) = about_seen(networks, images)
    assert f"file:{shipped} was fine-tuned with 32 of these 40 images" in note
