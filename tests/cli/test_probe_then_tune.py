"""Fine-tuning goes on from the board where there is one, and says which recipe it took and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_places import Place, Run

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's
SHARED = Path(__file__).resolve().parents[3] / "shared"
NAMED = ("--winner", "MobileNet_0.25", "--jobs", 1, "--format", "json")


def model_of(place: Place, recipe: str) -> Path:
    return place.board / "finetune" / "MobileNet_0.25" / recipe


def test_the_board_is_gone_on_from(ranked: Place, backbones: Run) -> None:
    words = ("finetune", ranked.data, *NAMED, "--epochs", "1,2", *ranked.folders)
    answer = backbones(*words)
    assert answer.status == 0, answer.err
    (row,) = answer.rows
    assert row["recipe"] == "probe-then-tune"
    assert "Recipe probe-then-tune: the board has a head to start from." in answer.err
    assert row["kept"] == "before", "8 validation images show nothing"
    assert "is kept: 4 validation images (or groups) of a class are too few" in answer.err
    model = model_of(ranked, "probe-then-tune")
    assert answer.said == f"Written to {model}"
    metrics = json.loads((model / "metrics.json").read_text())
    manifest = json.loads((model / "manifest.json").read_text())
    assert manifest["metrics"]["val"] == metrics["before"]["val"]
    carried_out = json.loads((model / "run.json").read_text())["recipe"]
    assert carried_out["augmentation"]["flip"] != "auto"
    assert 0 < carried_out["phase2"]["learning_rate"] <= 1e-2
    assert not (model / "history.csv").exists(), "nothing was trained in vain"
    again = backbones(*words, "--quiet")
    assert again.rows == answer.rows
    assert "nothing was trained" in again.err
    scored = backbones("evaluate", model, ranked.data, "--format", "json", *ranked.folders, "--quiet")
    assert scored.status == 0, scored.err
    assert scored.rows[0]["f1"] == pytest.approx(row["test_f1_before"], abs=1e-4)
    assert "chose its epoch" in scored.err, "its head saw the training part alone"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--image-size", 64), "the board's head is for 32 pixels, not 64"),
        (("--resize", "area"), "the board's head is for bilinear resizing, not area"),
        (("--head", "max"), "the board's head has average pooling, no hidden layer and a sigmoid"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_the_boards_head_cannot_do_takes_the_reference_recipe(
    options: tuple[object, ...], why: str, ranked: Place, backbones: Run
) -> None:
    tune = ("finetune", ranked.data, *NAMED, *options, *ranked.folders)
    answer = backbones(*tune, "--epochs", "1,0")
    assert answer.status == 0, answer.err
    assert answer.rows[0]["recipe"] == "two-phase-f1"
    assert f"Recipe two-phase-f1: {why}." in answer.err
    refused = backbones(*tune, "--recipe", "probe-then-tune", "--quiet")
    assert refused.status == 2
    assert why in refused.said
    assert not model_of(ranked, "probe-then-tune").exists()


def test_without_a_board_the_reference_recipe_stays(place: Place, backbones: Run) -> None:
    name = "MobileNet_0.25@random"
    tune = ("finetune", place.data, "--winner", name, "--image-size", 32, "--jobs", 1, *place.folders)
    refused = backbones(*tune, "--recipe", "probe-then-tune", "--quiet")
    assert refused.status == 2
    assert "there is no board of these images" in refused.said
    assert "backbones rank" in refused.said
    answer = backbones(*tune, "--epochs", "1,0", "--format", "json")
    assert answer.status == 0, answer.err
    assert answer.rows[0]["recipe"] == "two-phase-f1"
    assert "Recipe two-phase-f1: there is no board of these images." in answer.err


def test_a_backbone_that_the_board_does_not_have(ranked: Place, backbones: Run) -> None:
    tune = ("finetune", ranked.data, "--winner", "MobileNet_0.5", "--jobs", 1, *ranked.folders)
    answer = backbones(*tune, "--epochs", "1,0", "--format", "json")
    assert answer.status == 0, answer.err
    assert "Recipe two-phase-f1: the board has no head of this backbone." in answer.err
    refused = backbones(*tune, "--recipe", "probe-then-tune", "--quiet")
    assert refused.status == 2
    assert "the board has no head of this backbone" in refused.said


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no shared photographs and weights")
def test_photographs_and_real_weights(tmp_path: Path, backbones: Run) -> None:
    """Whatever training does, the model is at least as good on validation as the board's head."""
    place = Place(tmp_path, SHARED / "data" / "brick_cracks")
    small = ("--limit", 260, "--quiet", *place.folders)
    weights = ("--weights", SHARED / "weights")
    rank = ("rank", place.data, "--backbones", "MobileNet_0.25", "--size", 64, *weights, "--repeats", 1)
    ranked = backbones(*rank, "--groups", "none", *small)  # of few groups nothing can be shown
    assert ranked.status == 0, ranked.err
    answer = backbones("finetune", place.data, "--epochs", "1,3", "--format", "json", *small)
    assert answer.status == 0, answer.err
    (row,) = answer.rows
    assert row["recipe"] == "probe-then-tune"
    assert row[f"val_f1_{row['kept']}"] >= row["val_f1_before"] > 0.8
    metrics = json.loads((model_of(place, "probe-then-tune") / "metrics.json").read_text())
    for phase, gain in metrics["gains"].items():
        assert gain["f1_low"] <= gain["f1"] <= gain["f1_high"]
        assert gain["better"] is (gain["f1_low"] > 0)
        assert (row["kept"] == phase) <= gain["better"]
    assert metrics["kept"] == row["kept"]
