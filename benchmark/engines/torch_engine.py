"""The PyTorch engine: a network of PyTorch as its own library runs it, the reference of all others.

On the processor every batch has one shape and one thread; on a GPU networks compute in bfloat16 unless
float32 was asked for, in PyTorch's layout for convolutions there. bfloat16 is used only where its embeddings
agree with those of float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np

from benchmark.backbones import TorchNetwork, load_network
from benchmark.engines.agreement import agreed
from benchmark.engines.engine import EngineRequest, FrozenBackbone, in_order
from benchmark.engines.hardware import has_gpu
from benchmark.records import Engine, Float32, Precision, UInt8

_CPU_BATCH = 16
_GPU_BATCH = 128


class TorchBackbone(FrozenBackbone):
    """A module of PyTorch that only embeds."""

    engine = Engine.TORCH

    def __init__(self, request: EngineRequest, network: TorchNetwork, precision: Precision) -> None:
        import torch

        self.on_gpu = has_gpu(Engine.TORCH)
        self.precision = precision
        self.batch_size = request.batch_size or (_GPU_BATCH if self.on_gpu else _CPU_BATCH)
        self.together = self.batch_size
        self.weights_sha256 = network.weights_sha256
        self.embedding_dim = request.backbone.embedding_dim
        self._device = torch.device("cuda:0" if self.on_gpu else "cpu")
        self._module = network.module.to(self._device, memory_format=torch.channels_last)
        self._workers = 1 if self.on_gpu else max(1, request.threads)
        self._pool = ThreadPoolExecutor(
            self._workers, thread_name_prefix="embed", initializer=torch.set_num_threads, initargs=(1,)
        )

    def _call(self, images: UInt8) -> Float32:
        import torch

        pixels = torch.from_numpy(np.array(images)).to(self._device)
        arithmetic = (
            torch.autocast(self._device.type, torch.bfloat16)
            if self.precision is Precision.BFLOAT16
            else contextlib.nullcontext()
        )
        with torch.inference_mode(), arithmetic, self._all_digits():
            features: Float32 = self._module(pixels).float().cpu().numpy()
        return features

    @contextlib.contextmanager
    def _all_digits(self) -> Iterator[None]:
        """Else a GPU would round what convolutions take to 10 bits; the caller's own settings come back."""
        import torch

        places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul) if self.on_gpu else ()
        before = [place.fp32_precision for place in places]
        try:
            for place in places:
                place.fp32_precision = "ieee"
            yield
        finally:
            for place, precision in zip(places, before, strict=True):
                place.fp32_precision = precision

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        """Embed batches of uint8 (B, S, S, 3), several at a time, in order; float32 (B, D) each."""
        return in_order(self._pool, self._call, batches, self._workers)

    def embed_together(self, images: UInt8) -> Float32:
        """Embeddings of one batch of any size, on one core (or on the GPU)."""
        return self._pool.submit(self._call, images).result()

    def close(self) -> None:
        """End the threads and forget the module."""
        self._pool.shutdown()
        self._module = None


def open_frozen(request: EngineRequest, precision: Precision, sample: UInt8) -> FrozenBackbone:
    """Build and load a backbone in this process.

    Args:
        request: what to open.
        precision: wanted arithmetic; float32 is used instead where it does not agree with float32.
        sample: uint8 (n, S, S, 3) real images for that comparison.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    network = load_network(request.backbone, request.weights, request.input_size, cache=request.cache)
    # Only sources of such networks name this engine.
    return agreed(request, cast("TorchNetwork", network), precision, sample, TorchBackbone)
