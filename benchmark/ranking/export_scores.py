"""What becomes of a board's picks when they are exported: columns, sentences, and whom to export at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmark.cells import figure
from benchmark.ranking.columns import COLUMNS
from benchmark.records import Leaderboard

_COLUMNS = tuple(each.name for each in COLUMNS if each.name.split("_")[0] == "export")

_MOST_OTHERS = 5  # beside the picks: each takes a minute or more


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportScore:
    """A backbone with the board's head, exported.

    Attributes:
        f1: what ``val_f1`` of the board becomes with this export.
        f1_low: lower end of its 95 % interval.
        f1_high: upper end.
        lost: F1 that the export costs, on the same images with it and without.
        images: their number.
        size_bytes: of the model's file or files.
        outside: why the export is outside its tolerance; empty where it is inside.
        bounds: what stands exactly on the tolerance.
    """

    f1: float
    f1_low: float
    f1_high: float
    lost: float
    images: int
    size_bytes: int
    outside: str = ""
    bounds: tuple[str, ...] = ()


def next_to_export(
    board: Leaderboard, scores: Mapping[str, ExportScore | str], *, max_loss: float
) -> str | None:
    """Whom to export next: the picks; where none of them keeps its F1, up to five tied with the best.

    Args:
        board: with its picks; without any, nobody is exported.
        scores: what became of those that were exported: the score, or why there is none.
        max_loss: F1 that an export may cost.

    Returns:
        The name of a backbone; None where nobody is left, or one of them may be shipped so.
    """
    picks = [row for row in board.rows if row["pick"]]
    tied = sorted((row for row in board.rows if row["tie_group"] == 1), key=lambda row: row["size_bytes"])
    left = [str(row["backbone"]) for row in picks if row["backbone"] not in scores]
    if not left and picks and all(objection(scores[row["backbone"]], max_loss) for row in picks):
        done = [row for row in tied if row["backbone"] in scores]
        if all(objection(scores[row["backbone"]], max_loss) for row in done):
            others = [str(row["backbone"]) for row in tied if not row["pick"]]
            left = [name for name in others[:_MOST_OTHERS] if name not in scores]
    return next(iter(left), None)


def objection(score: ExportScore | str, max_loss: float) -> str:
    """What speaks against shipping a backbone as this export; empty where nothing does."""
    if isinstance(score, str):
        return f"could not be scored: {score}"
    parts = [f"loses {score.lost:.3f} F1, more than {max_loss:g}"] if score.lost > max_loss else []
    parts += [f"is outside its tolerance: {score.outside}"] if score.outside else []
    return "; it ".join(parts)


def with_exports(
    board: Leaderboard, target: str, scores: Mapping[str, ExportScore | str], *, max_loss: float
) -> Leaderboard:
    """A board with the columns and sentences of exports.

    Args:
        board: without any.
        target: the format.
        scores: what became of the backbones that were exported; the board as it is without any.
        max_loss: F1 that an export may cost.
    """
    if not scores:
        return board
    blank = {each.name: each.blank for each in COLUMNS if each.name in _COLUMNS}
    rows = [
        {**row, **blank, **_cells(target, scores[row["backbone"]], max_loss)}
        if row["backbone"] in scores
        else {**row, **blank}
        for row in board.rows
    ]
    have = {*board.columns, *_COLUMNS}
    columns = tuple(each.name for each in COLUMNS if each.name in have)
    shown = replace(board, columns=columns, rows=tuple({name: row[name] for name in columns} for row in rows))
    return replace(
        shown,
        notes=(*_warnings(shown, target), *board.notes),
        statements=(*board.statements, *_sentences(shown, target, scores)),
    )


def is_exported(board: Leaderboard) -> bool:
    """Whether a board has the columns of exports."""
    return _COLUMNS[0] in board.columns


def best_export(board: Leaderboard) -> Mapping[str, Any] | None:
    """The row to ship as the format that a board was asked for: its winner, if nothing speaks against it.

    Else the one with the highest F1 as this export, the smaller of equals; None where there is none.
    """
    kept = [row for row in board.rows if row.get("export_target") and not row["export_reason"]]
    return min(
        kept,
        key=lambda row: (row["backbone"] != board.winner, -row["export_f1"], row["export_bytes"]),
        default=None,
    )


def _cells(target: str, score: ExportScore | str, max_loss: float) -> dict[str, object]:
    told: dict[str, object] = {"export_target": target, "export_reason": objection(score, max_loss)}
    if isinstance(score, str):
        return told
    return told | {
        "export_f1": score.f1,
        "export_f1_low": score.f1_low,
        "export_f1_high": score.f1_high,
        "export_bytes": score.size_bytes,
    }


def _warnings(board: Leaderboard, target: str) -> Iterator[str]:
    """Which picks should not be shipped so, and whom to take."""
    tried = [row for row in board.rows if row["export_target"]]
    spoilt = [row for row in tried if row["export_reason"] and row["pick"]]
    for row in spoilt:
        yield (
            f"Do not ship {row['backbone']} ({row['pick']}) as {target}: "
            f"it {row['export_reason'].rstrip('.')}."
        )
    best = best_export(board)
    if spoilt and best is None:
        others = sum(row["tie_group"] == 1 and not row["export_target"] for row in board.rows)
        more = f"; tied with the best, and not exported: {others}" if others else ""
        yield f"None of the {len(tried)} that were exported as {target} may be shipped so{more}."
    elif spoilt and best is not None:
        yield f"{best['backbone']} may be shipped as {target}: F1 {_interval(best)}."


def _sentences(board: Leaderboard, target: str, scores: Mapping[str, ExportScore | str]) -> Iterator[str]:
    """F1 and size of every export, best first on the board."""
    for row in board.rows:
        score = scores.get(row["backbone"])
        if isinstance(score, ExportScore):
            bounds = "".join(f"; {bound}" for bound in score.bounds)
            without = score.f1 + score.lost
            whole = math.isclose(without, row["val_f1"], abs_tol=1e-9)
            where = "" if whole else f" on {score.images:,} of the validated images"
            yield (
                f"As {target}, {row['backbone']} has F1 {_interval(row)} instead of {without:.3f}{where}, in "
                f"{figure(score.size_bytes / 1e6)} MB{bounds}."
            )


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['export_f1']:.3f} [{row['export_f1_low']:.3f}, {row['export_f1_high']:.3f}]"
