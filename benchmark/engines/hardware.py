"""What this machine can compute with, found without importing an engine."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmark.machine import instruction_set, processor_flags
from benchmark.records import Engine

# Of NVIDIA's cards, of those of a Jetson, of those in Windows' Linux, and of AMD's.
_GPU_DEVICES = (
    *(Path("/dev/nvidia0"), Path("/proc/driver/nvidia/gpus")),
    *(Path("/dev/nvhost-gpu"), Path("/dev/nvgpu"), Path("/dev/dxg"), Path("/dev/kfd")),
)
# Each ends with a line that is the name of the GPU that it multiplied on.
_MULTIPLY_ON_GPU = {
    Engine.TENSORFLOW: """
import tensorflow as tf
tf.config.set_soft_device_placement(False)
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)
with tf.device("/GPU:0"):
    ones = tf.ones((8, 8))
    if float(tf.reduce_sum(ones @ ones)) != 512:
        raise SystemExit(1)
gpu = tf.config.get_visible_devices("GPU")[0]
print(tf.config.experimental.get_device_details(gpu).get("device_name", ""))
""",
    Engine.TORCH: """
import torch
ones = torch.ones((8, 8), device="cuda:0")
if float((ones @ ones).sum()) != 512:
    raise SystemExit(1)
print(torch.cuda.get_device_name(0))
""",
}
_PATIENCE_SECONDS = 120
_UNNAMED = "unnamed"
_found: dict[Engine, str] = {}
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


def has_gpu(engine: Engine) -> bool:
    """Whether an engine computes on a GPU here. Engines obey this: keys of their vectors say the same."""
    return bool(gpu_name(engine))


def computes_on(engine: Engine) -> str:
    """What an engine's arithmetic depends on here: the instruction set of the processor, or the GPU."""
    name = gpu_name(engine)
    return f"GPU {name}" if name else instruction_set()


def believe_gpus(names: Mapping[Engine, str]) -> None:
    """Take another process's word for what ``gpu_name`` says here.

    A worker that asked for itself might find a card that its neighbours have filled, or one that whoever
    planned its work could not use, and compute otherwise than planned.
    """
    _found.update(names)


def gpu_name(engine: Engine) -> str:
    """What the GPU calls itself that an engine computes on here; empty where it computes on none.

    A device file says nothing of drivers, libraries, what the installed package was built for, and which of
    several cards is the first. So where there is one, the engine is asked to multiply on it, in a process of
    its own, once.
    """
    if engine not in _found:
        _found[engine] = _asked(engine)
    return _found[engine]


def _has_device(engine: Engine) -> bool:
    if any(path.exists() for path in _GPU_DEVICES):
        return True
    # Windows has a library of NVIDIA's driver instead; TensorFlow has no GPUs there.
    driver = Path(os.environ.get("SYSTEMROOT", "/"), "System32", "nvcuda.dll")
    return engine is Engine.TORCH and driver.exists()


def _asked(engine: Engine) -> str:
    if engine not in _MULTIPLY_ON_GPU or not _has_device(engine):
        return ""
    if engine is Engine.TENSORFLOW and (tensorflow := sys.modules.get("tensorflow")) is not None:
        config = tensorflow.config
        names = [
            config.experimental.get_device_details(gpu).get("device_name", "")
            for gpu in config.get_visible_devices("GPU")
        ]
        return _readable(names[0]) if names else ""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _MULTIPLY_ON_GPU[engine]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if asked.returncode != 0:
        return ""
    return _readable(asked.stdout.decode(errors="replace").removesuffix("\n").rpartition("\n")[2])


def _readable(name: str) -> str:
    """A name without what no screen shows, on one line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()) or _UNNAMED
