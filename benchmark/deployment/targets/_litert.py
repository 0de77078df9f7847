"""What all TFLite files have in common: TensorFlow's converter makes them, LiteRT runs them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.targets import EXACT, Classify, Tolerance
from benchmark.records import Float32, UInt8


class LiteRT:
    """A TFLite file with float32 weights; others override what they do otherwise."""

    file = "model.tflite"
    about = "float32"
    runtime = "ai-edge-litert"
    requires: tuple[str, ...] = ("ai_edge_litert",)
    batch = 1  # phones send one image, and a fixed shape lets the delegate take the whole graph
    tolerance: Tolerance = EXACT
    example = """\
from ai_edge_litert.interpreter import Interpreter

model = Interpreter(str(here / info["model"]))
model.allocate_tensors()
taken, given = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]


def run(pixels):
    model.set_tensor(taken, pixels)
    model.invoke()
    return model.get_tensor(given)[0]
"""

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        """Write the file."""
        import tensorflow as tf

        from benchmark.deployment.frozen import frozen_function

        function = frozen_function(model, images.shape[1], self.batch)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
        self.configure(converter)
        path.write_bytes(converter.convert())
        return ()

    def configure(self, converter: Any) -> None:
        """Set how a ``tf.lite.TFLiteConverter`` stores the weights."""

    def load(self, path: Path, threads: int) -> Classify:
        """Load the file."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def run(images: UInt8) -> Float32:
            interpreter.set_tensor(taken["index"], images)
            interpreter.invoke()
            return np.asarray(interpreter.get_tensor(given["index"]), np.float32)

        return run
