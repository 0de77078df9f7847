"""Boards and fine-tunings of several data sets under several seeds, and the rules judged by them.

Every seed has a results folder of its own, ``results/study/seed<N>``, in which the usual commands find what
they have done before: a study that was stopped goes on, and one that gets another data set keeps the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.backbones import KERAS, chosen, parse_weights
from benchmark.data import dataset_name
from benchmark.engines import image_seconds
from benchmark.errors import ArgumentError, NothingScored, StorageError
from benchmark.execution import failure
from benchmark.finetuning import BOARD_RECIPE, FineTuned, Recipe
from benchmark.locations import as_given
from benchmark.machine import cores
from benchmark.options import PlanOptions, StudyOptions
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.display import spoken
from benchmark.pipeline.estimating import estimate_costs
from benchmark.pipeline.finetuning import FinetuneJob, finetune_backbones
from benchmark.pipeline.ranking import rank_backbones
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.ranking import StudyTables, TunedBackbone, study_tables
from benchmark.records import Backbone, Engine, Failed, Observer, Precision, Scored, Silent, Skipped
from benchmark.reporting import write_study
from benchmark.storage import place

STUDY_FOLDER = "study"
_BOARDS, _MODELS = "boards", "fine-tuned models"
# Of one core: an epoch looks forward through all images, and back through the training part, which costs
# about twice as much; what is around the epochs of one model.
_PASSES, _AROUND_SECONDS = 2.2, 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A finished study.

    Attributes:
        tables: what came of it.
        folder: ``results/study``, where they are as CSV, JSON and Markdown.
        failed: what could not be done, each with its reason.
    """

    tables: StudyTables
    folder: Path
    failed: tuple[str, ...] = ()


def study_backbones(
    options: StudyOptions, observer: Observer | None = None, *, known: Sequence[Backbone] = ()
) -> StudyResult:
    """Rank and fine-tune every backbone on every data set under every seed, then judge the cheap rules.

    A board or a fine-tuning that fails is told, and costs no other one; a full disk ends the study. Nothing
    that an earlier study with the same options has finished in this results folder is done again.

    Args:
        options: of the command.
        observer: told of the cost before anything is computed, and of the progress.
        known: backbones instead of those that ``options`` name.

    Raises:
        ArgumentError: fewer than two data sets, two of one name, or backbones that cannot be fine-tuned.
        DataError: there is no such data set, or its images cannot be used.
        RecipeError: no such recipe, or a change that it cannot take.
        NothingScored: not even one data set has two backbones that could be fine-tuned.
        StorageError: the results cannot be written.
    """
    _check_names(options.data)
    backbones = tuple(known) or _trainable(options)
    run = Run(place(options.results, STUDY_FOLDER), options.results)
    logged = LoggingObserver(run, observer or Silent())
    try:
        run.record({"options": _record(options)})
        return _Study(options, backbones, run, logged).carry_out()
    finally:
        run.close()


def _check_names(data: Sequence[Path]) -> None:
    if len(data) < 2:
        raise ArgumentError(
            "one data set says nothing of others",
            where="`data`",
            expected="two data sets or more",
            next_step="'backbones finetune DATA --top K' says what the board's choice gives away on one.",
        )
    names: dict[str, Path] = {}
    for path in data:
        name = dataset_name(path)
        if name in names:
            raise ArgumentError(
                "two data sets have one name, which is that of their results",
                where="`data`",
                got=f"{as_given(names[name])} and {as_given(path)}",
                next_step="Rename one of the folders or CSV files.",
            )
        names[name] = path


def _trainable(options: StudyOptions) -> tuple[Backbone, ...]:
    parse_weights(options.weights)
    found = chosen(options, options.seed)
    foreign = [one.name for one in found if one.source != KERAS]
    if foreign:
        raise ArgumentError(
            "only networks of Keras are fine-tuned",
            where="`backbones`",
            got=", ".join(foreign[:5]),
            next_step="Leave the others out.",
        )
    if len(found) < 2:
        raise ArgumentError(
            "there is nothing to choose from",
            where="`backbones`",
            expected="two backbones or more",
            got=found[0].name,
        )
    return found


def _record(options: StudyOptions) -> Mapping[str, Any]:
    return options.model_dump(mode="json")


class _Study:
    """One study while it runs."""

    def __init__(
        self, options: StudyOptions, backbones: tuple[Backbone, ...], run: Run, observer: Observer
    ) -> None:
        self._options = options
        self._backbones = backbones
        self._run = run
        self._observer = observer
        self._recipe = self._checked_recipe()
        self._seeds = range(options.seed, options.seed + options.seeds)
        self._failed: list[str] = []
        self._skipped: dict[str, str] = {}

    def _checked_recipe(self) -> Recipe:
        """The recipe, its changes applied: a mistake in them is told before hours of work."""
        options = self._options
        job = FinetuneJob.of(options.for_tuning(options.data[0], options.seed, options.results, ""))
        return job.recipe or Recipe.load(BOARD_RECIPE).changed(options)

    def carry_out(self) -> StudyResult:
        self._tell_cost()
        boards = self._boards()
        tables = study_tables(self._fine_tune(boards), seed=self._options.seed)
        if not tables.data:
            raise NothingScored(
                "no data set has two backbones that could be fine-tuned",
                where=self._run.folder,
                got="; ".join(dict.fromkeys((*self._failed, *self._about_skipped())))
                or "nothing failed, but there is one backbone each",
            )
        tables = replace(
            tables, sentences=(*tables.sentences, *self._about_top(), *self._about_skipped(), *self._failed)
        )
        write_study(tables, self._run.folder, options=_record(self._options))
        return StudyResult(tables=tables, folder=self._run.folder, failed=tuple(self._failed))

    def _about_top(self) -> Iterator[str]:
        top = self._options.top
        if top is not None and top < len(self._backbones):
            yield (
                f"Every rule chose among the fine-tuned backbones alone, chance too: the first {top} of each "
                "data set's first board, and what its boards pick."
            )

    def _about_skipped(self) -> Iterator[str]:
        """What the caller's limits leave out has not failed; those are the same for every board."""
        return (f"{name} was skipped: {reason}" for name, reason in self._skipped.items())

    def _tell_cost(self) -> None:
        """Say what all of it takes at most, before it begins."""
        boards, models, each = 0.0, 0, 0.0
        count = min(self._options.top or len(self._backbones), len(self._backbones))
        for data in self._options.data:
            wanted = dict(self._options.for_ranking(data, self._options.seed, self._options.results))
            shared = {name: value for name, value in wanted.items() if name in PlanOptions.model_fields}
            cost = estimate_costs(PlanOptions.check(shared), self._observer)
            boards += cost.embed_seconds + len(self._seeds) * (cost.seconds - cost.embed_seconds)
            models += count * len(self._seeds)
            seconds = sorted(self._model_seconds(one, cost.images) for one in self._backbones)
            each += len(self._seeds) * sum(seconds[-count:])
        besides = " and those that the boards pick besides," if count < len(self._backbones) else ""
        self._observer.message(
            f"{len(self._options.data)} data sets, {len(self._seeds)} seeds: "
            f"{len(self._options.data) * len(self._seeds)} boards in about {spoken(boards)}, "
            f"{models} models{besides} fine-tuned ({self._recipe.name}) in very roughly "
            f"{spoken(each)} here; the rate of the first ones corrects that. "
            "What is there already is not done again."
        )

    def _model_seconds(self, backbone: Backbone, images: int) -> float:
        size = backbone.default_size if backbone.fixed_size else self._options.size or backbone.default_size
        epochs = self._recipe.phase1.epochs + self._recipe.phase2.epochs
        forward = image_seconds(backbone, size, Engine.TENSORFLOW, Precision.FLOAT32)
        return _AROUND_SECONDS + images * epochs * _PASSES * forward / cores()

    def _boards(self) -> dict[tuple[Path, int], Ranked]:
        """All boards first: they are cheap, and say early what cannot be done at all."""
        boards: dict[tuple[Path, int], Ranked] = {}
        whole = [(data, seed) for seed in self._seeds for data in self._options.data]
        self._observer.started(_BOARDS, len(whole))
        for number, (data, seed) in enumerate(whole, start=1):
            asked = RankRequest.of(self._options.for_ranking(data, seed, self._results(seed)))
            where = f"{dataset_name(data)}, seed {seed}"
            try:
                ranked = rank_backbones(replace(asked, backbones=self._backbones), self._observer)
            except StorageError:  # nothing else could be written either; the same command goes on later
                raise
            except Exception as error:
                self._note(f"{where}: no board", error)
            else:
                if ranked.images.split.test.size:
                    boards[data, seed] = ranked
                else:
                    self._failed.append(f"{where}: no test part to judge by, so nothing was fine-tuned")
                for one in ranked.outcomes:
                    if isinstance(one, Skipped):
                        self._skipped.setdefault(one.backbone, one.reason)
                    elif isinstance(one, Failed):
                        self._failed.append(f"{where}: {one.backbone} was not ranked: {one.reason}")
            self._observer.advanced(_BOARDS, number, where)
        self._observer.finished(_BOARDS)
        return boards

    def _results(self, seed: int) -> Path:
        return place(self._run.folder, f"seed{seed}")

    def _fine_tune(self, boards: Mapping[tuple[Path, int], Ranked]) -> list[TunedBackbone]:
        wanted = [
            (key, ranked, backbone)
            for key, ranked in boards.items()
            for backbone in self._to_tune(key[0], boards)
            if any(row["backbone"] == backbone.name for row in _ranked_rows(ranked))
        ]
        found: list[TunedBackbone] = []
        begun = time.monotonic()
        self._observer.started(_MODELS, len(wanted))
        for number, ((data, seed), ranked, backbone) in enumerate(wanted, start=1):
            try:
                model = self._model(data, seed, backbone)
                found.append(_tuned(dataset_name(data), seed, ranked, model))
            except StorageError:
                raise
            except Exception as error:
                self._note(f"{dataset_name(data)}, seed {seed}: {backbone.name} was not fine-tuned", error)
            left = (time.monotonic() - begun) / number * (len(wanted) - number)
            self._observer.advanced(
                _MODELS,
                number,
                f"{dataset_name(data)}, seed {seed}, {backbone.name}; about {spoken(left)} left",
            )
        self._observer.finished(_MODELS)
        return found

    def _to_tune(self, data: Path, boards: Mapping[tuple[Path, int], Ranked]) -> Iterator[Backbone]:
        """Every backbone, or the first ones of the data set's first board and the picks of all its boards.

        They are the same under every seed.
        """
        of_data = [boards[data, seed] for seed in self._seeds if (data, seed) in boards]
        names = {str(row["backbone"]) for row in _ranked_rows(of_data[0])[: self._options.top]}
        names.update(name for board in of_data for name in _picks(board).values())
        return (one for one in self._backbones if one.name in names)

    def _model(self, data: Path, seed: int, backbone: Backbone) -> FineTuned:
        options = self._options.for_tuning(data, seed, self._results(seed), backbone.name)
        job = replace(FinetuneJob.of(options), known=self._backbones)
        (model,) = finetune_backbones(job, self._observer).models
        return model

    def _note(self, what: str, error: Exception) -> None:
        told = failure(error)
        self._run.log(told["trace"])
        self._failed.append(f"{what}: {told['error']}")
        self._observer.message(self._failed[-1])


def _ranked_rows(ranked: Ranked) -> list[Mapping[str, Any]]:
    return [row for row in ranked.board.rows if row["rank"]]


def _picks(ranked: Ranked) -> dict[str, str]:
    """Whom the board picks, by what it says of them; a board at chance level has no winner."""
    tied = [row for row in _ranked_rows(ranked) if row["tie_group"] == 1]
    smallest = min(tied, key=lambda row: (row["size_bytes"], row["backbone"]), default={})
    named = {"winner": ranked.board.winner, "smallest tied": smallest.get("backbone")}
    return {word: str(name) for word, name in named.items() if name}


def _tuned(data: str, seed: int, ranked: Ranked, model: FineTuned) -> TunedBackbone:
    row = next(row for row in _ranked_rows(ranked) if row["backbone"] == model.backbone)
    (outcome,) = (one for one in ranked.outcomes if one.backbone == model.backbone)
    known = outcome.baselines if isinstance(outcome, Scored) else {}
    return TunedBackbone(
        data=data,
        seed=seed,
        backbone=model.backbone,
        val_f1=float(row["val_f1"]),
        picks=", ".join(word for word, name in _picks(ranked).items() if name == model.backbone),
        **{
            name: float(known.get(name, math.nan))
            for name in ("params", "imagenet_top1", "knn_f1", "logme", "h_score")
        },
        tuned_val_f1=model.val_f1,
        tuned_f1=float(model.manifest.metrics["test"]["f1"]),
        kept=model.kept_phase,
    )
