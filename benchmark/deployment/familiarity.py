"""A Keras model that gives its pooled vectors, too: pictures unlike its training images can be told."""

# ruff: noqa: ANN401 - layers and tensors have no public types that hold for every backend

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import load_keras_model
from benchmark.deployment.description import DESCRIPTION, KERAS, Deployment
from benchmark.deployment.predictor import Predictor
from benchmark.finetuning import HEAD_LAYERS, VECTORS_FILE, Familiar, load_manifest
from benchmark.records import Float32, UInt8


def load_familiar(folder: Path, description: Deployment) -> Predictor | None:
    """A model that knows what its training images look like; None for one that does not.

    Its files were checked before.

    Raises:
        ManifestError: vectors that are none, or another network than fine-tuning writes.
    """
    is_export = (folder / DESCRIPTION).is_file()
    if description.target != KERAS or is_export or not (folder / VECTORS_FILE).is_file():
        return None
    familiar = Familiar.read(folder, load_manifest(folder, verify=False))
    if familiar is None:
        return None
    call = _both(load_keras_model(folder / description.model))

    def run(images: UInt8) -> tuple[Float32, Float32]:
        probabilities, vectors = call(images)
        return np.asarray(probabilities), np.asarray(vectors)

    predictor = Predictor(description, lambda images: run(images)[0])
    predictor.know(familiar, run)
    return predictor


def _both(model: Any) -> Any:
    """Images -> probabilities (N, C) and pooled vectors (N, D), in one pass."""
    import keras
    import tensorflow as tf

    names = {layer.name for layer in model.layers}
    first = next(name for name in HEAD_LAYERS if name in names)
    both = keras.Model(model.inputs, [model.outputs[0], model.get_layer(first).input])
    return tf.function(
        lambda images: both(tf.cast(images, tf.float32), training=False), reduce_retracing=True
    )
