"""Open a backbone in the engine that suits the job; without TensorFlow or OpenVINO until then.

An engine is one module, ``<name>_engine.py``, with
``open_frozen(request, precision, sample) -> FrozenBackbone``.
"""

from __future__ import annotations

import importlib

from benchmark.engines.engine import (
    EngineRequest,
    FrozenBackbone,
)
from benchmark.engines.planning import plan_engine
from benchmark.errors import ArgumentError
from benchmark.records import Engine, Precision, UInt8


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
    return open_in(engine, request, precision, sample)


def open_in(engine: Engine, request: EngineRequest, precision: Precision, sample: UInt8) -> FrozenBackbone:
    """Open a backbone in one engine; float32 is used where the wanted arithmetic does not agree with it."""
    module = importlib.import_module(f"benchmark.engines.{engine}_engine")
    frozen: FrozenBackbone = module.open_frozen(request, precision, sample)
    return frozen


def _check_size(request: EngineRequest) -> None:
    if request.input_size < request.backbone.min_size:
        raise ArgumentError(
            "the input is too small for this backbone",
            where=request.backbone.name,
            expected=f"at least {request.backbone.min_size} pixels",
            got=request.input_size,
            next_step="Choose a larger `size` or leave the backbone out.",
        )
