from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmark.errors import ManifestError
from benchmark.finetuning import load_manifest
from benchmark.finetuning.manifest import write_manifest
from benchmark.records import Average, Task
from benchmark.storage import sha256_bytes
from tests.manifests import a_manifest

GOOD = a_manifest(
    data="/data/猫",
    metrics={"val": {"f1": 0.9}},
    versions={"keras": "3"},
    files={"model.keras": sha256_bytes(b"model")},
    average=Average.MICRO,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.keras").write_bytes(b"model")
    write_manifest(tmp_path, GOOD)
    return tmp_path


def test_round_trip(folder: Path) -> None:
    assert load_manifest(folder) == GOOD


def test_a_copied_model_directory_is_as_good(folder: Path, tmp_path: Path) -> None:
    assert load_manifest(shutil.copytree(folder, tmp_path / "copy")) == GOOD


def change(path: Path, edit: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(schema=2), "another version.*schema 1.*got 2"),
        (lambda c: c.pop("threshold"), "threshold"),
        (lambda c: c.update(threshold="0.5"), "threshold.*valid number"),
        (lambda c: c.update(threshold=float("nan")), "threshold"),
        (lambda c: c.update(extra=1), "unknown keys.*extra"),
        (lambda c: c.update(task="detect"), "task"),
        (lambda c: c.update(average="median"), "average.*'binary'"),
        (lambda c: c.update(classes=["a", "a"]), "classes"),
        (lambda c: c.update(classes=[]), "classes"),
        (lambda c: c.update(positive=None), "positive"),
        (lambda c: c.update(positive=2), "positive"),
        (lambda c: c.update(input_size=0), "input_size"),
        (lambda c: c.update(data_fingerprint="1"), "data_fingerprint"),
        (lambda c: c.update(files={}), "files"),
        (lambda c: c["files"].update({"../model.keras": "0"}), "files"),
        (lambda c: c["files"].update({"labels.txt": "0" * 64}), "missing"),
        (lambda c: c["files"].update({"model.keras": "0" * 64}), "not the one that the manifest lists"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, edit: Callable[[dict], object], message: str) -> None:
    change(folder / "manifest.json", edit)
    with pytest.raises(ManifestError, match=message) as raised:
        load_manifest(folder)
    assert str(folder) in str(raised.value)
    assert raised.value.exit_status == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 1, "data": "\\udcff"}', b"[]", b"null", b"\xff\xfe", b'{"schema": 1}']
)
def test_content_that_is_no_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError):
        load_manifest(folder)


def test_a_manifest_that_does_not_name_the_average_is_good(folder: Path) -> None:
    change(folder / "manifest.json", lambda content: content.pop("average"))
    assert load_manifest(folder) == replace(GOOD, average=None)


def test_no_model_directory(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a finished model directory"):
        load_manifest(tmp_path)


def test_files_can_be_left_unverified(folder: Path) -> None:
    (folder / "model.keras").write_bytes(b"other")
    assert load_manifest(folder, verify=False) == GOOD


def test_more_classes_have_no_positive_one(folder: Path) -> None:
    many = replace(GOOD, task=Task.MULTICLASS, classes=("a", "b", "c"), positive=None)
    write_manifest(folder, many)
    assert load_manifest(folder) == many
    assert asdict(many)["task"] == "multiclass"
