"""The TensorFlow engine: a frozen graph in a session of its own.

On the processor every batch runs on one thread, and as many batches run at a time as threads were asked
for: the bits of an embedding then depend neither on the number of threads nor on its neighbours. On a GPU
the graph is compiled by XLA and computes in bfloat16 unless float32 was asked for. On both, bfloat16 is used
only where its embeddings agree with those of float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, cast

from benchmark.backbones import KerasNetwork, load_network
from benchmark.engines.agreement import agreed
from benchmark.engines.engine import EngineRequest, FrozenBackbone, in_order
from benchmark.engines.hardware import has_gpu
from benchmark.records import Engine, Float32, Precision, UInt8

TensorFlowModule: TypeAlias = Any
SessionConfig: TypeAlias = Any

_CPU_BATCH = 16
_GPU_BATCH = 128


class TensorFlowBackbone(FrozenBackbone):
    """A frozen graph in a TensorFlow session."""

    engine = Engine.TENSORFLOW

    def __init__(self, request: EngineRequest, network: KerasNetwork, precision: Precision) -> None:
        import tensorflow as tf

        on_gpu = self.on_gpu = has_gpu(Engine.TENSORFLOW)
        self.precision = precision
        self.batch_size = request.batch_size or (_GPU_BATCH if on_gpu else _CPU_BATCH)
        self.together = self.batch_size
        self.weights_sha256 = network.weights_sha256
        self.embedding_dim = request.backbone.embedding_dim
        self._workers = 2 if on_gpu else request.threads
        self._session, self._call = network.open_session(precision, _session_config(tf, on_gpu))
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="embed")

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        """Embed batches of uint8 (B, S, S, 3), several at a time, in order; float32 (B, D) each."""
        return in_order(self._pool, self._call, batches, self._workers)

    def embed_together(self, images: UInt8) -> Float32:
        """Embeddings of one batch of any size, on one core (or on the GPU)."""
        return self._call(images)

    def close(self) -> None:
        """End the session and its threads."""
        self._pool.shutdown()
        self._session.close()


def _session_config(tf: TensorFlowModule, on_gpu: bool) -> SessionConfig:
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
    )
    if on_gpu:
        config.gpu_options.allow_growth = True
        config.graph_options.optimizer_options.global_jit_level = tf.compat.v1.OptimizerOptions.ON_2
    else:  # TensorFlow may see one that it was not found to compute on, and would take it
        config.device_count["GPU"] = 0
    return config


def open_frozen(request: EngineRequest, precision: Precision, sample: UInt8) -> FrozenBackbone:
    """Build, load and freeze a backbone in this process.

    Args:
        request: what to open.
        precision: wanted arithmetic; float32 is used instead where it does not agree with float32.
        sample: uint8 (n, S, S, 3) real images for that comparison.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    # Without this, TensorFlow's sessions share one pool whose size the first user decides.
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    import tensorflow as tf

    # Else float32 products would be rounded to 10 bits on a GPU.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    network = load_network(request.backbone, request.weights, request.input_size, cache=request.cache)
    # Only sources of Keras networks name this engine.
    return agreed(request, cast("KerasNetwork", network), precision, sample, TensorFlowBackbone)
