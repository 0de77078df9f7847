"""TFLite with float16 weights."""

from __future__ import annotations

from typing import Any

from benchmark.deployment.targets import Target, Tolerance
from benchmark.deployment.targets._litert import LiteRT


class _Float16(LiteRT):
    about = "float16 weights, half the size"
    tolerance = Tolerance(max_difference=0.05, mean_difference=5e-3, label_agreement=1.0, f1_loss=0.0)

    def configure(self, converter: Any) -> None:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]


TARGET: Target = _Float16()
