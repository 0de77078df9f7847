"""From a board's winner, or any named backbone, to a fine-tuned model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.backbones import parse_weights, select
from benchmark.data import DataOptions, load_images, tell_reading
from benchmark.errors import ArgumentError, DataError, NothingScored
from benchmark.finetuning import (
    DEFAULT_RECIPE,
    BoardScore,
    FineTuned,
    FinetuneRequest,
    Recipe,
    model_folder,
)
from benchmark.pipeline.auditing import with_auto_groups
from benchmark.pipeline.progress import OneAtATime
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.pipeline.workers import failure
from benchmark.ranking import default_average
from benchmark.records import (
    Average,
    Backbone,
    ImageSet,
    Leaderboard,
    Observer,
    ProtocolName,
    Resize,
    Silent,
    ThresholdRule,
    WeightsKind,
    WeightsSource,
)
from benchmark.reporting import read_board, read_run_record, write_rejected, write_table
from benchmark.storage import place

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
        known: backbones that a name may mean before the registry is asked.
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
    known: tuple[Backbone, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """What fine-tuning left.

    Attributes:
        models: the fine-tuned models, best validation F1 first.
        failed: backbone and reason of those that could not be fine-tuned.
        regret: validation F1 that the board's first choice gives away to the best after fine-tuning; nan
            unless several were asked for and the first choice is among the models.
        remarks: what a reader must know of the whole: the regret or why it is not known, rejected files.
    """

    models: tuple[FineTuned, ...]
    failed: tuple[tuple[str, str], ...] = ()
    regret: float = math.nan
    remarks: tuple[str, ...] = ()


def finetune_backbones(job: FinetuneJob, observer: Observer | None = None) -> FinetuneResult:
    """Fine-tune one backbone, or the first ``top`` of the board.

    Raises:
        ArgumentError: no such backbone, no board to take the winner from, or a winner beside ``top``.
        DataError: the images cannot be used.
        NothingScored: none of several backbones could be fine-tuned.
        BenchmarkError: the one backbone that was asked for could not be fine-tuned.
    """
    if job.top is not None and job.winner not in (None, AUTO):
        raise ArgumentError(
            "fine-tunes the first of the board, whoever they are",
            where=f"--top {job.top}",
            got=f"--winner {job.winner}",
            next_step="Give one of the two.",
        )
    watch = OneAtATime(observer or Silent())
    images = load_images(job.data, cache=job.cache, options=job.options, observer=watch)
    choices = _choices(job, place(job.results, images.name))
    run = Run(place(job.results, images.name), job.results)
    logged = LoggingObserver(run, watch)
    try:
        tell_reading(images, logged)
        if job.auto_groups:
            seed = job.options.seed
            images, notes = with_auto_groups(images, cache=job.cache, seed=seed, observer=logged)
            for note in notes:
                logged.message(note)
        return _FinetuneAll(job, choices, images, run, logged).run()
    finally:
        run.close()


class _Choice(NamedTuple):
    backbone: Backbone
    weights: WeightsSource


class _FinetuneAll:
    """Fine-tunes the chosen backbones one after the other; a failure never stops the others."""

    def __init__(
        self, job: FinetuneJob, choices: Sequence[_Choice], images: ImageSet, run: Run, observer: Observer
    ) -> None:
        self._job = job
        self._choices = choices
        self._images = images
        self._run = run
        self._observer = observer
        self._board = _board_scores(job, images)
        self._models: dict[str, FineTuned] = {}
        self._failed: dict[str, str] = {}

    def run(self) -> FinetuneResult:
        for choice in self._choices:
            self._try(choice)
            if len(self._choices) > 1:
                write_table(self._table(), place(self._job.results, self._images.name, "finetune", "top.csv"))
        if not self._models:
            reasons = "; ".join(self._failed.values())
            raise NothingScored("no backbone could be fine-tuned", got=reasons)
        remarks = (*self._about_regret(), *_about_rejected(self._images))
        for remark in remarks:
            self._run.log(remark)
        return FinetuneResult(
            models=self._best_first(),
            failed=tuple(self._failed.items()),
            regret=self._gives_away(self._choices[0].backbone.name),
            remarks=remarks,
        )

    def _try(self, choice: _Choice) -> None:
        from benchmark.finetuning import finetune  # loads TensorFlow

        name = choice.backbone.name
        try:
            model = finetune(self._request(choice), self._images, self._observer)
            _list_rejected(self._images, model.model_dir)
        except Exception as error:
            if len(self._choices) == 1:
                raise
            told = failure(error)
            self._run.log(told["trace"])
            self._observer.message(f"{name} failed: {told['error']}")
            self._failed[name] = told["error"]
        else:
            self._models[name] = model
            for note in model.notes:
                self._run.log(f"{name}: {note}")

    def _best_first(self) -> tuple[FineTuned, ...]:
        return tuple(sorted(self._models.values(), key=lambda model: -model.val_f1))

    def _gives_away(self, name: str) -> float:
        """Validation F1 between a model and the best of several; nan without such a model."""
        if name not in self._models or len(self._choices) == 1:
            return math.nan
        return max(model.val_f1 for model in self._models.values()) - self._models[name].val_f1

    def _about_regret(self) -> tuple[str, ...]:
        if len(self._choices) == 1:
            return ()
        first = self._choices[0].backbone.name
        regret = self._gives_away(first)
        if math.isnan(regret):
            return (f"What the board's first choice gives away is not known: {first} failed.",)
        best = f"the best of the {len(self._models)} that could be fine-tuned" if self._failed else "the best"
        return (f"The board's first choice, {first}, gives away {regret:.4f} validation F1 to {best}.",)

    def _table(self) -> list[dict[str, Any]]:
        """Rows of ``top.csv``, best first; what failed or is still to come stands below."""
        ranks = {choice.backbone.name: rank for rank, choice in enumerate(self._choices, start=1)}
        done = [model.backbone for model in self._best_first()]
        rows = [self._row(name) | {"rank": rank} for rank, name in enumerate(done, start=1)]
        rows += [self._row(name) for name in ranks if name not in self._models]
        return [row | {"board_rank": ranks[row["backbone"]]} for row in rows]

    def _row(self, name: str) -> dict[str, Any]:
        model = self._models.get(name)
        test = model.manifest.metrics.get("test", {}) if model else {}
        return {
            "rank": None,
            "backbone": name,
            "board_rank": None,
            "val_f1": model.val_f1 if model else None,
            "regret": self._gives_away(name) if model else None,
            "test_f1": test.get("f1"),
            "kept_phase": model.kept_phase if model else "",
            "reason": "" if model else self._failed.get(name, "not yet"),
        }

    def _request(self, choice: _Choice) -> FinetuneRequest:
        job, name = self._job, choice.backbone.name
        return FinetuneRequest(
            backbone=choice.backbone,
            recipe=job.recipe,
            out=model_folder(job.results, self._images.name, name, job.recipe.name),
            cache=job.cache,
            weights=choice.weights,
            seed=job.options.seed,
            threshold=job.threshold,
            balanced=job.balanced,
            average=job.average,
            cached_views=job.cached_views,
            force=job.force,
            jobs=job.options.jobs,
            resize=job.resize,
            max_pixels=job.options.max_pixels,
            board=self._board.get(name),
        )


def _list_rejected(images: ImageSet, model_dir: Path) -> None:
    """Say beside the model which files it could not learn from; a list of an earlier day goes."""
    if images.rejected:
        write_rejected(images.rejected, model_dir)
    else:
        (model_dir / "rejected.csv").unlink(missing_ok=True)


def _about_rejected(images: ImageSet) -> tuple[str, ...]:
    count = len(images.rejected)
    if not count:
        return ()
    files = "1 file was" if count == 1 else f"{count} files were"
    return (f"{files} left out; rejected.csv beside the model names each with its reason.",)


def _board_scores(job: FinetuneJob, images: ImageSet) -> dict[str, BoardScore]:
    """Intervals of the latest board by backbone, where it averages F1 as this job does."""
    folder = place(job.results, images.name)
    try:
        board, record = read_board(folder / BOARD_FILE), read_run_record(folder)
    except DataError:  # nothing was ranked, or its files are gone: there is nothing to compare with
        return {}
    protocol = record.options.get("protocol") or {}
    average = protocol.get("average")
    if default_average(images.task, Average(average) if average else None) is not default_average(
        images.task, job.average
    ):
        return {}
    crossed = protocol.get("name", ProtocolName.CV) == ProtocolName.CV
    return {
        str(row["backbone"]): BoardScore(
            low=float(row["val_f1_low"]),
            high=float(row["val_f1_high"]),
            kind="cross-validation" if crossed else "validation",
            same_data=record.data.fingerprint == images.fingerprint(),
            weights_sha256=str(row["weights_sha256"]),
        )
        for row in board.rows
        if row["status"] == "scored" and math.isfinite(row["val_f1_low"])
    }


def _choices(job: FinetuneJob, folder: Path) -> tuple[_Choice, ...]:
    """The backbones to fine-tune, each with its weights, in the board's order."""
    winner = job.winner or (AUTO if job.recipe.name == DEFAULT_RECIPE else job.recipe.backbone)
    if job.top is not None or winner == AUTO:
        rows = _ranked_rows(folder)[: job.top or 1]
        return tuple(_from_board(job, row) for row in rows)
    chosen = _named(job, winner)
    if len(chosen) != 1:
        raise ArgumentError(
            "names several backbones",
            where=f"--winner {winner}",
            expected="one name, or auto",
            got=", ".join(backbone.name for backbone in chosen[:5]),
        )
    return (_Choice(chosen[0], job.weights or WeightsSource(kind=WeightsKind.IMAGENET)),)


def _from_board(job: FinetuneJob, row: dict[str, Any]) -> _Choice:
    weights = job.weights or parse_weights(str(row["weights"]), seed=job.options.seed)
    return _Choice(_named(job, str(row["backbone"]))[0], weights)


def _named(job: FinetuneJob, name: str) -> tuple[Backbone, ...]:
    known = tuple(backbone for backbone in job.known if backbone.name == name)
    return known or select(name, seed=job.options.seed)


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
    if board.winner is None:
        what = "the scores of the board are at chance level" if rows else "nothing on the board was scored"
        raise ArgumentError(what, where=path, next_step="Name a backbone with --winner.")
    return rows
