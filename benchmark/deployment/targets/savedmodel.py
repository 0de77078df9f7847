"""TensorFlow's SavedModel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.targets import EXACT, Classify, Target
from benchmark.records import Float32, UInt8


class _SavedModel:
    file = "saved_model"
    about = "a folder with the signature `serving_default`, for TensorFlow Serving"
    runtime = "tensorflow"
    requires: tuple[str, ...] = ()
    batch = 0
    tolerance = EXACT
    example = """\
import tensorflow as tf

model = tf.saved_model.load(str(here / info["model"]))


def run(pixels):
    return model.signatures["serving_default"](images=tf.constant(pixels))["probabilities"].numpy()[0]
"""

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        import tensorflow as tf

        module: Any = tf.Module()
        module.model = model

        def serve(images: Any) -> Any:
            return {"probabilities": model(tf.cast(images, tf.float32), training=False)}

        spec = tf.TensorSpec((None, *images.shape[1:]), tf.uint8, name="images")
        module.serve = tf.function(serve, input_signature=[spec])
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
        return ()

    def load(self, path: Path, threads: int) -> Classify:
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]

        def run(images: UInt8) -> Float32:
            (answer,) = signature(images=tf.constant(images)).values()
            return np.asarray(answer, np.float32)

        run.loaded = loaded  # type: ignore[attr-defined]  # the signature does not keep its variables alive
        return run


TARGET: Target = _SavedModel()
