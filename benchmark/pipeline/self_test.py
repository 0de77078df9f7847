"""How fast this machine is beside the one that the cost model was measured on, found in ten seconds.

Arithmetic is timed in the engine itself where that is OpenVINO, on all cores at once, as a run has them;
everything else is bound by how fast Python runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.engines import has_bfloat16, has_openvino
from benchmark.machine import cores
from benchmark.pipeline.costs import WorkKind, remember_self_test

_SECONDS = 5.0  # of each of the two
# What the machine of the model does: floating-point operations a second of one core, and rounds of Python.
_REFERENCE_FLOPS = {"bf16": 217e9, "f32": 112e9, "numpy": 95e9}
_REFERENCE_ROUNDS = 1000.0
_SIDE, _CHANNELS, _LAYERS = 28, 128, 8
_MATRIX = 1024


def self_test(cache: Path) -> dict[str, float]:
    """Time this machine, and keep what that came to for predictions, where the cache takes anything.

    Returns:
        By how much it takes longer than the model says, by kind of work.
    """
    kind, flops = _openvino_flops() if has_openvino() else ("numpy", _numpy_flops())
    slower = _REFERENCE_ROUNDS / _rate(_python_round)
    arithmetic = _REFERENCE_FLOPS[kind] / flops
    factors: dict[str, float] = {
        WorkKind.INFERENCE: arithmetic,
        WorkKind.PREPARE: slower,
        WorkKind.HEADS: slower,
        WorkKind.BOARD: slower,
    }
    remember_self_test(cache, factors)
    return factors


def _rate(call: Callable[[], object]) -> float:
    """Calls in a second of a core, the first left out; what other programs take of it does not count."""
    call()
    calls, begun, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < _SECONDS:
        call()
        calls += 1
    return max(1, calls) / max(1e-9, time.process_time() - used)


def _openvino_flops() -> tuple[str, float]:
    """The arithmetic that is used here, and the operations a second of one core while all of them work."""
    import openvino
    from openvino import opset13 as ops

    kind = "bf16" if has_bfloat16() else "f32"
    random = np.random.default_rng(0)
    shape = [1, _CHANNELS, _SIDE, _SIDE]
    images = ops.parameter(shape, np.float32)
    layer = images
    for _ in range(_LAYERS):
        kernel = random.standard_normal((_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32) / 34
        layer = ops.relu(ops.convolution(layer, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    streams = cores()
    settings = {
        "INFERENCE_PRECISION_HINT": kind,
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(streams),
    }
    model = openvino.Core().compile_model(openvino.Model([layer], [images]), "CPU", settings)
    requests = [model.create_infer_request() for _ in range(streams)]
    for request in requests:
        request.set_input_tensor(openvino.Tensor(np.ones(shape, np.float32)))

    def together() -> None:
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()

    operations = 2 * 9 * _CHANNELS**2 * _SIDE**2 * _LAYERS * streams
    return kind, operations * _rate(together)


def _numpy_flops() -> float:
    from threadpoolctl import threadpool_limits

    matrix = np.ones((_MATRIX, _MATRIX), np.float32)
    with threadpool_limits(limits=1, user_api="blas"):
        return 2 * _MATRIX**3 * _rate(lambda: matrix @ matrix)


def _python_round() -> None:
    """Some of what building a network and writing a board are made of: dictionaries and text."""
    rows = [{"name": f"layer {row}", "shape": [row, row + 1], "value": row / 7} for row in range(300)]
    sorted(json.loads(json.dumps(rows)), key=lambda one: str(one["value"]))
