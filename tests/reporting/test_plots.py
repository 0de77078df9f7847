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
    board, outcomes, targets = make_results(52)
    plots = draw_plots(board, class_scores(outcomes, targets))
    again = draw_plots(board, class_scores(outcomes, targets))
    assert [plot.png for plot in plots] == [plot.png for plot in again]
    for plot in plots:
        picture = Image.open(io.BytesIO(plot.png))
        assert picture.width >= 800
        assert np.asarray(picture.convert("L")).std() > 5
        assert plot.caption


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_boards_draw(make_results: Callable[[int], Results], count: int) -> None:
    board, outcomes, targets = make_results(count)
    names = [plot.name for plot in draw_plots(board, class_scores(outcomes, targets))]
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
    wanted = np.eye(60, dtype=np.float32)
    targets = Targets(targets=wanted, classes=classes, task=Task.MULTICLASS)
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
    plot = draw_plots(board, class_scores(wide, targets))[-1]
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


def test_a_point_without_a_place_costs_no_other_its_name() -> None:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(4, 3)).add_subplot()
    points, bars = (
        [(0.5, 0.5), (0.2, math.nan), (0.8, 0.8)],
        [(0.4, 0.6), (math.nan, math.nan), (0.7, math.nan)],
    )
    place_labels(axes, points, bars, {0: "A", 1: "nowhere", 2: "B"})
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["A", "B"]


def real_board(board: Leaderboard) -> Leaderboard:
    """Backbones as boards have them: a cloud of sizes and scores, wide bars, long names."""
    count = sum(row["status"] == "scored" for row in board.rows)
    generator = np.random.default_rng(5)
    sizes = np.exp(generator.normal(3.3, 1.1, count)) * 1e6
    scores = np.clip(0.9 + 0.02 * np.log(sizes / 1e7) + generator.normal(0, 0.02, count), 0.7, 0.985)
    order = np.argsort(-scores)
    rows = [
        {
            **board.rows[rank],
            "backbone": f"EfficientNetV2B{rank}_minimal",
            "val_f1": float(scores[at]),
            "val_f1_low": float(scores[at] - generator.uniform(0.005, 0.04)),
            "val_f1_high": float(scores[at] + generator.uniform(0.003, 0.012)),
            "size_bytes": int(sizes[at]),
            "tie_group": 1 + rank // 6,
        }
        for rank, at in enumerate(order.tolist())
    ]
    return dataclasses.replace(board, rows=tuple(rows), winner=rows[0]["backbone"])


@pytest.mark.parametrize(("count", "least"), [(3, 3), (12, 8), (52, 4)])
def test_in_the_final_picture_no_name_covers_a_bar_a_point_or_another_name(
    make_results: Callable[[int], Results], monkeypatch: pytest.MonkeyPatch, count: int, least: int
) -> None:
    figures: list[Figure] = []
    write = plots._png
    monkeypatch.setattr(plots, "_png", lambda figure: figures.append(figure) or write(figure))
    shown = plot_makers(real_board(make_results(count)[0]))[0]().png
    (figure,) = figures
    (axes,) = figure.axes

    def pixels(png: bytes) -> Any:  # noqa: ANN401 - int (H, W, 3)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int64)

    def without(artists: list[Any]) -> Any:  # noqa: ANN401 - int (H, W, 3)
        for artist in artists:
            artist.set_visible(False)
        return pixels(write(figure))

    def changed(one: Any, other: Any) -> Any:  # noqa: ANN401 - bool (H, W)
        return (abs(one - other) > 8).any(-1)

    names = [text for text in axes.texts if text.get_text()]
    covered = np.zeros(pixels(shown).shape[:2], np.int64)
    bare = without(names)
    for text in names:
        text.set_visible(True)
        covered += changed(pixels(write(figure)), bare)
        text.set_visible(False)
    marks = [*axes.lines, *axes.collections]
    drawn = changed(bare, without(marks))
    assert len(names) >= least
    assert covered.max() == 1, "names on each other"
    assert not (drawn & (covered > 0)).any(), "a name on a bar or a point"
    assert changed(pixels(shown), bare).any(), "names are drawn at all"
