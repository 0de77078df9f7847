"""OpenVINO's own format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.targets import EXACT, Classify, Target
from benchmark.records import UInt8


class _OpenVino:
    file = "model.xml"
    about = "with `model.bin`, float32"
    runtime = "openvino"
    requires: tuple[str, ...] = ("openvino",)
    batch = 0
    tolerance = EXACT
    example = """\
sys.modules["openvino_telemetry"] = None  # before the import: it reports its use otherwise
import openvino

model = openvino.Core().compile_model(here / info["model"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def run(pixels):
    return model(pixels)[0][0]
"""

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        import openvino

        from benchmark.deployment.frozen import frozen_function

        frozen = path.with_suffix(".pb")
        graph = frozen_function(model, images.shape[1], None).graph.as_graph_def()
        frozen.write_bytes(graph.SerializeToString())
        try:
            openvino.save_model(openvino.convert_model(str(frozen)), str(path), compress_to_fp16=False)
        finally:
            frozen.unlink()
        return ()

    def convert_graph(self, model: Path, path: Path) -> Iterable[str]:
        import openvino

        openvino.save_model(openvino.Core().read_model(model), path, compress_to_fp16=False)
        return ()

    def load(self, path: Path, threads: int) -> Classify:
        import openvino

        # Without the hint, processors with bfloat16 or float16 arithmetic leave float32.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        return lambda images: np.asarray(compiled(images)[0])


TARGET: Target = _OpenVino()
