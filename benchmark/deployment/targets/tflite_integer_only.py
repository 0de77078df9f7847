"""TFLite with int8 weights and activations and no operator in float, whatever that costs."""

from benchmark.deployment.targets import Target
from benchmark.deployment.targets.tflite_int8 import Int8


class _IntegerOnly(Int8):
    about = "no operator in float, for hardware without floating point"
    integer_only = True


TARGET: Target = _IntegerOnly()
