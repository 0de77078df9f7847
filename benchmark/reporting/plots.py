"""The plots beside a board. Drawn on a Figure with the Agg canvas: no window system, no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.cells import figure as shown
from benchmark.records import Leaderboard
from benchmark.reporting.formats import by_rank, megabytes, number
from benchmark.reporting.label_places import place_labels
from benchmark.statistics import METRICS, Interval, LearningCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 130
_INK, _FAINT, _GRID = "#1f2328", "#6e7781", "#e4e7eb"
_FIRST_GROUP, _LATER, _WINNER = "#1f6feb", "#9aa4af", "#1a7f37"
# Okabe and Ito's colours, told apart by colour-blind readers, and two greys.
_TEN = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
    "#7B4FA3",
    "#7f7f7f",
)
_HEATMAP_CLASSES, _COUPLE = 40, 2
_NAMED = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture for a report."""

    name: str  # file name without suffix
    title: str  # what it shows
    caption: str  # how to read it, for somebody who sees such a plot for the first time
    png: bytes
    photographs: bool = False  # whether it shows photographs, whose colours mean something


def plot_makers(
    board: Leaderboard,
    per_class: Sequence[Mapping[str, Any]] = (),
    learning: Mapping[str, LearningCurve] = MappingProxyType({}),
) -> tuple[Callable[[], Plot], ...]:
    """What draws each plot that these results allow; empty where nothing was scored.

    Args:
        board: the ranked board.
        per_class: rows of ``class_scores``.
        learning: learning curves by backbone, best first.
    """
    rows, _ = by_rank(board)
    if not rows:
        return ()
    names = [str(row["backbone"]) for row in rows]
    makers: list[Callable[[], Plot]] = [
        partial(_size_plot, rows, board),
        partial(_interval_plot, rows, board),
    ]
    measured = [row for row in rows if not math.isnan(number(row, "device_latency_ms"))]
    if measured:
        makers.append(partial(_device_plot, measured, board, _first_group(rows)))
    if learning:
        makers.append(partial(_learning_plot, learning))
    if len({row["class"] for row in per_class}) > _COUPLE:  # of two, the table says as much
        makers.append(partial(_class_plot, names, per_class))
    return tuple(makers)


def _first_group(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {str(row["backbone"]) for row in rows if row.get("tie_group") == rows[0].get("tie_group")}


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Axes, marks: Mapping[str, Mapping[str, Any]], across: float = 0.5) -> None:
    """What the marks, label -> style, stand for, above the plot."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **style) for label, style in marks.items()]
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (across, 1.0), "ncols": 4}
    axes.legend(handles=handles, frameon=False, fontsize=9, **place)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # No software name and date in the file: equal boards give equal bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


# --- F1 against size ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """What a score is drawn against: columns of the board, and how the axis reads."""

    column: str
    score: str
    label: str
    tick: Callable[[float], str]


def _size_plot(rows: Sequence[Mapping[str, Any]], board: Leaderboard) -> Plot:
    cost = _Axis(
        column="size_bytes",
        score=f"val_{board.metric}",
        label="size of backbone and head, float32 (logarithmic)",
        tick=megabytes,
    )
    title, first = f"{METRICS[board.metric].title} against size", _first_group(rows)
    return _cost_plot(rows, board, first, cost, name="f1_vs_size", title=title, left="smaller")


def _device_plot(rows: Sequence[Mapping[str, Any]], board: Leaderboard, first: set[str]) -> Plot:
    device = next(str(row["device"]) for row in rows if row["device"])
    by_f1 = board.metric == "f1" and any(not math.isnan(number(row, "device_f1")) for row in rows)
    cost = _Axis(
        column="device_latency_ms",
        score="device_f1" if by_f1 else f"val_{board.metric}",
        label=f"time of one image on {device} (logarithmic)",
        tick=lambda value: f"{shown(value)} ms",
    )
    title = f"{METRICS[board.metric].title} against time on {device}"
    near = first & {str(row["backbone"]) for row in rows}
    return _cost_plot(rows, board, near, cost, name="f1_vs_device_latency", title=title, left="faster")


def _cost_plot(
    rows: Sequence[Mapping[str, Any]],
    board: Leaderboard,
    first: set[str],
    cost: _Axis,
    *,
    name: str,
    title: str,
    left: str,
) -> Plot:
    winner, metric = board.winner, METRICS[board.metric].title
    figure, axes = _figure(9.5, 6.2)
    axes.set_xscale("log")
    for row in sorted(rows, key=lambda row: row["backbone"] == winner):
        _cost_point(axes, row, first, board, cost)
    _cost_axes(axes, rows, cost)
    axes.set_ylabel(f"validation {metric}", color=_INK)
    points = [(number(row, cost.column), number(row, cost.score)) for row in rows]
    wanted = _worth_a_name(rows, first, board, cost)
    bars = [_interval(row, cost.score) for row in rows]
    _size_legend(axes, len(first), len(rows))
    place_labels(axes, points, bars, {position: str(rows[position]["backbone"]) for position in wanted})
    caption = (
        f"Up is better, left is {left}. Bars are 95 % intervals of the validation {metric}. Blue backbones "
        "cannot be told apart from the best on this data; the green star is the winner."
    )
    if len(wanted) < len(rows):
        caption += " Names stand where they fit, the ranks plot below names every backbone."
    return Plot(name=name, title=title, caption=caption, png=_png(figure))


def _cost_point(axes: Axes, row: Mapping[str, Any], first: set[str], board: Leaderboard, cost: _Axis) -> None:
    name, winner = str(row["backbone"]), board.winner
    colour = _WINNER if name == winner else _FIRST_GROUP if name in first else _LATER
    size, value = number(row, cost.column), number(row, cost.score)
    low, high = _interval(row, cost.score)
    axes.errorbar(
        size,
        value,
        yerr=[[value - low], [high - value]],
        fmt="*" if name == winner else "o",
        color=colour,
        ecolor=colour,
        elinewidth=1.2,
        markersize=15 if name == winner else 6,
        alpha=1.0 if name in first else 0.75,
        zorder=4 if name == winner else 3,
    )


def _interval(row: Mapping[str, Any], column: str) -> tuple[float, float]:
    """The interval's ends, the value itself where there is none."""
    value, low, high = (number(row, f"{column}{end}") for end in ("", "_low", "_high"))
    return (value if math.isnan(low) else min(low, value)), (value if math.isnan(high) else max(high, value))


def _cost_axes(axes: Axes, rows: Sequence[Mapping[str, Any]], cost: _Axis) -> None:
    costs = np.array([number(row, cost.column) for row in rows])
    axes.set_xlim(costs.min() / 1.5, costs.max() * 1.9)
    steps = [step * 10.0**power for power in range(-3, 11) for step in (1, 2, 5)]
    ticks = [tick for tick in steps if costs.min() / 1.5 <= tick <= costs.max() * 1.9]
    axes.set_xticks(ticks, [cost.tick(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(cost.label, color=_INK)


def _worth_a_name(
    rows: Sequence[Mapping[str, Any]], first: set[str], board: Leaderboard, cost: _Axis
) -> list[int]:
    """Positions to label, the most important first: winner, first group, those that no cheaper one beats."""
    best = -math.inf
    front = set()
    for row in sorted(rows, key=lambda row: (number(row, cost.column), -number(row, cost.score))):
        if number(row, cost.score) > best:
            best = number(row, cost.score)
            front.add(row["backbone"])
    order = sorted(
        range(len(rows)),
        key=lambda position: (
            rows[position]["backbone"] != board.winner,
            rows[position]["backbone"] not in front,
            rows[position]["backbone"] not in first,
            position,
        ),
    )
    if len(rows) <= _NAMED:
        return order
    worth = first | front
    return [position for position in order if rows[position]["backbone"] in worth][:_NAMED]


def _size_legend(axes: Axes, first: int, total: int) -> None:
    dot: dict[str, Any] = {"marker": "o", "linestyle": ""}
    marks = {"winner": {"marker": "*", "linestyle": "", "color": _WINNER, "markersize": 12}}
    if first > 1:
        marks[f"first tie group ({first})"] = {**dot, "color": _FIRST_GROUP}
    if total > first:
        marks[f"others ({total - first})"] = {**dot, "color": _LATER}
    _legend(axes, marks)


# --- intervals in rank order ----------------------------------------------------------------------------


def _interval_plot(rows: Sequence[Mapping[str, Any]], board: Leaderboard) -> Plot:
    winner, title = board.winner, METRICS[board.metric].title
    value, test = f"val_{board.metric}", f"test_{board.metric}"
    figure, axes = _figure(9.5, 1.4 + 0.25 * len(rows))
    first = _first_group(rows)
    _shade_ties(axes, rows, first)
    for position, row in enumerate(rows):
        name = str(row["backbone"])
        colour = _WINNER if name == winner else _FIRST_GROUP if name in first else _LATER
        low, high = _interval(row, value)
        axes.plot([low, high], [position, position], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(number(row, value), position, "o", color=colour, markersize=6)
        axes.plot(number(row, test), position, "D", mfc="white", mec=_INK, markersize=4.2, mew=0.9)
    labels = [f"{row['backbone']}  {int(row['rank'])}" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["backbone"] == winner else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(title, color=_INK)
    axes.xaxis.set_label_position("bottom")
    has_test = any(not math.isnan(number(row, test)) for row in rows)
    _interval_legend(axes, f"test {title}" if has_test else "")
    return Plot(
        name="ranks",
        title="Ranks and what is behind them",
        caption=f"One line per backbone in rank order. Dots and bars: validation {title} with its 95 % "
        "interval. Shaded: backbones that cannot be told from the best. Diamonds: "
        f"{title} on the test part, which decided nothing.",
        png=_png(figure),
    )


def _shade_ties(axes: Axes, rows: Sequence[Mapping[str, Any]], first: set[str]) -> None:
    for position, row in enumerate(rows):
        if row["backbone"] in first:
            axes.axhspan(position - 0.5, position + 0.5, color="#e8f1fd", zorder=0)


def _interval_legend(axes: Axes, test: str) -> None:
    marks: dict[str, dict[str, Any]] = {
        "winner": {"marker": "o", "color": _WINNER},
        "cannot be told apart from the best": {"marker": "o", "color": _FIRST_GROUP},
        "behind": {"marker": "o", "color": _LATER},
    }
    if test:
        marks[test] = {"marker": "D", "linestyle": "", "mfc": "white", "mec": _INK}
    _legend(axes, marks, across=0.4)


# --- learning curves ------------------------------------------------------------------------------------


def _learning_plot(curves: Mapping[str, LearningCurve]) -> Plot:
    figure, axes = _figure(9.5, 5.2)
    axes.set_xscale("log", base=2)
    for position, (name, curve) in enumerate(curves.items()):
        # A little apart, so that equal intervals do not hide each other.
        _learning_line(axes, curve, name, _TEN[position], 1.03 ** (position - (len(curves) - 1) / 2))
    sizes = sorted({size for curve in curves.values() for size in (*curve.measured, *_told(curve))})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training images of a head", color=_INK)
    axes.set_ylabel("validation F1", color=_INK)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return Plot(
        name="learning_curve",
        title="What more images would bring",
        caption="F1 of heads on an eighth, a quarter, a half and all of the training images, with 95 % "
        "intervals. Dashed: what twice the images would bring, where the curve tells.",
        png=_png(figure),
    )


def _told(curve: LearningCurve) -> dict[int, Interval]:
    return {curve.images: curve.predicted} if curve.is_telling else {}


def _learning_line(axes: Axes, curve: LearningCurve, name: str, colour: str, shift: float) -> None:
    for points, face in ((curve.measured, colour), (_told(curve), "white")):
        for size, f1 in points.items():
            axes.plot([size * shift] * 2, [f1.low, f1.high], color=colour, linewidth=1.6, alpha=0.6)
            axes.plot(size * shift, f1.value, "o", mfc=face, mec=colour, markersize=6)
    sizes = sorted(curve.measured)
    axes.plot(
        [size * shift for size in sizes],
        [curve.measured[size].value for size in sizes],
        color=colour,
        label=name,
    )
    for size, f1 in _told(curve).items():
        axes.plot(
            [sizes[-1] * shift, size * shift], [curve.now.value, f1.value], "--", color=colour, zorder=1
        )


# --- F1 of every class ----------------------------------------------------------------------------------


def _class_plot(ranked: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Plot:
    by_pair = {(row["backbone"], row["class"]): number(row, "val_f1") for row in rows}
    images = {str(row["class"]): int(row["images"]) for row in rows if row["images"]}
    names = [name for name in ranked if any(row["backbone"] == name for row in rows)]
    mean = {label: np.mean([by_pair[name, label] for name in names]) for label in images}
    # The hardest classes come first; beyond forty the picture shows only those.
    classes = sorted(images, key=lambda label: mean[label])[:_HEATMAP_CLASSES]
    values = np.array([[by_pair[name, label] for label in classes] for name in names])
    figure, axes = _figure(max(6.5, 3.2 + 0.62 * len(classes)), 1.9 + 0.25 * len(names))
    _heatmap(axes, values)
    longest = max(map(len, classes))
    axes.set_xticks(
        range(len(classes)),
        [f"{_clipped(label)}\n({images[label]})" for label in classes],
        rotation=45 if longest > 8 and len(classes) > 4 else 0,
        ha="left" if longest > 8 and len(classes) > 4 else "center",
    )
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    caption = "Validation F1 of each class (number of images in brackets), backbones in rank order."
    if len(classes) < len(images):
        caption += f" The {len(classes)} hardest of {len(images)} classes."
    return Plot(name="per_class_f1", title="F1 of each class", caption=caption, png=_png(figure))


def _heatmap(axes: Axes, values: Any) -> None:  # noqa: ANN401 - float64 (backbones, classes)
    low = max(0.0, float(np.nanmin(values)) - 0.02)
    axes.imshow(values, aspect="auto", cmap="Blues", vmin=low - 0.3 * (1 - low), vmax=1.0)
    middle = (float(np.nanmax(values)) + low) / 2 if values.size else 0.5
    for (line, column), value in np.ndenumerate(values):
        dark = value > middle and value > 0.55
        shown = f"{value:.2f}" if values.shape[1] > 4 else f"{value:.3f}"
        axes.text(column, line, shown, ha="center", va="center", fontsize=8, color="white" if dark else _INK)


def _clipped(label: str) -> str:
    return label if len(label) <= 22 else f"{label[:21]}…"
