"""Targets as data: those of the package, and one of a package that docs/extending.md shows."""

# ruff: noqa: ANN401 - fixtures of conftest.py, whose types test files cannot import
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.deployment import Target, parse_targets, target_names
from benchmark.deployment.description import read_description
from benchmark.deployment.targets import find_target
from benchmark.errors import ArgumentError, ManifestError

DOCS = Path(__file__).parents[2] / "docs"
OWN = [
    *("keras", "onnx", "openvino", "savedmodel", "tflite-dynamic", "tflite-float16", "tflite-float32"),
    *("tflite-int8", "tflite-integer-only"),
]


def install(site: Path, module: str, code: str, entry_points: dict[str, str]) -> Path:
    """What ``pip install`` leaves of a package with one module."""
    facts = site / f"{module}-0.1.dist-info"
    facts.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
    lines = [f"{name} = {value}\n" for name, value in entry_points.items()]
    (facts / "entry_points.txt").write_text("".join(["[backbone_benchmark.targets]\n", *lines]))
    return site


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of docs/extending.md, installed."""
    text = (DOCS / "extending.md").read_text()
    code, project = (
        re.search(pattern, text, re.S)[1]  # type: ignore[index]
        for pattern in (r"```python\n(# frozen_graph_target.py\n.*?)```", r"```toml\n(.*?)```")
    )
    registered = tomllib.loads(project)["project"]["entry-points"]["backbone_benchmark.targets"]
    return install(tmp_path_factory.mktemp("site"), "frozen_graph_target", code, registered)


def backbones(*words: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **({"PYTHONPATH": str(site)} if site else {})}
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)], env=environment, capture_output=True, text=True
    )


def test_a_package_of_somebody_else_adds_a_target(trained: Any, shown: Path, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("export")
    model = Path(shutil.copytree(trained.model_dir, tmp_path / "model", ignore=ignored))
    assert "frozen-graph" in backbones("export", "--help", site=shown).stdout
    done = backbones(
        *("export", model, "--to", "frozen-graph", "--parity-images", 40, "--format", "json"), site=shown
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["target"], row["status"], row["images"]) == ("frozen-graph", "passed", 40)
    assert row["max_difference"] < 1e-4
    folder = model / "export" / "frozen-graph"
    facts = json.loads((folder / "deployment.json").read_text())
    assert (facts["target"], facts["model"]) == ("frozen-graph", "model.pb")
    photo = trained.data / "crack" / "0000.png"
    example = subprocess.run(
        [sys.executable, folder / "example.py", photo], capture_output=True, text=True, check=True
    )
    predicted = backbones("predict", folder, photo, "--format", "json", site=shown)
    (one,) = json.loads(predicted.stdout)
    assert example.stdout.split()[1] == one["label"] == "crack"
    assert float(example.stdout.split()[2]) == pytest.approx(one["p_crack"], abs=1e-4)
    scored = backbones(
        *("evaluate", folder, trained.data, "--include-seen", "--format", "json"),
        *("--results", tmp_path / "results", "--cache", tmp_path / "cache"),
        site=shown,
    )
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)[0]["f1"] > 0.9
    gone = backbones("predict", folder, photo)
    assert gone.returncode == 2
    assert "Install the package that registers it" in gone.stderr
    with pytest.raises(ManifestError, match="not installed here"):
        read_description(folder)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_this_name", "cannot be imported.*nothing_of_this_name"),
        ("OTHER = 1", "cannot be imported.*TARGET"),
        (
            "class TARGET:\n    file = 'model.x'\n    def convert(self): ...",
            "no about, batch, example, load, requires",
        ),
    ],
)
def test_an_unusable_target_is_named_and_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, "broken_target", code, {"broken": "broken_target:TARGET"}))
    monkeypatch.delitem(sys.modules, "broken_target", raising=False)
    assert target_names() == (*OWN, "broken")
    assert parse_targets("onnx, tflite-int8") == ("onnx", "tflite-int8")
    with pytest.raises(ArgumentError, match=said):
        parse_targets("broken")


def test_names_of_the_package_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, "other_onnx", "TARGET = 1", {"onnx": "other_onnx:TARGET"}))
    assert target_names() == tuple(OWN)
    assert find_target("onnx").file == "model.onnx"


@pytest.mark.parametrize("name", OWN)
def test_the_targets_of_the_package_are_whole(name: str) -> None:
    target = find_target(name)
    assert isinstance(target, Target)
    assert re.search(r"^def run\(pixels\):$", target.example, re.M)
    assert np.isfinite([getattr(target.tolerance, field) for field in target.tolerance.__slots__]).all()


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ArgumentError, match="Did you mean tflite-integer-only"):
        find_target("tflite-integer")


def rows_of_the_docs(name: str) -> str:
    """What docs/deployment.md says of a target, as Markdown."""
    target, size = find_target(name), {0: "any number", 1: "one image"}
    held = target.tolerance
    bounds = [
        "-" if held.max_difference == 1 else f"{held.max_difference:g}",
        f"{held.mean_difference:g}",
        "all" if held.label_agreement == 1 else f"{held.label_agreement:.0%}",
        f"{held.f1_loss:g}",
    ]
    facts = [f"`{name}`", f"`{target.file}`", target.about, f"`{target.runtime}`", size[target.batch]]
    return f"| {' | '.join([*facts, *bounds])} |"


def test_the_docs_list_what_there_is() -> None:
    text = (DOCS / "deployment.md").read_text()
    wanted = "\n".join(map(rows_of_the_docs, OWN))
    assert wanted in text, f"docs/deployment.md should say\n{wanted}"
