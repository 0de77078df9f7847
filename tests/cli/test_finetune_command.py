"""``backbones finetune`` from its arguments to its output and exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_places import Place, Run

from benchmark.cli.parser import parse
from benchmark.finetuning import Recipe
from benchmark.pipeline import FinetuneJob
from benchmark.records import Average, Resize

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
SMALLEST = ("--winner", "MobileNet_0.25@random", "--image-size", 32, "--epochs", "1,1", "--jobs", 1)


def job_of(*words: str) -> FinetuneJob:
    _, options, _ = parse(["finetune", "photos", *words])
    return FinetuneJob.of(options)


def test_a_backbone_is_fine_tuned(backbones: Run, place: Place) -> None:
    data = shutil.copytree(place.data, place.root / "dirty")
    (data / "Positive" / "page.jpg").write_text("<html>")
    words = ("finetune", data, *SMALLEST, *place.folders, "--optimizer", "adamw", "--format", "json")
    answer = backbones(*words)
    assert answer.status == 0, answer.err
    (row,) = answer.rows
    assert (row["backbone"], row["recipe"]) == ("MobileNet_0.25@random", "two-phase-f1")
    assert row["kept"] in {"phase1", "phase2"}
    for moment in ("before", "phase1", "phase2"):
        for part in ("val", "test"):
            assert 0 <= row[f"{part}_f1_{moment}"] <= 1
    folder = place.results / "dirty" / "finetune" / "MobileNet_0.25@random" / "two-phase-f1"
    assert answer.said == f"Written to {folder}"
    assert "1 file was left out" in answer.err
    assert "page.jpg" in (folder / "rejected.csv").read_text()
    assert json.loads((folder / "run.json").read_text())["recipe"]["phase2"]["optimizer"] == "adamw"
    assert json.loads((folder / "manifest.json").read_text())["average"] == "binary"

    again = backbones(*words, "--quiet")
    assert again.rows == answer.rows
    assert "nothing was trained" in again.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--image-size", "native"), "a whole number of pixels from 16 up"),
        (("--winner", "VGG16", "--top", "3"), "--winner VGG16"),
        (("--optimizer", "adan"), "adamw"),
        (("--max-pixels", "0"), "from 1 up"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_would_be_ignored_is_refused(
    backbones: Run, place: Place, words: tuple[str, ...], part: str
) -> None:
    answer = backbones("finetune", place.data, *words, *place.folders)
    assert answer.status == 2
    assert part in answer.said
    assert not place.results.exists()


def test_every_option_reaches_the_job() -> None:
    """Values that are not the defaults, so that an option that gets lost is seen."""
    asked = job_of("--jobs", "3", "--max-pixels", "1234", "--limit", "50", "--seed", "4", "--strict").options
    assert (asked.jobs, asked.max_pixels, asked.limit, asked.seed, asked.strict) == (3, 1234, 50, 4, True)
    asked = job_of(
        "--top", "2", "--cached-views", "5", "--force", "--average", "micro", "--resize", "area"
    ).options
    assert (asked.top, asked.cached_views, asked.force, asked.average) == (2, 5, True, Average.MICRO)
    assert asked.resize is Resize.AREA
    asked = job_of("--groups", "auto", "--cache", "c", "--results", "r", "--class-weight", "balanced").options
    assert (asked.auto_groups, asked.group_rule, asked.balanced) == (True, None, True)
    assert (asked.cache, asked.results) == (Path("c"), Path("r"))


def recipe_of(*words: str) -> Recipe:
    recipe = job_of("--recipe", "two-phase-f1", *words).recipe
    assert recipe is not None
    return recipe


def test_every_change_reaches_the_recipe() -> None:
    recipe = recipe_of("--optimizer", "adamw", "--image-size", "96", "--epochs", "3,4")
    assert {recipe.phase1.optimizer, recipe.phase2.optimizer} == {"adamw"}
    assert (recipe.image_size, recipe.phase1.epochs, recipe.phase2.epochs) == (96, 3, 4)
    recipe = recipe_of("--learning-rates", "0.1,0.01", "--schedule", "cosine", "--early-stopping", "7")
    assert (recipe.phase1.learning_rate, recipe.phase2.learning_rate) == (0.1, 0.01)
    assert (recipe.phase1.schedule, recipe.phase2.patience) == ("cosine", 7)
    recipe = recipe_of("--head", "max", "--hidden", "9", "--dropout", "0.4", "--unfreeze-last", "6")
    assert (recipe.head.pooling, recipe.head.hidden, recipe.head.dropout) == ("max", 9, 0.4)
    assert recipe.phase2.last_layers == 6
    assert recipe_of("--unfreeze-from", "conv1").phase2.from_layer == "conv1"
