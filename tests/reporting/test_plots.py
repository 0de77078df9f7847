"""Plots: there, readable as pictures, names beside each other, the same bytes each time."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmark.records import Leaderboard, Outcome, Targets, Task
from benchmark.reporting import class_scores, plot_makers, plots
from benchmark.reporting.label_places import place_labels
from benchmark.reporting.plots import Plot
from benchmark.statistics import LearningCurve


def draw_plots(*what: Any) -> list[Plot]:  # noqa: ANN401 - whatever plot_makers takes
    return [make() for make in plot_makers(*what)]


Results = tuple[Leaderboard, tuple[Outcome, ...], Targets]


def test_a_full_board_draws_and_stays_the_same(make_results: Callable[[int], Results]) -> None:
    board, outcomes, truth = make_results(52)
    plots = draw_plots(board, class_scores(outcomes, truth))
    again = draw_plots(board, class_scores(outcomes, truth))
    assert [plot.png for plot in plots] == [plot.png for plot in again]
    for plot in plots:
        picture = Image.open(io.BytesIO(plot.png))
        assert picture.width >= 800
        assert np.asarray(picture.convert("L")).std() > 5
        assert plot.caption


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_boards_draw(make_results: Callable[[int], Results], count: int) -> None:
    board, outcomes, truth = make_results(count)
    names = [plot.name for plot in draw_plots(board, class_scores(outcomes, truth))]
    assert names == ["f1_vs_size", "ranks"], "a heat map of two classes says no more than the table"


def test_a_learning_curve_alone_stands_above_its_numbers_of_images(
    learning: Mapping[str, LearningCurve], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[list[float]] = []

    def png(figure: Figure) -> bytes:
        (line,) = (line for line in figure.axes[0].lines if line.get_label() == name)
        places.append(line.get_xdata().tolist())
        return b""

    monkeypatch.setattr(plots, "_png", png)
    name, curve = next(iter(learning.items()))
    plots._learning_plot({name: curve})
    assert places == [sorted(curve.measured)]


def test_what_a_learning_curve_does_not_tell_is_not_drawn(
    results: Results, learning: Mapping[str, LearningCurve]
) -> None:
    board, _, _ = results
    untold = {name: dataclasses.replace(curve, is_telling=False) for name, curve in learning.items()}
    told, silent = (
        next(one for one in draw_plots(board, (), curves) if one.name == "learning_curve")
        for curves in (learning, untold)
    )
    assert told.png != silent.png
    assert Image.open(io.BytesIO(told.png)).width >= 800


def test_missing_intervals_and_test_scores_draw(results: Results) -> None:
    board, _, _ = results
    gaps = {"val_f1_low": math.nan, "val_f1_high": math.nan, "test_f1": math.nan}
    rows = tuple(dict(row) | gaps for row in board.rows)
    assert len(draw_plots(dataclasses.replace(board, rows=rows))) == 2


def test_many_classes_show_the_hardest(results: Results) -> None:
    board, outcomes, _ = results
    classes = tuple(f"kind {number}" for number in range(60))
    targets = np.eye(60, dtype=np.float32)
    truth = Targets(targets=targets, classes=classes, task=Task.MULTICLASS)
    random = np.random.default_rng(0)
    wide = tuple(
        dataclasses.replace(
            outcome,
            predictions=dataclasses.replace(
                outcome.predictions,
                val_rows=np.arange(60),
                val=random.random((3, 60, 60), np.float32),
                val_thresholds=np.full((3, 60), 0.5),
                test=random.random((20, 60), np.float32),
            ),
        )
        for outcome in outcomes
    )
    plot = draw_plots(board, class_scores(wide, truth))[-1]
    assert "40 hardest of 60" in plot.caption


def test_labels_do_not_cover_each_other() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    random = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in random.random((30, 2))]
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.1, 1.1))
    place_labels(
        axes, points, [(y - 0.05, y + 0.05) for _, y in points], {n: f"Backbone_{n}" for n in range(30)}
    )
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts if text.get_text()]
    assert len(boxes) >= 20
    overlapping = [1 for one in range(len(boxes)) for two in range(one) if boxes[one].overlaps(boxes[two])]
    assert not overlapping
