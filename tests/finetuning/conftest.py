"""A network of two convolutions, and a few striped pictures that it can learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from benchmark.data import load_images
from benchmark.finetuning import BoardHead, FinetuneRequest, Recipe
from benchmark.heads import FinalHead
from benchmark.options import DataOptions, FinetuneOptions, RecipeChanges
from benchmark.records import (
    Backbone,
    ImageSet,
    Preprocessing,
    Split,
    Task,
    WeightsKind,
    WeightsSource,
)

if TYPE_CHECKING:
    import keras

SIZE = 32


def build_tiny(size: int) -> keras.Model:
    """(S, S, 3) -> (16,), with two BatchNormalization layers and a dropout inside."""
    import keras

    layers = keras.layers
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 5, strides=4, name="block1_conv1")(inputs)
    x = layers.BatchNormalization(name="block1_bn")(x)
    x = layers.ReLU(name="block1_relu")(x)
    x = layers.SpatialDropout2D(0.1, name="block1_drop")(x)
    x = layers.Conv2D(16, 3, padding="same", name="block5_conv1")(x)
    x = layers.BatchNormalization(name="block5_bn")(x)
    x = layers.ReLU(name="block5_relu")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="pool")(x), name="tiny")


def preprocess_tiny(pixels: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    import keras

    return keras.ops.cast(pixels, "float32") / 127.5 - 1


def tiny_backbone() -> Backbone:
    return Backbone(
        name="Tiny",
        architecture="Tiny",
        family="tiny",
        source="keras",
        module="",
        constructor="Tiny",
        arguments={},
        preprocessing=Preprocessing.parse("tf"),
        default_size=SIZE,
        min_size=16,
        embedding_dim=16,
        params=1888,
        flops=1,
        build=build_tiny,
        preprocess=preprocess_tiny,
    )


def tiny_request(recipe: Recipe, out: Path, cache: Path) -> FinetuneRequest:
    weights = WeightsSource(kind=WeightsKind.RANDOM, seed=1)
    options = FinetuneOptions(data=Path("photos"), cache=cache)
    return FinetuneRequest(backbone=tiny_backbone(), recipe=recipe, out=out, options=options, weights=weights)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return tiny_backbone()


def stripes(seed: int, kind: int) -> np.ndarray:
    """uint8 (40, 40, 3): noise with vertical (0), horizontal (1) or no (2) stripes."""
    generator = np.random.default_rng(seed)
    picture = generator.integers(60, 200, (40, 40, 3))
    if kind == 0:
        picture[:, ::4] = 255
    elif kind == 1:
        picture[::4] = 0
    return picture.astype(np.uint8)


def write_pictures(folder: Path, names: list[str], each: int) -> Path:
    for kind, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(stripes(1000 * kind + number, kind)).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture
def write_stripes() -> Callable[[Path], Path]:
    return lambda folder: write_pictures(folder, ["crack", "sound"], 30)


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    folder = write_pictures(tmp_path_factory.mktemp("binary") / "stripes", ["crack", "sound"], 30)
    return load_images(folder, cache=tmp_path_factory.mktemp("cache"), options=DataOptions(positive="crack"))


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    names = ["=cmd|' /C calc'!A0", "b $x_1$ \u732b", "c"]
    folder = write_pictures(tmp_path_factory.mktemp("three") / "stripes", names, 16)
    return load_images(folder, cache=tmp_path_factory.mktemp("cache"), options=DataOptions())


@pytest.fixture(scope="session")
def labelled(three: ImageSet) -> ImageSet:
    """Labels of their own for the first two classes; the third label is on every second image."""
    targets = np.zeros((len(three), 3), np.int64)
    targets[np.arange(len(three)), three.targets] = 1
    targets[:, 2] = np.arange(len(three)) % 2
    targets[three.targets == 2, :2] = 0
    return replace(three, task=Task.MULTILABEL, targets=targets)


@pytest.fixture(scope="session")
def without_test(binary: ImageSet) -> ImageSet:
    """The user gave training and validation images only."""
    split = binary.split
    rest = np.sort(np.concatenate([split.val, split.test]))
    return replace(binary, split=Split(train=split.train, val=rest, test=np.zeros(0, np.int64), given=True))


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Enough validation images of both classes to show a difference."""
    folder = write_pictures(tmp_path_factory.mktemp("many") / "stripes", ["crack", "sound"], 60)
    return load_images(folder, cache=tmp_path_factory.mktemp("cache"), options=DataOptions(positive="crack"))


@pytest.fixture
def board_head() -> Callable[..., BoardHead]:
    """``board_head(images, probability=0.5)``: a head that says the same of every image of two classes."""

    def head(images: ImageSet, probability: float = 0.5) -> BoardHead:
        bias = np.full(1, np.log(probability / (1 - probability)), np.float32)
        kernel = np.zeros((16, 1), np.float32)
        found = FinalHead(kernel=kernel, bias=bias, threshold=0.5, fitted=images.split.train)
        expected = np.full((len(images.split.val), 1), probability, np.float32)
        return BoardHead(head=found, part="val", expected=expected)

    return head


Request = Callable[..., FinetuneRequest]


@pytest.fixture
def request_for(tmp_path: Path) -> Request:
    """Builds a request: recipe name, overrides as a dictionary, the rest for the request or its options."""

    def build(
        name: str = "two-phase-f1", overrides: dict[str, Any] | None = None, **rest: object
    ) -> FinetuneRequest:
        small: dict[str, Any] = {"image_size": SIZE, "epochs": (2, 2), "batch_size": 16}
        recipe = Recipe.load(name).changed(RecipeChanges(**(small | (overrides or {}))))
        request = tiny_request(recipe, tmp_path / "model", tmp_path / "cache")
        own = {name: rest.pop(name) for name in rest.keys() & FinetuneRequest.__dataclass_fields__.keys()}
        return replace(request, **own).but(**rest)

    return build
