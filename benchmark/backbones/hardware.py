"""What this machine can compute with, found without importing an engine."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from benchmark.machine import processor_flags

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    flags = processor_flags()
    return not _BFLOAT16_FLAGS.isdisjoint(flags) if flags else _openvino_says_bfloat16()


def _openvino_says_bfloat16() -> bool:
    if not has_openvino():
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def has_openvino() -> bool:
    """Whether OpenVINO is installed; there are no wheels for some platforms."""
    return importlib.util.find_spec("openvino") is not None


@functools.cache
def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with a driver."""
    return any(Path("/proc/driver/nvidia/gpus").glob("*")) or Path("/dev/nvidia0").exists()
