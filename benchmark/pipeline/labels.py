"""Suspicious labels and hard images beside a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmark.audit import draw_captioned
from benchmark.pipeline.cosmetics import Cosmetics
from benchmark.ranking import Suspicion, judge_labels
from benchmark.records import ImageSet, Leaderboard, Outcome, Scored, Targets, WeightsKind
from benchmark.reporting import write_table
from benchmark.storage import write_whole

LABEL_FILES = ("suspicious_labels.csv", "hardest_images.csv", "suspicious_labels.png")
"""Everything that ``write_labels`` may write, the picture last."""
_MOST_PICTURES = 48


def judged(board: Leaderboard, outcomes: Sequence[Outcome], targets: Targets) -> Suspicion | None:
    """What a board's first tie group says of the labels; None where no winner is named.

    Networks with random weights see too little to contradict anybody: a board of them alone lists no label.
    """
    if board.winner is None:
        return None
    by_name = {outcome.backbone: outcome for outcome in outcomes if isinstance(outcome, Scored)}
    good = [by_name[row["backbone"]] for row in board.rows if row["tie_group"] == 1]
    found = judge_labels(good, by_name[board.winner], targets)
    if all(outcome.weights == WeightsKind.RANDOM.value for outcome in good):
        return replace(found, suspects=(), trained=False)
    return found


def write_labels(found: Suspicion, images: ImageSet, folder: Path, cosmetics: Cosmetics) -> None:
    """Write the list of the hardest images, and where labels stand out theirs with a picture sheet.

    Raises:
        StorageError: the folder cannot be written.
    """
    suspicious, hardest, sheet = LABEL_FILES
    rows = [
        {
            "path": images.paths[one.row],
            "label": one.label,
            "probability": one.probability,
            "winner_probability": one.winner_probability,
            "winner_says": one.winner_says,
            "confident_mistake": one.confident_mistake,
        }
        for one in found.hardest
    ]
    write_table(rows, folder / hardest)
    if not found.suspects:
        return
    rows = [
        {
            "path": images.paths[one.row],
            "label": one.label,
            "suggested_label": one.suggested,
            "denied_by": "; ".join(one.denied_by),
            "score": one.score,
        }
        for one in found.suspects
    ]
    write_table(rows, folder / suspicious)
    cosmetics.make(sheet, partial(_write_sheet, found, images, folder / sheet))


def _write_sheet(found: Suspicion, images: ImageSet, path: Path) -> None:
    pictures = [
        (one.row, (f"{one.label}: rather {one.suggested}?", f"score {one.score:.2f}"))
        for one in found.suspects[:_MOST_PICTURES]
    ]
    write_whole(path, draw_captioned(images, pictures), root=path.parent)
