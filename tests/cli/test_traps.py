"""Data sets that would fool a careless ranking, through the command line."""

from __future__ import annotations

import csv
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_places import Place, Run
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRICKS, WEIGHTS = SHARED / "data" / "brick_cracks", SHARED / "weights"
SMALL = ("--weights", "random", "--backbones", "MobileNet_0.25", "--size", "32", "--jobs", "1")
needs_bricks = pytest.mark.skipif(not BRICKS.is_dir(), reason="the brick photographs are not here")


def board(place: Place, data: Path) -> pd.DataFrame:
    return pd.read_csv(place.results / data.name / "leaderboard.csv")


def stripes(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Noise; images of the second class have a dark diagonal, which any network sees."""
    noise = np.random.default_rng(seed)
    for position, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = noise.normal(150, 30, (32, 32, 3))
            if position:
                pixels[np.arange(32), (np.arange(32) + noise.integers(0, 4)) % 32] -= 140
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / label / f"{number:04}.png")
    return folder


def test_shuffled_labels_leave_chance_and_the_board_says_so(backbones: Run, place: Place) -> None:
    data = place.root / "shuffled"
    source = stripes(place.root / "source", {"sound": 40, "split": 40})
    files = sorted(source.rglob("*.png"))
    labels = ["sound", "split"] * 40
    random.Random(1).shuffle(labels)
    for number, (path, label) in enumerate(zip(files, labels, strict=True)):
        (data / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, data / label / f"{number}.png")
    names = "MobileNet_0.25,MobileNet_0.5"
    answer = backbones("rank", data, *SMALL, "--backbones", names, *place.folders, "--quiet")
    assert answer.status == 0, answer.err
    frame = board(place, data)
    assert frame.tie_group.tolist() == [1, 1]
    assert (frame.val_f1_low < 0.6).all()
    assert "no backbone is shown to be better" in answer.out


def test_six_images_never_make_a_confident_table(backbones: Run, place: Place) -> None:
    data = stripes(place.root / "six", {"a": 3, "b": 3})
    answer = backbones("rank", data, *SMALL, *place.folders, "--quiet")
    assert answer.status == 2, answer.out
    assert "too few images" in answer.said
    audit = backbones("audit", data, *place.folders, "--format", "json")
    assert "error" in {row["severity"] for row in audit.rows}


def test_a_test_part_that_equals_the_training_part_is_shouted_about(backbones: Run, place: Place) -> None:
    train = stripes(place.root / "leak" / "train", {"a": 12, "b": 12})
    shutil.copytree(train, place.root / "leak" / "test")
    answer = backbones("audit", place.root / "leak", *place.folders, "--format", "json")
    assert answer.status == 0
    shouted = [row for row in answer.rows if row["severity"] == "error"]
    assert any("test" in row["text"] and row["count"] >= 24 for row in shouted), answer.rows


def test_ninety_nine_to_one_is_warned_of(backbones: Run, place: Place) -> None:
    data = stripes(place.root / "rare", {"sound": 396, "split": 4})
    audit = backbones("audit", data, *place.folders, "--format", "json")
    assert {"warning", "error"} & {row["severity"] for row in audit.rows if "split" in row["text"]}
    answer = backbones("rank", data, *SMALL, "--repeats", 1, "--epochs", 3, *place.folders, "--quiet")
    assert answer.status == 0, answer.err
    assert "too few for 5 folds" in answer.out
    assert "Too few to know" in answer.out


def test_several_labels_of_one_image(backbones: Run, place: Place) -> None:
    """A CSV with labels separated by semicolons: one sigmoid per label."""
    data = stripes(place.root / "multi", {"plain": 30, "striped": 30})
    with (data / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number, path in enumerate(sorted(data.rglob("*.png"))):
            labels = [path.parent.name, *(["even"] if number % 2 == 0 else [])]
            writer.writerow([path.relative_to(data), ";".join(labels)])
    answer = backbones(
        "rank", data / "labels.csv", *SMALL, "--repeats", 1, "--epochs", 3, *place.folders, "--quiet"
    )
    assert answer.status == 0, answer.err
    folder = place.results / "labels"
    assert pd.read_csv(folder / "leaderboard.csv").status.tolist() == ["scored"]
    classes = set(pd.read_csv(folder / "per_class_f1.csv").astype(str).to_numpy().ravel())
    columns = set(pd.read_csv(folder / "per_class_f1.csv").columns)
    assert {"plain", "striped", "even"} <= classes | columns


@pytest.mark.slow
def test_ten_classes(backbones: Run, place: Place) -> None:
    """scikit-learn's digits, written as images: even random features tell most of them apart."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    data = place.root / "digits"
    for number, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        (data / str(label)).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 15).astype(np.uint8)).resize((32, 32))
        image.save(data / str(label) / f"{number}.png")
    words = ("--weights", "random", "--backbones", "MobileNetV3Small", "--size", "64", "--jobs", "1")
    answer = backbones("rank", data, *words, *place.folders, "--quiet")
    assert answer.status == 0, answer.err
    (row,) = board(place, data).to_dict("records")
    assert row["val_f1"] > 0.8, "ten classes at chance would be 0.1"


@pytest.mark.slow
@needs_bricks
def test_real_photographs_with_real_weights(backbones: Run, place: Place) -> None:
    names = "MobileNetV3Small_0.75,MobileNetV2_0.35,MobileNet_0.25,MobileNet_0.5,MobileNet_0.75"
    words = ("rank", BRICKS, "--backbones", names, *place.folders, "--quiet")
    answer = backbones(*words, "--weights", WEIGHTS)
    assert answer.status == 0, answer.err
    frame = board(place, BRICKS).set_index("backbone")
    scored = frame[frame.status == "scored"]
    assert len(scored) == 4
    assert (scored.val_f1 >= 0.93).all(), scored.val_f1
    assert frame.status["MobileNet_0.75"] == "failed"
    assert "MobileNet_0.75.weights.h5" in frame.reason["MobileNet_0.75"]
    again = backbones(*words, "--weights", WEIGHTS, "--format", "json")
    assert {row["images_embedded"] for row in again.rows} <= {0, scored.images_embedded.iloc[0]}

    random_place = Place(place.root / "random", BRICKS)
    name = "MobileNetV3Small_0.75"
    words = ("rank", BRICKS, "--backbones", name, "--weights", "random", *random_place.folders, "--quiet")
    assert backbones(*words).status == 0
    (row,) = board(random_place, BRICKS).to_dict("records")
    assert row["val_f1"] <= scored.val_f1[name] - 0.1, "the weights really are used"


@needs_bricks
def test_the_audit_finds_the_identical_photographs(backbones: Run, place: Place) -> None:
    answer = backbones("audit", BRICKS, *place.folders, "--format", "json")
    assert answer.status == 0
    found = {row["code"]: row["count"] for row in answer.rows}
    assert found["identical"] == 7
