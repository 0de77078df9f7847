"""Pictures for the eye: suspicious pairs side by side, and the members of each group in a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmark.cells import printable
from benchmark.data import FULL_DEPTH, decode_thumbnail, read_regular
from benchmark.errors import DataError
from benchmark.records import MAX_PIXELS, ImageSet, Int64

if TYPE_CHECKING:
    from benchmark.audit.findings import AuditPair

_SIDE = 160
_MARGIN = 12
_LINE = 15
_PAIR_COLUMNS = 3
_PAIR_LINES = 4
_CAPTIONED_COLUMNS = 6
_GROUP_SIDE = 84
_GROUP_COLUMNS = 14
_MOST_GROUPS = 40
_INK, _PAPER, _FAINT = (28, 30, 33), (255, 255, 255), (110, 115, 120)
_RED, _AMBER, _GREY = (200, 30, 40), (214, 140, 0), (190, 195, 200)
# Data sets may be loaded under a higher limit than the usual one; a picture on a sheet is not worth more.
_MOST_PIXELS = 4 * MAX_PIXELS


def draw_pairs(pairs: Sequence[AuditPair], root: Path, bit_depth: int = FULL_DEPTH) -> bytes:
    """Pairs side by side, three to a row, each with its paths, labels, parts and what is wrong, as a PNG.

    A red frame marks pairs with two labels or in two parts, amber near-duplicates.
    """
    cell = (2 * _SIDE + _MARGIN, _SIDE + _PAIR_LINES * _LINE + _MARGIN)
    sheet, corners = _grid(len(pairs), _PAIR_COLUMNS, cell)
    for pair, corner in zip(pairs, corners, strict=True):
        _draw_pair(sheet, pair, root, corner, bit_depth)
    return _png(sheet)


def _grid(count: int, most: int, cell: tuple[int, int]) -> tuple[Image.Image, list[tuple[int, int]]]:
    """An empty sheet for cells of that width and height, at most so many to a row, and their corners."""
    columns, (width, height) = min(most, count), (side + _MARGIN for side in cell)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), _PAPER)
    places = (divmod(position, columns) for position in range(count))
    return sheet, [(_MARGIN + column * width, _MARGIN + row * height) for row, column in places]


def _draw_pair(
    sheet: Image.Image, pair: AuditPair, root: Path, corner: tuple[int, int], bit_depth: int
) -> None:
    left, top = corner
    pen = ImageDraw.Draw(sheet)
    bad = pair.conflict or pair.straddles
    colour = _RED if bad else _AMBER if pair.kind.value == "near-duplicate" else _GREY
    pen.text((left, top), _verdict(pair), _RED if bad else _INK, font=_font(12))
    top += _LINE + 2
    files = zip((0, _SIDE + 4), (pair.first, pair.second), pair.labels, pair.parts, strict=True)
    for offset, path, label, part in files:
        sheet.paste(thumbnail(root / path, _SIDE, bit_depth), (left + offset, top))
        frame = (left + offset, top, left + offset + _SIDE - 1, top + _SIDE - 1)
        pen.rectangle(frame, outline=colour, width=3)
        below = top + _SIDE + 3
        pen.text((left + offset, below), _fit(pen, path, _SIDE), _INK, font=_font(11))
        said = _fit(pen, f"{label} · {part}", _SIDE)
        pen.text((left + offset, below + _LINE), said, _FAINT, font=_font(11))


def _verdict(pair: AuditPair) -> str:
    measure = {"identical": "", "near-duplicate": f", {pair.distance} of 64 hash bits differ"}.get(
        pair.kind.value, f", cosine {pair.cosine:.2f}"
    )
    wrong = [text for wrong, text in ((pair.conflict, "two labels"), (pair.straddles, "two parts")) if wrong]
    return f"{pair.kind.value}{measure}" + (f": {' and '.join(wrong).upper()}" if wrong else "")


def draw_groups(images: ImageSet, groups: Int64) -> bytes:
    """One strip of pictures per group, to judge by eye whether groups make sense, as a PNG.

    The 40 largest groups are drawn, of each up to 14 pictures.
    """
    numbers, sizes = np.unique(groups, return_counts=True)
    order = np.lexsort((numbers, -sizes))[:_MOST_GROUPS]
    strip = _GROUP_SIDE + _LINE + 8
    width = _GROUP_COLUMNS * (_GROUP_SIDE + 4) + 2 * _MARGIN
    sheet = Image.new("RGB", (width, max(len(order), 1) * strip + 2 * _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for position, which in enumerate(order):
        rows = sorted(np.flatnonzero(groups == numbers[which]).tolist(), key=lambda row: images.paths[row])
        top = _MARGIN + position * strip
        text = (
            f"group {numbers[which]}: {len(rows)} images, {images.paths[rows[0]]} to {images.paths[rows[-1]]}"
        )
        pen.text((_MARGIN, top), _fit(pen, text, width - 2 * _MARGIN), _INK, font=_font(11))
        shown = np.linspace(0, len(rows) - 1, min(len(rows), _GROUP_COLUMNS)).round().astype(int)
        for column, row in enumerate(rows[place] for place in shown):
            corner = (_MARGIN + column * (_GROUP_SIDE + 4), top + _LINE + 1)
            picture = thumbnail(images.root / images.paths[row], _GROUP_SIDE, images.bit_depth)
            sheet.paste(picture, corner)
    return _png(sheet)


def draw_captioned(images: ImageSet, pictures: Sequence[tuple[int, Sequence[str]]]) -> bytes:
    """Pictures in rows, each over its path and its lines of text, as a PNG.

    ``pictures`` are positions and lines, at least one, of as many lines each.
    """
    cell = (_SIDE, _SIDE + _LINE * (1 + len(pictures[0][1])))
    sheet, corners = _grid(len(pictures), _CAPTIONED_COLUMNS, cell)
    pen = ImageDraw.Draw(sheet)
    for (row, lines), (left, top) in zip(pictures, corners, strict=True):
        path = images.paths[row]
        sheet.paste(thumbnail(images.root / path, _SIDE, images.bit_depth), (left, top))
        for number, (line, colour) in enumerate([(path, _INK), *((line, _FAINT) for line in lines)]):
            place = (left, top + _SIDE + 3 + number * _LINE)
            pen.text(place, _fit(pen, line, _SIDE), colour, font=_font(11))
    return _png(sheet)


def thumbnail(path: Path, side: int, bit_depth: int = FULL_DEPTH) -> Image.Image:
    """An upright square RGB picture of ``side`` pixels, the whole image on grey; a cross when unreadable."""
    square = Image.new("RGB", (side, side), (228, 230, 232))
    try:
        seen = decode_thumbnail(read_regular(path), 2 * side, max_pixels=_MOST_PIXELS, bit_depth=bit_depth)
    except DataError:
        ImageDraw.Draw(square).line((0, 0, side, side), _RED, 2)
        return square
    picture = ImageOps.contain(Image.fromarray(seen.pixels), (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text, its beginning cut off until it fits: the end of a path says most."""
    text = printable(text)
    if pen.textlength(text, font=_font(11)) <= width:
        return text
    while text and pen.textlength(f"…{text}", font=_font(11)) > width:
        text = text[1:]
    return f"…{text}"


def _png(sheet: Image.Image) -> bytes:
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()
