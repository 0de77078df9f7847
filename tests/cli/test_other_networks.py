"""Networks of other libraries than Keras: shipped frozen with the board's head; what cannot be is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import openvino
import pytest
from command_places import QUICK, Place, Run

from tests.backbones.own_networks import keras_model, write_onnx

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, walls: Path, backbones: Run) -> Place:
    """A board of four files; read only."""
    root = tmp_path_factory.mktemp("own")
    place = Place(root, walls)
    write_onnx(root / "maps.onnx", scale=2.0, pooled=False)
    write_onnx(root / "own.onnx")
    found = openvino.Core().read_model(write_onnx(root / "graph.onnx", scale=3.0))
    openvino.save_model(found, root / "graph.xml", compress_to_fp16=False)
    keras_model(scale=4.0).save(root / "layers.keras")
    settings = "?mean=0.5,0.5,0.5&std=0.25,0.25,0.25&bgr=1"
    names = [f"file:{root}/{file}{settings}" for file in ("own.onnx", "maps.onnx", "graph.xml")]
    names.append(f"file:{root}/layers.keras{settings}&output=pool")
    ranked = backbones(
        *("rank", walls, "--backbones", ",".join(names), "--jobs", 1, "--quiet", *QUICK, *place.folders)
    )
    assert ranked.status == 0, ranked.err
    return place


def row_of(place: Place, backbone: str) -> dict[str, str]:
    with (place.board / "leaderboard.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row["backbone"] == backbone)


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("maps.onnx", "model.onnx"),
        ("layers.keras", "model.onnx"),
        ("graph.xml", "model.xml"),
    ],
)
def test_a_network_is_shipped_with_the_boards_head(own: Place, file: str, model: str, backbones: Run) -> None:
    name = f"file:{own.root}/{file}"
    exported = backbones(
        *("export", "--from-board", own.data, "--backbone", name, "--to", "onnx,openvino,tflite-int8"),
        *("--format", "json", *own.folders),
    )
    assert exported.status == 1, "one of the three is not made of it"
    results = {one["target"]: one for one in exported.rows}
    assert "made of networks of Keras alone" in results["tflite-int8"]["reason"]
    assert "onnx or openvino" in results["tflite-int8"]["reason"]
    assert results["openvino"]["status"] == "passed", results
    assert results["openvino"]["max_difference"] < 1e-4
    wanted = "passed" if model == "model.onnx" else "failed"
    assert results["onnx"]["status"] == wanted, results
    folder = Path(str(results["openvino"]["folder"])).parents[1]
    row = row_of(own, name)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert model in manifest["files"]
    assert manifest["weights_sha256"] == row["weights_sha256"]
    for part in ("val", "test"):
        assert manifest["metrics"][part]["f1"] == pytest.approx(float(row[f"{part}_f1"]), abs=1e-6), part
    for place in (folder, folder / "export" / "openvino"):
        scored = backbones("evaluate", place, own.data, "--format", "json", *own.folders, "--quiet")
        assert scored.status == 0, scored.err
        assert scored.rows[0]["f1"] == pytest.approx(float(row["test_f1"]), abs=2e-3)
    photo = next(own.data.rglob("*.jpg"))
    predicted = backbones("predict", folder, photo, "--format", "json", "--quiet")
    assert predicted.status == 0, predicted.err
    refused = backbones("predict", folder / "export" / "openvino", photo, "--heatmaps", own.root / "maps")
    assert refused.status == 2
    assert "only the Keras model can be explained" in refused.said


def test_training_it_is_refused_with_the_command_that_ships_it(own: Place, backbones: Run) -> None:
    name = f"file:{own.root}/own.onnx"
    refused = backbones("finetune", own.data, "--winner", name, *own.folders, "--quiet")
    assert refused.status == 2
    command = f"backbones export --from-board {own.data} --backbone {name} --to onnx,openvino"
    assert command in refused.said
    shipped = backbones(*command.split()[1:], *own.folders, "--quiet", "--format", "json")
    assert shipped.status == 0, shipped.err
    assert [one["status"] for one in shipped.rows] == ["passed", "passed"]
    again = backbones("finetune", own.data, "--recipe", "frozen", "--winner", name, *own.folders)
    assert again.status == 0, again.err
    assert "Already done" in again.err


def test_a_changed_file_is_no_longer_the_one_on_the_board(own: Place, tmp_path: Path, backbones: Run) -> None:
    """What is shipped is what was ranked: other weights behind the same name are found out."""
    path = write_onnx(tmp_path / "mine.onnx")
    name = f"file:{path}"
    folders = ("--cache", tmp_path / "cache", "--results", tmp_path / "results", "--quiet")
    settings = "?mean=0.5,0.5,0.5&std=0.25,0.25,0.25"
    ranked = backbones("rank", own.data, "--backbones", name + settings, "--jobs", 1, *QUICK, *folders)
    assert ranked.status == 0, ranked.err
    write_onnx(path, scale=-1.0)
    shipped = backbones("export", "--from-board", own.data, "--backbone", name, "--to", "onnx", *folders)
    assert shipped.status != 0
    assert "other weights" in shipped.said
