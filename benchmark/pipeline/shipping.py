"""What a board found on a backbone: its last head, from the stored embeddings and choices, in seconds."""

from __future__ import annotations

from dataclasses import replace

from benchmark.embeddings import EmbeddingStore
from benchmark.errors import ArgumentError, TrainingError
from benchmark.execution import Runner
from benchmark.finetuning import BoardHead
from benchmark.heads import FinalHead, final_head
from benchmark.pipeline.embedding import embed_images
from benchmark.pipeline.heads import HeadJob, head_job, train_all
from benchmark.pipeline.planning import Plan
from benchmark.pipeline.stored import BOARD_FILE, StoredRanking
from benchmark.records import (
    Backbone,
    Embeddings,
    Engine,
    ImageSet,
    Observer,
    Precision,
    Predictions,
    ProtocolName,
    Scored,
    Status,
    Targets,
    Task,
    WeightsSource,
)


def board_head(
    stored: StoredRanking,
    backbone: Backbone,
    weights: WeightsSource,
    images: ImageSet,
    observer: Observer,
    runner: Runner,
) -> BoardHead:
    """The head that scored the test part of a board, trained on train + validation by the board's choices.

    Args:
        stored: the run whose board it is.
        backbone: one that it scored.
        weights: that it was ranked with.
        images: as they were ranked.
        observer: told where embeddings have to be made again.
        runner: makes them.

    Raises:
        ArgumentError: the board has no score of this backbone.
        TrainingError: it cannot be embedded or scored any more.
    """
    plan, job, embeddings = _embedded(stored, backbone, weights, images, observer, runner)
    (outcome,) = train_all(job, (plan,), observer)
    if not isinstance(outcome, Scored):
        raise _gone(backbone, outcome.reason)
    head = final_head(embeddings, Targets.of(images), images.split, job.protocol)
    part = "test" if len(images.split.test) else "val"
    return _told(head, embeddings, images, part, outcome.predictions)


def start_head(
    stored: StoredRanking,
    backbone: Backbone,
    weights: WeightsSource,
    images: ImageSet,
    observer: Observer,
    runner: Runner,
) -> BoardHead:
    """A head like the board's last one that has seen the training part alone, to go on from.

    Validation images then say honestly what training adds to it. Arguments and errors are those of
    ``board_head``; the images may be grouped and split otherwise than they were ranked.
    """
    _, job, embeddings = _embedded(stored, backbone, weights, images, observer, runner)
    split, protocol = images.split, job.protocol
    if protocol.name is not ProtocolName.REFERENCE:  # which trains on the training part anyway
        split = replace(split, val=split.val[:0])
    return _told(final_head(embeddings, Targets.of(images), split, protocol), embeddings, images, "val")


def _embedded(
    stored: StoredRanking,
    backbone: Backbone,
    weights: WeightsSource,
    images: ImageSet,
    observer: Observer,
    runner: Runner,
) -> tuple[Plan, HeadJob, Embeddings]:
    """How a backbone was embedded, how its heads were trained, its embeddings of these images."""
    row = stored.row(backbone.name)
    if row is None or row["status"] != Status.SCORED:
        scored = [str(each["backbone"]) for each in stored.board.rows if each["status"] == Status.SCORED]
        raise ArgumentError(
            "the board has no head of this backbone",
            where=stored.folder / BOARD_FILE,
            expected=", ".join(scored),
            got=backbone.name if row is None else f"{backbone.name}, {row['status']}",
            next_step="Rank it first.",
        )
    request = replace(stored.request, backbones=(replace(backbone, weights=weights),)).but(
        engine=Engine(row["engine"]), precision=Precision(row["precision"]), max_latency_ms=None
    )
    if not runner.is_local:
        request = request.executed_by(runner)
    (plan,) = embed_images(request, images, observer).plans
    if plan.stopped is not None or plan.key is None:
        raise _gone(backbone, plan.stopped.reason if plan.stopped else "")
    if plan.key.weights_sha256 != row["weights_sha256"]:
        raise TrainingError(
            "has other weights than were ranked",
            where=backbone.name,
            expected=f"SHA-256 {row['weights_sha256'][:16]}",
            got=plan.key.weights_sha256[:16],
            next_step="Rank it again, or put the file back.",
        )
    job = head_job(request, images, stored.folder)
    return plan, job, EmbeddingStore(request.options.cache).read(plan.key, images.image_ids)


def _told(
    head: FinalHead,
    embeddings: Embeddings,
    images: ImageSet,
    part: str,
    predictions: Predictions | None = None,
) -> BoardHead:
    rows = getattr(images.split, part)
    said = head.probabilities(embeddings.features[rows], exclusive=images.task is Task.MULTICLASS)
    return BoardHead(
        head=head, part=part, expected=said, predictions=predictions, features=embeddings.features
    )


def _gone(backbone: Backbone, reason: str) -> TrainingError:
    return TrainingError("cannot be scored as it was ranked", where=backbone.name, got=reason)
