"""What training and prediction read: pixels in any order, augmented on the way. Loads TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from benchmark.finetuning.augment import Keys, augmenter
from benchmark.finetuning.pixels import Pixels
from benchmark.finetuning.recipe import Augmentation
from benchmark.finetuning.untyped import Model, Tensor
from benchmark.records import Float32, Int64, UInt8

Batch = tuple[Tensor, Tensor, Tensor]
Answers = tuple[Float32, Float32]  # targets and weights, (N, U) each, by row position
_PREFETCHED_BATCHES = 2


class PixelFeed:
    """Batches of augmented images with targets and weights, traced once for all epochs."""

    def __init__(
        self, pixels: Pixels, size: int, answers: Answers | None, augmentation: Augmentation, batch: int
    ) -> None:
        """Build the input pipeline for images of side ``size``; without answers it feeds empty ones."""
        self._pixels = pixels
        self._answers = answers
        self._plan: tuple[Int64, Keys] = (np.zeros(0, np.int64), np.zeros((0, 2), np.uint32))
        width = answers[0].shape[1] if answers else 0
        signature = (
            tf.TensorSpec((size, size, 3), tf.uint8),
            tf.TensorSpec((2,), tf.uint32),
            tf.TensorSpec((width,), tf.float32),
            tf.TensorSpec((width,), tf.float32),
        )
        images: Any = tf.data.Dataset.from_generator(self._rows, output_signature=signature)
        if augmentation.changes_nothing:
            images = images.map(lambda image, _, target, weight: (image, target, weight))
        else:
            images = images.map(_augmenting(augmentation), num_parallel_calls=tf.data.AUTOTUNE)
        self._batches = images.batch(batch).prefetch(_PREFETCHED_BATCHES)

    def epoch(self, rows: Int64, keys: Keys) -> Iterator[Batch]:
        """One pass over ``rows``, in their order: (uint8 (B, S, S, 3), targets (B, U), weights (B, U)).

        The random keys of these images' views are uint32 (n, 2).
        """
        self._plan = (rows, keys)
        return iter(self._batches)

    def _rows(self) -> Iterator[tuple[UInt8, Keys, Float32, Float32]]:
        rows, keys = self._plan
        nothing = np.zeros(0, np.float32)
        for row, key, image in zip(rows, keys, self._pixels(rows), strict=True):
            target, weight = (array[row] for array in self._answers) if self._answers else (nothing, nothing)
            yield image, key, target, weight


def _augmenting(augmentation: Augmentation) -> Callable[..., Batch]:
    augment = augmenter(augmentation)
    return lambda image, key, target, weight: (augment(image, key), target, weight)


def vector_batches(features: Float32, rows: Int64, answers: Answers, batch: int) -> Iterator[Batch]:
    """Batches of embeddings (n, D), row i of which belongs to ``rows[i]``, with targets and weights."""
    targets, weights = answers
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        yield (
            tf.constant(features[part]),
            tf.constant(targets[rows[part]]),
            tf.constant(weights[rows[part]]),
        )


class Inference:
    """A network without training behaviour, run over images in batches of one shape."""

    def __init__(self, model: Model, pixels: Pixels, batch: int) -> None:
        """Trace the network, images (B, S, S, 3) -> (B, D).

        The last batch is padded, so that an image's numbers do not depend on how many others are asked for.
        """
        self._pixels = pixels
        self._batch = batch
        shape = (batch, *model.input.shape[1:])
        # A concrete function has one shape for ever, and is not counted as retracing when networks follow
        # each other in one process.
        function = tf.function(lambda images: model(images, training=False))
        self._call = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))

    def __call__(self, rows: Int64, pixels: Pixels | None = None) -> Float32:
        """Outputs float32 (n, D) for int64 (n,) positions; of other ``pixels`` where they are given."""
        outputs: list[Float32] = []
        waiting: list[UInt8] = []
        for image in (pixels or self._pixels)(rows):
            waiting.append(image)
            if len(waiting) == self._batch:
                outputs.append(self._run(waiting))
                waiting = []
        if waiting:
            outputs.append(self._run(waiting))
        return np.concatenate(outputs) if outputs else np.zeros((0, 0), np.float32)

    def _run(self, images: Sequence[UInt8]) -> Float32:
        batch = np.zeros((self._batch, *images[0].shape), np.uint8)
        batch[: len(images)] = np.stack(images)
        return self.embed(batch)[: len(images)]

    def embed(self, batch: UInt8) -> Float32:
        """Outputs float32 (B, D) of one full batch, uint8 (B, S, S, 3)."""
        found: Float32 = self._call(tf.cast(tf.constant(batch), tf.float32)).numpy()
        return found
