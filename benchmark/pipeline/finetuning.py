"""From a board's winner, or any named backbone, to a fine-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.backbones import parse_weights, select
from benchmark.data import DataOptions, load_images
from benchmark.errors import ArgumentError, BenchmarkError, NothingScored
from benchmark.finetuning import (
    DEFAULT_RECIPE,
    FineTuned,
    FinetuneRequest,
    Recipe,
    model_folder,
)
from benchmark.pipeline.auditing import with_auto_groups
from benchmark.pipeline.progress import OneAtATime, Silent
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.records import (
    Average,
    Backbone,
    ImageSet,
    Leaderboard,
    Observer,
    Resize,
    ThresholdRule,
    WeightsKind,
    WeightsSource,
)
from benchmark.reporting import read_board, write_table

AUTO = "auto"
BOARD_FILE = "leaderboard.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneJob:
    """What to fine-tune on which data.

    Attributes:
        data: folder or CSV.
        recipe: the protocol, overrides applied.
        winner: a backbone's name, ``auto`` for the board's winner; None takes the recipe's own backbone, and
            the board's winner under the default recipe.
        top: fine-tune the first so many of the board and re-rank them; None fine-tunes one.
        weights: source of the weights; None takes what the board's backbone was ranked with, else ImageNet.
        options: how the images are read and split.
        auto_groups: keep automatically found groups of related images on one side of every split.
        cache: embedding cache.
        results: folder of all results.
        threshold: decision rule of sigmoid outputs.
        balanced: weight classes by inverse frequency.
        average: of F1.
        cached_views: train phase 1 on embeddings of so many augmented views an image; 0 does not.
        force: repeat a finished run.
        resize: how images get the input size.
    """

    data: Path
    recipe: Recipe
    winner: str | None = None
    top: int | None = None
    weights: WeightsSource | None = None
    options: DataOptions = field(default_factory=DataOptions)
    auto_groups: bool = False
    cache: Path = Path("embeddings_cache")
    results: Path = Path("results")
    threshold: ThresholdRule = field(default_factory=ThresholdRule)
    balanced: bool = False
    average: Average | None = None
    cached_views: int = 0
    force: bool = False
    resize: Resize = Resize.BILINEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """What fine-tuning left.

    Attributes:
        models: the fine-tuned models, best validation F1 first.
        failed: backbone and reason of those that could not be fine-tuned.
        regret: validation F1 that the board's first choice gives away to the best after fine-tuning; nan
            unless several were fine-tuned.
    """

    models: tuple[FineTuned, ...]
    failed: tuple[tuple[str, str], ...] = ()
    regret: float = float("nan")


def finetune_backbones(job: FinetuneJob, observer: Observer | None = None) -> FinetuneResult:
    """Fine-tune one backbone, or the first ``top`` of the board.

    Raises:
        ArgumentError: no such backbone, or no board to take the winner from.
        DataError: the images cannot be used.
        NothingScored: none of several backbones could be fine-tuned.
        BenchmarkError: the one backbone that was asked for could not be fine-tuned.
    """
    watch = OneAtATime(observer or Silent())
    images = load_images(job.data, cache=job.cache, options=job.options, observer=watch)
    choices = _choices(job, job.results / images.name)
    run = Run(job.results / images.name)
    logged = LoggingObserver(run, watch)
    try:
        if job.auto_groups:
            images = with_auto_groups(images, cache=job.cache, seed=job.options.seed, observer=logged)[0]
        return _finetune_all(job, choices, images, logged)
    finally:
        run.close()


_Choice = tuple[Backbone, WeightsSource]


def _finetune_all(
    job: FinetuneJob, choices: Sequence[_Choice], images: ImageSet, observer: Observer
) -> FinetuneResult:
    from benchmark.finetuning import finetune  # loads TensorFlow

    models: list[FineTuned] = []
    failed: list[tuple[str, str]] = []
    for backbone, weights in choices:
        try:
            models.append(finetune(_request(job, backbone, weights, images), images, observer))
        except BenchmarkError as error:
            if len(choices) == 1:
                raise
            observer.message(f"{backbone.name} failed: {error}")
            failed.append((backbone.name, str(error)))
    if not models:
        raise NothingScored("no backbone could be fine-tuned", got="; ".join(reason for _, reason in failed))
    first = models[0].val_f1 if len(models) > 1 and not failed else float("nan")
    ordered = tuple(sorted(models, key=lambda model: -model.val_f1))
    result = FinetuneResult(models=ordered, failed=tuple(failed), regret=ordered[0].val_f1 - first)
    if len(choices) > 1:
        write_table(_table(result), job.results / images.name / "finetune" / "top.csv")
    return result


def _table(result: FinetuneResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "backbone": model.backbone,
            "val_f1": model.val_f1,
            "test_f1": model.manifest.metrics.get("test", {}).get("f1"),
            "kept_phase": model.kept_phase,
            "reason": "",
        }
        for rank, model in enumerate(result.models, start=1)
    ]
    empty = {"rank": None, "val_f1": None, "test_f1": None, "kept_phase": ""}
    return rows + [{**empty, "backbone": name, "reason": reason} for name, reason in result.failed]


def _request(
    job: FinetuneJob, backbone: Backbone, weights: WeightsSource, images: ImageSet
) -> FinetuneRequest:
    return FinetuneRequest(
        backbone=backbone,
        recipe=job.recipe,
        out=model_folder(job.results, images.name, backbone.name, job.recipe.name),
        cache=job.cache,
        weights=weights,
        seed=job.options.seed,
        threshold=job.threshold,
        balanced=job.balanced,
        average=job.average,
        cached_views=job.cached_views,
        force=job.force,
        jobs=job.options.jobs,
        resize=job.resize,
    )


def _choices(job: FinetuneJob, folder: Path) -> tuple[_Choice, ...]:
    """The backbones to fine-tune, each with its weights, in the board's order."""
    winner = job.winner or (AUTO if job.recipe.name == DEFAULT_RECIPE else job.recipe.backbone)
    if job.top is not None or winner == AUTO:
        rows = _ranked_rows(folder)[: job.top or 1]
        return tuple(_from_board(job, row) for row in rows)
    chosen = select(winner, seed=job.options.seed)
    if len(chosen) != 1:
        raise ArgumentError(
            "names several backbones",
            where=f"--winner {winner}",
            expected="one name, or auto",
            got=", ".join(backbone.name for backbone in chosen[:5]),
        )
    return ((chosen[0], job.weights or WeightsSource(kind=WeightsKind.IMAGENET)),)


def _from_board(job: FinetuneJob, row: dict[str, Any]) -> _Choice:
    backbone = select(str(row["backbone"]), seed=job.options.seed)[0]
    return backbone, job.weights or parse_weights(str(row["weights"]), seed=job.options.seed)


def _ranked_rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / BOARD_FILE
    if not path.exists():
        raise ArgumentError(
            "there is no board to take the winner from",
            where=path,
            next_step="Run 'backbones rank' on the same data first, or name a backbone with --winner NAME.",
        )
    board: Leaderboard = read_board(path)
    rows = [dict(row) for row in board.rows if row["status"] == "scored"]
    if not rows:
        raise ArgumentError(
            "nothing on the board was scored", where=path, next_step="Name one with --winner."
        )
    return rows
