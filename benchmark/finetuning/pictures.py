"""Pictures of a run: data, augmentation, curves, confusion, predictions. Loads Matplotlib.

Figures are objects of their own: Matplotlib's global state is not touched, and no window is needed.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from benchmark.cells import printable
from benchmark.records import Float32, Int64, UInt8

_DPI = 110
_LONGEST_NAME = 28
# Blue and orange of the Okabe-Ito palette, which colour-blind readers can tell apart.
_TRAIN_COLOUR, _VAL_COLOUR, _WRONG_COLOUR, _RIGHT_COLOUR = "#0072B2", "#D55E00", "#B30000", "#1B5E20"
# Pixels of a sheet.
_PICTURE, _GAP, _TITLE_HEIGHT, _HEAD_HEIGHT = 192, 6, 34, 34
_CELL_WIDTH, _CELL_HEIGHT = _PICTURE + 2 * _GAP, _PICTURE + _TITLE_HEIGHT + _GAP
_MOST_NUMBERED_CLASSES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One picture of a sheet."""

    image: UInt8  # (S, S, 3)
    title: str = ""  # one or two lines
    colour: str = "black"  # of the title


def short(text: str) -> str:
    """A name that fits over a small picture."""
    shown = printable(text)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 1]}…"


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes; a character that no font has becomes a box, without a warning."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def sheet(tiles: Sequence[Tile], columns: int, title: str) -> bytes:
    """Pictures side by side, row by row, under a title."""
    rows = max(1, math.ceil(len(tiles) / columns))
    width, height = columns * _CELL_WIDTH, rows * _CELL_HEIGHT + _HEAD_HEIGHT
    figure = Figure(figsize=(width / _DPI, height / _DPI))
    # One picture on one pair of axes, in pixels: axes of their own for every tile take seconds to draw.
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    page = np.full((height, width, 3), 255, np.uint8)
    for position, tile in enumerate(tiles):
        row, column = divmod(position, columns)
        left, top = column * _CELL_WIDTH, _HEAD_HEIGHT + row * _CELL_HEIGHT
        page[top + _TITLE_HEIGHT :, left + _GAP :][:_PICTURE, :_PICTURE] = _enlarged(tile.image)
        middle, bottom = left + _GAP + _PICTURE / 2, top + _TITLE_HEIGHT - 4
        text = axes.text(
            middle, bottom, tile.title, fontsize=7.5, color=tile.colour, ha="center", va="bottom"
        )
        text.set_parse_math(False)
    axes.text(width / 2, 8, title, fontsize=11, ha="center", va="top", parse_math=False)
    axes.imshow(page, extent=(0, width, height, 0), interpolation="nearest")
    return png(figure)


def _enlarged(image: UInt8) -> UInt8:
    side = (_PICTURE, _PICTURE)
    return np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BILINEAR))


def prediction_tile(image: UInt8, true: str, said: str, probability: float) -> Tile:
    """A picture with its label and the model's answer; wrong answers say so and are red."""
    right = true == said
    mark = "right" if right else "WRONG"
    title = f"is {short(true) or 'none'}\n{mark}: {short(said) or 'none'} {probability:.2f}"
    return Tile(image=image, title=title, colour=_RIGHT_COLOUR if right else _WRONG_COLOUR)


def curves(history: Sequence[Mapping[str, float]], kept_epoch: int) -> bytes:
    """Loss, accuracy and F1 by epoch; the start of fine-tuning and the kept epoch are marked.

    Epochs are counted from 1 over both phases.
    """
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), ("loss", "accuracy", "f1"), strict=True):
        _curve(axes, history, name)
        _marks(axes, history, kept_epoch)
        axes.legend(fontsize=8)
    return png(figure)


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], name: str) -> None:
    epochs = [row["epoch"] for row in history]
    label = {"f1": "F1"}.get(name, name)
    marker = "o" if len(epochs) < 60 else ""
    for part, column, colour in (
        ("training (augmented, with dropout)", name, _TRAIN_COLOUR),
        ("validation", f"val_{name}", _VAL_COLOUR),
    ):
        if history and column in history[0]:
            values = [row[column] for row in history]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=part)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_title(label)
    axes.grid(alpha=0.3)
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _marks(axes: Axes, history: Sequence[Mapping[str, float]], kept_epoch: int) -> None:
    second = [row["epoch"] for row in history if row["phase"] == 2]
    if second:
        axes.axvline(
            second[0] - 0.5, color="black", linestyle="--", linewidth=1, label="start of fine-tuning"
        )
    kept = f"kept: epoch {kept_epoch}" if kept_epoch else "kept: as it started"
    axes.axvline(max(kept_epoch, 0.5), color="grey", linestyle=":", linewidth=1.5, label=kept)


def confusion(matrix: Int64, names: Sequence[str], title: str) -> bytes:
    """A confusion matrix (C, C): rows are labels, columns are answers; colour is the share of the row."""
    count = len(names)
    side = min(16.0, max(4.2, 0.55 * count + 2.4))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the row")
    labels = [short(name) for name in names]
    axes.set_xticks(range(count), labels, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(count), labels, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.set_title(title, fontsize=10, parse_math=False)
    if count <= _MOST_NUMBERED_CLASSES:
        _numbers(axes, matrix, share)
    return png(figure)


def label_confusions(matrices: Int64, names: Sequence[str], title: str) -> bytes:
    """One 2 x 2 matrix per label: (C, 2, 2), as scikit-learn's ``multilabel_confusion_matrix``."""
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.8 * columns, 2.8 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    for axes, matrix, name in zip(grid.flat, matrices, names, strict=False):
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        _numbers(axes, matrix, share)
        axes.set_xticks((0, 1), ("no", "yes"))
        axes.set_yticks((0, 1), ("no", "yes"))
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")
        axes.set_title(short(name), fontsize=9, parse_math=False)
    return png(figure)


def _numbers(axes: Axes, matrix: Int64, share: Float32) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=9)
