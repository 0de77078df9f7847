"""Everything that stands in ``results/<dataset>/`` for readers of a board."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmark.cells import cell_text, columns_of, csv_bytes
from benchmark.errors import DataError
from benchmark.records import Leaderboard, Outcome, Predictions, Rejected, Scored, Targets
from benchmark.reporting.board_files import json_bytes, markdown_bytes
from benchmark.reporting.page import Extras, html_bytes
from benchmark.reporting.plots import Plot
from benchmark.statistics import LearningCurve, decide, per_class_f1, scored_class_names
from benchmark.storage import MOST_LIST_BYTES, read_small, storage_error, write_whole

BOARD_FILES = {
    "leaderboard.html": "the board as a page: picks, their errors, table, plots, baselines, files left out",
    "leaderboard.csv": "one row per backbone, every column",
    "leaderboard.json": "the same with picks, sentences and notes, for programs",
    "leaderboard.md": "the same for a wiki",
    "per_class_f1.csv": "F1 of every class under every backbone",
    "baselines.csv": "what cheap methods score, and what a choice by them would have given away",
    "baseline_scores.csv": "what each cheap method says of each backbone",
    "learning_curve.csv": "F1 of heads on fewer images, and what twice the images would bring",
    "rejected.csv": "files that were left out, each with its reason",
    "plots/f1_vs_size.png": "the metric that ranks against size",
    "plots/f1_vs_device_latency.png": "the same against time on a device that was measured",
    "plots/ranks.png": "intervals in rank order, with the tie group of the best",
    "plots/learning_curve.png": "learning curves of the picks",
    "plots/per_class_f1.png": "F1 of each of three or more classes, the hardest first",
}
"""Everything that ``write_board`` and ``write_page`` may write, with what it holds."""
OTHER_FILES = {
    "run.json": "arguments, versions, hardware, data fingerprint, seeds, timings of the latest run",
    "images.csv": "every image: path, id, label, part, group",
    "dataset.json": "which data set this folder belongs to",
    "outcomes/": "probabilities of every backbone's heads: a board is rebuilt from them",
    "runs/": "each run on its own, with its log",
    "audit_summary.csv": "what the audit found",
    "audit_pairs.csv": "pairs of images that are the same, or look so",
    "audit_pairs.png": "these pairs, side by side",
    "groups.png": "members of groups of related images, side by side",
    "suspicious_labels.csv": "labels that good backbones deny, the most suspicious first",
    "suspicious_labels.png": "these images",
    "hardest_images.csv": "the images that backbones find hardest, and confident mistakes",
    "devices/": "what was measured on devices",
    "device_kit/": "a device kit, and the same as `device_kit.zip`",
    "finetune/": "models: one folder a backbone and recipe; top.csv where several were compared",
    "evaluate/": "evaluations of models on these images, each with its page",
    "plots/": "pictures of the board",
}
"""What else lies in ``results/<dataset>/``, with what it holds."""
_CLASS_COLUMNS = ("backbone", "class", "images", "val_f1", "test_f1")


def write_board(
    board: Leaderboard,
    outcomes: Sequence[Outcome],
    targets: Targets,
    folder: Path,
    *,
    plots: Sequence[Plot] = (),
    baselines: Sequence[Mapping[str, Any]] = (),
    baseline_scores: Sequence[Mapping[str, Any]] = (),
    learning: Mapping[str, LearningCurve] = MappingProxyType({}),
    rejected: Sequence[Rejected] = (),
) -> None:
    """Write the board for people and programs, each file whole or not at all; the page is ``write_page``'s.

    ``leaderboard.csv``, ``.json``, ``.md``; ``per_class_f1.csv``; ``baselines.csv``, ``baseline_scores.csv``,
    ``learning_curve.csv`` and ``rejected.csv`` where there is something to tell; ``plots/*.png``. What an
    earlier board left in the folder and this one does not have goes.

    Args:
        board: the ranked board.
        outcomes: what it was built from, for per-class scores.
        targets: what the outcomes are scored against.
        folder: ``results/<dataset>`` or a run's folder.
        plots: pictures of the board.
        baselines: rows of ``baselines.csv``; their keys are its columns.
        baseline_scores: rows of ``baseline_scores.csv``, what each cheap method says of each backbone.
        learning: learning curves by backbone.
        rejected: files that were left out.

    Raises:
        StorageError: the folder cannot be written.
    """
    files = {
        "leaderboard.csv": csv_bytes(board.columns, board.rows),
        "leaderboard.json": json_bytes(board),
        "leaderboard.md": markdown_bytes(board),
        "per_class_f1.csv": csv_bytes(_CLASS_COLUMNS, class_scores(outcomes, targets)),
        **{f"plots/{plot.name}.png": plot.png for plot in plots},
    }
    if baselines:
        files["baselines.csv"] = csv_bytes(columns_of(baselines), baselines)
    if baseline_scores:
        files["baseline_scores.csv"] = csv_bytes(columns_of(baseline_scores), baseline_scores)
    if learning:
        rows = [row for name, curve in learning.items() for row in _curve_rows(name, curve)]
        files["learning_curve.csv"] = csv_bytes(columns_of(rows), rows)
    if rejected:
        files["rejected.csv"] = _rejected_bytes(rejected)
    for name, content in files.items():
        write_whole(folder / name, content, root=folder)
    remove_files(folder, [name for name in BOARD_FILES if name not in files])


def _curve_rows(name: str, curve: LearningCurve) -> Iterator[dict[str, Any]]:
    """The points of a curve, what is predicted last, however little its interval tells."""
    points = [(size, f1, "measured") for size, f1 in curve.measured.items()]
    for size, f1, kind in [*points, (curve.images, curve.predicted, "predicted")]:
        yield {
            "backbone": name,
            "images": size,
            "f1": f1.value,
            "low": f1.low,
            "high": f1.high,
            "kind": kind,
        }


def class_scores(outcomes: Sequence[Outcome], targets: Targets) -> tuple[dict[str, Any], ...]:
    """F1 of every class for every scored backbone, one row each.

    ``images`` counts the validated images of the class; ``val_f1`` is the mean over repeats of the pooled
    out-of-fold F1; ``test_f1`` is nan without a test part.
    """
    names = scored_class_names(targets)
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        if not isinstance(outcome, Scored):
            continue  # what was pruned was scored on fewer images
        val, test, images = _scores(outcome.predictions, targets)
        rows += [
            {"backbone": outcome.backbone, "class": name, "images": n, "val_f1": v, "test_f1": t}
            for name, n, v, t in zip(names, images, val, test, strict=True)
        ]
    return tuple(rows)


def _scores(predictions: Predictions, targets: Targets) -> tuple[list[float], list[float], list[int]]:
    wanted = targets.targets[predictions.val_rows]
    decided = decide(predictions.val, predictions.val_thresholds, targets.task)
    val = per_class_f1(decided, wanted).mean(0)
    if len(predictions.test_rows):
        test_decided = decide(predictions.test, predictions.test_threshold, targets.task)
        test = per_class_f1(test_decided, targets.targets[predictions.test_rows])
    else:
        test = np.full(len(val), np.nan)
    positives = wanted.sum(0)
    images = [len(wanted) - positives[0], positives[0]] if wanted.shape[1] == 1 else positives
    return val.tolist(), test.tolist(), [int(count) for count in images]


def write_page(board: Leaderboard, extras: Extras, folder: Path) -> Path:
    """Write the board as a web page, ``leaderboard.html``.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / "leaderboard.html"
    write_whole(path, html_bytes(board, extras), root=folder)
    return path


def _rejected_bytes(rejected: Sequence[Rejected]) -> bytes:
    """The content of ``rejected.csv``: path and reason of each file that was left out."""
    return csv_bytes(("path", "reason"), [{"path": file.path, "reason": file.reason} for file in rejected])


def write_rejected(rejected: Sequence[Rejected], folder: Path) -> None:
    """Write ``rejected.csv``; where nothing was rejected, remove that of an earlier time.

    Raises:
        StorageError: the folder cannot be written.
    """
    if rejected:
        write_whole(folder / "rejected.csv", _rejected_bytes(rejected), root=folder)
    else:
        remove_files(folder, ["rejected.csv"])


def read_rejected(folder: Path) -> tuple[Rejected, ...]:
    """What ``write_rejected`` wrote; none where there is no such file.

    Raises:
        DataError: not such a list.
    """
    path = folder / "rejected.csv"
    try:
        lines = list(csv.DictReader(io.StringIO(read_small(path, most_bytes=MOST_LIST_BYTES).decode())))
        return tuple(
            Rejected(path=cell_text(line["path"]), reason=cell_text(line["reason"])) for line in lines
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError("not a list of rejected files", where=path, got=error) from error


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files of these names from a folder, where there are any; folders of such names stay.

    Raises:
        StorageError: no permission to.
    """
    for path in (folder / name for name in names):
        try:
            if path.is_file() or path.is_symlink():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV, text safe for spreadsheets; the keys of the rows are its columns.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_whole(path, csv_bytes(columns_of(rows), rows), root=path.parent)
