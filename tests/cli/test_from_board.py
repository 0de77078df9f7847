"""What a board found, shipped: its head on the frozen backbone, as a model folder like any other."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_places import QUICK, SMALL, Answer, Place, Run
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's
SHARED = Path(__file__).resolve().parents[3] / "shared"
TO = ("--to", "tflite-float32", "--format", "json")


def board_row(place: Place, backbone: str) -> dict[str, str]:
    with (place.board / "leaderboard.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row["backbone"] == backbone)


def check_shipped(place: Place, backbone: str, exported: Answer, run: Run) -> Path:
    """A whole model folder, with the board's scores, whose exports agree with it."""
    assert exported.status == 0, exported.err
    assert [row["status"] for row in exported.rows] == ["passed"]
    model = place.board / "finetune" / backbone / "frozen"
    manifest = json.loads((model / "manifest.json").read_text())
    row = board_row(place, backbone)
    assert manifest["recipe"] == "frozen"
    for part in ("val", "test"):
        assert manifest["metrics"][part]["f1"] == pytest.approx(float(row[f"{part}_f1"]), abs=1e-6), part
    assert manifest["threshold"] == pytest.approx(float(row["threshold"] or 0.5))
    assert manifest["weights_sha256"] == row["weights_sha256"]
    assert {"labels.txt", "split.csv", "metrics.json", "report.html", "README.md", "predictions.csv"} <= {
        path.name for path in model.iterdir()
    }
    assert not (model / "history.csv").exists(), "nothing was trained"
    for folder in (model, model / "export" / "tflite-float32"):
        scored = run("evaluate", folder, place.data, "--format", "json", *place.folders, "--quiet")
        assert scored.status == 0, scored.err
        assert scored.rows[0]["f1"] == pytest.approx(float(row["test_f1"]), abs=2e-3), "on unseen images"
        assert "chose its epoch" not in scored.err, "the head was fitted to the validation images, too"
    return model


def test_a_backbone_is_shipped_and_shipped_once(ranked: Place, backbones: Run) -> None:
    place, name = ranked, "MobileNet_0.25"
    nobody = backbones("export", "--from-board", place.data, *TO, *place.folders)
    assert nobody.status == 2, "random weights win nothing"
    assert "the board names no winner" in nobody.said
    exported = backbones("export", "--from-board", place.data, "--backbone", name, *TO, *place.folders)
    model = check_shipped(place, name, exported, backbones)
    assert "The board's head on the frozen backbone" in exported.err
    before = (model / "model.keras").stat().st_mtime_ns
    again = backbones(
        "finetune", place.data, "--recipe", "frozen", "--winner", name, *place.folders, "--format", "json"
    )
    assert again.status == 0, again.err
    assert "Already done" in again.err
    assert (again.rows[0]["kept"], again.rows[0]["recipe"]) == ("before", "frozen")
    assert (model / "model.keras").stat().st_mtime_ns == before
    photo = next(place.data.rglob("*.jpg"), None) or next(place.data.rglob("*.png"))
    assert backbones("predict", model, photo, "--quiet").status == 0


def test_three_classes_ranked_with_options_of_their_own(tmp_path: Path, backbones: Run) -> None:
    """Seed, groups and average are the board's, whatever the defaults of fine-tuning are."""
    generator = np.random.default_rng(0)
    place = Place(tmp_path, tmp_path / "colours")
    for number in range(90):
        pixels = generator.integers(0, 90, (24, 24, 3))
        pixels[..., number % 3] += 70
        path = place.data / ("red", "green", "blue")[number % 3] / f"wall{number // 2}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    options = ("--seed", 3, "--groups", r"(wall\d+)", "--average", "micro")
    ranked = backbones("rank", place.data, *SMALL, *QUICK, *options, *place.folders, "--quiet")
    assert ranked.status == 0, ranked.err
    exported = backbones(
        "export", "--from-board", place.data, "--backbone", "MobileNet_0.25", *TO, *place.folders
    )
    model = check_shipped(place, "MobileNet_0.25", exported, backbones)
    assert json.loads((model / "manifest.json").read_text())["seed"] == 3


def test_what_cannot_be_shipped_is_said(ranked_once: Place, tmp_path: Path, backbones: Run) -> None:
    folders = ("--results", ranked_once.results, "--cache", ranked_once.cache, "--quiet")
    ship = ("export", "--from-board", ranked_once.data, "--to", "keras")
    nobody = backbones(*ship, "--backbone", "MobileNet_0.5", *folders)
    assert nobody.status == 2
    assert "the board has no head of this backbone" in nobody.said
    assert "MobileNet_0.25" in nobody.said
    unranked = backbones(*ship, "--results", tmp_path / "none", *folders[2:])
    assert unranked.status == 2
    assert "Run 'backbones rank'" in unranked.said
    assert backbones("export", "--to", "keras").status == 2
    assert backbones("export", ranked_once.data, "--to", "keras", "--backbone", "X").status == 2
    tune = ("finetune", ranked_once.data, "--recipe", "frozen")
    for option, said in (
        (("--weights", "imagenet"), "weights"),
        (("--epochs", "1,1"), "trains nothing"),
        (("--head", "max"), "trains nothing"),
        (("--dropout", "0.5"), "trains nothing"),
        (("--cached-views", "2"), "--cached-views"),
    ):
        refused = backbones(*tune, *option, *folders)
        assert refused.status == 2
        assert said in refused.said, refused.said
    changed = Path(shutil.copytree(ranked_once.data, tmp_path / ranked_once.data.name))
    next(changed.rglob("*.*g")).unlink()
    refused = backbones(*ship[:2], changed, *ship[3:], *folders)
    assert refused.status == 2
    assert "not those of the latest run" in refused.said


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no shared photographs and weights")
def test_photographs_and_real_weights(tmp_path: Path, backbones: Run) -> None:
    place = Place(tmp_path, SHARED / "data" / "brick_cracks")
    options = ("--backbones", "MobileNet_0.25", "--weights", SHARED / "weights", "--repeats", 1, "--quiet")
    ranked = backbones("rank", place.data, *options, *place.folders)
    assert ranked.status == 0, ranked.err
    exported = backbones("export", "--from-board", place.data, *TO, *place.folders)
    model = check_shipped(place, "MobileNet_0.25", exported, backbones)
    assert float(board_row(place, "MobileNet_0.25")["test_f1"]) > 0.9
    check_foreign_pictures(model, place, tmp_path / "foreign", backbones)


def check_foreign_pictures(model: Path, place: Place, folder: Path, run: Run) -> None:
    """Other photographs, digits and textures are unlike the training images, test images are not."""
    names = foreign_pictures(folder)
    answer = run("predict", model, folder, "--format", "json", "--quiet")
    told = [Path(row["path"]).name for row in answer.rows if "unlike the training images" in row["doubt"]]
    assert len(told) >= 0.95 * len(names), set(names) - set(told)
    with (model / "split.csv").open() as file:
        test = [place.data / row["path"] for row in csv.DictReader(file) if row["part"] == "test"]
    answer = run("predict", model, *test, "--format", "json", "--quiet")
    told = [row["path"] for row in answer.rows if "unlike" in row["doubt"]]
    assert len(told) <= 0.05 * len(test), told
    check_another_site(model, place, folder, run)
    # An export gives probabilities alone.
    answer = run("predict", model / "export" / "tflite-float32", folder, "--format", "json", "--quiet")
    assert not any("unlike" in row["doubt"] for row in answer.rows)


def check_another_site(model: Path, place: Place, pictures: Path, run: Run) -> None:
    """An evaluation says how many images are unlike those that the model was made from."""
    site = pictures.with_name("site")
    for number, path in enumerate(sorted(pictures.glob("*.png"))[:20]):
        label = site / ("Positive", "Negative")[number % 2]
        label.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, label)
    scored = run("evaluate", model, site, "--format", "json", *place.folders, "--quiet")
    assert scored.status == 0, scored.err
    assert "Unlike the training images: 20 of 20" in scored.err
    folder = Path(scored.err.split("Written to ")[1].strip())
    assert json.loads((folder / "metrics.json").read_text())["unlike"] == 20
    assert "UNLIKE: 100% of these images" in (folder / "report.html").read_text()


def foreign_pictures(folder: Path) -> list[str]:
    """Crops of scikit-learn's two photographs, its digits, gratings, noise and plain grey, as PNG files."""
    from sklearn.datasets import load_digits, load_sample_images

    generator, made = np.random.default_rng(0), {}
    for number in range(20):
        photo = load_sample_images().images[number % 2]
        top, left = generator.integers(0, 200), generator.integers(0, 400)
        made[f"photo{number}"] = photo[top : top + 220, left : left + 220]
        grey = np.kron(load_digits().images[number] * 15.9, np.ones((20, 20)))
        made[f"digit{number}"] = np.repeat(grey[..., None], 3, -1)
        rows, columns = np.mgrid[:224, :224]
        wave = np.sin((rows * np.sin(number) + columns * np.cos(number)) * (0.05 + 0.02 * number))
        made[f"grating{number}"] = 128 + 100 * wave[..., None] * generator.uniform(0.3, 1, 3)
    made["noise"] = generator.integers(0, 256, (224, 224, 3))
    made["grey"] = np.full((224, 224, 3), 127)
    folder.mkdir()
    for name, pixels in made.items():
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return [f"{name}.png" for name in made]
