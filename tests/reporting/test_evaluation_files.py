"""What an evaluation leaves behind, and where."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.deployment import Evaluation, Prediction
from benchmark.deployment.description import Deployment
from benchmark.records import Average, Rejected, Resize, Task
from benchmark.reporting import evaluation_folder, write_evaluation
from benchmark.statistics import Abstention, Interval

MODEL = Deployment(
    schema=1,
    target="onnx",
    model="model.onnx",
    backbone="Tiny",
    task=Task.BINARY,
    labels=("=bright", "dark"),
    positive="=bright",
    threshold=0.5,
    input_size=4,
    input_shape=(0, 4, 4, 3),
    input_dtype="uint8",
    input_range=(0.0, 255.0),
    channels="RGB",
    resize=Resize.BILINEAR,
    output_dtype="float32",
    notes=(),
    files={"model.onnx": "ab" * 32, "labels.txt": "c" * 64},
    recipe="two-phase-f1",
)
EVALUATION = Evaluation(
    model=MODEL,
    data_fingerprint="d" * 64,
    metrics={"f1": 0.5, "accuracy": 0.5, "precision": 0.5, "recall": 0.5},
    images=1,
    unreadable=1,
    rejected=(Rejected(path="bad\udcff.png", reason="an empty file"),),
    absent=("dark",),
    threshold=0.5,
    abstention=Abstention(
        sure_from=0.0,
        promised=False,
        answered=Interval(value=1.0, low=0.2, high=1.0),
        error=Interval(value=0.0, low=0.0, high=0.8),
    ),
    unlike=None,
    average=Average.BINARY,
    per_class=({"class": "=bright", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},),
    confusion=np.array([[1, 0], [0, 0]]),
    labels=MODEL.labels,
    rows=(
        Prediction(path="a.png", label="=bright", probabilities=(0.75, 0.25), decided=(True, False)),
        Prediction(path="b.png", error="no such file"),
    ),
    truth=("=bright", "=bright"),
    targets=np.array([[1, 0], [1, 0]], np.float32),
    seen={"training": {"images": 1, "f1": 1.0}},
    includes_seen=False,
    seen_as=("training", ""),
)


def test_every_model_and_threshold_has_its_folder() -> None:
    def name(**changes: object) -> str:
        changed = replace(EVALUATION, model=replace(MODEL, **changes))  # type: ignore[arg-type]
        return evaluation_folder(changed, Path("results/d")).name

    assert evaluation_folder(EVALUATION, Path("results/d")) == Path(
        "results/d/evaluate/Tiny-two-phase-f1-onnx-abababab"
    )
    folders = {
        name(),
        name(recipe="mine"),
        name(target="keras"),
        name(files={"model.onnx": "cd" * 32}),
        evaluation_folder(replace(EVALUATION, threshold=0.3), Path("r")).name,
        evaluation_folder(replace(EVALUATION, includes_seen=True), Path("r")).name,
        evaluation_folder(
            replace(EVALUATION, abstention=replace(EVALUATION.abstention, sure_from=0.9)), Path("r")
        ).name,
    }
    assert len(folders) == 7
    assert "Tiny-two-phase-f1-onnx-abababab-threshold-0.3" in folders


@pytest.mark.parametrize("name", ["ResNet50@/home/me/mine.weights.h5", "../../up", "a\nb", "x" * 300])
def test_names_stay_inside_the_folder(name: str) -> None:
    folder = evaluation_folder(
        replace(EVALUATION, model=replace(MODEL, backbone=name, recipe=name)), Path("r")
    )
    assert folder.parent == Path("r/evaluate")
    assert len(folder.name) < 200
    assert folder.name.isprintable()


def test_a_model_of_several_files_has_one_digest() -> None:
    files = {"model.xml": "a" * 64, "model.bin": "b" * 64, "labels.txt": "c" * 64}
    first = replace(MODEL, model="model.xml", files=files)
    assert first.model_sha256 not in files.values()
    assert first.model_sha256 == replace(first, files=files | {"labels.txt": "e" * 64}).model_sha256
    assert first.model_sha256 != replace(first, files=files | {"model.bin": "e" * 64}).model_sha256


def test_the_files_say_what_was_evaluated(tmp_path: Path) -> None:
    write_evaluation(EVALUATION, tmp_path, model=Path("m/export/onnx"), data=Path("others"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json",
        "per_class.csv",
        "confusion_matrix.csv",
        "predictions.csv",
        "rejected.csv",
    }
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["model"] == {
        "path": "m/export/onnx",
        "backbone": "Tiny",
        "recipe": "two-phase-f1",
        "target": "onnx",
        "sha256": "ab" * 32,
    }
    assert (metrics["threshold"], metrics["average"], metrics["f1"]) == (0.5, "binary", 0.5)
    assert (metrics["seen"], metrics["includes_seen"]) == (EVALUATION.seen, False)
    assert metrics["abstention"]["answered"] == {"value": 1.0, "low": 0.2, "high": 1.0}
    assert (metrics["images"], metrics["unreadable"], metrics["rejected"]) == (1, 1, 1)
    rows = list(csv.reader(io.StringIO((tmp_path / "predictions.csv").read_text())))
    assert rows == [
        ["path", "truth", "label", "doubt", "p_=bright", "p_dark", "seen", "error"],
        ["a.png", "'=bright", "'=bright", "", "0.75", "0.25", "training", ""],
        ["b.png", "'=bright", "", "", "", "", "", "no such file"],
    ]
    assert (tmp_path / "rejected.csv").read_text() == "path,reason\nbad\\udcff.png,an empty file\n"
    write_evaluation(replace(EVALUATION, rejected=()), tmp_path, model=Path("m"), data=Path("d"))
    assert not (tmp_path / "rejected.csv").exists()
