"""Random changes of raw images, by Keras's own layers, keyed by image, view and seed.

The same key always gives the same picture, whatever the batch, the order or an interruption, so that an
epoch can be repeated and a view can be kept. Loads TensorFlow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from benchmark.finetuning.recipe import Augmentation, Flip
from benchmark.records import UInt8

Keys = npt.NDArray[np.uint32]
_BRIGHTEST = 255.0
_FULL_TURN = 360.0


class _KeyedSeeds(keras.random.SeedGenerator):  # type: ignore[misc]
    """Draws from one image's key: the n-th draw is always the same one.

    Keras's own generator counts in a variable, which makes a picture depend on all pictures before it.
    """

    def __init__(self, key: tf.Tensor) -> None:
        """Without the parent's: a variable must not be created inside an input pipeline; key: uint32 (2,)."""
        self._key = key
        self._draws = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """The next seed, uint32 (2,)."""
        del ordered
        self._draws += 1
        drawn: tf.Tensor = self._key + tf.constant([0, self._draws], tf.uint32)
        return drawn


def view_key(seed: int, view: int, image_id: str) -> bytes:
    """The name of one random view of one image, SHA-256, 32 bytes."""
    return hashlib.sha256(f"{seed}:{view}:{image_id}".encode()).digest()


def view_keys(seed: int, view: int, image_ids: Iterable[str]) -> Keys:
    """The random keys of one view of some images, uint32 (n, 2)."""
    names = b"".join(view_key(seed, view, image_id)[:8] for image_id in image_ids)
    return np.frombuffer(names, "<u4").reshape(-1, 2)


def augmenter(augmentation: Augmentation) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function for ``tf.data``.

    Returns:
        ``augment(image, key)``: uint8 (S, S, 3) and uint32 (2,) to uint8 (S, S, 3). Values are clipped to
        0..255 and rounded, so that the network sees what a file could hold.
    """
    layers = [*_colour_layers(augmentation), *_geometry_layers(augmentation)]

    def augment(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        seeds = _KeyedSeeds(key)
        changed = tf.cast(image, tf.float32)[None]
        for layer in layers:
            transformation = layer.get_random_transformation(changed, training=True, seed=seeds)
            changed = layer.transform_images(changed, transformation, training=True)
        whole = tf.cast(tf.round(tf.clip_by_value(changed[0], 0.0, _BRIGHTEST)), tf.uint8)
        same: tf.Tensor = tf.ensure_shape(whole, image.shape)
        return same

    return augment


def augment_images(augmentation: Augmentation, images: UInt8, keys: Keys) -> UInt8:
    """Augment a few images at once, for a contact sheet: uint8 (n, S, S, 3), keys uint32 (n, 2)."""
    data = tf.data.Dataset.from_tensor_slices((images, keys))
    # As in training, so that the pictures are those of training to the bit.
    changed = data.map(augmenter(augmentation), num_parallel_calls=tf.data.AUTOTUNE)
    return np.stack(list(changed.as_numpy_iterator()))


def _colour_layers(augmentation: Augmentation) -> list[Any]:
    layers: list[Any] = []
    if augmentation.brightness:
        layers.append(keras.layers.RandomBrightness(augmentation.brightness / _BRIGHTEST))
    if augmentation.contrast != (1.0, 1.0):
        low, high = augmentation.contrast
        layers.append(keras.layers.RandomContrast((1.0 - low, high - 1.0)))
    if augmentation.hue:
        # Keras moves the hue by half of its factor.
        layers.append(keras.layers.RandomHue(2.0 * augmentation.hue))
    if augmentation.saturation != (1.0, 1.0):
        low, high = augmentation.saturation
        layers.append(keras.layers.RandomSaturation((_saturation_factor(low), _saturation_factor(high))))
    return layers


def _saturation_factor(scale: float) -> float:
    """Keras multiplies the saturation by f / (1 - f)."""
    return scale / (1.0 + scale)


def _geometry_layers(augmentation: Augmentation) -> list[Any]:
    layers: list[Any] = []
    fill = {"fill_mode": augmentation.fill.value}
    # Keras's "horizontal_and_vertical" throws one coin for both: it turns an image by 180 degrees or not.
    if augmentation.flip in (Flip.HORIZONTAL, Flip.BOTH):
        layers.append(keras.layers.RandomFlip("horizontal"))
    if augmentation.flip in (Flip.VERTICAL, Flip.BOTH):
        layers.append(keras.layers.RandomFlip("vertical"))
    if augmentation.rotation_degrees:
        layers.append(keras.layers.RandomRotation(augmentation.rotation_degrees / _FULL_TURN, **fill))
    if augmentation.shift:
        layers.append(keras.layers.RandomTranslation(augmentation.shift, augmentation.shift, **fill))
    if augmentation.shear:
        layers.append(keras.layers.RandomShear(augmentation.shear, 0.0, **fill))
    if augmentation.zoom:
        layers.append(keras.layers.RandomZoom(augmentation.zoom, **fill))
    return layers
