"""Build and preprocess tf.keras.applications networks: module-level functions, so that they pickle.

TensorFlow is imported by the first call, not by this module.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import util
from typing import Any, TypeAlias, cast

import numpy as np

from benchmark.errors import ArgumentError, WeightsError
from benchmark.machine import without_native_stderr
from benchmark.records import Precision

LEGACY = "tf_keras"
# Keras and TensorFlow ship no types: these names say what is meant.
KerasModule: TypeAlias = Any
KerasModel: TypeAlias = Any
KerasLayer: TypeAlias = Any
KerasVariable: TypeAlias = Any
TensorFlowGraph: TypeAlias = Any
Tensor: TypeAlias = Any

# Standard deviations of ImageNet's channels, as EfficientNet's constructor uses them.
_IMAGENET_STDDEV_RGB = (0.229, 0.224, 0.225)


def _quietly() -> AbstractContextManager[None]:
    """Around an import of TensorFlow; ``TF_CPP_MIN_LOG_LEVEL=0`` shows everything."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shown = os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0" or "tensorflow" in sys.modules
    return nullcontext() if shown else without_native_stderr()


def import_keras() -> KerasModule:
    """Keras on TensorFlow, without TensorFlow's start-up chatter.

    Raises:
        ArgumentError: ``KERAS_BACKEND`` names another backend.
    """
    with _quietly():
        import keras

    if keras.backend.backend() != "tensorflow":
        raise ArgumentError(
            "Keras runs on another backend",
            where="KERAS_BACKEND",
            expected="tensorflow",
            got=keras.backend.backend(),
            next_step="Unset KERAS_BACKEND and run again.",
        )
    return keras


def import_library(source: str) -> KerasModule:
    """The library of a source of Keras networks: ``tf_keras`` is Keras 2, any other is Keras itself.

    Raises:
        WeightsError: it is not installed.
    """
    if source != LEGACY:
        return import_keras()
    if util.find_spec(LEGACY) is None:
        raise WeightsError.not_installed("tf_keras", "legacy", where=f"source {LEGACY}")
    with _quietly():
        import tf_keras

    return tf_keras


def build_model(input_size: int, *, constructor: str, arguments: Mapping[str, Any]) -> KerasModel:
    """A top-less, average-pooled network, (S, S, 3) float32 -> (D,) float32, with initial weights.

    Args:
        input_size: side S in pixels.
        constructor: name in ``keras.applications``.
        arguments: non-default constructor arguments.

    Returns:
        keras.Model.
    """
    keras = import_keras()
    model = getattr(keras.applications, constructor)(
        include_top=False, weights=None, pooling="avg", input_shape=(input_size, input_size, 3), **arguments
    )
    return _with_pretrained_stem(keras, model) if constructor.startswith("EfficientNetB") else model


def _with_pretrained_stem(keras: KerasModule, model: KerasModel) -> KerasModel:
    """EfficientNet as ``weights="imagenet"`` builds it: one more rescaling after the normalisation.

    The constructor adds that weightless layer only for the literal ``"imagenet"``, although every
    weights file made from those networks expects it.
    """
    factors = [1.0 / math.sqrt(stddev) for stddev in _IMAGENET_STDDEV_RGB]

    def call(layer: KerasLayer, *args: Tensor, **kwargs: Tensor) -> Tensor:
        outputs = layer(*args, **kwargs)
        return keras.layers.Rescaling(factors)(outputs) if layer.name.startswith("normalization") else outputs

    return keras.models.clone_model(model, call_function=call)


def preprocess_images(images: Tensor, *, constructor: str) -> Tensor:
    """What the network expects, from RGB 0..255; the input is never changed.

    Args:
        images: (..., S, S, 3) NumPy array or tensor, uint8 or float.
        constructor: name in ``keras.applications``; its own module's ``preprocess_input`` is used.

    Returns:
        float32, same shape and kind.
    """
    keras = import_keras()
    function = preprocess_function(getattr(keras.applications, constructor))
    if isinstance(images, np.ndarray):
        return function(images.astype(np.float32, copy=True))
    return function(keras.ops.cast(images, "float32"))


def preprocess_function(constructor: Callable[..., KerasModel]) -> Callable[[Tensor], Tensor]:
    """The ``preprocess_input`` that stands beside a constructor.

    Raises:
        ArgumentError: its module has none; there is no default, because a wrong one goes unnoticed.
    """
    function = getattr(sys.modules[constructor.__module__], "preprocess_input", None)
    if function is None:
        raise ArgumentError(
            "has no preprocess_input",
            where=f"{constructor.__module__}.{constructor.__name__}",
            expected="a preprocess_input in the module that defines the constructor",
            next_step="Use a supported Keras version; a guessed preprocessing would spoil every score.",
        )
    return cast("Callable[[Tensor], Tensor]", function)


def for_inference(model: KerasModel, precision: Precision) -> KerasModel:
    """The network as it is traced: the same layers and variables, in the same order.

    ConvNeXt asks for convolutions with ``groups=channels``, for which Keras compiles a separate XLA program
    per layer (13 s for ConvNeXtTiny, and 20 s more to convert them); a depthwise layer computes the same
    sums from the same numbers without that.
    """
    keras = import_keras()
    mixed = {"dtype": "mixed_bfloat16"} if precision is Precision.BFLOAT16 else {}

    def is_depthwise(layer: KerasLayer) -> bool:
        return isinstance(layer, keras.layers.Conv2D) and layer.groups == layer.filters > 1

    def clone(layer: KerasLayer) -> KerasLayer:
        config = {**layer.get_config(), **mixed}
        if not is_depthwise(layer):
            return layer.__class__.from_config(config)
        kept = [
            "name",
            "dtype",
            "kernel_size",
            "strides",
            "padding",
            "use_bias",
            "dilation_rate",
            "activation",
        ]
        return keras.layers.DepthwiseConv2D(**{key: config[key] for key in kept})

    if not mixed and not any(is_depthwise(layer) for layer in model.layers):
        return model
    return keras.models.clone_model(model, clone_function=clone)
