"""``export``, ``predict`` and ``evaluate`` of a tiny model, through the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_places import Answer, Run
from PIL import Image

from benchmark.cli.model_commands import _explain
from benchmark.cli.observer import make_observer
from benchmark.deployment import Prediction, open_explainer
from benchmark.options import PredictOptions
from benchmark.storage import sha256_bytes, sha256_file
from tests.manifests import a_manifest

SIDE = 16
TINY_EXPORT = ("--parity-images", 3, "--timeout", 300)


def save(path: Path, level: int) -> Path:
    """A grey picture of its own content, named as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIDE, SIDE, 3), level, np.uint8)
    pixels[0, 0] = np.frombuffer(bytes.fromhex(sha256_bytes(os.fsencode(path))[:6]), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def photos(root: Path, counts: dict[str, int]) -> Path:
    for label, count in counts.items():
        for number in range(count):
            save(root / label / f"{number}.png", 230 if label == "bright" else 20)
    return root


def write_model(model_dir: Path, data: Path) -> None:
    """A network that answers with the brightness of an image."""
    import keras

    images = keras.Input((SIDE, SIDE, 3))
    grey = keras.layers.Conv2D(1, 1, kernel_initializer="ones", use_bias=False)
    mean = keras.layers.GlobalAveragePooling2D()(grey(keras.layers.Rescaling(1 / 765)(images)))
    steep = keras.layers.Dense(
        1,
        "sigmoid",
        kernel_initializer=keras.initializers.Constant(8.0),
        bias_initializer=keras.initializers.Constant(-4.0),
    )
    model = keras.Model(images, steep(mean))
    model_dir.mkdir(parents=True)
    with warnings.catch_warnings():
        # Keras 3.15 reads TensorFlow's variables with np.array, which NumPy 2 tells TensorFlow about.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept", DeprecationWarning)
        model.save(model_dir / "model.keras")
    _describe(model_dir, data)


def _describe(model_dir: Path, data: Path) -> None:
    from benchmark.finetuning.manifest import write_manifest

    listed = [(path, sha256_bytes(path.read_bytes())) for path in sorted(data.rglob("*.png"))]
    for name, part in (("training", listed[::2]), ("validation", listed[1::2])):
        beginnings = sorted(bytes.fromhex(image_id)[:8] for _, image_id in part)
        (model_dir / f"{name}_images.ids").write_bytes(b"".join(beginnings))
    with (model_dir / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "image_id", "label", "part"])
        for number, (path, image_id) in enumerate(listed):
            part = "val" if number % 2 else "train"
            writer.writerow([path.relative_to(data).as_posix(), image_id, path.parent.name, part])
    names = ("model.keras", "split.csv", "training_images.ids", "validation_images.ids")
    manifest = a_manifest(
        classes=("bright", "dark"),
        input_size=SIDE,
        preprocessing="identity",
        data=str(data),
        files={name: sha256_file(model_dir / name) for name in names},
    )
    write_manifest(model_dir, manifest)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, backbones: Run) -> Path:
    """``model/`` with an ONNX export, and the ``photos/`` that it was trained on; read only."""
    root = tmp_path_factory.mktemp("models")
    photos(root / "photos", {"bright": 8, "dark": 8})
    write_model(root / "model", root / "photos")
    answer = backbones("export", root / "model", "--to", "onnx", *TINY_EXPORT, "--quiet", "--format", "json")
    assert answer.status == 0, answer.out + answer.err
    assert answer.rows[0]["images"] == 3
    return root


@pytest.fixture
def model(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, to do anything with."""
    return Path(shutil.copytree(shelf / "model", tmp_path / "model"))


@pytest.fixture
def evaluate(backbones: Run, tmp_path: Path) -> Callable[..., Answer]:
    folders = ("--cache", tmp_path / "cache", "--results", tmp_path / "results")

    def run(model: Path, data: Path, *words: object) -> Answer:
        return backbones("evaluate", model, data, *words, *folders, "--quiet", "--format", "json")

    return run


def the_folder(answer: Answer) -> Path:
    return Path(answer.said.removeprefix("Written to "))


def read_metrics(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((the_folder(answer) / "metrics.json").read_text())
    return found


# evaluate -------------------------------------------------------------------------------------------


def test_evaluations_of_other_models_stand_side_by_side(
    evaluate: Callable[..., Answer], model: Path, tmp_path: Path
) -> None:
    data = photos(tmp_path / "others", {"bright": 2, "dark": 40})
    runs = {
        "keras": evaluate(model, data),
        "onnx": evaluate(model / "export" / "onnx", data),
        "strict": evaluate(model, data, "--threshold", 0.01),
    }
    assert [answer.status for answer in runs.values()] == [0, 0, 0], [answer.err for answer in runs.values()]
    assert len({the_folder(answer) for answer in runs.values()}) == 3
    digest = sha256_file(model / "model.keras")
    assert the_folder(runs["keras"]).name == f"Tiny-two-phase-f1-keras-{digest[:8]}"
    metrics = {name: read_metrics(answer) for name, answer in runs.items()}
    assert metrics["keras"]["model"] == {
        "path": str(model),
        "backbone": "Tiny",
        "recipe": "two-phase-f1",
        "target": "keras",
        "sha256": digest,
    }
    assert metrics["onnx"]["model"]["sha256"] == sha256_file(model / "export" / "onnx" / "model.onnx")
    assert metrics["onnx"]["model"]["target"] == "onnx"
    assert metrics["keras"]["average"] == "binary"
    assert [found["threshold"] for found in metrics.values()] == [0.5, 0.5, 0.01]
    assert [found["f1"] for found in metrics.values()] == [1.0, 1.0, pytest.approx(4 / 44)]
    assert metrics["keras"]["data"] == str(data)


def test_what_was_left_out_is_counted_and_listed(
    evaluate: Callable[..., Answer], shelf: Path, tmp_path: Path
) -> None:
    data = photos(tmp_path / "others", {"bright": 2})
    (data / "bright" / "page.jpg").write_text("<html>")
    answer = evaluate(shelf / "model", data)
    assert answer.status == 0, answer.err
    whole, bright, dark = answer.rows
    assert (whole["images"], whole["rejected"], whole["unreadable"]) == (2, 1, 0)
    assert (bright["images"], dark["images"]) == (2, 0)
    assert "1 of 3 files left out (1 .jpg: not a JPEG" in answer.err
    assert "No image of dark" in answer.err
    folder = the_folder(answer)
    assert "bright/page.jpg" in (folder / "rejected.csv").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "predictions.csv").read_text())))
    assert list(rows[0]) == ["path", "truth", "label", "doubt", "p_bright", "p_dark", "seen", "error"]
    assert float(rows[0]["p_bright"]) + float(rows[0]["p_dark"]) == pytest.approx(1)
    assert read_metrics(answer)["absent_classes"] == ["dark"]
    (data / "bright" / "page.jpg").unlink()
    assert evaluate(shelf / "model", data).status == 0
    assert not (folder / "rejected.csv").exists()


def test_a_lone_test_part_and_unknown_classes(
    evaluate: Callable[..., Answer], shelf: Path, tmp_path: Path
) -> None:
    photos(tmp_path / "others" / "test", {"bright": 2, "dark": 2})
    assert evaluate(shelf / "model", tmp_path / "others").rows[0]["images"] == 4
    answer = evaluate(shelf / "model", photos(tmp_path / "more", {"bright": 2, "dim": 2}))
    assert answer.status == 2
    assert "expected bright, dark; got dim" in answer.said


@pytest.mark.parametrize("format_of", ["keras", "onnx"])
def test_seen_images_are_named_and_scored_apart(
    evaluate: Callable[..., Answer], shelf: Path, tmp_path: Path, format_of: str
) -> None:
    # The export tells it, too, when it has left its model folder.
    export = shutil.copytree(shelf / "model" / "export" / "onnx", tmp_path / "moved")
    model = shelf / "model" if format_of == "keras" else export
    data = Path(shutil.copytree(shelf / "photos", tmp_path / "others"))
    refused = evaluate(model, data)
    assert refused.status == 2
    assert "the model has seen every one of these images" in refused.said
    assert "got 8 that it was fitted to and 8 that chose its epoch and threshold" in refused.said
    asked = evaluate(model, data, "--include-seen")
    assert (asked.status, asked.rows[0]["images"], asked.rows[0]["f1"]) == (0, 16, 1.0)
    assert "8 images are ones that the model was trained on: F1 1.0000 on them, in the scores" in asked.err

    save(data / "dark" / "new.png", 255)  # a new one, and wrong
    (data / "bright" / "0.png").rename(data / "bright" / "renamed.png")
    answer = evaluate(model, data)
    assert (answer.rows[0]["images"], answer.rows[0]["accuracy"]) == (1, 0.0)
    assert "8 images are ones that the model was trained on: F1 1.0000 on them, not in the" in answer.err
    assert the_folder(answer) != the_folder(asked)
    metrics = read_metrics(answer)
    assert (metrics["images"], metrics["accuracy"], metrics["includes_seen"]) == (1, 0.0, False)
    assert {part: (found["images"], found["f1"]) for part, found in metrics["seen"].items()} == {
        "training": (8, 1.0),
        "validation": (8, 1.0),
    }
    rows = list(csv.DictReader(io.StringIO((the_folder(answer) / "predictions.csv").read_text())))
    seen = {Path(row["path"]).relative_to(data).as_posix(): row["seen"] for row in rows}
    assert (seen["bright/renamed.png"], seen["bright/1.png"], seen["dark/new.png"]) == (
        "training",
        "validation",
        "",
    )


def test_a_model_that_does_not_say_what_it_has_seen(
    evaluate: Callable[..., Answer], model: Path, shelf: Path
) -> None:
    manifest = json.loads((model / "manifest.json").read_text())
    for file in model.glob("*.ids"):
        del manifest["files"][file.name]
        file.unlink()
    (model / "manifest.json").write_text(json.dumps(manifest))
    answer = evaluate(model, shelf / "photos")
    assert (answer.status, answer.rows[0]["images"]) == (0, 16)
    assert "does not say which images it was trained on" in answer.err
    assert read_metrics(answer)["seen"] is None


def test_evaluate_takes_nothing_that_it_would_ignore(evaluate: Callable[..., Answer], shelf: Path) -> None:
    for words in (("--groups", "auto"), ("--positive", "dark"), ("--threshold", "2")):
        answer = evaluate(shelf / "model", shelf / "photos", *words)
        assert answer.status == 2
        assert words[0] in answer.said


# predict --------------------------------------------------------------------------------------------


def test_what_is_said_stands_on_a_page(
    backbones: Run, evaluate: Callable[..., Answer], shelf: Path, tmp_path: Path
) -> None:
    data = photos(tmp_path / "others", {"bright": 3, "dark": 2})
    save(data / "dark" / "not really.png", 240)
    for model in (shelf / "model", shelf / "model" / "export" / "onnx"):
        page = (the_folder(evaluate(model, data)) / "report.html").read_text()
        assert "dark/not really.png" in page, "the mistake"
        heat = page.count('alt="what the answer rests on"')
        assert heat == (model.name == "model"), "TensorFlow explains, and is not loaded for others"
        assert ("Heat maps need the Keras model" in page) is not heat
    file = tmp_path / "pages" / "said.html"
    (data / "gone.jpg").write_text("no image")
    words = ("--page", file, "--sure-from", 0.999, "--format", "json", "--quiet")
    answer = backbones("predict", shelf / "model", data, *words)
    assert answer.status == 0, answer.err
    assert len(answer.rows) == 7
    assert f"Written to {file}" in answer.err
    page = file.read_text()
    assert page.count("<figure") == 6
    assert "gone.jpg" in page.split("Not read")[1]
    (tmp_path / "full").write_text("a file where the folder should be")
    answer = backbones("predict", shelf / "model", data, "--page", tmp_path / "full" / "x.html", "--quiet")
    assert answer.status == 1
    assert answer.out.count("bright") > 3, "nothing that goes wrong with a page costs a prediction"


def test_labels_of_too_low_a_probability_are_unsure(
    backbones: Run, evaluate: Callable[..., Answer], shelf: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    sure, grey = save(photos / "bright" / "a.png", 250), save(photos / "bright" / "b.png", 140)
    for model in (shelf / "model", shelf / "model" / "export" / "onnx"):
        answer = backbones("predict", model, sure, grey, "--sure-from", 0.9, "--format", "json", "--quiet")
        assert [(row["label"], row["doubt"]) for row in answer.rows] == [("bright", ""), ("bright", "unsure")]
        tiled = backbones("predict", model, grey, "--tiles", SIDE, "--format", "json", "--quiet")
        assert tiled.rows[0]["doubt"] == ""
    scored = evaluate(shelf / "model", photos, "--sure-from", 0.9)
    folder = the_folder(scored)
    assert folder.name.endswith("-sure-from-0.9")
    told = json.loads((folder / "metrics.json").read_text())["abstention"]
    assert (told["sure_from"], told["answered"]["value"], told["error"]["value"]) == (0.9, 0.5, 0.0)
    assert "--sure-from" in backbones("predict", shelf / "model", sure, "--sure-from", 2).err


def test_csv_on_the_screen_is_safe_for_spreadsheets(
    backbones: Run, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "=1+1.png", 230)
    answer = backbones(
        "predict", shelf / "model", "=1+1.png", "gone\x1b[2J.png", "--format", "csv", "--quiet"
    )
    assert answer.status == 0, answer.err
    rows = list(csv.reader(io.StringIO(answer.out)))
    assert rows[0] == ["path", "label", "doubt", "p_bright", "p_dark", "error"]
    assert rows[1][:2] == ["'=1+1.png", "bright"]
    assert rows[2][0] == "gone\\x1b[2J.png"
    assert rows[2][2:4] == ["", ""]
    table = backbones("predict", shelf / "model", "=1+1.png", "gone\x1b[2J.png", "--quiet")
    assert "\x1b" not in table.out


def test_predictions_go_to_a_file(backbones: Run, shelf: Path, tmp_path: Path) -> None:
    words = ("predict", shelf / "model", shelf / "photos", "--quiet")
    printed = {style: backbones(*words, "--format", style).out for style in ("csv", "json")}
    for style, text in printed.items():
        file = tmp_path / "new" / f"predictions.{style.upper()}"
        answer = backbones(*words, "--output", file)
        assert (answer.status, answer.out) == (0, "")
        assert file.read_text() == text
    refused = backbones(*words, "--output", tmp_path / "predictions.xlsx")
    assert refused.status == 2
    assert ".csv or .json" in refused.said
    (tmp_path / "in-the-way").write_text("")
    answer = backbones(*words, "--output", tmp_path / "in-the-way" / "predictions.csv")
    assert answer.status == 1
    assert answer.out == printed["csv"], "what was computed is not lost"


def test_the_threshold_and_the_limit_of_pixels_are_used(backbones: Run, shelf: Path, tmp_path: Path) -> None:
    photo = save(tmp_path / "dim.png", 100)
    words = ("predict", shelf / "model", photo, "--quiet", "--format", "json")
    assert backbones(*words).rows[0]["label"] == "dark"
    assert backbones(*words, "--threshold", 0.1).rows[0]["label"] == "bright"
    assert backbones(*words, "--tiles", 16, "--threshold", 0.1).rows[0]["label"] == "bright"
    for more in ((), ("--tiles", 16)):
        answer = backbones(*words, *more, "--max-pixels", 255)
        assert answer.status == 1
        assert "too many pixels" in answer.rows[0]["error"]


def test_windows_are_merged_as_asked(backbones: Run, shelf: Path, tmp_path: Path) -> None:
    pixels = np.full((SIDE, 8 * SIDE, 3), 20, np.uint8)
    pixels[:, :SIDE] = 240
    Image.fromarray(pixels).save(tmp_path / "wall.png")
    words = ("predict", shelf / "model", tmp_path / "wall.png", "--quiet", "--format", "json")
    labels = {
        merge: backbones(*words, "--tiles", SIDE, "--overlap", 0, "--merge", merge).rows[0]["label"]
        for merge in ("max", "mean")
    }
    assert labels["max"] != labels["mean"]
    for word, value in (("--merge", "max"), ("--overlap", 0.5)):
        answer = backbones(*words, word, value)
        assert answer.status == 2
        assert "expected --tiles" in answer.said


def test_heatmaps_of_an_export_come_from_the_model_beside_it(
    backbones: Run, model: Path, shelf: Path, tmp_path: Path
) -> None:
    photo = next((shelf / "photos" / "bright").iterdir())
    words = (photo, "--heatmaps", tmp_path / "maps", "--quiet", "--format", "json")
    answer = backbones("predict", model / "export" / "onnx", *words)
    assert answer.status == 0, answer.err
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"0000-{photo.stem}.png"]
    assert backbones("predict", model / "model.keras", *words).status == 0
    moved = shutil.copytree(model / "export" / "onnx", tmp_path / "device")
    refused = backbones("predict", moved, *words)
    assert (refused.status, refused.out) == (2, "")
    assert "only the Keras model can be explained" in refused.said
    assert backbones("predict", moved, *words, "--tiles", SIDE).status == 0


@pytest.mark.parametrize("more", [(), ("--tiles", SIDE)])
def test_heatmaps_that_fail_are_listed_after_the_predictions(
    backbones: Run, shelf: Path, tmp_path: Path, more: tuple[object, ...]
) -> None:
    (tmp_path / "maps").write_text("a file in the way")
    words = ("predict", shelf / "model", shelf / "photos" / "dark", "--heatmaps", tmp_path / "maps", *more)
    answer = backbones(*words, "--quiet", "--format", "json")
    assert answer.status == 1
    assert [row["label"] for row in answer.rows] == ["dark"] * 8
    assert answer.err.count("No heatmap of ") == 8
    assert "Traceback" not in answer.err


def test_an_image_that_vanishes_costs_its_own_heatmap_alone(shelf: Path, tmp_path: Path) -> None:
    """Between its prediction and its picture."""
    photo = save(tmp_path / "here.png", 20)
    found = [Prediction(path=str(tmp_path / "gone.png"), label="dark"), Prediction(path=str(photo))]
    options = PredictOptions(model=shelf / "model", images=(photo,))
    with make_observer(quiet=True) as observer:
        (failure,) = _explain(options, open_explainer(shelf / "model"), found, tmp_path / "maps", observer)
    assert "gone.png" in failure
    assert "no such file" in failure
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["0001-here.png"]


def test_a_name_that_is_no_utf8_ends_nothing(
    spawn: Callable[..., subprocess.Popen[str]], shelf: Path, tmp_path: Path
) -> None:
    photo = save(tmp_path / os.fsdecode(b"w\xe4nde.png"), 230)
    running = spawn(
        "predict", shelf / "model" / "export" / "onnx", photo, cwd=tmp_path, PYTHONIOENCODING="utf-8:strict"
    )
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert "\\udce4nde.png" in out


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_mistyped_export_is_no_other_model(backbones: Run, shelf: Path, command: str) -> None:
    answer = backbones(command, shelf / "model" / "onnx", shelf / "photos", "--quiet")
    assert (answer.status, answer.out) == (2, "")
    assert f"Did you mean {shelf / 'model' / 'export' / 'onnx'}?" in answer.said


def test_an_export_of_an_earlier_model_is_refused(backbones: Run, model: Path, shelf: Path) -> None:
    with (model / "model.keras").open("ab") as file:
        file.write(b"\0")
    _describe(model, shelf / "photos")
    answer = backbones("predict", model / "export" / "onnx", shelf / "photos", "--quiet")
    assert (answer.status, answer.out) == (2, "")
    assert "this export was made from another model" in answer.said
    assert f"backbones export {model} --to onnx" in answer.said


# export ---------------------------------------------------------------------------------------------


def test_export_options_reach_the_export(backbones: Run, model: Path) -> None:
    answer = backbones("export", model, "--to", "onnx", "--timeout", 0.1, "--quiet")
    assert answer.status == 1
    assert "not finished after 0.1 seconds" in answer.said
    refused = backbones("export", model, "--to", "tflite-integer")
    assert refused.status == 2
    assert "Did you mean tflite-integer-only?" in refused.said
    assert backbones("export", model, "--to", "onnx", "--parity-images", "-1").status == 2
