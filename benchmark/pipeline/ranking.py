"""From a folder of images to a ranked leaderboard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from benchmark.audit import Severity
from benchmark.data import load_images, tell_reading
from benchmark.errors import NothingScored
from benchmark.heads import make_plan
from benchmark.pipeline.auditing import Audited, audit_images
from benchmark.pipeline.baselines import shortcut_notes
from benchmark.pipeline.boards import Ranked, Remarks, assemble_board, board_options
from benchmark.pipeline.curves import stored_curves, train_curves
from benchmark.pipeline.devices import measured_device
from benchmark.pipeline.embedding import Embedded, embed_images, with_fallback
from benchmark.pipeline.estimating import AUDIT, predict
from benchmark.pipeline.exporting import PickExports, check_target
from benchmark.pipeline.heads import HeadJob, head_job, on_other_folds, outcome_digests, train_all
from benchmark.pipeline.limits import too_slow
from benchmark.pipeline.machines import runner_of
from benchmark.pipeline.outputs import write_again, write_outputs
from benchmark.pipeline.places import results_folder
from benchmark.pipeline.planning import Plan, make_plans
from benchmark.pipeline.requests import RankRequest, cheapest_pretrained
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.pipeline.searching import Searched, replay_halving, search_by_halving
from benchmark.pipeline.seen import about_seen
from benchmark.pipeline.tracking import open_trackers, tracking
from benchmark.ranking import curve_statements, is_exported, with_device
from benchmark.records import (
    ImageSet,
    Leaderboard,
    Observer,
    Outcome,
    ProtocolName,
    Scored,
    Search,
    Silent,
    Targets,
)


def rank_backbones(request: RankRequest, observer: Observer | None = None) -> Ranked:
    """Embed what is missing, train heads, rank, and write everything to ``results/<dataset>``.

    Args:
        request: data, backbones, protocol, folders.
        observer: told of the progress.

    Raises:
        ArgumentError: a limit is out of range.
        DataError: the images cannot be used.
        NothingScored: no backbone got a score; the board is written all the same.
        StorageError: a folder cannot be written.
    """
    started = time.time()
    options = request.options
    board_options(request)  # a limit that makes no sense is refused before hours of work
    if options.export_to is not None:
        check_target(options.export_to)
    trackers = open_trackers(options.trackers)
    watch = observer or Silent()
    images = load_images(options.data, cache=options.cache, options=options, observer=watch)
    folder = results_folder(options.results, images, options.data)
    request = replace(request, device=measured_device(options.device, folder.path))
    run = Run(folder.path, options.results)
    logged = LoggingObserver(run, watch)
    try:
        folder.claim(logged)
        tell_reading(images, logged)
        with (
            tracking(trackers, logged, "rank", options, images) as told,
            runner_of(options, logged.message) as runner,
        ):
            asked = request.as_read(images).executed_by(runner)
            ranking = _Ranking(asked, run, logged)
            ranked = ranking.with_exports(ranking.carry_out(images, started))
            told.ranked(ranked, options.cache)
            if ranked.best is None:
                raise _nothing_scored(ranked)
    finally:
        run.close()
    return ranked


def _nothing_scored(ranked: Ranked) -> NothingScored:
    reasons = dict.fromkeys(one.reason for one in ranked.outcomes if not isinstance(one, Scored))
    return NothingScored(
        "no backbone could be scored",
        where=ranked.folder / "leaderboard.md",
        got=next(iter(reasons)) + (f" (and {len(reasons) - 1} more reasons)" if len(reasons) > 1 else ""),
        next_step="The board says why for each backbone.",
    )


class _Ranking:
    """One ranking while it runs."""

    def __init__(self, request: RankRequest, run: Run, observer: Observer) -> None:
        # Decided once: a later call for fewer backbones could decide otherwise.
        self._request, self._banner = with_fallback(request, observer)
        self._run = run
        self._observer = observer

    def carry_out(self, images: ImageSet, started: float) -> Ranked:
        first = head_job(self._request, images, self._run.folder)
        # A protocol that cannot be carried out is an error before anything is embedded for it.
        make_plan(Targets.of(images), images.split, first.protocol, images.image_ids)
        plans = make_plans(self._request, images, observer=self._observer)
        self._observer = prediction = predict(self._request, images, plans, self._observer)
        embedded = self._first_embeddings(images, plans)
        prediction.started(AUDIT, len(images))
        audited = audit_images(self._request, images, embedded.plans, self._observer)
        prediction.finished(AUDIT)
        job = head_job(self._request, audited.images, self._run.folder)
        searched = self._search(embedded, job)
        outcomes = (*searched.pruned, *self._score(searched.embedded, job))
        ungrouped = self._score_ungrouped(searched.embedded, audited, job)
        if not len(job.images.split.test):  # what rules of selection are compared with
            train_all(on_other_folds(job), searched.embedded.embedded, self._observer)
        remarks = self._remarks(audited, searched, self._replay(outcomes, job))
        board = assemble_board(self._request, audited.images, outcomes, ungrouped, remarks)
        board = self._with_curves(board, outcomes, searched.embedded, job)
        board = with_device(board, self._request.device, outcome_digests(job, outcomes))
        banner = (self._banner,) if self._banner else ()
        ranked = Ranked(
            board=board,
            outcomes=outcomes,
            images=audited.images,
            report=audited.report,
            folder=self._run.folder,
            run=self._run.path,
            images_embedded=sum(searched.embedded.images_embedded.values()),
        )
        notes = (*banner, *shortcut_notes(job, board, ranked.best), *board.notes[len(banner) :])
        ranked = replace(ranked, board=replace(board, notes=notes))
        if (exports := self._exports(job)) is not None:
            ranked = replace(ranked, board=exports.recalled(ranked.board, outcomes))
        written = write_outputs(self._run, self._request, ranked, job, started, prediction.timings)
        said = prediction.over(self._request.options.cache)
        self._run.log(said)
        return replace(written, prediction=said)

    def with_exports(self, ranked: Ranked) -> Ranked:
        """The ranking with its picks as exported, where that was asked for and is not known yet.

        The board is written before: whoever does not wait for exports has it.
        """
        job = head_job(self._request, ranked.images, self._run.folder)
        exports = self._exports(job)
        if exports is None or is_exported(ranked.board):
            return ranked
        board = exports.found(ranked, self._request, self._observer)
        return write_again(self._run, replace(ranked, board=board), job) if is_exported(board) else ranked

    def _exports(self, job: HeadJob) -> PickExports | None:
        options = self._request.options
        return None if options.export_to is None else PickExports(options.export_to, job, options.max_loss)

    def _with_curves(
        self, board: Leaderboard, outcomes: tuple[Outcome, ...], embedded: Embedded, job: HeadJob
    ) -> Leaderboard:
        """The board with what more images would bring to its picks."""
        failed = train_curves(job, embedded.embedded, board, outcomes, self._observer)
        said = curve_statements(stored_curves(job, board, outcomes))
        return replace(board, notes=(*board.notes, *failed), statements=(*board.statements, *said))

    def _first_embeddings(self, images: ImageSet, plans: Sequence[Plan]) -> Embedded:
        """Everything, or for halving the cheapest pretrained backbone, which the audit sees through."""
        if self._request.options.search is not Search.HALVING:
            return embed_images(self._request, images, self._observer, plans=plans)
        cheapest = cheapest_pretrained(self._request)
        alone = replace(self._request, backbones=(cheapest,) if cheapest else ())
        return embed_images(alone, images, self._observer, planned_images=len(images))

    def _search(self, embedded: Embedded, job: HeadJob) -> Searched:
        if self._request.options.search is Search.HALVING:
            return search_by_halving(self._request, job, self._observer)
        return Searched(embedded=embedded)

    def _replay(self, outcomes: tuple[Outcome, ...], job: HeadJob) -> tuple[str, ...]:
        options = self._request.options
        if not options.audit_search:
            return ()
        if options.search is Search.HALVING:
            return ("What halving would have done is only known of an exhaustive search.",)
        return replay_halving(self._request, job, outcomes, self._observer)

    def _score(self, embedded: Embedded, job: HeadJob) -> tuple[Outcome, ...]:
        """Outcomes of every backbone that was to be embedded."""
        skipped, fit = too_slow(self._request, embedded.embedded)
        trained = [
            replace(outcome, notes=embedded.notes.get(outcome.backbone, ()), images_embedded=len(job.images))
            for outcome in train_all(job, fit, self._observer)
        ]
        return (*embedded.stopped, *skipped, *trained)

    def _score_ungrouped(self, embedded: Embedded, audited: Audited, job: HeadJob) -> tuple[Outcome, ...]:
        """The same backbones when related images may stand on both sides of a fold.

        Nothing where the parts stay what they are without groups: only folds are drawn anew.
        """
        if audited.ungrouped is None or job.protocol.name is not ProtocolName.CV:
            return ()
        return train_all(replace(job, images=audited.ungrouped), embedded.embedded, self._observer)

    def _remarks(self, audited: Audited, searched: Searched, replayed: tuple[str, ...]) -> Remarks:
        banner = (self._banner,) if self._banner else ()
        alarms = tuple(
            f"{finding.text} {finding.next_step}".rstrip()
            for finding in audited.report.findings
            if finding.severity is not Severity.INFO and not finding.is_about_reading
        )
        seen = about_seen(self._request.backbones, audited.images)
        statements = (*audited.notes, *searched.statements, *replayed)
        return Remarks(notes=(*banner, *seen, *alarms), statements=statements)
