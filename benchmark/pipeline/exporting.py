"""A board's backbones as they would be shipped: with its heads, exported, and scored as on the board."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence, Sized
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment import (
    EXPORT,
    Answers,
    ExportResult,
    answers_of,
    export_model,
    find_target,
    put_exports,
    require_packages,
    time_exports,
)
from benchmark.errors import CacheError, DataError, ExportError
from benchmark.execution import Call, Runner, failure, pack, thread_environment, unpack
from benchmark.finetuning import MODEL_FILE, FineTuned, load_manifest, model_files
from benchmark.heads import validated_parts
from benchmark.options import ExportOptions, FinetuneOptions
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.finetuning import FinetuneJob, finetune_backbones
from benchmark.pipeline.heads import HeadJob, outcome_digest
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.stored import StoredRanking
from benchmark.pipeline.tuning import hand_over_model, taken_over
from benchmark.ranking import ExportedF1, ExportScore, exported_f1, next_to_export, with_exports
from benchmark.records import Backbone, Float32, Leaderboard, Manifest, Observer, Outcome, Scored, Targets
from benchmark.storage import Memo, remove_leftovers, take_back

# Raised whenever a change of the code changes an export or its score; older stored ones are not reused.
_EXPORT_VERSION = 3
_CONVERTERS = ("tensorflow", "keras", "onnx", "tf2onnx")
_TASK = "exports"
# Peak of a process that converts: TensorFlow itself, and copies of every weight in graphs and their texts.
# A little more than was measured: MobileNetV2 1.4 GB, ResNet50 4.2 GB for TFLite and 7.7 GB for ONNX.
_PROCESS_BYTES = 900e6
_COPIES = 75
_GRAPH_COPIES = 8  # of networks of other libraries, whose graphs are read and written as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedBackbone:
    """A backbone with the board's head, and its exports.

    Attributes:
        model: the folder.
        results: one a target.
        answers: what the model and those exports that can be run say of its images.
        versions: of the packages that made and ran the exports, by target; a worker may have others than
            the command.
    """

    model: FineTuned
    results: tuple[ExportResult, ...]
    answers: Answers | None
    versions: Mapping[str, tuple[str, ...]]

    def probabilities(self, target: str) -> Float32:
        """What an export said of the images that the model is compared on, float32 (n, C).

        Raises:
            ExportError: it could not be run on them.
        """
        assert self.answers is not None, "of an export that could be run"
        after = self.answers.after[target]
        if isinstance(after, ExportError):
            raise after
        return after

    def f1(self, target: str, job: HeadJob, outcome: Scored) -> ExportedF1:
        """F1 of an export as the board counts it.

        Raises:
            DataError: images that the model is compared on are gone.
            ExportError: it could not be run on them.
        """
        assert self.answers is not None, "of an export that could be run"
        after = self.probabilities(target)
        where = {image_id: position for position, image_id in enumerate(job.images.image_ids)}
        gone = sum(image_id not in where for image_id in self.answers.image_ids)
        if gone:
            raise DataError(
                f"{gone:,} of the images that the model is compared on are not in the data any more",
                where=job.images.root,
                next_step="Rank them again.",
            )
        return exported_f1(
            outcome,
            Targets.of(job.images),
            np.array([where[image_id] for image_id in self.answers.image_ids]),
            self.answers.before,
            after,
            temperature=self.model.manifest.temperature,
            average=job.protocol.average,
            seed=job.protocol.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTask:
    """Export one model, and run it and its exports on its images.

    Attributes:
        model: its folder, or what ``hand_over_model`` told of it where ``handed`` is not None.
        targets: formats.
        data: its images.
        parts: of its split, whose images the board validated.
        timed: whether single images are timed.
        at_once: how many such tasks may share the processors, each of which then takes so much longer.
        handed: folder on shared storage that takes the exports.
    """

    model: Path | Mapping[str, Any]
    targets: tuple[str, ...]
    data: Path
    parts: tuple[str, ...]
    timed: bool = False
    at_once: int = 1
    handed: Path | None = None


def export_task(task: ExportTask, threads: int, observer: Observer | None = None) -> dict[str, Any]:
    """Run one ExportTask; how many threads there are decides nothing but its speed.

    Returns:
        ``results``, ``answers`` and ``versions``; handed over, ``packed``, the same, with ``folder`` and
        ``files``, the exports; or ``error``, ``trace`` and ``elsewhere``.
    """
    try:
        if isinstance(task.model, Path):
            return _exported(task.model, task, observer)
        assert task.handed is not None, "what was handed over has a place"
        with tempfile.TemporaryDirectory(prefix="backbones-export-") as scratch:
            # A copy: whoever tries the same at once has one of its own.
            made = shutil.copytree(taken_over(task.model, task.handed), Path(scratch, "model"))
            found = _exported(made, task, observer)
            return {"packed": pack(found, task.handed), **hand_over_model(made / EXPORT, task.handed)}
    except Exception as error:
        return failure(error)


def _exported(model_dir: Path, task: ExportTask, observer: Observer | None) -> dict[str, Any]:
    asked = ExportOptions.check({"to": list(task.targets), "data": task.data})
    asked = asked.but(timeout=asked.timeout * task.at_once)
    results = export_model(model_dir, asked, timed=task.timed, observer=observer)
    run = tuple(one.target for one in results if one.parity is not None)
    answers = (
        answers_of(model_dir, run, task.data, parts=task.parts, timeout_seconds=asked.timeout)
        if run
        else None
    )
    return {
        "results": results,
        "answers": answers,
        "versions": {target: _versions(target) for target in task.targets},
    }


def ship_all(
    names: Sequence[str],
    targets: Sequence[str],
    *,
    board: StoredRanking,
    parts: tuple[str, ...],
    runner: Runner,
    observer: Observer,
    known: tuple[Backbone, ...] = (),
) -> dict[str, ShippedBackbone | Mapping[str, Any]]:
    """Give backbones the heads of a board, and export them side by side; an export that fails says so.

    What is made is what one after the other would make. Single images are timed while nothing else runs.

    Args:
        names: of backbones on that board.
        targets: formats.
        board: the run whose board it is: the latest may be another run's by now.
        parts: whose images were validated.
        runner: what executes the exports.
        observer: told of the progress.
        known: backbones that a name may mean before the registry is asked.

    Returns:
        The backbones by name; what ``failure`` makes of an error for one that cannot be shipped.

    Raises:
        JobError: a cluster's scheduler is gone, or no worker was left.
    """
    shipped: dict[str, ShippedBackbone | Mapping[str, Any]] = {}
    models: dict[str, FineTuned] = {}
    ranked = board.request.options
    places = {"data": ranked.data, "cache": ranked.cache, "results": ranked.results}
    for name in names:
        try:
            job = FinetuneJob.of(FinetuneOptions.check({**places, "recipe": "frozen", "winner": name}))
            (models[name],) = finetune_backbones(replace(job, known=known, board=board), observer).models
        except Exception as error:
            shipped[name] = failure(error)
    try:
        wanted = ExportTask(model=Path(), targets=tuple(targets), data=ranked.data, parts=parts)
        with closing(_export_all(models, wanted, runner, observer)) as exported:
            for name, told in exported:
                shipped[name] = _taken(models[name], told, runner)
    finally:
        for model in models.values():
            remove_leftovers(model.model_dir / EXPORT)
    if not _is_alone(models, runner):
        _time(shipped.values(), observer)
    return shipped


def _is_alone(models: Sized, runner: Runner) -> bool:
    """Whether one is exported after the other, in this process."""
    return runner.is_local and min(runner.workers, len(models)) <= 1


def _export_all(
    models: Mapping[str, FineTuned], wanted: ExportTask, runner: Runner, observer: Observer
) -> Generator[tuple[str, Mapping[str, Any]]]:
    """What became of the exports of each model, as they finish; ``wanted`` is what they have in common."""
    if _is_alone(models, runner):
        for name, model in models.items():
            task = replace(wanted, model=model.model_dir, timed=True)
            yield name, export_task(task, runner.threads, observer)
        return
    # How many a cluster's machine has at once is not known: its workers come and go.
    at_once = min(runner.workers, len(models)) if runner.is_local else len(models)
    found: dict[str, Call] = {}
    for name, model in models.items():
        try:
            found[name] = _call(model, replace(wanted, at_once=at_once), runner)
        except Exception as error:
            yield name, failure(error)
    # Who waits for the largest at the end waits longest.
    names = sorted(found, key=lambda name: -found[name].memory[0])
    calls = [found[name] for name in names]
    observer.started(_TASK, len(calls))
    with closing(runner.run(export_task, calls, apart=thread_environment())) as results:
        for count, (position, result) in enumerate(results, start=1):
            name = names[position]
            observer.advanced(_TASK, count, name)
            yield name, result
    observer.finished(_TASK)


def _call(model: FineTuned, wanted: ExportTask, runner: Runner) -> Call:
    made: Path | Mapping[str, Any] = model.model_dir
    if runner.handed_over is not None:
        made = hand_over_model(model.model_dir, runner.handed_over, without=EXPORT)
    # Converters work with one thread for the most part: memory alone decides how many there are at once.
    return Call(
        name=f"export-{model.backbone}",
        argument=replace(
            wanted,
            model=made,
            data=wanted.data if runner.is_local else wanted.data.absolute(),
            handed=runner.handed_over,
        ),
        memory=(export_bytes(model.model_dir, model.manifest), 0.0),
    )


def export_bytes(model_dir: Path, manifest: Manifest) -> float:
    """Peak memory of a process that exports a model, roughly.

    Raises:
        OSError: a file of it is gone.
    """
    files = model_files(manifest)
    copies = _COPIES if MODEL_FILE in files else _GRAPH_COPIES
    return _PROCESS_BYTES + copies * sum((model_dir / name).stat().st_size for name in files)


def _taken(model: FineTuned, told: Mapping[str, Any], runner: Runner) -> ShippedBackbone | Mapping[str, Any]:
    """A model with its exports in their place."""
    if "error" in told:
        return told
    try:
        if load_manifest(model.model_dir, verify=False).files != model.manifest.files:
            raise ExportError(
                "the model was replaced while it was exported, by another run on these images",
                where=model.model_dir,
                next_step="Run it again when the other one is done.",
            )
        if "packed" not in told:
            return ShippedBackbone(model=model, **told)
        assert runner.handed_over is not None, "it was handed over"
        made = taken_over(told, runner.handed_over)
        found = unpack(told["packed"])
        results = [_beside(model, one) for one in found["results"]]
        put_exports(made, model.model_dir, [one.target for one in results if one.folder is not None])
        with suppress(CacheError):  # it goes with the run at the latest
            take_back(made)
        return ShippedBackbone(model=model, **(found | {"results": tuple(results)}))
    except Exception as error:
        return failure(error)


def _beside(model: FineTuned, result: ExportResult) -> ExportResult:
    """The result of an export that was made elsewhere, in its place here."""
    return (
        result if result.folder is None else replace(result, folder=model.model_dir / EXPORT / result.target)
    )


def _time(shipped: Iterable[ShippedBackbone | Mapping[str, Any]], observer: Observer) -> None:
    """Time single images with the exports; where that fails, they have no such figures."""
    try:
        images = {
            one.model.model_dir / EXPORT / target: one.answers.pixels[0]
            for one in shipped
            if isinstance(one, ShippedBackbone) and one.answers is not None
            for target in one.answers.after
        }
        for export, reason in time_exports(images):
            observer.message(f"{export} was not timed: {failure(reason)['error']}")
    except Exception as error:
        observer.message(f"Exports were not timed: {failure(error)['error']}")


def check_target(target: str) -> None:
    """See that a format can be made, before hours of work.

    Raises:
        ArgumentError: no such format.
        ExportError: a package that it needs is not installed.
    """
    find_target(target)
    require_packages((target,))


class PickExports:
    """The picks of a board as one format; what was found is kept, like outcomes, failures are not.

    Args:
        target: the format.
        job: images, protocol and the folder of stored outcomes.
        max_loss: F1 that an export may cost.
    """

    def __init__(self, target: str, job: HeadJob, max_loss: float) -> None:
        self._target = target
        self._job = job
        self._max_loss = max_loss

    def recalled(self, board: Leaderboard, outcomes: Sequence[Outcome]) -> Leaderboard:
        """The board with these exports, if all of them are known; else as it is."""
        scores: dict[str, ExportScore | str] = {}
        scored = _scored(outcomes)
        while (name := self._next(board, scores)) is not None:
            found = self._memo.recall(name, self._question(scored[name]))
            if found is None:
                return board
            scores[name] = found
        return with_exports(board, self._target, scores, max_loss=self._max_loss)

    def found(self, ranked: Ranked, request: RankRequest, observer: Observer) -> Leaderboard:
        """The board with these exports, those that are not known made now from the board that was written."""
        scores: dict[str, ExportScore | str] = {}
        scored = _scored(ranked.outcomes)
        while (name := self._next(ranked.board, scores)) is not None:
            score: ExportScore | str | None = self._memo.recall(name, self._question(scored[name]))
            if score is None:
                made = self._made(scored[name], request, ranked, observer)
                if isinstance(made, Mapping):
                    observer.message(f"{name} was not exported: {made['error']}")
                    scores[name] = str(made["error"])
                    if made["elsewhere"]:  # a full disk, for example: the next one would fare no better
                        break
                    continue
                score = made
            scores[name] = score
        return with_exports(ranked.board, self._target, scores, max_loss=self._max_loss)

    def _made(
        self, outcome: Scored, request: RankRequest, ranked: Ranked, observer: Observer
    ) -> ExportScore | str | Mapping[str, Any]:
        """The score of an export, which is remembered, or why it could not be made.

        Of a failure to try, what ``failure`` makes of it; the end of a cluster is no failure of this one.
        """
        name, options = outcome.backbone, request.options
        places = {"data": options.data, "results": options.results, "cache": options.cache}
        try:
            board = StoredRanking.read(ranked.folder, **places, path=ranked.run)
        except Exception as error:
            return failure(error)
        shipped = ship_all(
            [name],
            (self._target,),
            board=board,
            parts=validated_parts(self._job.protocol.name),
            runner=request.executor,
            observer=observer,
            known=request.backbones,
        )[name]
        if not isinstance(shipped, ShippedBackbone):
            return shipped
        try:
            (result,) = shipped.results
            if result.parity is None:
                return result.reason
            found = shipped.f1(self._target, self._job, outcome)
        except Exception as error:
            return failure(error)
        score = ExportScore(
            f1=found.f1.value,
            f1_low=found.f1.low,
            f1_high=found.f1.high,
            lost=found.lost,
            images=found.images,
            size_bytes=result.size_bytes,
            outside=result.reason,
            bounds=result.bounds,
        )
        self._memo.remember(name, self._question(outcome, shipped.versions[self._target]), score)
        return score

    def _next(self, board: Leaderboard, scores: dict[str, ExportScore | str]) -> str | None:
        return next_to_export(board, scores, max_loss=self._max_loss)

    @property
    def _memo(self) -> Memo[ExportScore]:
        return Memo(folder=self._job.folder, kind=ExportScore, suffix=".export.json")

    def _question(self, outcome: Scored, versions: tuple[str, ...] = ()) -> list[object]:
        """What decides a score; those of this machine's packages where no versions are given."""
        digest = outcome_digest(outcome.key_digest, self._job.images, self._job.protocol)
        return [digest, self._target, [*(versions or _versions(self._target))], _EXPORT_VERSION]


def _scored(outcomes: Sequence[Outcome]) -> dict[str, Scored]:
    return {one.backbone: one for one in outcomes if isinstance(one, Scored)}


def _versions(target: str) -> tuple[str, ...]:
    """Of what makes and runs a format."""
    return tuple(_version(name) for name in (*_CONVERTERS, find_target(target).runtime))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
