"""Which engine finishes a job sooner, its preparation included, and opening it; no engine is imported before.

An engine is one module, ``<name>_engine.py``, with
``open_frozen(request, precision, sample) -> FrozenBackbone``.
"""

from __future__ import annotations

import importlib

from benchmark.backbones import engines_of, known_weights_sha256
from benchmark.engines.agreement import recall_agreement
from benchmark.engines.costs import image_seconds, prepare_seconds
from benchmark.engines.engine import EngineRequest, FrozenBackbone
from benchmark.engines.hardware import has_bfloat16, has_gpu, has_openvino
from benchmark.engines.model_cache import Agreement, identity_of, model_folder, read_meta
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


def plan_engine(request: EngineRequest, images: int) -> tuple[Engine, Precision]:
    """What would execute a job of this many images.

    Args:
        request: None in ``engine`` or ``precision`` asks for a plan; what is given is kept.
        images: to embed.

    Returns:
        The precision is float32 where the cache knows that bfloat16 does not agree with the own library.

    Raises:
        ArgumentError: an engine was asked for that is not installed, or does not execute this backbone.
    """
    able = engines_of(request.backbone)
    if request.engine is not None and request.engine not in able:
        raise ArgumentError(
            "does not run in this engine",
            where=request.backbone.name,
            expected=f"`engine` {' or '.join(able)}",
            got=request.engine,
        )
    if request.engine is Engine.OPENVINO and not has_openvino():
        raise ArgumentError(
            "OpenVINO is not installed",
            where="`engine`",
            got=Engine.OPENVINO,
            next_step="Install it (pip install openvino) or use `engine=tensorflow`.",
        )
    cached = _cached_agreement(request) if has_openvino() else None
    engine = request.engine or _soonest(request, images, cached)
    if engine is Engine.OPENVINO:
        return engine, _openvino_precision(request, cached)
    return engine, _own_precision(request, engine)


def _soonest(request: EngineRequest, images: int, cached: dict[str, Agreement] | None) -> Engine:
    able = engines_of(request.backbone)
    library = able[0]
    if Engine.OPENVINO not in able:
        return library
    if has_gpu(library) or not has_openvino() or _failed(cached, Precision.FLOAT32):
        return library
    if cached is not None or library is Engine.OPENVINO:
        return Engine.OPENVINO
    in_openvino = _openvino_precision(request, cached)
    own = _seconds(request, images, library, Precision.FLOAT32)
    openvino = _seconds(request, images, Engine.OPENVINO, in_openvino)
    return Engine.OPENVINO if openvino < own else library


def _seconds(request: EngineRequest, images: int, engine: Engine, precision: Precision) -> float:
    """What a whole job takes from nothing, on cores as fast as those that the model was measured on."""
    each = image_seconds(request.backbone, request.input_size, engine, precision)
    prepared = prepare_seconds(request.backbone, engine, converted=False)
    return prepared + images * each / max(1, request.threads)


def _openvino_precision(request: EngineRequest, cached: dict[str, Agreement] | None) -> Precision:
    wanted = request.precision or (Precision.BFLOAT16 if has_bfloat16() else Precision.FLOAT32)
    return Precision.FLOAT32 if _failed(cached, wanted) else wanted


def _own_precision(request: EngineRequest, library: Engine) -> Precision:
    wanted = request.precision or (Precision.BFLOAT16 if has_gpu(library) else Precision.FLOAT32)
    if wanted is Precision.FLOAT32:
        return wanted
    weights = known_weights_sha256(request.backbone, request.weights, cache=request.cache)
    known = recall_agreement(request, weights, wanted) if weights else None
    return wanted if known is None or known.passed else Precision.FLOAT32


def is_converted(request: EngineRequest) -> bool:
    """Whether the cache holds a converted model that somebody has compared with TensorFlow."""
    return has_openvino() and _cached_agreement(request) is not None


def _failed(cached: dict[str, Agreement] | None, precision: Precision) -> bool:
    agreement = (cached or {}).get(precision)
    return agreement is not None and not agreement.passed


def _cached_agreement(request: EngineRequest) -> dict[str, Agreement] | None:
    """What is known of this backbone's converted model; None where there is none."""
    weights = known_weights_sha256(request.backbone, request.weights, cache=request.cache)
    if weights is None:
        return None
    identity = identity_of(request.backbone, weights, request.input_size)
    meta = read_meta(model_folder(request.cache, identity), identity)
    return meta.agreement if meta and meta.agreement else None
