from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import ArgumentError, InputError, RecipeError
from benchmark.finetuning import Recipe
from benchmark.finetuning.recipe import BOARD_RECIPE, DEFAULT_RECIPE
from benchmark.options import RecipeChanges

# (recipe, backbone, input, pooling, hidden, dropout, activation,
#  phase 1: optimizer, rate, epochs, patience; phase 2: optimizer, rate, epochs, from layer)
TABLE = [
    ("two-phase-f1", "MobileNetV3Small_0.75", 224, "avg", 0, 0.2, "sigmoid",
     ("adam", 1e-3, 40, 0), ("adam", 1e-6, 40, None)),
    ("mobilenetv2-augmented", "MobileNetV2", 160, "avg", 0, 0.3, "softmax",
     ("adam", 1e-4, 10, 0), ("rmsprop", 1e-5, 10, 100)),
    ("mobilenetv2-plain", "MobileNetV2", 160, "avg", 0, 0.2, "softmax",
     ("adam", 1e-4, 10, 5), ("rmsprop", 1e-5, 10, 100)),
    ("vgg16-average", "VGG16", 227, "avg", 0, 0.3, "softmax",
     ("adam", 5e-5, 5, 0), ("rmsprop", 1e-5, 5, 15)),
    ("vgg16-flatten", "VGG16", 224, "flatten", 256, 0.0, "softmax",
     ("rmsprop", 2e-5, 0, 0), ("rmsprop", 2e-5, 30, "block5_conv1")),
]  # fmt: skip
AUGMENTATIONS = {
    "two-phase-f1": {
        "brightness": 5.0,
        "contrast": (0.7, 1.3),
        "hue": 0.3,
        "saturation": (0.7, 1.3),
        "flip": "both",
    },
    "mobilenetv2-augmented": {"flip": "horizontal", "rotation_degrees": 72.0},
    "mobilenetv2-plain": {},
    "vgg16-average": {"flip": "both", "rotation_degrees": 108.0},
    "vgg16-flatten": {
        "rotation_degrees": 40.0,
        "shift": 0.2,
        "shear": 0.2,
        "zoom": 0.2,
        "flip": "horizontal",
        "fill": "nearest",
    },
}


def test_the_defaults_come_first_and_all_are_there() -> None:
    assert Recipe.names()[:2] == (BOARD_RECIPE, DEFAULT_RECIPE)
    assert set(Recipe.names()) == {"frozen", BOARD_RECIPE, *(row[0] for row in TABLE)}


CHANGES = {
    "epochs": (1, 0),
    "unfreeze_from": 3,
    "unfreeze_last": 2,
    "head": "max",
    "hidden": 8,
    "dropout": 0.5,
    "optimizer": "sgd",
    "learning_rates": (1e-3, 1e-4),
    "schedule": "cosine",
    "early_stopping": 2,
    "batch_size": 8,
}


@pytest.mark.parametrize("name", sorted(set(RecipeChanges.model_fields) - {"image_size"}))
def test_the_head_of_the_board_is_taken_as_it_is(name: str) -> None:
    frozen = Recipe.load("frozen")
    assert frozen.ships_the_board
    changes = RecipeChanges.check({name: CHANGES[name]})
    with pytest.raises(RecipeError, match="trains nothing") as caught:
        frozen.changed(changes)
    assert f"`{name}`" in str(caught.value)
    if name != "epochs":  # what makes this recipe train nothing
        with pytest.raises(RecipeError):
            Recipe.load(BOARD_RECIPE).changed(changes.but(epochs=(0, 0)))


def test_a_recipe_without_epochs_is_the_boards_head() -> None:
    shipped = Recipe.load(BOARD_RECIPE).changed(RecipeChanges(epochs=(0, 0), image_size=64))
    assert shipped.ships_the_board
    assert shipped.changed(RecipeChanges(image_size=96)).image_size == 96


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_recipes_are_the_table(row: tuple) -> None:
    name, backbone, size, pooling, hidden, dropout, activation, first, second = row
    recipe = Recipe.load(name)
    assert (recipe.name, recipe.backbone, recipe.image_size) == (name, backbone, size)
    head = recipe.head
    assert (head.pooling, head.hidden, head.dropout, head.activation) == (
        pooling,
        hidden,
        dropout,
        activation,
    )
    one, two = recipe.phase1, recipe.phase2
    assert (one.optimizer, one.learning_rate, one.epochs, one.patience) == first
    assert (two.optimizer, two.learning_rate, two.epochs, two.from_layer) == second
    assert recipe.augmentation.model_dump(mode="python", exclude_unset=True) == AUGMENTATIONS[name]


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_an_own_file_is_read_and_named_after_itself(tmp_path: Path) -> None:
    recipe = Recipe.load(own(tmp_path, Recipe.text("vgg16-average")))
    assert recipe.name == "mine"
    assert recipe.model_dump(exclude={"name"}) == Recipe.load("vgg16-average").model_dump(exclude={"name"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dropout = 0.2", "droput = 0.2", "unknown key head.droput.*Did you mean dropout"),
        ("epochs = 40", 'epochs = "forty"', r"phase1.epochs.*expected integer.*\"forty\""),
        ("epochs = 40", "epochs = 4.5", "phase1.epochs"),
        ("image_size = 224", "image_size = 4", "image_size.*greater than or equal to 8"),
        ('optimizer = "adam"', 'optimizer = "adan"', "phase1.optimizer.*'adam'"),
        ("contrast = [0.7, 1.3]", "contrast = [1.3, 0.7]", "contrast must be a range"),
        ("contrast = [0.7, 1.3]", "contrast = [0.7]", "contrast"),
        ("[phase1]", "[phase_1]", "unknown key phase_1;.*Did you mean phase1"),
        ("image_size = 224", '"foo.bar" = 1', r'unknown key "foo\.bar";'),
        ("image_size = 224", "int = 1", "unknown key int;"),
        ("dropout = 0.2", "str = 1", r"unknown key head\.str;"),
        ("dropout = 0.2", '"a.b" = 1', r'unknown key head\."a\.b";'),
        ("epochs = 40", "from_layer = 1.5\nepochs = 40", r"unknown key phase1\.from_layer;"),
        ("[phase2]", "[phase2]\nfrom_layer = 1.5", r"mine\.toml: phase2\.from_layer: not a usable value"),
        ('backbone = "MobileNetV3Small_0.75"', "", "backbone is missing"),
        ("hue = 0.3", "hue = 0.3.1", "not valid TOML"),
        ("hue = 0.3", "hue = nan", "augmentation.hue"),
        ("hue = 0.3", "hue = 2026-01-01", "augmentation.hue"),
        ("epochs = 40", "epochs = 0", "nothing would be trained"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = Recipe.text(DEFAULT_RECIPE)
    assert old in text
    with pytest.raises(RecipeError, match=message) as raised:
        Recipe.load(own(tmp_path, text.replace(old, new)))
    assert "mine.toml" in str(raised.value)
    assert isinstance(raised.value, InputError)
    assert raised.value.exit_status == 2


def test_two_ways_to_unfreeze_exclude_each_other(tmp_path: Path) -> None:
    text = Recipe.text("vgg16-average").replace("from_layer = 15", "from_layer = 15\nlast_layers = 3")
    with pytest.raises(RecipeError, match="exclude each other"):
        Recipe.load(own(tmp_path, text))


def test_an_unknown_name_suggests_a_known_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean vgg16-average"):
        Recipe.load("vgg16-averge")
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(tmp_path / "absent.toml")


def test_overrides() -> None:
    changed = Recipe.load("vgg16-flatten").changed(
        RecipeChanges(
            unfreeze_last=3,
            head="max",
            hidden=16,
            dropout=0.5,
            optimizer="sgd",
            epochs=(4, 5),
            learning_rates=(0.1, 0.01),
            schedule="cosine",
            early_stopping=7,
            image_size=64,
            batch_size=8,
        ),
    )
    assert changed.head.model_dump(mode="json") == {
        "pooling": "max",
        "hidden": 16,
        "dropout": 0.5,
        "activation": "softmax",
        "start": "random",
    }
    assert (changed.phase2.from_layer, changed.phase2.last_layers) == (None, 3)
    assert (changed.phase1.epochs, changed.phase2.epochs) == (4, 5)
    assert (changed.phase1.learning_rate, changed.phase2.learning_rate) == (0.1, 0.01)
    assert {changed.phase1.schedule.value, changed.phase2.schedule.value} == {"cosine"}
    assert {changed.phase1.patience, changed.phase2.patience} == {7}
    assert (changed.image_size, changed.batch_size) == (64, 8)


def test_no_overrides_change_nothing() -> None:
    for name in Recipe.names():
        assert Recipe.load(name).changed(RecipeChanges()) == Recipe.load(name)


def test_unfreezing_overrides() -> None:
    recipe = Recipe.load("mobilenetv2-plain")
    by_name = recipe.changed(RecipeChanges(unfreeze_from="block_3_expand"))
    assert by_name.phase2.from_layer == "block_3_expand"
    assert recipe.changed(RecipeChanges(unfreeze_from="-3")).phase2.from_layer == -3
    everything = recipe.changed(RecipeChanges(unfreeze_last=0)).phase2
    assert (everything.from_layer, everything.last_layers) == (None, None)
    with pytest.raises(RecipeError, match="exclude each other"):
        recipe.changed(RecipeChanges(unfreeze_from=3, unfreeze_last=4))
    with pytest.raises(ArgumentError, match="`head`: expected one of avg, max, flatten"):
        RecipeChanges.check({"head": "mean"})
