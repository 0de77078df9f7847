"""A Keras model as one function with constant weights, which converters take.

Every format but ``.keras`` and SavedModel is made from it: handed a function with variables, the TFLite
converter of TensorFlow 2.21 wrote files of 0.17 MB without weights that answer NaN, and no error.
"""

# ruff: noqa: ANN401 - TensorFlow's models and functions carry no types

from __future__ import annotations

from typing import Any


def frozen_function(model: Any, size: int, batch: int | None, *, dtype: str = "uint8") -> Any:
    """The model as a ConcreteFunction ``images (batch, S, S, 3) -> probabilities`` with constant weights."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def probabilities(images: Any) -> Any:
        return tf.identity(model(tf.cast(images, tf.float32), training=False), name="probabilities")

    spec = tf.TensorSpec((batch, size, size, 3), dtype, name="images")
    return convert_variables_to_constants_v2(tf.function(probabilities).get_concrete_function(spec))
