"""How the picks err: counts, shares and curves against naive ones, for each kind of labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve

from benchmark.records import Leaderboard, Predictions, Scored, Targets, Task
from benchmark.reporting import pick_errors
from benchmark.reporting.charts import DrawnLine, draw


def outcome_of(val: np.ndarray, thresholds: np.ndarray, rows: np.ndarray) -> Scored:
    predictions = Predictions(
        val_rows=rows,
        val=val.astype(np.float32),
        val_thresholds=thresholds,
        test_rows=np.array([], np.int64),
        test=np.zeros((0, val.shape[-1]), np.float32),
        test_threshold=0.5,
    )
    return Scored(
        backbone="MobileNet_0", family="mobilenet", source="keras", predictions=predictions, val_history=None
    )


def many(task: Task, classes: int, images: int = 300) -> tuple[Scored, Targets]:
    """Two repeats of decent predictions; a tenth of the images was not validated."""
    generator = np.random.default_rng(1)
    columns = 1 if task is Task.BINARY else classes
    targets = (generator.random((images, columns)) < 0.3).astype(np.float32)
    if task is Task.MULTICLASS:
        targets = np.eye(classes, dtype=np.float32)[generator.integers(0, classes, images)]
    rows = np.arange(0, images)[np.arange(images) % 10 != 0]
    odds = 3 * targets[rows] - 1.5 + generator.normal(0, 1.3, (2, len(rows), columns))
    thresholds = np.where(np.arange(len(rows)) % 2, 0.4, 0.6) * np.ones((2, 1))
    labels = tuple(f"class_{number}" for number in range(classes))
    truth = Targets(targets=targets, classes=labels, task=task, positive=1 if task is Task.BINARY else None)
    return outcome_of(1 / (1 + np.exp(-odds)), thresholds, rows), truth


@pytest.fixture
def board(make_results: Callable[[int], Any]) -> Leaderboard:
    found: Leaderboard = make_results(3)[0]
    return found


def test_two_classes_are_counted_at_the_thresholds_of_their_folds(board: Leaderboard) -> None:
    outcome, truth = many(Task.BINARY, 2)
    (found,) = pick_errors(board, [outcome], truth)
    said = outcome.predictions
    true = truth.targets[said.val_rows, 0] > 0.5
    decided = said.val[..., 0] >= said.val_thresholds
    wanted = sum(confusion_matrix(true, one) for one in decided)
    assert found.title == "winner and best score"
    assert (found.images, found.repeats) == (270, 2)
    assert found.confusion is not None
    for row, (label, images, cells) in zip(wanted, found.confusion.rows, strict=True):
        assert [count for count, _ in cells] == [count / 2 for count in row]
        assert [part for _, part in cells] == pytest.approx(row / row.sum())
        assert images == (true == (label == "class_1")).sum()
    assert found.recall is not None
    average = average_precision_score(np.tile(true, 2), said.val.reshape(-1))
    assert found.recall.lines[0].name == f"class_1: average precision {average:.3f}"
    assert found.recall.chart.mark is not None
    recall, precision, name = found.recall.chart.mark
    assert recall == pytest.approx(wanted[1, 1] / wanted[1].sum())
    assert precision == pytest.approx(wanted[1, 1] / wanted[:, 1].sum())
    assert name == "thresholds 0.4 to 0.6"


def places(line: DrawnLine) -> np.ndarray:
    return np.array([pair.split(",") for pair in line.path.split()], float)


def test_a_curve_of_many_images_holds_the_points_that_a_drawing_tells_apart(board: Leaderboard) -> None:
    """And its drawing is the one of all points, within the two pixels that points lie apart."""
    outcome, truth = many(Task.MULTICLASS, 3, images=50_000)
    (found,) = pick_errors(board, [outcome], truth)
    assert found.recall is not None
    said, true = outcome.predictions.val, truth.targets[outcome.predictions.val_rows]
    for column, (line, drawn) in enumerate(zip(found.recall.chart.lines, found.recall.lines, strict=True)):
        truths = np.tile(true[:, column], len(said))
        precision, recall, _ = precision_recall_curve(truths, said[..., column].reshape(-1))
        assert len(precision) > 50_000
        assert len(line.points) < 10_000
        every = list(zip(recall[::-1].tolist(), precision[::-1].tolist(), strict=True))
        wanted = places(draw(replace(found.recall.chart, lines=[replace(line, points=every)])).lines[0])
        away = np.abs(places(drawn)[:, None] - wanted).max(-1)
        assert away.min(0).max() <= 2
        assert away.min(1).max() <= 2


def test_the_one_threshold_is_named(board: Leaderboard) -> None:
    outcome, truth = many(Task.BINARY, 2)
    thresholds = np.full_like(outcome.predictions.val_thresholds, 0.5)
    outcome = replace(outcome, predictions=replace(outcome.predictions, val_thresholds=thresholds))
    (found,) = pick_errors(board, [outcome], truth)
    assert found.recall is not None
    assert found.recall.mark is not None
    assert found.recall.mark[2] == "threshold 0.5"


def test_of_many_classes_the_hardest_curves_and_the_most_frequent_confusions_are_shown(
    board: Leaderboard,
) -> None:
    outcome, truth = many(Task.MULTICLASS, 20)
    (found,) = pick_errors(board, [outcome], truth)
    assert found.confusion is not None
    assert found.confusion.rows == []
    assert len(found.confusion.pairs) == 12
    actual, said, count, _ = found.confusion.pairs[0]
    true = truth.targets[outcome.predictions.val_rows].argmax(1)
    pairs = list(zip(np.tile(true, 2), outcome.predictions.val.argmax(-1).reshape(-1), strict=True))
    worst = max(pairs.count(pair) for pair in set(pairs) if pair[0] != pair[1])
    assert count == worst / 2
    assert pairs.count((truth.classes.index(actual), truth.classes.index(said))) == worst
    assert found.recall is not None
    assert len(found.recall.lines) == 6
    assert "The 6 hardest of 20 classes." in found.recall.chart.caption
    assert found.recall.mark is None, "the largest probability wins: there is no threshold"


def test_labels_that_do_not_exclude_each_other_have_curves_alone(board: Leaderboard) -> None:
    outcome, truth = many(Task.MULTILABEL, 3)
    (found,) = pick_errors(board, [outcome], truth)
    assert found.confusion is None
    assert found.recall is not None
    assert [line.name.partition(":")[0] for line in found.recall.lines] == ["class_0", "class_1", "class_2"]


def test_images_of_one_class_have_no_curve(board: Leaderboard) -> None:
    outcome, truth = many(Task.BINARY, 2)
    (found,) = pick_errors(board, [outcome], replace(truth, targets=np.zeros_like(truth.targets)))
    assert found.recall is None
    assert found.confusion is not None


def test_a_board_without_a_winner_shows_no_errors(board: Leaderboard) -> None:
    outcome, truth = many(Task.BINARY, 2)
    assert pick_errors(replace(board, winner=None), [outcome], truth) == ()
