"""Names beside points without covering each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_FONT, _HALO, _MARKER = 8.0, 2.5, 6.0  # in points: letters, the white around them, half a marker
# Offsets in points from the marker, near ones first; beyond the first ring a thin line leads to the point.
_RINGS = (9.0, 22.0, 38.0, 56.0, 76.0)
_DIRECTIONS = ((1, 0.35), (1, -0.35), (-1, 0.35), (-1, -0.35), (0.3, 1), (0.3, -1), (-0.3, 1), (-0.3, -1))

Box = tuple[float, float, float, float]
Point = tuple[float, float]


def place_labels(
    axes: Axes, points: Sequence[Point], bars: Sequence[Point], names: Mapping[int, str]
) -> None:
    """Write names beside their points, each at the nearest free place; names without one are left out.

    The layout is settled and ends here: whatever takes room beside the axes has to be there before.

    Args:
        axes: with its limits already set.
        points: all markers in data coordinates; labels keep clear of them.
        bars: lower and upper end of each point's bar; labels keep clear of them, but for the first name's.
        names: position in ``points`` -> text, the most important first.
    """
    figure: Figure = axes.figure  # type: ignore[assignment]
    for _ in range(2):  # what the first pass moves changes what the second one measures
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]
    reach = _MARKER * scale
    taken: list[Box] = [(x - reach, y - reach, x + reach, y + reach) for x, y in pixels]
    low = axes.transData.transform([(x, bar[0]) for (x, _), bar in zip(points, bars, strict=True)])
    high = axes.transData.transform([(x, bar[1]) for (x, _), bar in zip(points, bars, strict=True)])
    lines: list[Box] = [
        (a[0] - scale, a[1] - scale, a[0] + scale, b[1] + scale) for a, b in zip(low, high, strict=True)
    ]
    edge = axes.get_window_extent()
    bounds = (edge.x0, edge.y0, edge.x1, edge.y1)
    for rank, (position, name) in enumerate(names.items()):
        label = _label(axes, name)
        extent = label.get_window_extent()
        size = (extent.width + _HALO * scale, extent.height + _HALO * scale)
        tries = [_free_places(pixels[position], size, (scale, _RINGS), (taken + lines, bounds))]
        if rank == 0:
            tries.append(_free_places(pixels[position], size, (scale, _RINGS), (taken, bounds)))
        place = next(chain.from_iterable(tries), None)
        if place is None:
            label.remove()
            continue
        taken.append(place)
        label.set_position((place[0] + _HALO * scale / 2, (place[1] + place[3]) / 2))
        _lead(axes, pixels[position], place, scale)


def _free_places(
    point: Point, size: Point, reach: tuple[float, tuple[float, ...]], room: tuple[list[Box], Box]
) -> Iterator[Box]:
    taken, bounds = room
    width, height = size
    scale, rings = reach
    for ring in rings:
        for across, up in _DIRECTIONS:
            middle_y = point[1] + up * ring * scale
            start = point[0] + across * ring * scale
            left = start if across > 0 else start - width
            box = (left, middle_y - height / 2, left + width, middle_y + height / 2)
            inside = (
                box[0] >= bounds[0] and box[2] <= bounds[2] and box[1] >= bounds[1] and box[3] <= bounds[3]
            )
            if inside and not any(_overlap(box, other) for other in taken):
                yield box


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _label(axes: Axes, name: str) -> Text:
    """A name, somewhere: where it goes depends on how wide it is."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import IdentityTransform

    return axes.text(
        0,
        0,
        name,
        transform=IdentityTransform(),  # pixels
        fontsize=_FONT,
        va="center",
        ha="left",
        color="#1f2328",
        zorder=5,
        path_effects=[withStroke(linewidth=_HALO, foreground="white")],
    )


def _lead(axes: Axes, point: Point, box: Box, scale: float) -> None:
    """A thin line from a name to its point, where that is not near."""
    nearest_x = min(max(point[0], box[0]), box[2])
    middle_y = (box[1] + box[3]) / 2
    if abs(nearest_x - point[0]) + abs(middle_y - point[1]) > 16 * scale:
        axes.annotate(
            "",
            xy=point,
            xytext=(nearest_x, middle_y),
            xycoords="figure pixels",
            textcoords="figure pixels",
            arrowprops={"arrowstyle": "-", "color": "#b6bdc5", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4},
            zorder=1,
        )
