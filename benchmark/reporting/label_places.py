"""Names beside points without covering each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FONT, _HALO, _MARKER = 8.0, 2.5, 6.0  # in points: letters, the white around them, half a marker
# Offsets in points from the marker, near ones first.
_DIRECTIONS = ((1, 0.35), (1, -0.35), (-1, 0.35), (-1, -0.35), (0.3, 1), (0.3, -1), (-0.3, 1), (-0.3, -1))
_OFFSETS = [(ring * right, ring * up) for ring in (9, 22, 38, 56, 76) for right, up in _DIRECTIONS]
_NEAR = 16.0  # farther names get a thin line to their point

Point = tuple[float, float]


def place_labels(
    axes: Axes, points: Sequence[Point], bars: Sequence[Point], names: Mapping[int, str]
) -> None:
    """Write names beside their points, each at the nearest free place; names without one are left out.

    The layout is settled and ends here: whatever takes room beside the axes has to be there before.

    Args:
        axes: with its limits already set.
        points: all markers in data coordinates; labels keep clear of them. One with nan has no name.
        bars: lower and upper end of each point's bar; labels keep clear of them, but for the first name's.
        names: position in ``points`` -> text, the most important first.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox, IdentityTransform

    figure: Figure = axes.figure  # type: ignore[assignment]
    for _ in range(2):  # what the first pass moves changes what the second one measures
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale, edge = figure.dpi / 72, axes.get_window_extent()
    pixels = axes.transData.transform(list(points))
    # What has no place would count as overlapping everything.
    taken = [Bbox([place, place]).padded(_MARKER * scale) for place in pixels if np.isfinite(place).all()]
    ends = ([(x, low), (x, high)] for (x, _), (low, high) in zip(points, bars, strict=True))
    places = [axes.transData.transform(each) for each in ends]
    lines = [Bbox(each).padded(scale) for each in places if np.isfinite(each).all()]
    for rank, (position, name) in enumerate(names.items()):
        x, y = (float(value) for value in pixels[position])
        label = axes.text(
            *(0, 0, name),
            transform=IdentityTransform(),  # pixels
            fontsize=_FONT,
            va="center",
            color="#1f2328",
            zorder=5,
            path_effects=[withStroke(linewidth=_HALO, foreground="white")],
        )
        width, height = label.get_window_extent().padded(_HALO * scale / 2).size
        boxes = [
            Bbox.from_bounds(
                x + right * scale - (0 if right > 0 else width), y + up * scale - height / 2, width, height
            )
            for right, up in _OFFSETS
        ]
        inside = [box for box in boxes if edge.contains(*box.min) and edge.contains(*box.max)]
        tries = [taken + lines] if rank else [taken + lines, taken]
        free = (box for others in tries for box in inside if not box.count_overlaps(others))
        box = next(free, None)
        if box is None:
            label.remove()
            continue
        taken.append(box)
        middle = (box.y0 + box.y1) / 2
        label.set_position((box.x0 + _HALO * scale / 2, middle))
        nearest = min(max(x, box.x0), box.x1)
        if abs(nearest - x) + abs(middle - y) > _NEAR * scale:
            line = {"arrowstyle": "-", "color": "#b6bdc5", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4}
            axes.annotate("", (x, y), (nearest, middle), "figure pixels", arrowprops=line, zorder=1)
