"""How much of the machine's bfloat16 matrix-product peak embedding reaches, both through OpenVINO."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import select
from benchmark.machine import cores
from tests.perf.children import call_child
from tests.perf.embedding import embed_all, images_per_second, load_batch, open_best
from tests.perf.figures import Figure, Target, Unit, alternate
from tests.perf.setting import Setting

_TARGETS = {"ResNet50": Target(at_least=0.6), "ConvNeXtTiny": Target(at_least=0.4)}
# Rows, width and number of chained products; the fastest stands for the peak.
_SHAPES = ((512, 1024, 16), (1024, 2048, 8), (4096, 4096, 2))
_SECONDS = 1.5


def measure(setting: Setting) -> Iterator[Figure]:
    """One figure per backbone: its arithmetic per second over that of plain matrix products."""
    for name in setting.pick(tuple(_TARGETS), ("ResNet50",)):
        argument = {
            "backbone": name,
            "data": str(setting.images(setting.pick(256, 128, 32))),
            "images": setting.pick(128, 64, 32),
            "pairs": setting.rounds(3, 2),
            "shapes": setting.pick(_SHAPES, _SHAPES[:2], ((256, 256, 4),)),
            "cache": str(setting.folder / "embedding-cache"),
        }
        found = call_child(compare, argument, setting.log)
        against = "bf16 matrix-product peak, same engine"
        yield Figure.of_pairs(
            (f"embed, {name}", against), Unit.GFLOPS, found["pairs"], _TARGETS[name], found["note"]
        )


def compare(argument: dict[str, Any]) -> dict[str, Any]:
    """Measure a backbone and the peak in pairs.

    Args:
        argument: as ``embedding.compare`` takes it, and ``shapes`` of the matrix products.

    Returns:
        ``pairs`` of GFLOP/s and a ``note``.
    """
    pixels = load_batch(Path(argument["data"]), int(argument["images"]))
    (backbone,) = select(argument["backbone"])
    kinds = [(tuple(shape), streams) for shape in argument["shapes"] for streams in (1, cores())]
    products = {kind: MatrixProducts(*kind) for kind in dict.fromkeys(kinds)}
    best = max(products, key=lambda kind: products[kind].gflops(_SECONDS))
    with closing(open_best(argument["backbone"], pixels[:32], Path(argument["cache"]))) as frozen:
        embed_all(frozen, pixels)
        pairs = alternate(
            lambda: images_per_second(pixels, lambda: embed_all(frozen, pixels)) * backbone.flops / 1e9,
            lambda: products[best].gflops(_SECONDS),
            int(argument["pairs"]),
        )
        (rows, width, length), streams = best
        note = (
            f"{frozen.precision.value}, {backbone.flops / 1e9:.1f} GFLOP an image; "
            f"peak: {length} products of {rows} x {width} x {width}, streams: {streams}"
        )
        return {"pairs": pairs, "note": note}


class MatrixProducts:
    """A chain of ``length`` products (rows, width) x (width, width) with ReLU between, in bfloat16."""

    def __init__(self, shape: tuple[int, int, int], streams: int) -> None:
        import openvino
        from openvino import opset13 as ops

        rows, width, length = shape
        self._flops = 2 * rows * width * width * length
        drawn = np.random.default_rng(0).standard_normal((width, width)) / np.sqrt(width)
        values = drawn.astype(np.float32)
        node = given = ops.parameter([rows, width], np.float32)
        for number in range(length):
            # Each factor differs, or the engine could share one packed copy in its caches.
            node = ops.relu(ops.matmul(node, ops.constant(np.roll(values, number)), False, False))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(cores()),
        }
        model = openvino.Model([ops.result(node)], [given], "products")
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._requests = [compiled.create_infer_request() for _ in range(streams + 1)]
        self._input = np.ones((rows, width), np.float32)
        self.gflops(0.2)

    def gflops(self, seconds: float) -> float:
        """Arithmetic per second over about so many seconds, all streams busy."""
        started = time.perf_counter()
        done = 0
        for request in self._requests:
            request.start_async({0: self._input})
        while time.perf_counter() - started < seconds:
            request = self._requests[done % len(self._requests)]
            request.wait()
            request.start_async({0: self._input})
            done += 1
        for request in self._requests:
            request.wait()
        return (done + len(self._requests)) * self._flops / (time.perf_counter() - started) / 1e9
