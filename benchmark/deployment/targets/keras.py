"""Keras's own format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import load_keras_model
from benchmark.deployment.targets import EXACT, Classify, Target
from benchmark.records import UInt8


class _Keras:
    file = "model.keras"
    about = "Keras, without optimizer state"
    runtime = "tensorflow"
    requires: tuple[str, ...] = ()
    batch = 0
    tolerance = EXACT
    example = """\
import keras

model = keras.saving.load_model(here / info["model"], compile=False)


def run(pixels):
    return model.predict(pixels, verbose=0)[0]
"""

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        # Loaded without compiling, so that no optimizer state travels.
        model.save(path)
        return ()

    def load(self, path: Path, threads: int) -> Classify:
        import tensorflow as tf

        model: Any = load_keras_model(path)
        # Tracing once is cheaper than Model.predict; batch shapes are few.
        call = tf.function(
            lambda images: model(tf.cast(images, tf.float32), training=False), reduce_retracing=True
        )
        return lambda images: np.asarray(call(tf.constant(images)))


TARGET: Target = _Keras()
