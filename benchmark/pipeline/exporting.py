"""A board's backbones as they would be shipped: with its heads, exported, and scored as on the board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmark.deployment import (
    Answers,
    ExportResult,
    answers_of,
    export_model,
    find_target,
    require_packages,
)
from benchmark.errors import DataError, ExportError
from benchmark.execution import failure
from benchmark.finetuning import FineTuned, load_manifest
from benchmark.options import ExportOptions, FinetuneOptions
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.finetuning import FinetuneJob, finetune_backbones
from benchmark.pipeline.heads import HeadJob, outcome_digest
from benchmark.pipeline.requests import RankRequest
from benchmark.ranking import ExportedF1, ExportScore, exported_f1, next_to_export, with_exports
from benchmark.records import Backbone, Leaderboard, Observer, Outcome, Scored, Targets
from benchmark.storage import Memo

# Raised whenever a change of the code changes an export or its score; older stored ones are not reused.
_EXPORT_VERSION = 2
_CONVERTERS = ("tensorflow", "keras", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedBackbone:
    """A backbone with the board's head, and its exports.

    Attributes:
        model: the folder.
        results: one a target.
        answers: what the model and those exports that can be run say of its images.
    """

    model: FineTuned
    results: tuple[ExportResult, ...]
    answers: Answers | None

    def f1(self, target: str, job: HeadJob, outcome: Scored) -> ExportedF1:
        """F1 of an export as the board counts it.

        Raises:
            DataError: images that the model is compared on are gone.
            ExportError: it could not be run on them.
        """
        assert self.answers is not None, "of an export that could be run"
        after = self.answers.after[target]
        if isinstance(after, ExportError):
            raise after
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


def ship(
    name: str,
    targets: Sequence[str],
    *,
    data: Path,
    cache: Path,
    results: Path,
    board: Path,
    observer: Observer,
    known: tuple[Backbone, ...] = (),
) -> ShippedBackbone:
    """Give a backbone the head of a board, and export it; an export that fails says so.

    Args:
        name: of the backbone on that board.
        targets: formats.
        data: the ranked images.
        cache: embedding cache.
        results: folder of all results.
        board: folder of the run whose board it is: the latest may be another run's by now.
        observer: told of the progress.
        known: backbones that the name may mean before the registry is asked.

    Raises:
        BenchmarkError: it cannot be shipped, or compared.
    """
    places = {"data": data, "cache": cache, "results": results}
    job = FinetuneJob.of(FinetuneOptions.check({**places, "recipe": "frozen", "winner": name}))
    (model,) = finetune_backbones(replace(job, known=known, board=board), observer).models
    asked = ExportOptions.check({"to": list(targets), "data": data})
    exported = export_model(model.model_dir, asked, observer=observer)
    run = tuple(one.target for one in exported if one.parity is not None)
    answers = answers_of(model.model_dir, run, data) if run else None
    if load_manifest(model.model_dir, verify=False).files != model.manifest.files:
        raise ExportError(
            "the model was replaced while it was exported, by another run on these images",
            where=model.model_dir,
            next_step="Run it again when the other one is done.",
        )
    return ShippedBackbone(model=model, results=exported, answers=answers)


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
            question = self._question(scored[name])
            score: ExportScore | str | None = self._memo.recall(name, question)
            if score is None:
                try:
                    score = self._made(scored[name], request, ranked.run, observer)
                except Exception as error:
                    told = failure(error)
                    observer.message(f"{name} was not exported: {told['error']}")
                    scores[name] = str(told["error"])
                    if told["elsewhere"]:  # a full disk, for example: the next one would fare no better
                        break
                    continue
            if isinstance(score, ExportScore):
                self._memo.remember(name, question, score)
            scores[name] = score
        return with_exports(ranked.board, self._target, scores, max_loss=self._max_loss)

    def _made(
        self, outcome: Scored, request: RankRequest, board: Path, observer: Observer
    ) -> ExportScore | str:
        """The score of an export, or why it could not be made.

        Raises:
            BenchmarkError: it could not be tried.
        """
        options = request.options
        shipped = ship(
            outcome.backbone,
            (self._target,),
            data=options.data,
            cache=options.cache,
            results=options.results,
            board=board,
            observer=observer,
            known=request.backbones,
        )
        (result,) = shipped.results
        if result.parity is None:
            return result.reason
        found = shipped.f1(self._target, self._job, outcome)
        return ExportScore(
            f1=found.f1.value,
            f1_low=found.f1.low,
            f1_high=found.f1.high,
            lost=found.lost,
            images=found.images,
            size_bytes=result.size_bytes,
            outside=result.reason,
            bounds=result.bounds,
        )

    def _next(self, board: Leaderboard, scores: dict[str, ExportScore | str]) -> str | None:
        return next_to_export(board, scores, max_loss=self._max_loss)

    @property
    def _memo(self) -> Memo[ExportScore]:
        return Memo(folder=self._job.folder, kind=ExportScore, suffix=".export.json")

    def _question(self, outcome: Scored) -> list[object]:
        packages = (*_CONVERTERS, find_target(self._target).runtime)
        digest = outcome_digest(outcome.key_digest, self._job.images, self._job.protocol)
        return [digest, self._target, [_version(name) for name in packages], _EXPORT_VERSION]


def _scored(outcomes: Sequence[Outcome]) -> dict[str, Scored]:
    return {one.backbone: one for one in outcomes if isinstance(one, Scored)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
