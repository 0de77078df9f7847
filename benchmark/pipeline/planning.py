"""What is left to do for each backbone, decided without TensorFlow and without building anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from benchmark.backbones import FILE, engines_of, known_weights_sha256, weights_file
from benchmark.cells import figure
from benchmark.embeddings import EmbeddingStore
from benchmark.engines import EngineRequest, embedding_key, plan_engine
from benchmark.errors import ArgumentError, BenchmarkError
from benchmark.pipeline.requests import EmbedRequest
from benchmark.records import (
    Backbone,
    Bool,
    EmbeddingKey,
    Engine,
    Failed,
    ImageSet,
    Observer,
    Precision,
    Skipped,
    WeightsKind,
    WeightsSource,
)

# An image costs an engine up to this many times what it costs the one that suits the job best.
_SLOWER = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One backbone's part of a run.

    Attributes:
        backbone: what to run.
        weights: where its weights come from.
        input_size: side in pixels.
        engine: what will execute it.
        precision: wanted arithmetic; the engine may have to fall back to float32.
        key: of its embeddings; None while the weights are unknown.
        lacking: bool (N,), which of the images have no cached embedding; plays no part in equality.
        stopped: the outcome of a backbone that will not run at all; None otherwise.
    """

    backbone: Backbone
    weights: WeightsSource
    input_size: int
    engine: Engine | None = None
    precision: Precision | None = None
    key: EmbeddingKey | None = None
    lacking: Bool = field(default_factory=lambda: np.zeros(0, bool), compare=False)
    stopped: Skipped | Failed | None = None

    @property
    def is_cached(self) -> bool:
        """Whether every image has its embedding."""
        return self.key is not None and not self.lacking.any()


def make_plan(
    request: EmbedRequest,
    backbone: Backbone,
    image_ids: Sequence[str],
    store: EmbeddingStore,
    planned_images: int | None = None,
) -> Plan:
    """Plan one backbone.

    "auto" picks what finishes the whole job sooner: the engine that suits its size best, or another one for
    which the cache already holds so many of the images that the rest takes less time.

    Args:
        request: backbones, weights, engine, cache.
        backbone: which.
        image_ids: N ids of the images to embed now.
        store: what is held already.
        planned_images: of the whole job, where these are a part of it (the least are N); None when they are
            all. The other images are taken to be held as often as these.
    """
    source, size = request.source_of(backbone), request.size_of(backbone)
    bare = Plan(backbone=backbone, weights=source, input_size=size)
    unfit = _why_unfit(request, backbone, size)
    if unfit:
        return replace(bare, stopped=Skipped(**plan_facts(bare), reason=unfit))
    try:
        if source.path is not None:
            weights_file(backbone, source)
        digest = known_weights_sha256(backbone, source, cache=request.options.cache)
    except BenchmarkError as error:
        return replace(bare, stopped=Failed(**plan_facts(bare), reason=str(error)))
    images = max(len(image_ids), planned_images or 0)
    if digest is None:
        return replace(_fresh(request, bare, images), lacking=np.ones(len(image_ids), bool))
    held = [_with_key(request, plan, digest, image_ids, store) for plan in _admissible(request, bare)]
    whole = next((plan for plan in held if plan.is_cached), None)
    if whole:
        return whole
    fresh = _with_key(request, _fresh(request, bare, images), digest, image_ids, store)
    return _soonest(request, fresh, held, images)


def make_plans(
    request: EmbedRequest,
    images: ImageSet,
    planned_images: int | None = None,
    observer: Observer | None = None,
) -> list[Plan]:
    """Plan all backbones of a request for some images; see ``make_plan``.

    Raises:
        CacheError: the cache cannot be listed.
    """
    store = EmbeddingStore(request.options.cache, observer=observer)
    store.place.folders()  # a place that cannot be reached ends the run before it begins
    return [
        make_plan(request, backbone, images.image_ids, store, planned_images)
        for backbone in request.backbones
    ]


def plan_unseen(request: EmbedRequest, backbone: Backbone, images: int) -> Plan:
    """Plan one backbone for so many images that nobody has seen yet."""
    plan = make_plan(request, backbone, (), EmbeddingStore(request.options.cache), images)
    return plan if plan.stopped else _fresh(request, replace(plan, key=None), images)


def plan_facts(plan: Plan) -> dict[str, Any]:
    """What a plan knows of the outcome of its backbone, by field of ``BackboneFacts``."""
    backbone = plan.backbone
    published = {"pretraining": backbone.pretraining, "licence": backbone.licence}
    # Whose other weights are, only their owner knows; of a file of one's own it is the owner who says it.
    if plan.weights.kind is not WeightsKind.IMAGENET and backbone.source != FILE:
        published = {}
    return {
        "backbone": backbone.name,
        "family": backbone.family,
        "source": backbone.source,
        "params": backbone.params,
        "embedding_dim": backbone.embedding_dim,
        "input_size": plan.input_size,
        "flops": backbone.flops_at(plan.input_size),
        "weights": str(plan.weights),
        "year": backbone.year,
        **published,
        "weights_sha256": plan.key.weights_sha256 if plan.key else "",
        "engine": plan.engine,
        "precision": plan.precision,
    }


def engine_request(request: EmbedRequest, plan: Plan, threads: int) -> EngineRequest:
    """What the engine of a plan is asked for."""
    return EngineRequest(
        backbone=plan.backbone,
        weights=plan.weights,
        input_size=plan.input_size,
        engine=plan.engine,
        precision=plan.precision,
        threads=threads,
        cache=request.options.cache,
    )


def plan_key(request: EmbedRequest, plan: Plan, digest: str) -> EmbeddingKey:
    """The key of a plan whose engine and precision are resolved."""
    if plan.engine is None or plan.precision is None:
        raise ValueError("a key needs a resolved engine and precision")
    return embedding_key(
        plan.backbone,
        digest,
        input_size=plan.input_size,
        resize=request.resize_of(plan.backbone),
        decoder=request.decoder_of(plan.backbone),
        engine=plan.engine,
        precision=plan.precision,
    )


def _why_unfit(request: EmbedRequest, backbone: Backbone, size: int) -> str:
    if size < backbone.min_size:
        return f"needs images of at least {backbone.min_size} pixels, `size` is {size}"
    able = engines_of(backbone)
    if request.options.engine is not None and request.options.engine not in able:
        return f"runs in {' or '.join(able)}, not in `engine={request.options.engine}`"
    megabytes = backbone.float32_bytes / 1e6
    if request.options.max_size_mb is not None and megabytes > request.options.max_size_mb:
        return f"{megabytes:.1f} MB is more than `max_size_mb={figure(request.options.max_size_mb)}`"
    return ""


def _fresh(request: EmbedRequest, bare: Plan, images: int) -> Plan:
    """What was asked for, or else the engine and precision that suit a job of which nothing is held."""
    wanted = replace(bare, engine=request.options.engine, precision=request.options.precision)
    engine, precision = plan_engine(engine_request(request, wanted, 1), images)
    return replace(bare, engine=engine, precision=precision)


def _admissible(request: EmbedRequest, bare: Plan) -> list[Plan]:
    """Every engine and precision that the request allows."""
    engines = [request.options.engine] if request.options.engine else engines_of(bare.backbone)
    precisions = [request.options.precision] if request.options.precision else list(Precision)
    return [
        replace(bare, engine=engine, precision=precision)
        for engine, precision in product(engines, precisions)
    ]


def _with_key(
    request: EmbedRequest, plan: Plan, digest: str, image_ids: Sequence[str], store: EmbeddingStore
) -> Plan:
    """A plan with its key, and with what the cache lacks of these images."""
    key = plan_key(request, plan, digest)
    return replace(plan, key=key, lacking=store.lacking(key, image_ids))


def _soonest(request: EmbedRequest, fresh: Plan, held: Sequence[Plan], images: int) -> Plan:
    """The fresh plan, or one that lacks so much less that it is finished before it."""
    able = [plan for plan in held if _can_run(request, plan, images)]
    other = min(able, key=lambda plan: plan.lacking.sum(), default=fresh)
    return other if _SLOWER * other.lacking.sum() < fresh.lacking.sum() else fresh


def _can_run(request: EmbedRequest, plan: Plan, images: int) -> bool:
    """Whether this machine computes with exactly this engine and precision, as far as is known."""
    try:
        return plan_engine(engine_request(request, plan, 1), images) == (plan.engine, plan.precision)
    except ArgumentError:
        return False
