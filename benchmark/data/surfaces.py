"""Drawing concrete-like surfaces, sound and cracked, from random numbers alone.

A surface is a square of 2 x 2 patches that share material, light, stains, joints and the look of their
cracks, as the crops of one photograph do: neighbours betray each other, which is what groups are for. Joints,
scratches and stains appear on sound patches as well, so that "something dark and thin" is not the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmark.records import Float32, Float64, UInt8

PATCH_SIDE: Final = 227
PATCHES: Final = 4
_SIDE = 2 * PATCH_SIDE
_VISIBLE_PIXELS = 40.0
_FINE = 3  # lines are drawn on a grid this much finer, then averaged: widths below a pixel come out as greys


@dataclass(frozen=True, slots=True, kw_only=True)
class _CrackStyle:
    """How cracks of one surface look: width in pixels, depth as share of light lost, wander as roughness."""

    width: float
    depth: float
    wander: float
    branches: float


def draw_surface(seed: Sequence[int], cracked: Sequence[bool]) -> list[UInt8]:
    """Draw one surface and cut it into its patches.

    Args:
        seed: numbers that decide everything but the labels.
        cracked: which of the patches carry a crack; at most ``PATCHES``.

    Returns:
        One uint8 (227, 227, 3) RGB patch per label.
    """
    rng = np.random.default_rng(list(seed))
    light = _material(rng)
    light *= _shadows(rng)
    light *= 1.0 - _joints(rng)
    style = _style(rng)
    tint = _tint(rng)
    blur = float(rng.choice([0.0, 0.4, 0.7, 1.0]))
    patches = []
    for position, has_crack in enumerate(cracked):
        top, left = (position // 2) * PATCH_SIDE, (position % 2) * PATCH_SIDE
        patch = light[top : top + PATCH_SIDE, left : left + PATCH_SIDE] * (1.0 - _scratches(rng))
        if has_crack:
            patch = _with_crack(patch, _crack_mask(rng, style), style.depth)
        patches.append(_photograph(rng, patch, tint, blur))
    return patches


def _material(rng: np.random.Generator) -> Float32:
    """Brightness 0..255 of bare concrete: clouds, grain, pores, stains."""
    light = np.full((_SIDE, _SIDE), rng.uniform(125, 185), np.float32)
    for cells, strength in ((3, 14.0), (8, 9.0), (24, 5.0), (70, 4.0), (160, 4.0)):
        light += rng.uniform(0.3, 1.3) * strength * _clouds(rng, cells)
    light += rng.uniform(2.0, 7.0) * rng.standard_normal((_SIDE, _SIDE)).astype(np.float32)
    light *= 1.0 - _pores(rng)
    if rng.random() < 0.5:
        light *= 1.0 - _stains(rng)
    return light


def _clouds(rng: np.random.Generator, cells: int) -> Float32:
    """Smooth noise of about unit strength with ``cells`` bumps a side."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.array(coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), np.float32)


def _pores(rng: np.random.Generator) -> Float32:
    """Share of light lost in small air holes."""
    page = Image.new("L", (_SIDE, _SIDE))
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(10, 160))):
        x, y = rng.uniform(0, _SIDE, 2)
        radius = min(0.5 + rng.exponential(0.9), 5.0)
        box = (x - radius, y - radius * rng.uniform(0.6, 1.0), x + radius, y + radius)
        draw.ellipse(box, fill=int(rng.integers(40, 150)))
    return np.asarray(page.filter(ImageFilter.GaussianBlur(0.6)), np.float32) / 255.0


def _stains(rng: np.random.Generator) -> Float32:
    """Share of light lost in damp blotches with ragged edges, or in runs of water down the wall."""
    if rng.random() < 0.4:
        across = np.interp(np.arange(_SIDE), np.linspace(0, _SIDE, 24), rng.uniform(0, 1, 24) ** 3)
        ragged = np.clip(across[None] + 0.15 * _clouds(rng, 30), 0, 1)
        return (rng.uniform(0.1, 0.35) * ragged).astype(np.float32)
    field = _clouds(rng, int(rng.integers(3, 7))) + 0.25 * _clouds(rng, 40)
    edge = rng.uniform(0.6, 1.4)
    blotch = np.clip((field - edge) / rng.uniform(0.1, 0.5), 0, 1)
    return (rng.uniform(0.1, 0.4) * blotch).astype(np.float32)


def _shadows(rng: np.random.Generator) -> Float32:
    """Factor of light: a slope over the surface, and now and then the edge of a shadow."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) / _SIDE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    factor = 1.0 + rng.uniform(0.0, 0.35) * (np.cos(angle) * x + np.sin(angle) * y)
    if rng.random() < 0.35:
        turn, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
        distance = np.cos(turn) * x + np.sin(turn) * y - place + 0.01 * _clouds(rng, 8)
        softness = rng.uniform(0.004, 0.06)
        factor *= 1.0 - rng.uniform(0.2, 0.5) * np.clip(distance / softness + 0.5, 0, 1)
    return np.asarray(factor, np.float32)


def _joints(rng: np.random.Generator) -> Float32:
    """Share of light lost (or won, where negative) along straight formwork joints across the surface."""
    lost = np.zeros((_SIDE, _SIDE), np.float32)
    if rng.random() < 0.6:
        return lost
    tilt = rng.normal(0, 0.03)
    for offset in rng.uniform(0.1, 0.9, int(rng.integers(1, 3))):
        ends = np.array([[-0.05, offset - tilt], [1.05, offset + tilt]]) * _SIDE
        if rng.random() < 0.5:
            ends = ends[:, ::-1]
        line = _stroke(ends, np.full(1, rng.uniform(1.0, 4.5)), _SIDE)
        lost += rng.uniform(0.15, 0.55) * line
        if rng.random() < 0.5:
            lost -= rng.uniform(0.05, 0.15) * np.roll(line, 3, axis=(0, 1))
    return np.asarray(lost * (0.75 + 0.25 * np.tanh(_clouds(rng, 40))), np.float32)


def _scratches(rng: np.random.Generator) -> Float32:
    """Share of light lost (negative: won) in smooth strokes of even width: scratches, pencil marks, wires."""
    lost = np.zeros((PATCH_SIDE, PATCH_SIDE), np.float32)
    for _ in range(int(rng.choice([0, 0, 0, 1, 2]))):
        start, control, end = rng.uniform(-20, PATCH_SIDE + 20, (3, 2))
        control = (start + end) / 2 + 0.3 * (control - (start + end) / 2)
        along = np.linspace(0, 1, 40)[:, None]
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * control + along**2 * end
        strength = rng.uniform(0.1, 0.4) * rng.choice([-0.6, 1.0])
        lost += strength * _stroke(curve, np.full(39, rng.uniform(0.5, 2.0)), PATCH_SIDE)
    return lost


def _style(rng: np.random.Generator) -> _CrackStyle:
    widths = [rng.uniform(0.5, 1.1), rng.uniform(1.1, 2.2), rng.uniform(2.2, 5.0)]
    return _CrackStyle(
        width=float(rng.choice(widths, p=[0.25, 0.4, 0.35])),
        depth=float(rng.uniform(0.45, 0.85)),
        wander=float(rng.uniform(0.08, 0.22)),
        branches=float(rng.uniform(0.0, 2.5)),
    )


def _with_crack(patch: Float32, mask: Float32, depth: float) -> Float32:
    """Darken the crack, and light the lip of it that faces the light."""
    lip = np.clip(np.roll(mask, 1, axis=(0, 1)) - mask, 0, 1)
    return np.asarray(patch * (1.0 - depth * mask) * (1.0 + 0.12 * lip), np.float32)


def _crack_mask(rng: np.random.Generator, style: _CrackStyle) -> Float32:
    """Coverage 0..1 of a crack on one patch, enough of it that a person would find it."""
    mask = _one_crack(rng, style)
    while mask.sum() < _VISIBLE_PIXELS:
        mask = np.maximum(mask, _one_crack(rng, style))
    return mask


def _one_crack(rng: np.random.Generator, style: _CrackStyle) -> Float32:
    """Coverage 0..1 of a crack and its branches."""
    start, end = _crack_ends(rng)
    path = _ragged(rng, start, end, style.wander)
    widths = _widths(rng, len(path) - 1, style.width, tapered=bool(rng.random() < 0.4))
    mask = _stroke(path, widths, PATCH_SIDE)
    for _ in range(rng.poisson(style.branches)):
        at = int(rng.integers(len(path) // 8, len(path) - len(path) // 8))
        heading = path[-1] - path[0]
        turn = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.1)
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ heading
        branch = _ragged(rng, path[at], path[at] + turned * rng.uniform(0.15, 0.45), style.wander)
        thinner = _widths(rng, len(branch) - 1, 0.6 * style.width, tapered=True)
        mask = np.maximum(mask, _stroke(branch, thinner, PATCH_SIDE))
    return mask


def _crack_ends(rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Where a crack runs: right across, across a corner only, or from an edge to somewhere inside."""
    kind = rng.choice(3, p=[0.65, 0.15, 0.2])
    if kind == 1:
        reach = rng.uniform(0.12, 0.4, 2) * PATCH_SIDE
        start, end = np.array([-4.0, reach[0]]), np.array([reach[1], -4.0])
    elif kind == 0:
        start, end = np.array([[-6.0, PATCH_SIDE + 6.0], rng.uniform(0, PATCH_SIDE, 2)]).T
    else:
        start = np.array([-6.0, rng.uniform(0.1, 0.9) * PATCH_SIDE])
        end = rng.uniform(0.3, 0.8, 2) * PATCH_SIDE
    middle = (PATCH_SIDE - 1) / 2
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    turn = np.linalg.matrix_power(quarter, int(rng.integers(4)))
    return turn @ (start - middle) + middle, turn @ (end - middle) + middle


def _ragged(rng: np.random.Generator, start: Float64, end: Float64, wander: float) -> Float64:
    """A path by midpoint displacement: float64 (2^k + 1, 2) points from ``start`` to ``end``."""
    path = np.stack([start, end])
    reach = wander * float(np.linalg.norm(end - start))
    while len(path) < 65:
        middles = (path[:-1] + path[1:]) / 2 + rng.normal(0, reach, (len(path) - 1, 2))
        joined = np.empty((2 * len(path) - 1, 2))
        joined[0::2], joined[1::2] = path, middles
        path, reach = joined, reach * 0.5
    return path


def _widths(rng: np.random.Generator, count: int, width: float, *, tapered: bool) -> Float64:
    """Width of each of ``count`` segments, in pixels: uneven, and thinning out where tapered."""
    uneven = np.interp(np.arange(count), np.linspace(0, count, 9), rng.uniform(0.5, 1.5, 9))
    return width * uneven * (np.linspace(1.0, 0.2, count) if tapered else 1.0)


def _stroke(path: Float64, widths: Float64, side: int) -> Float32:
    """Coverage 0..1 of a broken line, float32 (side, side), softened a little as a lens does."""
    page = Image.new("L", (side * _FINE, side * _FINE))
    draw = ImageDraw.Draw(page)
    points = path * _FINE
    for number, width in enumerate(widths):
        (x0, y0), (x1, y1) = points[number], points[number + 1]
        thick = max(1, round(width * _FINE))
        draw.line((x0, y0, x1, y1), fill=255, width=thick)
        if thick > 3:  # rounds off the bend between two thick segments
            draw.ellipse((x1 - thick / 2, y1 - thick / 2, x1 + thick / 2, y1 + thick / 2), fill=255)
    small = page.reduce(_FINE).filter(ImageFilter.GaussianBlur(0.45))
    return np.asarray(small, np.float32) / 255.0


def _tint(rng: np.random.Generator) -> Float32:
    """Float32 (3,): colour of the concrete, warm or cool."""
    warmth = rng.normal(0, 0.022)
    return np.array([1.0 + warmth, 1.0 + rng.normal(0, 0.01), 1.0 - warmth], np.float32)


def _photograph(rng: np.random.Generator, light: Float32, tint: Float32, blur: float) -> UInt8:
    """What a camera makes of the light: contrast, colour, blur, noise."""
    exposed = (light - 128.0) * rng.uniform(0.85, 1.1) + 128.0 + rng.uniform(-12, 12)
    colour = exposed[..., None] * tint
    image = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    noise = rng.normal(0, rng.uniform(1.0, 3.5), light.shape)[..., None]
    return np.clip(np.asarray(image, np.float64) + noise, 0, 255).astype(np.uint8)
