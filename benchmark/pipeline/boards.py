"""A finished ranking: the board with the remarks of audit and search, and what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.audit import AuditReport
from benchmark.data import reading_notes, reading_summary
from benchmark.pipeline.baselines import BaselineTables, baseline_tables
from benchmark.pipeline.heads import HeadJob
from benchmark.pipeline.labels import judged
from benchmark.pipeline.requests import RankRequest
from benchmark.ranking import BoardOptions, build_leaderboard
from benchmark.records import ImageSet, Leaderboard, Outcome, Scored, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """What a reader is told beside what the scores say.

    Attributes:
        notes: first things first: random weights, alarms of the audit.
        statements: how groups came about, what a search spent.
    """

    notes: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A finished ranking.

    Attributes:
        board: the leaderboard.
        outcomes: what became of each backbone, probabilities included.
        images: the labelled images as they were grouped and split.
        report: of the audit; None when a stored board was rebuilt.
        folder: ``results/<dataset>``.
        run: ``results/<dataset>/runs/<id>``.
        images_embedded: embeddings computed in this run, over all backbones.
        replaced: where the board is kept that stood in ``folder`` and has other images, or more backbones,
            than this one; empty where there is none.
        prediction: what this run was expected to take and took, in one line; empty where nobody predicted.
    """

    board: Leaderboard
    outcomes: tuple[Outcome, ...]
    images: ImageSet
    report: AuditReport | None
    folder: Path
    run: Path
    images_embedded: int = 0
    replaced: str = ""
    prediction: str = ""

    def baselines(self, job: HeadJob) -> BaselineTables:
        """The baselines beside the board."""
        outcomes = {outcome.backbone: outcome for outcome in self.outcomes}
        val_f1 = {row["backbone"]: row["val_f1"] for row in self.board.rows if row["rank"]}
        return baseline_tables(job, outcomes, val_f1, self.best)

    @property
    def best(self) -> Scored | None:
        """The first scored backbone of the board; None without one."""
        scored = {one.backbone: one for one in self.outcomes if isinstance(one, Scored)}
        return next((scored[row["backbone"]] for row in self.board.rows if row["backbone"] in scored), None)


def board_options(request: RankRequest, ungrouped: Sequence[Outcome] = ()) -> BoardOptions:
    """How the board of a request is computed.

    Raises:
        ArgumentError: there is no such metric.
    """
    return BoardOptions(
        metric=request.options.rank_by,
        average=request.protocol.average,
        max_loss=request.options.max_loss,
        seed=request.protocol.seed,
        ungrouped=ungrouped,
    )


def assemble_board(
    request: RankRequest,
    images: ImageSet,
    outcomes: Sequence[Outcome],
    ungrouped: Sequence[Outcome],
    remarks: Remarks,
) -> Leaderboard:
    """The board of some outcomes.

    Args:
        request: average, tolerated loss, seed.
        images: what the outcomes were scored on.
        outcomes: one per backbone.
        ungrouped: the same backbones scored without regard to groups; empty when there are no groups.
        remarks: of audit and search.
    """
    targets = Targets.of(images)
    board = build_leaderboard(outcomes, targets, board_options(request, ungrouped))
    labels = judged(board, outcomes, targets)
    return replace(
        board,
        summary=reading_summary(images),
        notes=(*remarks.notes, *reading_notes(images), *board.notes),
        statements=(*board.statements, *([labels.statement] if labels else []), *remarks.statements),
    )
