from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmark.errors import RecipeError
from benchmark.finetuning.recipe import Activation, Head, Pooling, UnfreezingPhase
from benchmark.records import Backbone, Preprocessing, Task

if TYPE_CHECKING:
    from benchmark.finetuning.network import Network

# Keras converts variables without NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

BINARY = {"task": Task.BINARY, "classes": 2, "positive": 0}


TF = Preprocessing.parse("tf")


def assembled(
    backbone: Backbone,
    head: Head | None = None,
    mode: Preprocessing = TF,
    **outputs: object,
) -> Network:
    from benchmark.finetuning.network import Outputs, assemble

    return assemble(backbone.build(32), mode, head or Head(), Outputs(**(outputs or BINARY)), seed=5)


def pictures(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def phase(**unfreezing: object) -> UnfreezingPhase:
    return UnfreezingPhase(learning_rate=1e-3, epochs=1, **unfreezing)


@pytest.mark.parametrize("mode", ["identity", "tf", "caffe", "torch"])
def test_preprocessing_inside_equals_kerass_own(mode: str) -> None:
    import keras

    from benchmark.finetuning.network import _preprocessed

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, _preprocessed(inputs, Preprocessing.parse(mode)))
    images = pictures()[:, :8, :8]
    expected = images.astype(np.float32)
    if mode != "identity":
        expected = keras.applications.imagenet_utils.preprocess_input(expected.copy(), mode=mode)
    assert np.abs(model(images).numpy() - expected).max() < 2e-5
    assert not model.trainable_variables


@pytest.mark.parametrize(
    ("task", "classes", "positive", "activation", "units", "columns"),
    [
        (Task.BINARY, 2, 0, Activation.SIGMOID, 1, 1),
        (Task.BINARY, 2, 1, Activation.SOFTMAX, 2, 1),
        (Task.MULTICLASS, 4, None, Activation.SIGMOID, 4, 4),
        (Task.MULTILABEL, 3, None, Activation.SOFTMAX, 3, 3),
    ],
)
def test_outputs(
    tiny: Backbone,
    task: Task,
    classes: int,
    positive: int | None,
    activation: Activation,
    units: int,
    columns: int,
) -> None:
    head = Head(activation=activation, hidden=5)
    network = assembled(tiny, head, task=task, classes=classes, positive=positive)
    images = pictures()
    found = network.model(images).numpy()
    assert found.shape == (6, columns)
    vectors = network.body(images, training=False)
    assert np.allclose(network.classify(vectors), found, atol=1e-6)
    logits = network.head(vectors, training=False).numpy()
    assert logits.shape == (6, units)
    if task is Task.MULTICLASS:
        assert np.allclose(found.sum(-1), 1)
    if task is Task.BINARY and activation is Activation.SOFTMAX:
        assert np.allclose(found[:, 0], np.exp(logits[:, 1]) / np.exp(logits).sum(-1), atol=1e-6)


def test_the_first_weights_follow_from_the_seed(tiny: Backbone) -> None:
    from benchmark.finetuning.network import Outputs, assemble

    def kernel(seed: int) -> np.ndarray:
        network = assemble(tiny.build(32), TF, Head(), Outputs(**BINARY), seed)
        return network.model.get_layer("logits").get_weights()[0]

    assert np.array_equal(kernel(1), kernel(1))
    assert not np.array_equal(kernel(1), kernel(2))


@pytest.mark.parametrize("pooling", list(Pooling))
def test_poolings(tiny: Backbone, pooling: Pooling) -> None:
    network = assembled(tiny, Head(pooling=pooling))
    features = network.base(np.float32(pictures() / 127.5 - 1)).numpy()
    expected = {
        Pooling.AVG: features.mean((1, 2)),
        Pooling.MAX: features.max((1, 2)),
        Pooling.FLATTEN: features.reshape(6, -1),
    }[pooling]
    assert np.allclose(network.body(pictures()), expected, atol=1e-5)


def test_pooling_behind_which_a_layer_stands(tiny: Backbone) -> None:
    """ConvNeXt normalises its pooled vector."""
    import keras

    from benchmark.finetuning.network import Outputs, assemble

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 8, strides=8)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    backbone = keras.Model(inputs, keras.layers.LayerNormalization()(x))
    images = pictures()
    network = assemble(backbone, Preprocessing(), Head(), Outputs(**BINARY), 0)
    assert np.allclose(network.body(images), backbone(images), atol=1e-5)
    for pooling, width in ((Pooling.MAX, 4), (Pooling.FLATTEN, 64)):
        other = assemble(backbone, Preprocessing(), Head(pooling=pooling), Outputs(**BINARY), 0)
        assert other.body(images).shape == (6, width)


def test_a_backbone_without_a_feature_map_can_only_be_averaged() -> None:
    import keras

    from benchmark.finetuning.network import Outputs, assemble

    inputs = keras.Input((32, 32, 3))
    backbone = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(2, 8, strides=8)(inputs)))
    network = assemble(backbone, TF, Head(), Outputs(**BINARY), 0)
    assert network.body(pictures()).shape == (6, 32)
    with pytest.raises(RecipeError, match="max pooling needs a feature map"):
        assemble(backbone, TF, Head(pooling=Pooling.MAX), Outputs(**BINARY), 0)


def trained_layers(network: Network) -> list[str]:
    return [layer.name for layer in network.base.layers if layer.trainable_variables]


@pytest.mark.parametrize(
    ("unfreezing", "expected"),
    [
        ({}, ["block1_conv1", "block5_conv1"]),
        ({"from_layer": "block5_conv1"}, ["block5_conv1"]),
        ({"from_layer": 5}, ["block5_conv1"]),
        ({"from_layer": 6}, []),
        ({"from_layer": -3}, ["block5_conv1"]),
        ({"last_layers": 3}, ["block5_conv1"]),
        ({"last_layers": 8}, ["block1_conv1", "block5_conv1"]),
    ],
)
def test_unfreezing_counts_as_kerass_guides_do(tiny: Backbone, unfreezing: dict, expected: list[str]) -> None:
    from benchmark.finetuning.network import freeze, unfreeze

    network = assembled(tiny)
    freeze(network)
    assert trained_layers(network) == []
    assert len(network.model.trainable_variables) == 2
    assert unfreeze(network, phase(**unfreezing)) == len(expected)
    assert trained_layers(network) == expected


@pytest.mark.parametrize(
    ("unfreezing", "message"),
    [
        ({"from_layer": "block5_con1"}, "block5_con1.*Did you mean block5_conv1"),
        ({"from_layer": 8}, "one of its 8 layers, 0 .* to 7 block5_relu"),
        ({"last_layers": 9}, "the last 9 layers"),
    ],
)
def test_a_layer_that_is_not_there(tiny: Backbone, unfreezing: dict, message: str) -> None:
    from benchmark.finetuning.network import unfreeze

    with pytest.raises(RecipeError, match=message):
        unfreeze(assembled(tiny), phase(**unfreezing))


def fit(model: object, images: np.ndarray) -> None:
    targets = (np.arange(len(images)) % 2)[:, None]
    model.compile("adam", "binary_crossentropy")
    model.fit(images, targets, epochs=1, batch_size=2, verbose=0)


def moving(base: object) -> list[np.ndarray]:
    return [
        np.array(weight)
        for layer in base.layers
        if "moving_mean" in " ".join(item.path for item in layer.weights)
        for weight in (layer.moving_mean, layer.moving_variance)
    ]


def test_moving_statistics_stay_although_everything_else_is_trained(tiny: Backbone) -> None:
    from benchmark.finetuning.network import freeze, unfreeze

    network = assembled(tiny)
    freeze(network)
    unfreeze(network, phase())
    before, kernels = moving(network.base), [np.array(w) for w in network.base.trainable_variables]
    fit(network.model, pictures())
    assert len(before) == 4
    assert all(np.array_equal(old, new) for old, new in zip(before, moving(network.base), strict=True))
    assert all(
        not np.array_equal(o, n) for o, n in zip(kernels, network.base.trainable_variables, strict=True)
    )


def test_moving_statistics_move_under_kerass_documented_recipe(tiny: Backbone) -> None:
    """So that the test above means something."""
    import keras

    base = tiny.build(32)
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(1, "sigmoid")(base(inputs, training=False))
    base.trainable = True
    before = moving(base)
    fit(keras.Model(inputs, outputs), pictures().astype(np.float32))
    assert all(not np.array_equal(old, new) for old, new in zip(before, moving(base), strict=True))


def test_dropouts_are_set_by_what_the_epoch_is(tiny: Backbone) -> None:
    from benchmark.finetuning.network import reseed

    network = assembled(tiny)

    def states(*parts: object) -> list[np.ndarray]:
        reseed(network, *parts)
        inner = network.base.get_layer("block1_drop").seed_generator.state
        return [np.array(network.model.get_layer("dropout").seed_generator.state), np.array(inner)]

    first = states(0, 1, 2)
    network.model(pictures(), training=True)
    assert all(np.array_equal(a, b) for a, b in zip(first, states(0, 1, 2), strict=True))
    assert not np.array_equal(first[0], first[1])
    assert all(not np.array_equal(a, b) for a, b in zip(first, states(0, 1, 3), strict=True))


BARE = """
import sys
import numpy as np, tensorflow as tf
images = np.load(sys.argv[2])
model = tf.keras.models.load_model(sys.argv[1])
assert images.dtype == np.uint8 and "benchmark" not in sys.modules
np.save(sys.argv[3], np.stack([model(images).numpy(), model.predict(images.astype("float32"), verbose=0)]))
"""


@pytest.mark.parametrize("mode", [Preprocessing.parse("caffe")])
def test_the_saved_model_needs_nothing_but_tensorflow(
    tiny: Backbone, tmp_path: Path, mode: Preprocessing
) -> None:
    from benchmark.finetuning.artefacts import save_model

    head = Head(activation=Activation.SOFTMAX, hidden=4)
    network = assembled(tiny, head, mode, task=Task.BINARY, classes=2, positive=1)
    save_model(network.model, tmp_path)
    images = pictures()
    np.save(tmp_path / "images.npy", images)
    arguments = [str(tmp_path / name) for name in ("model.keras", "images.npy", "found.npy")]
    # Isolated mode: neither PYTHONPATH nor the working directory lead to this package.
    subprocess.run([sys.executable, "-I", "-c", BARE, *arguments], check=True, cwd=tmp_path, timeout=120)
    found = np.load(tmp_path / "found.npy")
    # Another process may have other threads, which sum in another order.
    assert np.abs(found - network.model(images).numpy()).max() < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.npy", "images.npy", "model.keras"]


def test_learning_rates_follow_the_schedule() -> None:
    from benchmark.finetuning.recipe import Phase, Schedule

    def rates(schedule: Schedule) -> list[float]:
        of = Phase(learning_rate=0.1, epochs=4, schedule=schedule)
        return [of.rate_of(epoch) for epoch in range(5)]

    assert rates(Schedule.CONSTANT) == [0.1] * 5
    assert rates(Schedule.COSINE) == pytest.approx([0.05 * (1 + math.cos(math.pi * e / 4)) for e in range(5)])
    assert rates(Schedule.EXPONENTIAL) == pytest.approx([0.1 * 0.01 ** (e / 4) for e in range(5)])


@pytest.mark.slow
@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("name", ["ConvNeXtTiny", "VGG16", "MobileNetV2", "EfficientNetV2B0", "DenseNet121"])
def test_real_architectures_with_every_pooling(name: str, pooling: Pooling) -> None:
    from benchmark.backbones import select

    (backbone,) = select(name)
    network = assembled(backbone, Head(pooling=pooling), backbone.preprocessing)
    assert np.isfinite(network.model(pictures()).numpy()).all()
    if pooling is Pooling.AVG:
        images = pictures().astype(np.float32)
        expected = backbone.build(32)
        expected.set_weights(network.base.get_weights() + expected.get_weights()[len(network.base.weights) :])
        assert np.allclose(
            network.body(images, training=False),
            expected(backbone.preprocess(images), training=False),
            atol=1e-4,
        )
