"""TFLite with int8 weights and float32 activations."""

from __future__ import annotations

from typing import Any

from benchmark.deployment.targets import ROUNDED, Target
from benchmark.deployment.targets._litert import LiteRT


class _Dynamic(LiteRT):
    about = "int8 weights, float32 activations"
    tolerance = ROUNDED

    def configure(self, converter: Any) -> None:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]


TARGET: Target = _Dynamic()
