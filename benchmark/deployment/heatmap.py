"""A map of numbers laid over the photograph that it belongs to."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmark.cells import printable
from benchmark.records import Float32, UInt8
from benchmark.storage import path_part

# Dark violet over red to yellow; its lightness rises evenly, so that it reads in grey as well.
_STOPS = ((13, 8, 80), (120, 28, 109), (205, 60, 70), (248, 140, 30), (252, 245, 140))
_STRIP = 44
_NARROWEST = 320
_LONGEST_NAME = 60  # characters of up to four bytes, of the 255 bytes that file systems allow


def picture_name(number: int, path: Path) -> str:
    """The file name of an image's map: its number, so that equal names stay apart, and its own name."""
    return path_part(f"{number:04d}-{path.stem[:_LONGEST_NAME]}") + ".png"


def colours(values: Float32) -> UInt8:
    """Colours uint8 (..., 3) of values 0..1 (outside: clipped)."""
    positions = np.linspace(0, 1, len(_STOPS))
    clipped = np.clip(values, 0, 1)
    channels = [np.interp(clipped, positions, [stop[channel] for stop in _STOPS]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def blended(photo: UInt8, heat: Float32) -> UInt8:
    """The photograph in grey, coloured the more the hotter it is.

    Args:
        photo: uint8 (H, W, 3).
        heat: float32 (h, w), 0..1; the result has its size or, where the map is coarser, the photograph's.

    Returns:
        uint8, (max(h, H'), ...) as above.
    """
    height, width = heat.shape
    if height * width < photo.shape[0] * photo.shape[1] and min(height, width) < 64:
        # A coarse map of a network is smoothed up; the bicubic filter may overshoot and is clipped.
        size = photo.shape[1], photo.shape[0]
        heat = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
        height, width = heat.shape
    small = Image.fromarray(photo).resize((width, height), Image.Resampling.BOX)
    grey = np.asarray(small.convert("L"), np.float32)[..., None].repeat(3, -1)
    weight = (0.15 + 0.5 * np.clip(heat, 0, 1))[..., None]
    return (grey * (1 - weight) + colours(heat) * weight).round().astype(np.uint8)


def overlay_png(photo: UInt8, heat: Float32, *, caption: str, unit: str) -> bytes:
    """The blended picture above a strip with its caption and the scale of its colours, as a PNG."""
    picture = Image.fromarray(blended(photo, heat))
    if picture.width < _NARROWEST:
        factor = -(-_NARROWEST // picture.width)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (picture.width, picture.height + _STRIP), "white")
    canvas.paste(picture, (0, 0))
    _draw_strip(canvas, picture.height, caption, unit)
    buffer = BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _draw_strip(canvas: Image.Image, top: int, caption: str, unit: str) -> None:
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    pen.text((6, top + 4), _fitting(pen, caption, canvas.width - 12, font), fill="black", font=font)
    scale = np.linspace(0, 1, 100, dtype=np.float32)[None].repeat(10, 0)
    canvas.paste(Image.fromarray(colours(scale)), (20, top + 26))
    pen.text((6, top + 24), "0", fill="black", font=font)
    room = canvas.width - 140
    pen.text((125, top + 24), _fitting(pen, f"1  {unit}", room, font), fill="black", font=font)


def _fitting(
    pen: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    text = printable(text)
    if pen.textlength(text, font=font) <= width:
        return text
    while text and pen.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
