"""From a board's winner, or any named backbone, to a fine-tuned model."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmark.backbones import FILE, KERAS, parse_weights, select
from benchmark.data import dataset_name, load_images, tell_reading
from benchmark.errors import ArgumentError, DataError, NothingScored, RecipeError, TrainingError
from benchmark.execution import LocalRunner, Runner, failure
from benchmark.finetuning import (
    BOARD_RECIPE,
    DEFAULT_RECIPE,
    BoardScore,
    FineTuned,
    FinetuneRequest,
    Recipe,
)
from benchmark.locations import as_given
from benchmark.options import DataOptions, FinetuneOptions, RecipeChanges
from benchmark.pipeline.auditing import with_auto_groups, with_groups_of
from benchmark.pipeline.machines import runner_of
from benchmark.pipeline.model_reports import report_model
from benchmark.pipeline.places import ResultsFolder, results_folder, stored_folders
from benchmark.pipeline.rebuilding import images_as_ranked, latest_run
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.pipeline.shipping import board_head, start_head
from benchmark.pipeline.stored import BOARD_FILE, StoredRanking, check_same_images
from benchmark.pipeline.tracking import Tracking, open_trackers, tracking
from benchmark.pipeline.tuning import most_side_by_side, training_bytes, tune_all
from benchmark.records import (
    Backbone,
    ImageSet,
    Observer,
    ProtocolName,
    Resize,
    Silent,
    Status,
    WeightsKind,
    WeightsSource,
)
from benchmark.reporting import PAGE_FILE, export_command, read_image_list, write_rejected, write_table
from benchmark.statistics import (
    Assessment,
    ErrorCounts,
    Interval,
    Sample,
    assess,
    decide,
    default_average,
)
from benchmark.storage import place

AUTO = "auto"
_HALVING = "halving"  # folder of the models that were trained for a part of the epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneJob:
    """What to fine-tune on which data.

    Attributes:
        options: of the command; what they leave open is as on the board.
        recipe: the protocol, overrides applied; None where the board decides which.
        known: backbones that a name may mean before the registry is asked.
        board: the run whose board it goes on from; None takes the latest.
    """

    options: FinetuneOptions
    recipe: Recipe | None
    known: tuple[Backbone, ...] = ()
    board: StoredRanking | None = None

    @classmethod
    def of(cls, options: FinetuneOptions) -> FinetuneJob:
        """The job of a command.

        Raises:
            ArgumentError: no such weights.
            RecipeError: no such recipe, or a change that a recipe cannot take.
        """
        if options.weights is not None:
            parse_weights(options.weights)
        recipe = Recipe.load(options.recipe or DEFAULT_RECIPE).changed(options)
        return cls(options=options, recipe=None if options.recipe is None else recipe)

    @property
    def ships_the_board(self) -> bool:
        """Whether nothing is trained: the head is the board's as it is."""
        return self.recipe is not None and self.recipe.ships_the_board

    def stored_ranking(self, folder: Path) -> StoredRanking | None:
        """The run in ``results/<dataset>`` whose board it goes on from; None where nothing was ranked.

        Raises:
            DataError: its files cannot be read.
        """
        if self.board is not None:
            return self.board
        if not (folder / BOARD_FILE).exists():
            return None
        options = self.options
        return StoredRanking.read(folder, data=options.data, results=options.results, cache=options.cache)

    @property
    def weights(self) -> WeightsSource | None:
        """The source of the weights; None takes what the backbone was ranked with, else ImageNet."""
        text = self.options.weights
        return None if text is None else parse_weights(text, seed=self.options.drawing_seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """What fine-tuning left.

    Attributes:
        models: the fine-tuned models, best validation F1 first.
        failed: backbone and reason of those that could not be fine-tuned.
        left_out: backbone and reason of those that halving gave fewer epochs.
        regret: F1 that the board's first choice gives away to the best after fine-tuning, with its 95 %
            interval (``statistics.losses``); None where it is not known.
        remarks: what a reader must know of the whole: what was taken from the board, the regret or why it is
            not known, rejected files.
    """

    models: tuple[FineTuned, ...]
    failed: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    regret: Interval | None = None
    remarks: tuple[str, ...] = ()


def finetune_backbones(job: FinetuneJob, observer: Observer | None = None) -> FinetuneResult:
    """Fine-tune one backbone, or the first ``top`` of the board.

    Raises:
        ArgumentError: no such backbone, or no board to take the winner from.
        DataError: the images cannot be used.
        NothingScored: none of several backbones could be fine-tuned.
        BenchmarkError: the one backbone that was asked for could not be fine-tuned.
    """
    options = job.options
    trackers = open_trackers(options.trackers)
    watch = observer or Silent()
    stored: StoredRanking | None
    if job.ships_the_board:
        stored, images = _board_to_ship(job, watch)
        job = _as_the_board(job, stored, images)
        folder = results_folder(options.results, images, options.data)
    else:
        images = _read(options, watch)
        folder = results_folder(options.results, images, options.data)
        stored = _board_to_go_on_from(job, folder.path)
        if stored is not None:
            job, images = _as_ranked(job, stored, images, watch)
    choices = _choices(job, folder, stored)
    run = Run(folder.path, options.results)
    logged = LoggingObserver(run, watch)
    try:
        folder.claim(logged)
        tell_reading(images, logged)
        if job.options.auto_groups and not job.ships_the_board:
            images = _grouped(job, stored, images, logged)
        with (
            tracking(trackers, logged, "finetune", job.options, images) as told,
            runner_of(options, logged.message) as runner,
        ):
            return _FinetuneAll(job, choices, images, run, logged, stored, told, runner).run()
    finally:
        run.close()


def _read(options: FinetuneOptions, observer: Observer) -> ImageSet:
    return load_images(options.data, cache=options.cache, options=options.reading, observer=observer)


def _grouped(
    job: FinetuneJob, stored: StoredRanking | None, images: ImageSet, observer: Observer
) -> ImageSet:
    """The images with the groups that the board found; without such a board, with those found now."""
    seed = job.options.drawing_seed
    if stored is not None and stored.request.options.auto_groups:
        listed = read_image_list(stored.path)
        if listed.keys() == set(images.image_ids):
            return with_groups_of(listed, images, seed=seed)
    images, notes = with_auto_groups(images, cache=job.options.cache, seed=seed, observer=observer)
    for note in notes:
        observer.message(note)
    return images


def _winner(job: FinetuneJob) -> str:
    own = AUTO if job.recipe is None or job.recipe.follows_the_board else job.recipe.backbone
    return job.options.winner or own


def _board_to_ship(job: FinetuneJob, observer: Observer) -> tuple[StoredRanking, ImageSet]:
    """The run whose heads are taken as they are, and the images as it read them, whatever the job says.

    Raises:
        ArgumentError: nothing was ranked.
        DataError: there are other images, labels or parts than were ranked.
    """
    if job.board is not None:
        return job.board, images_as_ranked(job.board, observer)
    options = job.options
    folders = stored_folders(options.results, dataset_name(options.data), options.data)
    if not any((folder / BOARD_FILE).exists() for folder in folders):
        raise _no_board(folders[0])
    return latest_run(options.data, options.results, options.cache, observer)


def _board_to_go_on_from(job: FinetuneJob, folder: Path) -> StoredRanking | None:
    """The board in ``results/<dataset>``; None where nothing was ranked, or a recipe brings its own backbone.

    Raises:
        DataError: the board cannot be read.
    """
    options = job.options
    if options.winner is None and options.top is None and _winner(job) != AUTO:
        return None
    return job.stored_ranking(folder)


def _as_ranked(
    job: FinetuneJob, stored: StoredRanking, images: ImageSet, observer: Observer
) -> tuple[FinetuneJob, ImageSet]:
    """What the job leaves open, as the board has it; and the images read so.

    Raises:
        DataError: the board is of other images.
    """
    ranked, read = stored.request, job.options.reading
    # With another seed, images that chose on the board would be test images of its choice.
    seed = ranked.options.seed if job.options.seed is None else job.options.seed
    options = job.options.but(seed=seed)
    if options.limit is not None and options.reading != read:  # other images are drawn
        images, read = _read(options, observer), options.reading
    check_same_images(stored, images, limited=options.limit is not None)
    positive = stored.record.data.positive
    shown = "" if images.positive is None else images.classes[images.positive]
    taken = options.but(
        groups=ranked.options.groups if options.groups is None else options.groups,
        positive=positive or None if options.positive is None and positive != shown else options.positive,
        bit_depth=options.bit_depth or ranked.options.bit_depth,
        average=options.average or ranked.protocol.average,
        resize=options.resize or ranked.options.resize,
    )
    if taken.reading != read:
        images = _read(taken, observer)
    return replace(job, options=taken), images


def _as_the_board(job: FinetuneJob, stored: StoredRanking, images: ImageSet) -> FinetuneJob:
    """Everything as the board has it: its head belongs to these images, parts and embeddings.

    Raises:
        ArgumentError: something is wanted otherwise.
    """
    ranked, protocol, options = stored.request.options, stored.request.protocol, job.options
    usual = {name: FinetuneOptions.model_fields[name].default for name in (*_OF_THE_BOARD, *_NEVER)}
    theirs = usual | {
        **{name: getattr(ranked, name) for name in (*DataOptions.model_fields, "resize")},
        "positive": stored.record.data.positive,
        "groups": ranked.groups or AUTO,
        "average": default_average(images.task, protocol.average),
        "threshold": protocol.threshold,
        "class_weight": "balanced" if protocol.balanced else None,
    }
    other = [name for name in usual if getattr(options, name) not in (usual[name], theirs[name])]
    if other:
        raise ArgumentError(
            "says nothing here: the board's head is taken as it is",
            where=", ".join(f"`{name}`" for name in other),
            next_step="Rank with it first.",
        )
    taken = {name: getattr(ranked, name) for name in DataOptions.model_fields}
    taken |= {"average": protocol.average, "resize": ranked.resize, "jobs": options.jobs}
    # They are in the head already.
    taken |= {name: usual[name] for name in ("threshold", "class_weight")}
    return replace(job, options=options.but(**taken))


_OF_THE_BOARD = (
    *(name for name in DataOptions.model_fields if name != "jobs"),
    *("average", "resize", "threshold", "class_weight"),
)
_NEVER = ("weights", "image_size", "cached_views", "halving")  # each row has its own, or nothing is trained


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A backbone to fine-tune.

    Attributes:
        backbone: which.
        weights: for a backbone that carries none of its own.
        recipe: its input size decided.
        row: of the board; None where the board does not have it.
        why: this recipe was taken, where nobody named one.
        is_short: the recipe has a part of its epochs alone, to choose who goes on.
    """

    backbone: Backbone
    weights: WeightsSource
    recipe: Recipe
    row: Mapping[str, Any] | None = None
    why: str = ""
    is_short: bool = False

    @property
    def source(self) -> str:
        return str(self.backbone.weights or self.weights)


class _FinetuneAll:
    """Fine-tunes the chosen backbones; a failure never stops the others."""

    def __init__(
        self,
        job: FinetuneJob,
        choices: Sequence[_Choice],
        images: ImageSet,
        run: Run,
        observer: Observer,
        stored: StoredRanking | None,
        told: Tracking,
        runner: Runner,
    ) -> None:
        self._told = told
        self._runner = runner
        self._job = job
        self._choices = choices
        self._images = images
        self._run = run
        self._observer = observer
        self._stored = stored
        self._board = _board_scores(job, run.folder, images)
        self._models: dict[str, FineTuned] = {}
        self._failed: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._short: dict[str, FineTuned] = {}  # of those left out

    def run(self) -> FinetuneResult:
        origins = tuple(self._about_origin(choice) for choice in self._choices) if self._asked() else ()
        for origin in origins:
            self._observer.message(origin)
        left = self._choices
        for share in self._shares():
            self._try_all([_with_share(choice, share) for choice in left])
            if share > 1:
                left = self._better_half(left, share)
        if not self._models:
            reasons = "; ".join(self._failed.values())
            raise NothingScored("no backbone could be fine-tuned", got=reasons)
        left_out = tuple(f"{name} was {why}." for name, why in self._left_out.items())
        found = (
            *self._about_shared_images(),
            *left_out,
            *self._about_regret(),
            *_about_rejected(self._images),
        )
        for remark in found:
            self._run.log(remark)
        return FinetuneResult(
            models=self._best_first(),
            failed=tuple(self._failed.items()),
            left_out=tuple(self._left_out.items()),
            regret=self._losses().get(self._choices[0].backbone.name),
            remarks=(*origins, *found),
        )

    def _shares(self) -> tuple[int, ...]:
        """By what the epochs are divided, round after round: 4, 2, 1 for four backbones."""
        rounds = len(self._choices).bit_length() - 1 if self._job.options.halving else 0
        return tuple(2**number for number in range(rounds, -1, -1))

    def _better_half(self, choices: Sequence[_Choice], share: int) -> tuple[_Choice, ...]:
        """Those that go on: the better half by validation F1, the board's first choice always among them.

        What the first choice gives away would not be known if it had fewer epochs than the others.
        """
        first = self._choices[0].backbone.name
        done = [model for model in self._best_first() if model.backbone not in self._left_out]
        going = [model.backbone for model in done][: math.ceil(len(choices) / 2)]
        if first in self._models and first not in going:
            going[-1] = first
        for model in done:
            if model.backbone not in going:
                self._left_out[model.backbone] = (
                    f"left out after 1/{share} of the epochs, with validation F1 {model.val_f1:.3f}"
                )
        for name in self._left_out.keys() & self._models.keys():
            self._short[name] = self._models.pop(name)
        return tuple(choice for choice in choices if choice.backbone.name in going)

    def _asked(self) -> bool:
        """Whether somebody named a backbone or the board, instead of leaving all to a recipe."""
        return self._stored is not None or self._job.options.winner is not None

    def _about_origin(self, choice: _Choice) -> str:
        """What this fine-tuning has in common with the board, and what not."""
        job, stored, name = self._job, self._stored, choice.backbone.name
        average = default_average(self._images.task, job.options.average)
        own = {
            "weights": f"{choice.source} weights",
            "size": f"{choice.recipe.image_size} pixels",
            "groups": f"groups {job.options.groups or AUTO}",
            "average": f"{average} F1",
        }
        if stored is not None and job.options.drawing_seed != stored.request.options.seed:
            own["seed"] = f"seed {job.options.drawing_seed}"
        why = f" Recipe {choice.recipe.name}: {choice.why}." if choice.why else ""
        if stored is None:
            return f"{name}, without a board in {self._run.folder}: {', '.join(own.values())}.{why}"
        ranked = stored.request
        row = choice.row or {"weights": choice.source, "input_size": choice.recipe.image_size}
        theirs = {
            "weights": f"{row['weights']} weights",
            "size": f"{row['input_size']} pixels",
            "groups": f"groups {ranked.options.groups or AUTO}",
            "average": f"{default_average(self._images.task, ranked.protocol.average)} F1",
            "seed": f"seed {ranked.options.seed}",
        }
        same = [text for key, text in own.items() if text == theirs[key]]
        other = [f"{text} instead of {theirs[key]}" for key, text in own.items() if text != theirs[key]]
        whose = "as it was ranked" if choice.row else "not on the board itself, as the others were ranked"
        parts = [*([", ".join(same)] if same else []), *other]
        return f"{name}, {whose} in {stored.folder}: {'; '.join(parts)}.{why}"

    def _try_all(self, choices: Sequence[_Choice]) -> None:
        """Fine-tune some backbones; what failed is noted, a single one's failure is the caller's."""
        ready = [(choice, request) for choice in choices if (request := self._prepared(choice)) is not None]
        if not self._is_side_by_side([request for _, request in ready]):
            for choice, request in ready:
                self._one(choice, request)
                self._write_table()
            return
        tuned = tune_all([request for _, request in ready], self._images, self._runner, self._observer)
        with closing(tuned) as found:
            for one in found:
                choice = ready[one.position][0]
                if one.model is None:
                    self._note_failure(choice, one.failure)
                    continue
                for row in one.epochs:
                    self._told.epoch(choice.backbone.name, row)
                self._keep(choice, one.model)
                self._write_table()

    def _is_side_by_side(self, requests: Sequence[FinetuneRequest]) -> bool:
        if not self._runner.is_local:
            return True
        fitting = most_side_by_side(self._job.options.jobs, [training_bytes(one) for one in requests])
        if fitting < min(self._job.options.jobs, len(requests)):
            self._observer.message(f"Memory is enough for {fitting} at once.")
        self._runner = LocalRunner(fitting)
        return fitting > 1

    def _prepared(self, choice: _Choice) -> FinetuneRequest | None:
        try:
            request = self._request(choice)
            if self._stored is not None and request.recipe.starts_from_board:
                find = board_head if request.recipe.ships_the_board else start_head
                head = find(
                    self._stored, choice.backbone, choice.weights, self._images, self._observer, self._runner
                )
                return replace(request, head=head)
        except Exception as error:
            self._note_failure(choice, failure(error), error)
            return None
        return request

    def _one(self, choice: _Choice, request: FinetuneRequest) -> None:
        from benchmark.finetuning import finetune  # loads TensorFlow

        try:
            record = partial(self._told.epoch, choice.backbone.name)
            model = finetune(request, self._images, self._observer, record)
        except Exception as error:
            self._note_failure(choice, failure(error), error)
        else:
            self._keep(choice, model)

    def _keep(self, choice: _Choice, model: FineTuned) -> None:
        name = choice.backbone.name
        try:
            write_rejected(self._images.rejected, model.model_dir)
            if model.repeated or not (model.model_dir / PAGE_FILE).is_file():
                report_model(model, self._images, choice.backbone, self._observer)
        except Exception as error:
            self._note_failure(choice, failure(error), error)
            return
        self._models[name] = model
        found = model.manifest.metrics.items()
        scores = {f"{part}_{key}": value for part, values in found for key, value in values.items()}
        self._told.score(name, scores)
        self._told.file(model.model_dir)
        for note in model.notes:
            self._run.log(f"{name}: {note}")

    def _note_failure(self, choice: _Choice, told: Mapping[str, Any], error: Exception | None = None) -> None:
        name = choice.backbone.name
        if len(self._choices) == 1:
            raise error or TrainingError("could not be fine-tuned", where=name, got=told["error"])
        self._run.log(told["trace"])
        self._observer.message(f"{name} failed: {told['error']}")
        self._failed[name] = told["error"]
        self._models.pop(name, None)  # of an earlier round
        self._write_table()

    def _write_table(self) -> None:
        if len(self._choices) > 1:
            write_table(self._table(), place(self._run.folder, "finetune", "top.csv"))

    def _done(self) -> list[FineTuned]:
        """The models in the board's order, whoever was finished first."""
        names = [choice.backbone.name for choice in self._choices]
        return [self._models[name] for name in names if name in self._models]

    def _best_first(self) -> tuple[FineTuned, ...]:
        return tuple(sorted(self._done(), key=lambda model: -model.val_f1))

    def _losses(self) -> dict[str, Interval]:
        """What each model gives away to the best of several; empty where that is not known."""
        found = self._assessed()
        if isinstance(found, str):
            return {}
        return {
            name: Interval(value=value, low=low, high=high)
            for name, (value, low, high) in zip(found.names, found.losses.tolist(), strict=True)
        }

    def _ties(self) -> dict[str, int]:
        """The tie group of each model, all comparisons together; empty where that is not known."""
        found = self._assessed()
        if isinstance(found, str):
            return {}
        groups = enumerate(found.groups, start=1)
        return {found.names[at]: number for number, group in groups for at in group.members.tolist()}

    def _assessed(self) -> Assessment | str:
        """The models compared on the test part, which chose nothing, else on validation; or why not."""
        images, models = self._images, self._done()
        if len(models) < 2:
            return "no other one could be fine-tuned"
        rows = getattr(images.split, self._part)
        groups = None if images.groups is None else images.groups[rows]
        sample = Sample.of(
            images.head_targets()[rows], default_average(images.task, self._job.options.average), groups
        )
        mistakes = []
        for model in models:
            try:
                found = model.probabilities(images, self._part)
                decided = decide(found, model.manifest.threshold, images.task)
                mistakes.append(ErrorCounts.of(decided[None], sample))
            except (OSError, ValueError, ArgumentError):
                return f"predictions.csv of {model.backbone} cannot be read"
        names = [model.backbone for model in models]
        assessed = assess(sample, mistakes, names=names, seed=self._job.options.drawing_seed)
        return f"too few images of some class in the {self._part} part" if assessed.is_too_few else assessed

    @property
    def _part(self) -> str:
        return "test" if len(self._images.split.test) else "val"

    def _about_shared_images(self) -> tuple[str, ...]:
        """How much of the test part chose on the board, whose parts were others (a limit, groups, a seed)."""
        if self._stored is None:
            return ()
        try:
            listed = read_image_list(self._stored.path)
        except DataError:  # the run has gone while the models were trained
            return ()
        chose = {image_id for image_id, facts in listed.items() if facts["part"] != "test"}
        test = [self._images.image_ids[row] for row in self._images.split.test.tolist()]
        seen = sum(image_id in chose for image_id in test)
        if not seen:
            return ()
        return (f"The board chose on {seen} of the {len(test)} images of the test part: its F1 may flatter.",)

    def _about_regret(self) -> tuple[str, ...]:
        if len(self._choices) == 1:
            return ()
        first = self._choices[0].backbone.name
        found = self._assessed() if first in self._models else f"{first} failed"
        if isinstance(found, str):
            return (f"What the board's first choice, {first}, gives away is not known: {found}.",)
        loss = self._losses()[first]
        units = found.units(grouped=self._images.groups is not None)
        part = "test part" if self._part == "test" else "validation part, which chose each model's epoch, too"
        return (
            f"The board's first choice, {first}, gives away between {loss.low:.3f} and {loss.high:.3f} F1 to "
            f"the best of the {len(found.names)} at 95 %, about {loss.value:.3f} ({units} of the {part}).",
        )

    def _table(self) -> list[dict[str, Any]]:
        """Rows of ``top.csv``, best first; what failed or is still to come stands below."""
        ranks = {choice.backbone.name: rank for rank, choice in enumerate(self._choices, start=1)}
        losses, ties = self._losses(), self._ties()
        done = [model.backbone for model in self._best_first()]
        rows = [self._row(name, losses.get(name)) | {"rank": rank} for rank, name in enumerate(done, start=1)]
        rows = [row | {"tie": ties.get(row["backbone"])} for row in rows]
        rows += [self._row(name) for name in ranks if name not in self._models]
        return [row | {"board_rank": ranks[row["backbone"]]} for row in rows]

    def _row(self, name: str, loss: Interval | None = None) -> dict[str, Any]:
        model = self._models.get(name) or self._short.get(name)
        waits = "" if name in self._models else "not yet"
        test = model.manifest.metrics.get("test", {}) if model else {}
        return {
            "rank": None,
            "backbone": name,
            "board_rank": None,
            "tie": None,
            "val_f1": model.val_f1 if model else None,
            "regret": loss.value if loss else None,
            "regret_low": loss.low if loss else None,
            "regret_high": loss.high if loss else None,
            "test_f1": test.get("f1"),
            "kept_phase": model.kept_phase if model else "",
            "reason": self._failed.get(name) or self._left_out.get(name, waits),
        }

    def _request(self, choice: _Choice) -> FinetuneRequest:
        options, name = self._job.options, choice.backbone.name
        _check_trainable(self._job, choice.backbone, self._stored)
        # Apart from finished models: none is moved aside for a short one, or taken for it.
        short = (_HALVING,) if choice.is_short else ()
        return FinetuneRequest(
            backbone=choice.backbone,
            recipe=choice.recipe,
            # A backbone named with its own weights file (NAME@path) keeps a readable, path-free name.
            out=place(self._run.folder, "finetune", *short, name, choice.recipe.name),
            options=options.but(
                resize=_resize(choice.backbone, options.resize),
                # Workers elsewhere work in another folder.
                cache=options.cache if self._runner.is_local else options.cache.absolute(),
            ),
            weights=choice.weights,
            board=self._board.get(name),
        )


def _resize(backbone: Backbone, asked: Resize | None) -> Resize:
    """How a model folder says that images get their size.

    Raises:
        ArgumentError: the network was ranked with a way of its own, which a model folder cannot say.
    """
    if asked not in {None, Resize.NATIVE}:
        return asked
    if asked is Resize.NATIVE and backbone.preprocessing.native != Resize.BILINEAR:
        raise ArgumentError(
            "was ranked with a crop and an interpolation of its own, which a model folder does not carry",
            where=f"`resize={Resize.NATIVE}`",
            got=f"{backbone.name}: {backbone.preprocessing.native}",
            next_step=f"Rank it with `resize={Resize.BILINEAR}`.",
        )
    return Resize.BILINEAR


def _with_share(choice: _Choice, share: int) -> _Choice:
    """The same with a part of the epochs, at least one in each phase that has some."""
    phases = (choice.recipe.phase1, choice.recipe.phase2)
    first, second = (math.ceil(phase.epochs / share) for phase in phases)
    if share == 1:
        return choice
    recipe = choice.recipe.changed(RecipeChanges(epochs=(first, second)))
    return replace(choice, recipe=recipe, is_short=recipe != choice.recipe)


def _about_rejected(images: ImageSet) -> tuple[str, ...]:
    count = len(images.rejected)
    if not count:
        return ()
    files = "1 file was" if count == 1 else f"{count} files were"
    return (f"{files} left out; rejected.csv beside the model names each with its reason.",)


def _board_scores(job: FinetuneJob, folder: Path, images: ImageSet) -> dict[str, BoardScore]:
    """Intervals of the latest board by backbone, where it averages F1 as this job does."""
    options = job.options
    try:
        stored = job.stored_ranking(folder)
    except DataError:  # the files of a board that nobody asked for
        stored = None
    if stored is None:
        return {}
    board, record, protocol = stored.board, stored.record, stored.record.protocol
    if default_average(images.task, protocol.average) is not default_average(images.task, options.average):
        return {}
    crossed = protocol.name is ProtocolName.CV
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


def _choices(job: FinetuneJob, folder: ResultsFolder, stored: StoredRanking | None) -> tuple[_Choice, ...]:
    """The backbones to fine-tune, each with its weights and its input size, in the board's order."""
    winner = _winner(job)
    if job.options.top is not None or winner == AUTO:
        chosen = [_named(job, name, stored)[0] for name in _first_of_board(folder, stored, job.options.top)]
        if len(chosen) == 1:
            _check_trainable(job, chosen[0], stored)
        return tuple(_choice(job, backbone, stored) for backbone in chosen)
    found = _named(job, winner, stored)
    if len(found) != 1:
        raise ArgumentError(
            "names several backbones",
            where=f"`winner={winner}`",
            expected="one name, or auto",
            got=", ".join(backbone.name for backbone in found[:5]),
        )
    _check_trainable(job, found[0], stored)
    return (_choice(job, found[0], stored),)


def _choice(job: FinetuneJob, backbone: Backbone, stored: StoredRanking | None) -> _Choice:
    """A backbone as the board ranked it, or would have ranked it, where the job does not say otherwise."""
    weights, size, row = job.weights, None, None
    if stored is not None:
        ranked = stored.request
        row = stored.row(backbone.name)
        weights = weights or backbone.weights
        if weights is None:
            shown = str(row["weights"]) if row else ""
            weights = parse_weights(shown, seed=ranked.options.seed) if shown else ranked.weights
        size = int(row["input_size"] or 0) if row else ranked.size_of(backbone)
    weights = weights or WeightsSource(kind=WeightsKind.IMAGENET)
    missing = _missing_of_the_board(job, stored, row, str(backbone.weights or weights))
    recipe, why = job.recipe, ""
    if recipe is None:
        recipe, why = _default_recipe(job, missing)
    elif recipe.starts_from_board and not recipe.ships_the_board and missing:
        raise ArgumentError(
            "has no head to start from",
            where=f"recipe {recipe.name}",
            got=missing,
            next_step="Run 'backbones rank' so first, or take another recipe.",
        )
    if not recipe.follows_the_board:
        size = None
    recipe = recipe.changed(RecipeChanges(image_size=job.options.image_size or size or None))
    return _Choice(backbone=backbone, weights=weights, recipe=recipe, row=row, why=why)


def _missing_of_the_board(
    job: FinetuneJob, stored: StoredRanking | None, row: Mapping[str, Any] | None, source: str
) -> str:
    """Why a board has no head to go on from; empty where it has one."""
    if stored is None:
        return "there is no board of these images"
    if row is None or row["status"] != Status.SCORED:
        return "the board has no head of this backbone"
    size, resize = job.options.image_size, job.options.resize
    pairs = (
        (source, row["weights"], "weights"),
        (size or row["input_size"], row["input_size"], "pixels"),
        (resize or stored.request.options.resize, stored.request.options.resize, "resizing"),
    )
    other = [f"{theirs} {what}, not {own}" for own, theirs, what in pairs if own != theirs]
    return f"the board's head is for {', '.join(other)}" if other else ""


def _default_recipe(job: FinetuneJob, missing: str) -> tuple[Recipe, str]:
    """The recipe where nobody named one, and why it is this one."""
    if not missing:
        try:
            tuned = Recipe.load(BOARD_RECIPE).changed(job.options)
        except RecipeError as error:
            missing = error.expected or error.what
        else:
            return tuned, "the board has a head to start from"
    return Recipe.load(DEFAULT_RECIPE).changed(job.options), missing


def _named(job: FinetuneJob, name: str, stored: StoredRanking | None) -> tuple[Backbone, ...]:
    known = tuple(backbone for backbone in job.known if backbone.name == name)
    on_board = stored is not None and stored.row(name) is not None
    # Random weights of a name like ResNet50@random are those of the seed that they were ranked with.
    seed = stored.request.options.seed if stored and on_board else job.options.drawing_seed
    if stored and on_board and name.startswith(f"{FILE}:"):
        return _as_asked(name, stored)
    return known or select(name, seed=seed, option="winner")


def _as_asked(name: str, stored: StoredRanking) -> tuple[Backbone, ...]:
    """A network of the user's own with what was said of it when it was ranked, which its name lacks."""
    asked = stored.request.options
    found = select(asked.backbones, seed=asked.seed, sources=asked.sources or "")
    return tuple(backbone for backbone in found if backbone.name == name)


def _check_trainable(job: FinetuneJob, backbone: Backbone, stored: StoredRanking | None) -> None:
    """See that a recipe that trains has a network of Keras.

    Raises:
        ArgumentError: it has not; the message says what can be done with it.
    """
    if backbone.source == KERAS or job.ships_the_board:
        return
    rows = stored.board.rows if stored is not None else ()
    keras = [row["backbone"] for row in rows if row["status"] == "scored" and row["source"] == KERAS]
    ranked = any(row["backbone"] == backbone.name and row["status"] == "scored" for row in rows)
    whole = shlex.join(export_command(as_given(job.options.data), backbone.name))
    raise ArgumentError(
        f"a network of '{backbone.source}' is not fine-tuned here: that trains networks of Keras",
        where=f"`winner={backbone.name}`",
        next_step=("" if ranked else "Rank it first; then ")
        + f"'{whole}' ships it frozen, with the board's head. "
        + (f"The best of Keras on this board is {keras[0]} (`winner={keras[0]}`)." if keras else ""),
    )


def _first_of_board(
    folder: ResultsFolder, stored: StoredRanking | None, top: int | Literal["tied"] | None
) -> list[str]:
    """The winner, the first so many by rank, or all that cannot be told from the best."""
    path = folder.path / BOARD_FILE
    if stored is None:
        raise _no_board(folder.path, folder.note)
    board = stored.board
    scored = [row for row in board.rows if row["status"] == "scored"]
    names = [str(row["backbone"]) for row in scored]
    if board.winner is None:
        what = "the board names no winner" if names else "nothing on the board was scored"
        raise ArgumentError(what, where=path, next_step="Name a backbone instead.")
    if top == "tied":
        return [str(row["backbone"]) for row in scored if row["tie_group"] == 1]
    return [board.winner] if top is None else names[:top]


def _no_board(folder: Path, note: str = "") -> ArgumentError:
    return ArgumentError(
        "there is no board to take the winner from",
        where=folder / BOARD_FILE,
        got=note,
        next_step="Run 'backbones rank' on the same data first, or name a backbone instead.",
    )
