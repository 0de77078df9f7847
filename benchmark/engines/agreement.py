"""Do embeddings say the same as those of the backbone's own library in float32, whatever computes them?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmark.backbones import Pretrained, engines_of, versions_of
from benchmark.engines.engine import EngineRequest, FrozenBackbone
from benchmark.engines.hardware import computes_on
from benchmark.engines.model_cache import Agreement
from benchmark.records import Engine, Float32, Float64, Precision, UInt8
from benchmark.storage import Memo

Network = TypeVar("Network", bound=Pretrained)

MIN_COSINE = 0.999
LIBRARIES = {Engine.TENSORFLOW: "TensorFlow", Engine.TORCH: "PyTorch", Engine.OPENVINO: "OpenVINO"}
# The comparison with the own library costs a few of the slowest inferences there are; this bounds it.
_COMPARED_FLOPS = 60_000_000_000
_COMPARED_IMAGES = (4, 16)
# Below this share of an embedding's length, what is left after centring is rounding noise.
_NOISE = 1e-6


def compare(features: Float32, reference: Float32) -> Agreement:
    """Compare embeddings image by image, after subtracting each side's mean over the batch.

    Without centring, embeddings of random weights, which are nearly parallel, would agree with anything.

    Args:
        features: float32 (n, D) of the engine under test.
        reference: float32 (n, D) of the same images.
    """
    if not (np.isfinite(features).all() and np.isfinite(reference).all()):
        return Agreement(cosine=-1.0, images=len(reference), passed=False)
    cosine = float(np.min(_cosines(features.astype(np.float64), reference.astype(np.float64))))
    return Agreement(cosine=cosine, images=len(reference), passed=cosine >= MIN_COSINE)


def compared(request: EngineRequest, sample: UInt8) -> UInt8:
    """The part of a sample that is compared."""
    fewest, most = _COMPARED_IMAGES
    affordable = _COMPARED_FLOPS // max(1, request.backbone.flops_at(request.input_size))
    return sample[: max(fewest, min(most, affordable))]


def embed_few(backbone: FrozenBackbone, images: UInt8) -> Float32:
    """Embed a few images; the last batch is filled up with copies."""
    batches = -(-len(images) // backbone.batch_size)
    padded = np.resize(images, (batches, backbone.batch_size, *images.shape[1:]))
    return np.concatenate([*backbone.embed(padded)])[: len(images)]


def disagreement(request: EngineRequest, engine: Engine, precision: Precision, agreement: Agreement) -> str:
    """Why an arithmetic is not used, for the reader of the board."""
    name, own = LIBRARIES[engine], LIBRARIES[engines_of(request.backbone)[0]]
    if agreement.cosine < 0:
        return f"{name}'s {precision} embeddings are not finite; not used"
    return (
        f"{name}'s {precision} agrees with {own} only to cosine {agreement.cosine:.6f} "
        f"(at least {MIN_COSINE} on {agreement.images} images); not used"
    )


def recall_agreement(request: EngineRequest, weights_sha256: str, precision: Precision) -> Agreement | None:
    """How well the own library in some arithmetic agrees with its float32 here; None where nobody looked."""
    identity = _identity(request, weights_sha256, precision)
    return _memo(request.cache).recall(request.backbone.architecture, identity)


def agreed(
    request: EngineRequest,
    network: Network,
    precision: Precision,
    sample: UInt8,
    make: Callable[[EngineRequest, Network, Precision], FrozenBackbone],
) -> FrozenBackbone:
    """A loaded network in its own library, in an arithmetic that agrees with float32 there.

    Args:
        request: what to open.
        network: as its source loaded it.
        precision: wanted arithmetic; float32 is used instead where it does not agree.
        sample: uint8 (n, S, S, 3) real images for that comparison, whose result is remembered.
        make: puts the network into the engine.
    """
    notes: tuple[str, ...] = ()
    if precision is not Precision.FLOAT32:
        identity, opened = _identity(request, network.weights_sha256, precision), None
        agreement = _memo(request.cache).recall(request.backbone.architecture, identity)
        if agreement is None:
            images = compared(request, sample)
            reference = network.run(images)  # before a GPU takes the network
            opened = make(request, network, precision)
            agreement = compare(embed_few(opened, images), reference)
            _memo(request.cache).remember(request.backbone.architecture, identity, agreement)
        if agreement.passed:
            opened = opened or make(request, network, precision)
            opened.agreement = agreement.cosine
            return opened
        if opened is not None:
            opened.close()
        notes = (disagreement(request, engines_of(request.backbone)[0], precision, agreement),)
    exact = make(request, network, Precision.FLOAT32)
    exact.notes, exact.agreement = notes, 1.0
    return exact


def _identity(request: EngineRequest, weights_sha256: str, precision: Precision) -> dict[str, object]:
    """Everything that decides how well a library agrees with itself in float32."""
    return {
        "backbone": request.backbone.architecture,
        "arguments": dict(request.backbone.arguments),
        "preprocessing": str(request.backbone.preprocessing),
        "weights_sha256": weights_sha256,
        "input_size": request.input_size,
        "precision": precision.value,
        **versions_of(request.backbone),
        "device": computes_on(engines_of(request.backbone)[0]),
    }


def _memo(cache: Path) -> Memo[Agreement]:
    return Memo(folder=cache / "agreement", kind=Agreement)


def _cosines(features: Float64, reference: Float64) -> Float64:
    lengths = np.linalg.norm(reference, axis=1)
    centred = reference - reference.mean(axis=0)
    if np.any(np.linalg.norm(centred, axis=1) <= _NOISE * lengths):
        # One image, or images without difference: centring would leave nothing to compare.
        centred, other = reference, features
    else:
        other = features - features.mean(axis=0)
    products = np.sum(centred * other, axis=1)
    scale = np.linalg.norm(centred, axis=1) * np.linalg.norm(other, axis=1)
    same = np.all(features == reference, axis=1)
    return np.where(same, 1.0, products / np.where(scale > 0, scale, np.inf))
