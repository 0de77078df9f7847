"""What this machine can compute with, found without importing an engine."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from benchmark.machine import processor_flags
from benchmark.records import Engine

_GPU_FACTS = Path("/proc/driver/nvidia/gpus")
_GPU_DEVICES = (Path("/dev/nvidia0"), Path("/dev/dxg"), _GPU_FACTS)
_MULTIPLY_ON_GPU = {
    Engine.TENSORFLOW: """
import tensorflow as tf
tf.config.set_soft_device_placement(False)
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)
with tf.device("/GPU:0"):
    ones = tf.ones((8, 8))
    raise SystemExit(float(tf.reduce_sum(ones @ ones)) != 512)
""",
    Engine.TORCH: """
import torch
ones = torch.ones((8, 8), device="cuda")
raise SystemExit(float((ones @ ones).sum()) != 512)
""",
}
_PATIENCE_SECONDS = 120
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
def has_gpu(engine: Engine = Engine.TENSORFLOW) -> bool:
    """Whether TensorFlow, or another engine, computes on a GPU here.

    A device file says nothing of drivers, libraries and what the installed package was built for. So where
    there is one, the engine is asked to multiply on it, in a process of its own.
    """
    if engine not in _MULTIPLY_ON_GPU:
        return False
    if not any(path.exists() for path in _GPU_DEVICES):
        return False
    if engine is Engine.TENSORFLOW and (tensorflow := sys.modules.get("tensorflow")) is not None:
        return bool(tensorflow.config.list_physical_devices("GPU"))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _MULTIPLY_ON_GPU[engine]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def gpu_name() -> str:
    """What the first GPU calls itself; empty where its driver does not say."""
    for path in sorted(_GPU_FACTS.glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
        if names:
            return names[0]
    return ""
