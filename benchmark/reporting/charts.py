"""Line charts as SVG: what a page draws without a script, in colours that follow its light or dark sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmark.records import Float64

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 390.0, 12.0, 250.0
_MOST_POINTS = 400
_NEAREST = 1.0  # in pixels of the drawing: closer points cannot be told apart
_DECIMALS = 1  # of a pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend; empty for none.
        points: x and y, in order of x.
        kind: ``main``, ``other``, ``faint`` or ``third``, a colour of the page; ``ideal`` is dashed.
        bars: low and high end of y at each point; empty for none.
        dots: whether points are marked.
    """

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "main"
    bars: Sequence[tuple[float, float]] = ()
    dots: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves over two axes.

    Attributes:
        title: what is shown.
        caption: how to read it.
        x_label: of the axis below.
        y_label: of the axis on the left.
        lines: the curves.
        mark: a point that the page points at, with its name; None for none.
        upright: an x that a dashed line marks, with its name; None for none.
        x_range: ends of the axis; None takes those of the lines.
        y_range: the same.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    mark: tuple[float, float, str] | None = None
    upright: tuple[float, str] | None = None
    x_range: tuple[float, float] | None = (0.0, 1.0)
    y_range: tuple[float, float] | None = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnLine:
    """A curve in pixels of the drawing."""

    name: str
    kind: str
    path: str
    dots: list[tuple[float, float]] = field(default_factory=list)
    bars: list[tuple[float, float, float]] = field(default_factory=list)  # x, upper y, lower y


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart in pixels, as the template writes it."""

    chart: Chart
    lines: list[DrawnLine]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    mark: tuple[float, float, str] | None
    upright: tuple[float, str] | None
    box: tuple[float, float, float, float] = (_LEFT, _TOP, _RIGHT, _BOTTOM)


def curve_points(x: Float64, y: Float64) -> list[tuple[float, float]]:
    """The points of a curve that is drawn on axes from 0 to 1, without those that fall on the one before.

    A curve of a million images has a few thousand of them; only these become Python's numbers.

    Args:
        x: float64 (K,), K at least 1.
        y: float64 (K,).
    """
    places = np.column_stack([x * (_RIGHT - _LEFT), y * (_BOTTOM - _TOP)]).round(_DECIMALS)
    kept = np.append(True, (places[1:] != places[:-1]).any(1))
    kept[-1] = True
    return list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def draw(chart: Chart) -> Drawing:
    """The places of a chart's lines, ticks and marks."""
    xs = [x for line in chart.lines for x, _ in line.points]
    ys = [y for line in chart.lines for _, y in line.points]
    x_low, x_high = chart.x_range or _ends(xs)
    y_low, y_high = chart.y_range or _ends(ys)

    def across(x: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (x - x_low) / (x_high - x_low), _DECIMALS)

    def down(y: float) -> float:
        inside = min(max(y, y_low), y_high)
        return round(_BOTTOM - (_BOTTOM - _TOP) * (inside - y_low) / (y_high - y_low), _DECIMALS)

    def drawn(line: Line) -> DrawnLine:
        points = [(across(x), down(y)) for x, y in line.points]
        bars = zip(line.points, line.bars, strict=bool(line.bars))
        return DrawnLine(
            name=line.name,
            kind=line.kind,
            path=" ".join(f"{x},{y}" for x, y in _thinned(points)),
            dots=points if line.dots else [],
            bars=[(across(x), down(high), down(low)) for (x, _), (low, high) in bars],
        )

    mark, upright = chart.mark, chart.upright
    return Drawing(
        chart=chart,
        lines=[drawn(line) for line in chart.lines if line.points],
        x_ticks=[(across(tick), _shown(tick)) for tick in _ticks(x_low, x_high)],
        y_ticks=[(down(tick), _shown(tick)) for tick in _ticks(y_low, y_high)],
        mark=None if mark is None else (across(mark[0]), down(mark[1]), mark[2]),
        upright=None if upright is None else (across(upright[0]), upright[1]),
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many points as can be told apart, in pixels; the first and the last among them.

    Points that stand on each other go first: of the curve of a rare class most points may stand at one end.
    """
    kept = list(points[:1])
    for x, y in points[1:-1]:
        if max(abs(x - kept[-1][0]), abs(y - kept[-1][1])) >= _NEAREST:
            kept.append((x, y))
    kept += points[max(1, len(points) - 1) :]
    if len(kept) <= _MOST_POINTS:
        return kept
    step = (len(kept) - 1) / (_MOST_POINTS - 1)
    return [kept[round(step * number)] for number in range(_MOST_POINTS)]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, four to eight."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _shown(tick: float) -> str:
    return f"{tick:.4g}"
