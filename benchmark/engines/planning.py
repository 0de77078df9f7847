"""Which engine finishes a job sooner, its preparation included; without TensorFlow or OpenVINO.

The figures were measured on two processor cores (AMD Zen 4) over networks of 0.1 to 31 GFLOP; only their
ratios matter for the choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.backbones import FLOPS_SIZE, description, known_weights_sha256, scaled_flops
from benchmark.engines.agreement import recall_agreement
from benchmark.engines.engine import EngineRequest
from benchmark.engines.hardware import has_bfloat16, has_gpu, has_openvino
from benchmark.engines.model_cache import Agreement, identity_of, model_folder, read_meta
from benchmark.errors import ArgumentError
from benchmark.records import Backbone, Engine, Precision


@dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds that an engine takes: once, and per image and core.

    Attributes:
        once: to prepare, apart from building the network, which both engines need.
        per_variable: to prepare, for each variable of the network.
        per_image: overhead of an image.
        flops_per_second: of one core.
    """

    once: float
    per_variable: float
    per_image: float
    flops_per_second: float

    def seconds(self, variables: int, images: int, flops: int, threads: int) -> float:
        inference = images * (self.per_image + flops / self.flops_per_second) / max(1, threads)
        return self.once + self.per_variable * variables + inference


# A backbone that did not come from the registry counts as a middling one.
_UNKNOWN_VARIABLES = 200
_COSTS = {
    (Engine.TENSORFLOW, Precision.FLOAT32): _Cost(0.2, 0.001, 4.0e-3, 100e9),
    (Engine.OPENVINO, Precision.FLOAT32): _Cost(0.6, 0.002, 2.5e-3, 120e9),
    (Engine.OPENVINO, Precision.BFLOAT16): _Cost(0.7, 0.002, 1.5e-3, 240e9),
}
# Peak of a process that builds, converts and embeds: TensorFlow or OpenVINO itself, the weights, of which
# conversion holds many copies at once, and the pictures inside the network at 224 pixels, which grow with its
# arithmetic up to a point. Measured from MobileNet_0.25 (0.4 GB) to ConvNeXtXLarge (17 GB).
_PROCESS_BYTES = 500e6
_COPIES = 13
_BYTES_PER_FLOP = 0.12
_MOST_ACTIVATIONS = 600e6


def memory_bytes(backbone: Backbone, input_size: int, engine: Engine | None) -> tuple[float, float]:
    """Memory that a process needs at most to prepare a backbone and to embed with it.

    Returns:
        What it takes with one thread, and what each further thread adds: TensorFlow has a batch for each,
        OpenVINO a few images.
    """
    area = (input_size / FLOPS_SIZE) ** 2
    activations = area * min(_MOST_ACTIVATIONS, _BYTES_PER_FLOP * backbone.flops)
    alone = _PROCESS_BYTES + _COPIES * backbone.float32_bytes + activations
    return alone, 0.0 if engine is Engine.OPENVINO else activations


def plan_engine(request: EngineRequest, images: int) -> tuple[Engine, Precision]:
    """What would execute a job of this many images.

    Args:
        request: None in ``engine`` or ``precision`` asks for a plan; what is given is kept.
        images: to embed.

    Returns:
        The precision is float32 where the cache knows that bfloat16 does not agree with TensorFlow.

    Raises:
        ArgumentError: OpenVINO was asked for and is not installed.
    """
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
    return engine, _tensorflow_precision(request)


def _soonest(request: EngineRequest, images: int, cached: dict[str, Agreement] | None) -> Engine:
    if has_gpu() or not has_openvino() or _failed(cached, Precision.FLOAT32):
        return Engine.TENSORFLOW
    if cached is not None:
        return Engine.OPENVINO
    described = description().get(request.backbone.architecture, {})
    variables = int(described.get("variables", _UNKNOWN_VARIABLES))
    flops = scaled_flops(request.backbone, request.input_size)
    tensorflow = _COSTS[Engine.TENSORFLOW, Precision.FLOAT32]
    openvino = _COSTS[Engine.OPENVINO, _openvino_precision(request, cached)]
    job = (variables, images, flops, request.threads)
    return Engine.OPENVINO if openvino.seconds(*job) < tensorflow.seconds(*job) else Engine.TENSORFLOW


def _openvino_precision(request: EngineRequest, cached: dict[str, Agreement] | None) -> Precision:
    wanted = request.precision or (Precision.BFLOAT16 if has_bfloat16() else Precision.FLOAT32)
    return Precision.FLOAT32 if _failed(cached, wanted) else wanted


def _tensorflow_precision(request: EngineRequest) -> Precision:
    wanted = request.precision or (Precision.BFLOAT16 if has_gpu() else Precision.FLOAT32)
    if wanted is Precision.FLOAT32:
        return wanted
    weights = known_weights_sha256(request.backbone, request.weights, cache=request.cache)
    known = recall_agreement(request, weights, wanted) if weights else None
    return wanted if known is None or known.passed else Precision.FLOAT32


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
