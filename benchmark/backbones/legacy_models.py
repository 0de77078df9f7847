"""Build, preprocess and freeze networks of tf_keras.applications: Keras 2, which has some that Keras 3 lacks.

tf_keras and TensorFlow are imported by the first call, not by this module. Keras 3 may be there beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np

from benchmark.backbones.frozen_graph import INPUT_NAME, OUTPUT_NAME, GraphDefinition, without_gradients
from benchmark.backbones.keras_models import LEGACY, KerasModel, Tensor, import_library, preprocess_function
from benchmark.backbones.networks import KerasNetwork
from benchmark.records import Precision


def build_legacy(input_size: int, *, constructor: str, arguments: Mapping[str, Any]) -> KerasModel:
    """As ``build_model``, of tf_keras."""
    keras = import_library(LEGACY)
    make = getattr(keras.applications, constructor)
    # Its published weights expect a layer that the constructor adds only where it would load them.
    stem = constructor.startswith("EfficientNetB")
    with _loading_nothing() if stem else nullcontext():
        return make(
            include_top=False,
            weights="imagenet" if stem else None,
            pooling="avg",
            input_shape=(input_size, input_size, 3),
            **arguments,
        )


@contextmanager
def _loading_nothing() -> Iterator[None]:
    keras = import_library(LEGACY)
    from tf_keras.src.utils import data_utils

    with mock.patch.object(data_utils, "get_file"), mock.patch.object(keras.Model, "load_weights"):
        yield


def preprocess_legacy(images: Tensor, *, constructor: str) -> Tensor:
    """As ``preprocess_images``, of tf_keras."""
    function = preprocess_function(getattr(import_library(LEGACY).applications, constructor))
    if isinstance(images, np.ndarray):
        return function(images.astype(np.float32, copy=True))
    import tensorflow as tf

    return function(tf.cast(images, tf.float32))


class LegacyNetwork(KerasNetwork):
    """A loaded network of tf_keras: (S, S, 3) -> (D,)."""

    def freeze(self, precision: Precision = Precision.FLOAT32) -> GraphDefinition:
        """The network as a TensorFlow graph of constants, preprocessing included."""
        return freeze_legacy(self._preprocess, self._model, precision)


def freeze_legacy(
    preprocess: Callable[[Tensor], Tensor], model: KerasModel, precision: Precision
) -> GraphDefinition:
    """As ``frozen_graph.freeze``, of tf_keras."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    network = _in_bfloat16(model) if precision is Precision.BFLOAT16 else model

    def embed(images: Tensor) -> Tensor:
        features = network(preprocess(tf.cast(images, tf.float32)), training=False)
        return tf.identity(tf.cast(features, tf.float32), name=OUTPUT_NAME)

    size = int(model.input_shape[1])
    signature = tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT_NAME)
    traced = tf.function(embed, autograph=False).get_concrete_function(signature)
    return without_gradients(convert_variables_to_constants_v2(traced).graph.as_graph_def())


def _in_bfloat16(model: KerasModel) -> KerasModel:
    keras = import_library(LEGACY)
    clone = keras.models.clone_model(
        model,
        clone_function=lambda layer: layer.__class__.from_config(
            {**layer.get_config(), "dtype": "mixed_bfloat16"}
        ),
    )
    clone.set_weights(model.get_weights())
    return clone
