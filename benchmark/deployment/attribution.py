"""Grad-CAM: which parts of an image a Keras model's decision rests on.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
ICCV 2017, arXiv:1610.02391. The libraries that offer it are written for Keras 2 (tf-keras-vis, tf-explain) or
look for the feature map among a model's own layers only, which misses a nested backbone.
"""

# ruff: noqa: ANN401 - layers and tensors have no public types that hold for every backend

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import load_keras_model
from benchmark.deployment.description import KERAS, Deployment, check_files
from benchmark.deployment.heatmap import overlay_png
from benchmark.deployment.opening import find_model, model_dir_of
from benchmark.deployment.prediction import predictions_of
from benchmark.errors import ArgumentError
from benchmark.records import Float32, UInt8

_LEAST_SIDE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """A Keras model opened for explanation.

    Attributes:
        description: of the model.
        exposed: keras.Model images -> [probabilities, feature map, input of the last dense layer].
        dense: the last dense layer.
    """

    description: Deployment
    exposed: Any
    dense: Any

    def explain(self, images: UInt8, label: str | None = None) -> tuple[Float32, Float32]:
        """Maps of images.

        Args:
            images: uint8 (N, S, S, 3), RGB.
            label: the class to explain; None takes the positive class, else each image's most probable one.

        Returns:
            float32 (N, h, w) maps, each scaled to 0..1 (all 0 where nothing speaks for the class), and
            float32 (N, C) probabilities of the model.

        Raises:
            ArgumentError: an unknown label.
        """
        import tensorflow as tf

        pixels = tf.cast(images, tf.float32)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pixels)  # so that everything after them is recorded, the feature map included
            probabilities, features, vectors = self.exposed(pixels, training=False)
            score = self._scores(vectors, probabilities, label)
        gradient = tape.gradient(score, features)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        maps = np.maximum(np.asarray(tf.reduce_sum(weights * features, axis=-1)), 0)
        largest = maps.max(axis=(1, 2), keepdims=True)
        return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0), np.asarray(probabilities)

    def picture(self, image: UInt8, label: str | None = None, *, threshold: float | None = None) -> bytes:
        """An overlay of the map of one image uint8 (S, S, 3), as a PNG.

        The label is the positive class where None, else the most probable one; the threshold of the decision
        in the caption is the model's own where None.
        """
        maps, probabilities = self.explain(image[None], label)
        (row,) = predictions_of(probabilities, self.description, threshold)
        labels = self.description.labels
        shown = label or self.description.positive or labels[int(np.argmax(row.probabilities))]
        caption = f"{row.label or 'nothing decided'} ({shown}: {row.probabilities[labels.index(shown)]:.3f})"
        return overlay_png(image, maps[0], caption=caption, unit=f"relative evidence for {shown}")

    def _scores(self, vectors: Any, probabilities: Any, label: str | None) -> Any:
        import tensorflow as tf

        labels = self.description.labels
        if label is not None and label not in labels:
            raise ArgumentError("unknown class", where="label", expected=", ".join(labels), got=label)
        # Logits, because the gradient of a saturated probability is zero; the bias has none.
        logits = tf.matmul(vectors, self.dense.kernel)
        positive = self.description.positive
        wanted = label or positive
        if logits.shape[1] == 1:
            return logits[:, 0] if wanted in (positive, None) or positive is None else -logits[:, 0]
        columns = (
            tf.argmax(probabilities, axis=1, output_type=tf.int32)
            if wanted is None
            else tf.fill([len(logits)], labels.index(wanted))
        )
        return tf.gather(logits, columns, batch_dims=1)


def open_explainer(path: Path) -> Explainer:
    """Open a model for Grad-CAM.

    Args:
        path: as for ``open_model``. An export in another format is explained through the ``model.keras`` of
            the model folder that it lies in.

    Raises:
        ManifestError: no such model, or files that are not what they were when written.
        ArgumentError: another format without a Keras model beside it, or a network without a feature map or a
            dense layer.
    """
    folder, description = find_model(path)
    if description.target != KERAS and (model_dir := model_dir_of(folder)):
        folder, description = find_model(model_dir)
    if description.target != KERAS:
        raise ArgumentError(
            "only the Keras model can be explained",
            where=folder,
            expected="a model folder with model.keras, or an export inside one",
            got=f"{description.target} alone",
            next_step="Give the folder with model.keras, or ask for no heatmaps.",
        )
    check_files(folder, description.files)
    return make_explainer(load_keras_model(folder / description.model), description)


def make_explainer(model: Any, description: Deployment) -> Explainer:
    """An explainer of a loaded model.

    Raises:
        ArgumentError: a network without a feature map or a dense layer.
    """
    import keras

    found = _expose(model)
    if found.features is None or found.dense is None:
        raise ArgumentError(
            "the network cannot be explained",
            expected="a feature map (N, h, w, channels) before a dense layer",
            got=", ".join(type(layer).__name__ for layer in model.layers),
        )
    exposed = keras.Model(found.inputs, [found.output, found.features, found.vectors])
    return Explainer(description=description, exposed=exposed, dense=found.dense)


@dataclass(slots=True)
class _Exposed:
    """A model's graph, rebuilt on the same layers, with two tensors inside it."""

    inputs: Any = None  # symbolic
    output: Any = None
    features: Any = None  # the last feature map before the last dense layer, larger than 1 x 1
    vectors: Any = None  # what the last dense layer takes
    dense: Any = None  # the last dense layer


def _expose(model: Any) -> _Exposed:
    import keras

    found = _Exposed()

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model):
            return _through(layer, arguments, found)
        result = layer(*arguments, **options)
        if isinstance(layer, keras.layers.Dense) and len(arguments[0].shape) == 2:
            found.dense, found.vectors = layer, arguments[0]
        shape = getattr(result, "shape", ())
        if len(shape) == 4 and None not in shape[1:3] and min(shape[1:3]) >= _LEAST_SIDE:
            found.features = result
        return result

    rebuilt = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    found.inputs, found.output = rebuilt.inputs, rebuilt.outputs[0]
    return found


def _through(layer: Any, arguments: Sequence[Any], found: _Exposed) -> Any:
    """Call a nested model so that what it exposes becomes a tensor of the outer one."""
    import keras

    inner = _expose(layer)
    named = [
        (name, getattr(inner, name)) for name in ("features", "vectors") if getattr(inner, name) is not None
    ]
    results = keras.Model(inner.inputs, [inner.output, *(tensor for _, tensor in named)])(arguments[0])
    for (name, _), tensor in zip(named, results[1:], strict=True):
        setattr(found, name, tensor)
    found.dense = inner.dense or found.dense
    return results[0]
