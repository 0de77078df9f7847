"""ONNX, made by tf2onnx."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.targets import EXACT, Classify, Target
from benchmark.errors import ExportError
from benchmark.records import UInt8

_OPSET = 17


class _Onnx:
    file = "model.onnx"
    about = f"opset {_OPSET}, made by `tf2onnx`"
    runtime = "onnxruntime"
    requires: tuple[str, ...] = ("tf2onnx", "onnx", "onnxruntime")
    batch = 0
    tolerance = EXACT
    example = """\
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: it reports its use otherwise
import onnxruntime

model = onnxruntime.InferenceSession(str(here / info["model"]), providers=["CPUExecutionProvider"])


def run(pixels):
    return model.run(None, {model.get_inputs()[0].name: pixels})[0][0]
"""

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        import tf2onnx

        from benchmark.deployment.frozen import frozen_function

        function = frozen_function(model, images.shape[1], None)
        proto, _ = tf2onnx.convert.from_graph_def(
            function.graph.as_graph_def(),
            name="model",
            input_names=[function.inputs[0].name],
            output_names=[function.outputs[0].name],
            opset=_OPSET,
        )
        path.write_bytes(proto.SerializeToString())
        return ()

    def convert_graph(self, model: Path, path: Path) -> Iterable[str]:
        if model.suffix != path.suffix:
            raise ExportError(
                "this network could not be made ONNX",
                where=model.parent,
                got=model.name,
                next_step="Its run.json says why; export it to openvino.",
            )
        path.write_bytes(model.read_bytes())
        return ()

    def load(self, path: Path, threads: int) -> Classify:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _refusals() as error:
            raise ValueError(str(error)) from error
        name = session.get_inputs()[0].name
        return lambda images: np.asarray(session.run(None, {name: images})[0])


def _refusals() -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions, which share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    kinds = vars(native).values()
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))


TARGET: Target = _Onnx()
