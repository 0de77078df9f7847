"""Each backbone's preprocessing, against what its network expects."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.backbones import select
from benchmark.backbones.describe import preprocessing_of
from benchmark.backbones.keras_models import import_keras, preprocess_function
from benchmark.backbones.registry import registry
from benchmark.errors import ArgumentError
from benchmark.records import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.float32)
ONE_PER_CONSTRUCTOR = {item.constructor: item for item in registry()}


@pytest.mark.parametrize("name", ONE_PER_CONSTRUCTOR)
def test_preprocessing_does_what_its_mode_says(name: str) -> None:
    backbone = ONE_PER_CONSTRUCTOR[name]
    expected = backbone.preprocessing.apply(PIXELS)
    np.testing.assert_allclose(np.asarray(backbone.preprocess(PIXELS)), expected, atol=1e-4)
    np.testing.assert_allclose(np.asarray(backbone.preprocess(PIXELS.astype(np.uint8))), expected, atol=1e-4)


@pytest.mark.parametrize("name", ONE_PER_CONSTRUCTOR)
def test_preprocessing_never_changes_its_input(name: str) -> None:
    given = PIXELS.copy()
    ONE_PER_CONSTRUCTOR[name].preprocess(given)
    np.testing.assert_array_equal(given, PIXELS)


@pytest.mark.parametrize("name", ["VGG16", "MobileNetV2", "DenseNet121", "EfficientNetB0"])
def test_tensors_are_preprocessed_like_arrays(name: str) -> None:
    import tensorflow as tf

    backbone = ONE_PER_CONSTRUCTOR[name]
    for tensor in (tf.constant(PIXELS), tf.constant(PIXELS.astype(np.uint8))):
        answer = backbone.preprocess(tensor)
        np.testing.assert_allclose(answer.numpy(), backbone.preprocess(PIXELS), atol=1e-5)


def test_the_identity_families_rescale_inside_the_network() -> None:
    identity = {item.family for item in registry() if item.preprocessing == Preprocessing()}
    assert identity == {"convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"}
    keras = import_keras()
    for name in ("MobileNetV3Small", "EfficientNetV2B0"):
        first = ONE_PER_CONSTRUCTOR[name].build(32).layers[1]
        assert isinstance(first, keras.layers.Rescaling)


def test_efficientnet_is_built_as_its_published_weights_expect() -> None:
    """Keras adds a weightless rescaling only for the literal "imagenet"; its weights need it always."""
    model = select("EfficientNetB0")[0].build(32)
    kinds = [type(layer).__name__ for layer in model.layers[1:4]]
    assert kinds == ["Rescaling", "Normalization", "Rescaling"]
    np.testing.assert_allclose(
        np.asarray(model.layers[3].scale, np.float64), 1 / np.sqrt([0.229, 0.224, 0.225]), rtol=1e-6
    )


def test_an_unknown_mode_is_an_error() -> None:
    def strange(pixels: np.ndarray) -> np.ndarray:
        return np.sqrt(pixels + 1)

    with pytest.raises(ArgumentError, match="unknown preprocessing"):
        preprocessing_of(strange)


@pytest.mark.parametrize("name", ["identity", "tf", "caffe", "torch"])
def test_a_preprocessing_is_found_by_what_it_does_and_read_back_from_its_text(name: str) -> None:
    known = Preprocessing.parse(name)
    assert str(preprocessing_of(known.apply)) == str(known) == name
    other = Preprocessing(mean=(1.5, 2, 3), scale=(4, 5.25, 6), bgr=True)
    assert preprocessing_of(other.apply) == Preprocessing.parse(str(other)) == other


@pytest.mark.parametrize("text", ["", "unknown", "mean=1,2,3", "mean=1,2;scale=1,2,3", "mean=a;scale=1,1,1"])
def test_what_is_no_preprocessing_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Preprocessing.parse(text)


def test_a_missing_preprocessing_is_an_error_and_never_a_default() -> None:
    def constructor() -> None: ...

    with pytest.raises(ArgumentError, match="has no preprocess_input"):
        preprocess_function(constructor)
