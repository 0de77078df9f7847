"""Training heads: one task a backbone; stored outcomes are reused while nothing that decides them changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.embeddings import EmbeddingStore
from benchmark.errors import CacheDamaged, CacheError
from benchmark.execution import Call, LocalRunner, Runner, failure, quiet_environment
from benchmark.heads import train_heads
from benchmark.pipeline.costs import head_memory_bytes
from benchmark.pipeline.measurements import load_measurement
from benchmark.pipeline.planning import Plan, plan_facts
from benchmark.pipeline.requests import RankRequest
from benchmark.ranking import Setting, load_outcome, outcome_path, save_outcome, selection_scores
from benchmark.records import (
    Embeddings,
    Failed,
    HeadProtocol,
    ImageSet,
    Observer,
    Outcome,
    ProtocolName,
    Scored,
    Silent,
    Targets,
    WeightsKind,
)
from benchmark.storage import MOST_MODEL_BYTES, hand_over, take_back, take_over

# Raised whenever a change of the code changes what a head learns; older stored outcomes are not reused.
HEAD_VERSION = 6
HEADS = "heads"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadJob:
    """The heads of several backbones on one set of images.

    Attributes:
        images: labels, groups and parts.
        protocol: how heads are trained, its name resolved.
        cache: embedding cache.
        folder: of the stored outcomes.
        runner: what trains them.
    """

    images: ImageSet
    protocol: HeadProtocol
    cache: Path
    folder: Path
    runner: Runner = field(default_factory=LocalRunner, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTask:
    """Train the heads of one backbone.

    Attributes:
        job: images, protocol, embedding cache.
        plan: of the backbone; its key addresses the embeddings.
        target: file on shared storage that takes the outcome.
    """

    job: HeadJob
    plan: Plan
    target: Path


def head_job(request: RankRequest, images: ImageSet, folder: Path) -> HeadJob:
    """The heads of a ranking in ``results/<dataset>``, its protocol resolved."""
    name = request.protocol_name(parts_given=images.split.given)
    return HeadJob(
        images=images,
        protocol=replace(request.protocol, name=name),
        cache=request.options.cache,
        folder=folder / "outcomes",
        runner=request.executor,
    )


def outcome_digest(key_digest: str, images: ImageSet, protocol: HeadProtocol) -> str:
    """Digest of everything that decides an outcome: embeddings, labels, parts, protocol, code."""
    parts = {
        "key": key_digest,
        "images": images.fingerprint(),
        "protocol": asdict(protocol),
        "version": HEAD_VERSION,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def outcome_digests(job: HeadJob, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Backbone -> ``outcome_digest`` of its outcome, of those that were scored."""
    return {
        one.backbone: outcome_digest(one.key_digest, job.images, job.protocol)
        for one in outcomes
        if isinstance(one, Scored)
    }


def on_other_folds(job: HeadJob) -> HeadJob:
    """The same heads on folds that decided nothing: one repeat of cross-validation with the next seed."""
    protocol = replace(job.protocol, name=ProtocolName.CV, repeats=1, seed=job.protocol.seed + 1)
    return replace(job, protocol=protocol)


def stored_outcome(job: HeadJob, key_digest: str) -> Scored | None:
    """A stored outcome under the name that it was trained by; None where there is none.

    Raises:
        CacheDamaged: it cannot be read.
    """
    digest = outcome_digest(key_digest, job.images, job.protocol)
    # Its digest is the last part of its name: under which name the backbone ran plays no part.
    path = next(iter(sorted(job.folder.glob(f"*-{digest[:16]}.outcome"))), None)
    return None if path is None else load_outcome(path)


def train_all(
    job: HeadJob, plans: Sequence[Plan], observer: Observer | None = None
) -> tuple[Scored | Failed, ...]:
    """Outcomes of embedded backbones, from disk where they are stored, else newly trained.

    Args:
        job: images and protocol.
        plans: embedded backbones.
        observer: told of the progress.

    Returns:
        One outcome per plan, in order; a failure is an outcome.
    """
    watch = observer or Silent()
    tasks = [_task(job, plan) for plan in plans]
    outcomes: list[Scored | Failed | None] = [_stored(task) for task in tasks]
    waiting = [position for position, outcome in enumerate(outcomes) if outcome is None]
    if waiting:
        watch.started(HEADS, len(waiting))
        calls = [_call(tasks[position]) for position in waiting]
        with closing(job.runner.run(head_task, calls)) as results:
            for done, (place, result) in enumerate(results, start=1):
                task = tasks[waiting[place]]
                outcomes[waiting[place]] = _taken(task, result)
                watch.advanced(HEADS, done, task.plan.backbone.name)
        watch.finished(HEADS)
    return tuple(
        _with_costs(job, plan, outcome) for plan, outcome in zip(plans, outcomes, strict=True) if outcome
    )


def head_task(task: HeadTask, _: int) -> dict[str, Any]:
    """Run one HeadTask; the outcome goes to its file.

    Returns:
        Nothing of note, or ``error`` and ``trace``.
    """
    # One thread a process: how many processes there are then changes no bit of the result.
    quiet_environment(1)
    try:
        save_outcome(task.target, _train(task))
        hand_over(task.target)
        return {}
    except Exception as error:
        return failure(error)


def _train(task: HeadTask) -> Scored:
    plan, job = task.plan, task.job
    if plan.key is None:
        raise ValueError("heads need embedded images")
    embeddings = EmbeddingStore(job.cache).read(plan.key, job.images.image_ids)
    result = train_heads(embeddings, Targets.of(job.images), job.images.split, job.protocol)
    facts = plan_facts(plan) | {"embedding_dim": embeddings.features.shape[1]}
    return Scored(
        **facts,
        key_digest=plan.key.digest(),
        head_params=result.head_params,
        predictions=result.predictions,
        val_history=result.val_history,
        chosen=result.chosen,
        head_seconds=result.seconds,
        baselines=_baselines(task, embeddings),
    )


def _baselines(task: HeadTask, embeddings: Embeddings) -> dict[str, float]:
    """What cheap selection methods say of this backbone, by column name."""
    backbone = task.plan.backbone
    is_random = task.plan.weights.kind is WeightsKind.RANDOM
    name = f"{backbone.architecture}@random" if is_random else backbone.architecture
    found = asdict(selection_scores(name, embeddings, setting_of(task.job), params=backbone.params))
    del found["backbone"]
    return found


def setting_of(job: HeadJob) -> Setting:
    """What baselines are measured on."""
    images = job.images
    return Setting(
        targets=Targets.of(images), split=images.split, protocol=job.protocol, image_ids=images.image_ids
    )


def _task(job: HeadJob, plan: Plan) -> HeadTask:
    if plan.key is None:
        raise ValueError(f"{plan.backbone.name} is not embedded")
    digest = outcome_digest(plan.key.digest(), job.images, job.protocol)
    # Workers elsewhere know the cache, not the results.
    folder = job.runner.handed_over or job.folder
    target = outcome_path(folder, plan.backbone.architecture, digest)
    return HeadTask(job=job, plan=plan, target=target)


def _stored(task: HeadTask) -> Scored | None:
    try:
        return load_outcome(task.job.folder / task.target.name)
    except (FileNotFoundError, CacheDamaged):
        return None


def _taken(task: HeadTask, result: dict[str, Any]) -> Scored | Failed:
    folder = task.job.folder
    if "error" not in result:
        try:
            take_over(task.target, most_bytes=MOST_MODEL_BYTES)
            outcome = load_outcome(task.target)
        except (OSError, CacheError) as error:
            return Failed(**plan_facts(task.plan), reason=f"its scores did not arrive: {error}")
        if task.target.parent != folder:
            save_outcome(folder / task.target.name, outcome)
            with suppress(CacheError):  # it goes with the run at the latest
                take_back(task.target)
        return outcome
    return Failed(**plan_facts(task.plan), reason=result["error"])


def _with_costs(job: HeadJob, plan: Plan, outcome: Scored | Failed) -> Scored | Failed:
    """The outcome under this run's name of the backbone, with what its embeddings have cost so far."""
    if plan.key is None:
        return outcome
    measured = load_measurement(job.cache, plan.key, anywhere=not job.runner.is_local)
    return replace(
        outcome,
        backbone=plan.backbone.name,
        weights=str(plan.weights),
        images_per_second=measured.images_per_second,
        latency_ms=measured.latency_ms,
        latency_p95_ms=measured.latency_p95_ms,
        embed_seconds=measured.seconds_for(len(job.images)),
        noisy=measured.noisy,
        agreement=measured.agreement,
    )


def _call(task: HeadTask) -> Call:
    backbone = task.plan.backbone
    memory = head_memory_bytes(len(task.job.images), backbone.embedding_dim)
    return Call(name=f"heads-{backbone.name}", argument=task, memory=(memory, 0.0))
