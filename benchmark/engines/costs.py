"""What a backbone costs in an engine: one model for choosing engines, sharing cores, progress and plans.

One thread takes ``once + variables * per_variable + parameters * per_parameter`` to prepare a network, and
every image takes ``per_image + variables * per_operation + operations / rate`` on one core: a network of
many small layers spends its time between them, one of few large ones in arithmetic. ``docs/scaling.md`` says
how the constants were found.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.records import FLOPS_SIZE, Backbone, Engine, Precision


@dataclass(frozen=True, slots=True)
class _Preparation:
    """Seconds of one thread: once, for each variable of the network, and for each parameter."""

    once: float
    per_variable: float
    per_parameter: float

    def seconds(self, backbone: Backbone) -> float:
        return self.once + self.per_variable * backbone.variables + self.per_parameter * backbone.params


@dataclass(frozen=True, slots=True)
class _Inference:
    """Seconds of one core for an image: always, for each variable of the network, and for its arithmetic."""

    per_image: float
    per_operation: float
    flops_per_second: float

    def seconds(self, backbone: Backbone, input_size: int) -> float:
        between = self.per_image + self.per_operation * backbone.variables
        return between + backbone.flops_at(input_size) / self.flops_per_second


_BUILD = _Preparation(0.5, 0.006, 8e-9)  # and load its weights, whatever the engine
_TRACE = _Preparation(0.4, 0.006, 0.0)
_CONVERT = _Preparation(0.6, 0.004, 30e-9)  # and compare with its own library
_OPEN = _Preparation(0.2, 0.001, 5e-9)
_INFERENCE = {
    (Engine.TENSORFLOW, Precision.FLOAT32): _Inference(3.0e-3, 10e-6, 80e9),
    (Engine.TORCH, Precision.FLOAT32): _Inference(3.0e-3, 10e-6, 80e9),
    (Engine.OPENVINO, Precision.FLOAT32): _Inference(0.5e-3, 6e-6, 100e9),
    (Engine.OPENVINO, Precision.BFLOAT16): _Inference(0.4e-3, 4e-6, 210e9),
}
# Peak of a process that builds, converts and embeds: TensorFlow or OpenVINO itself, the weights, of which
# conversion holds many copies at once, and the pictures inside the network at 224 pixels, which grow with its
# arithmetic up to a point. Measured from MobileNet_0.25 (0.4 GB) to ConvNeXtXLarge (17 GB).
_PROCESS_BYTES = 500e6
_COPIES = 13
_BYTES_PER_FLOP = 0.12
_MOST_ACTIVATIONS = 600e6


def prepare_seconds(backbone: Backbone, engine: Engine, *, converted: bool) -> float:
    """What one thread takes until a backbone can embed.

    Args:
        backbone: which.
        engine: what will execute it.
        converted: its converted model is in the cache.
    """
    if engine is not Engine.OPENVINO:
        return _BUILD.seconds(backbone) + _TRACE.seconds(backbone)
    opened = _OPEN.seconds(backbone)
    return opened if converted else opened + _BUILD.seconds(backbone) + _CONVERT.seconds(backbone)


def image_seconds(backbone: Backbone, input_size: int, engine: Engine, precision: Precision) -> float:
    """What one core takes for an image, in memory at its input size."""
    known = _INFERENCE.get((engine, precision)) or _INFERENCE[engine, Precision.FLOAT32]
    return known.seconds(backbone, input_size)


def memory_bytes(backbone: Backbone, input_size: int, engine: Engine | None) -> tuple[float, float]:
    """Memory that a process needs at most to prepare a backbone and to embed with it.

    Returns:
        What it takes with one thread, and what each further thread adds: TensorFlow has a batch for each,
        OpenVINO a few images.
    """
    area = (input_size / FLOPS_SIZE) ** 2
    activations = area * min(_MOST_ACTIVATIONS, _BYTES_PER_FLOP * backbone.flops)
    alone = _PROCESS_BYTES + _COPIES * backbone.float32_bytes + activations
    return alone, 0.0 if engine is Engine.OPENVINO else activations
