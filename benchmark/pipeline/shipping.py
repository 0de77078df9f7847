"""What a board found on a backbone: its last head, from the stored embeddings and choices, in seconds."""

from __future__ import annotations

from dataclasses import replace

from benchmark.embeddings import EmbeddingStore
from benchmark.errors import ArgumentError, TrainingError
from benchmark.finetuning import BoardHead
from benchmark.heads import final_head
from benchmark.pipeline.adopting import BOARD_FILE, StoredBoard
from benchmark.pipeline.embedding import embed_images
from benchmark.pipeline.heads import train_all
from benchmark.pipeline.ranking import head_job
from benchmark.records import (
    Backbone,
    Engine,
    ImageSet,
    Observer,
    Precision,
    Scored,
    Status,
    Targets,
    Task,
    WeightsSource,
)


def board_head(
    stored: StoredBoard, backbone: Backbone, weights: WeightsSource, images: ImageSet, observer: Observer
) -> BoardHead:
    """The head that scored the test part of a board, trained on train + validation by the board's choices.

    Args:
        stored: the board.
        backbone: one that it scored.
        weights: that it was ranked with.
        images: as they were ranked.
        observer: told where embeddings have to be made again.

    Raises:
        ArgumentError: the board has no score of this backbone.
        TrainingError: it cannot be embedded or scored any more.
    """
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
    (outcome,) = train_all(job, (plan,), observer)
    if not isinstance(outcome, Scored):
        raise _gone(backbone, outcome.reason)
    embeddings = EmbeddingStore(request.options.cache).read(plan.key, images.image_ids)
    head = final_head(embeddings, Targets.of(images), images.split, job.protocol)
    rows = images.split.test if len(images.split.test) else images.split.val
    expected = head.probabilities(embeddings.features[rows], exclusive=images.task is Task.MULTICLASS)
    return BoardHead(head=head, predictions=outcome.predictions, expected=expected)


def _gone(backbone: Backbone, reason: str) -> TrainingError:
    return TrainingError("cannot be scored as it was ranked", where=backbone.name, got=reason)
