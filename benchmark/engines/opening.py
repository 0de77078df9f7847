"""Open a backbone in the engine that suits the job; without TensorFlow or OpenVINO until then.

An engine is one module with ``open_frozen(request, precision, sample) -> FrozenBackbone``, named below.
"""

from __future__ import annotations

from benchmark.engines.engine import (
    EngineRequest,
    FrozenBackbone,
)
from benchmark.engines.planning import plan_engine
from benchmark.errors import ArgumentError
from benchmark.records import Engine, UInt8


def open_engine(request: EngineRequest, *, sample: UInt8) -> FrozenBackbone:
    """Open a backbone for embedding; None in the request's engine or precision is planned for the sample.

    Args:
        request: what to open.
        sample: uint8 (n, S, S, 3) real images, which a conversion is checked on.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
        EmbeddingError: the engine does not yield finite embeddings.
        ArgumentError: the input is smaller than the network accepts.
    """
    _check_size(request)
    engine, precision = plan_engine(request, len(sample))
    if engine is Engine.OPENVINO:
        from benchmark.engines import openvino_engine

        return openvino_engine.open_frozen(request, precision, sample)
    from benchmark.engines import tensorflow_engine

    return tensorflow_engine.open_frozen(request, precision, sample)


def _check_size(request: EngineRequest) -> None:
    if request.input_size < request.backbone.min_size:
        raise ArgumentError(
            "the input is too small for this backbone",
            where=request.backbone.name,
            expected=f"at least {request.backbone.min_size} pixels",
            got=request.input_size,
            next_step="Choose a larger `size` or leave the backbone out.",
        )
