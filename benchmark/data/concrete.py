"""Drawing synthetic concrete, sound and cracked, from random numbers alone.

A surface is a square of 2 x 2 patches that share clouds, pores, colour and the look of their cracks, as the
crops of one photograph do: neighbours betray each other, which is what groups are for. Cracked concrete tends
to have a rougher skin, so that networks which never learnt anything tell some of it by its texture; the rest
takes networks that see thin lines. Every patch has the same spread of brightness, and sound ones have dark
spots, too: colours alone do not tell the classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmark.records import Float32, Float64, UInt8

PATCH_SIDE: Final = 227
PATCHES: Final = 4
_SIDE = 2 * PATCH_SIDE
_FINE = 3  # cracks are drawn on a grid this much finer, then averaged: widths below a pixel come out as greys


def draw_concrete(seed: Sequence[int], cracked: Sequence[bool]) -> list[UInt8]:
    """Draw one surface and cut it into its patches.

    Args:
        seed: numbers that decide everything but the labels.
        cracked: which of the patches carry a crack; at most ``PATCHES``.

    Returns:
        One uint8 (227, 227, 3) RGB patch per label.
    """
    rng = np.random.default_rng(list(seed))
    surface = _surface(rng)
    width, wander, tint = rng.uniform(0.6, 1.8), rng.uniform(0.08, 0.2), rng.normal(0, 0.012)
    patches = []
    for position, has_crack in enumerate(cracked):
        top, left = (position // 2) * PATCH_SIDE, (position % 2) * PATCH_SIDE
        wear = rng.beta(3.5, 1.2) if has_crack else rng.beta(1.2, 3.5)
        clouds = surface[top : top + PATCH_SIDE, left : left + PATCH_SIDE]
        light = clouds + 14 * _rough(rng, PATCH_SIDE, 2 - wear)
        if has_crack:
            light -= rng.uniform(25, 60) * _crack(rng, width, wander)
        patches.append(_photograph(rng, light, tint))
    return patches


def _surface(rng: np.random.Generator) -> Float32:
    """What the patches share, float32 (454, 454) grey levels: clouds and pores."""
    pores = Image.new("L", (_SIDE, _SIDE))
    draw = ImageDraw.Draw(pores)
    for _ in range(int(rng.integers(20, 120))):
        x, y = rng.uniform(0, _SIDE, 2)
        radius = min(1.0 + rng.exponential(1.0), 6.0)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(30, 80)))
    return 8 * _rough(rng, _SIDE, 1.6) - np.asarray(pores.filter(ImageFilter.GaussianBlur(0.8)), np.float32)


def _rough(rng: np.random.Generator, side: int, smoothness: float) -> Float32:
    """Fractal noise of unit strength, float32 (side, side), the more even the higher the ``smoothness``."""
    whole = 512 if side > 256 else 256  # more than is cut out: its ends meet, and powers of two are fast
    down, right = np.fft.fftfreq(whole)[:, None], np.fft.rfftfreq(whole)
    fall = np.maximum(np.hypot(down, right), 1 / whole) ** -smoothness
    fall[0, 0] = 0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((whole, whole))) * fall)[:side, :side]
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _crack(rng: np.random.Generator, width: float, wander: float) -> Float32:
    """Coverage 0..1, float32 (227, 227), of a crack right across a patch, with branches."""
    page = Image.new("L", (PATCH_SIDE * _FINE, PATCH_SIDE * _FINE))
    across = np.array([[-6.0, PATCH_SIDE + 6.0], rng.uniform(0.15, 0.85, 2) * PATCH_SIDE]).T
    start, end = across if rng.random() < 0.5 else across[:, ::-1]
    trunk = _ragged(rng, start, end, wander)
    _stroke(page, trunk, width * rng.uniform(0.6, 1.4, len(trunk)))
    for _ in range(int(rng.integers(0, 3))):
        fork = trunk[rng.integers(8, len(trunk) - 8)]
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8) * PATCH_SIDE
        branch = _ragged(rng, fork, fork + reach * np.array([np.cos(turn), np.sin(turn)]), wander)
        _stroke(page, branch, width * np.linspace(0.9, 0.2, len(branch)))
    return np.asarray(page.reduce(_FINE).filter(ImageFilter.GaussianBlur(0.45)), np.float32) / 255.0


def _ragged(rng: np.random.Generator, start: Float64, end: Float64, wander: float) -> Float64:
    """A path by midpoint displacement: float64 (65, 2) points from ``start`` to ``end``."""
    path = np.stack([start, end])
    reach = wander * float(np.linalg.norm(end - start))
    while len(path) < 65:
        middles = (path[:-1] + path[1:]) / 2 + rng.normal(0, reach, (len(path) - 1, 2))
        path = np.insert(path, np.arange(1, len(path)), middles, axis=0)
        reach *= 0.5
    return path


def _stroke(page: Image.Image, path: Float64, widths: Float64) -> None:
    """Draw a line of uneven width, in pixels of the patch, onto the fine page."""
    draw = ImageDraw.Draw(page)
    for (x, y), (to_x, to_y), width in zip(path * _FINE, path[1:] * _FINE, widths * _FINE, strict=False):
        draw.line((x, y, to_x, to_y), fill=255, width=max(1, round(width)))


def _photograph(rng: np.random.Generator, light: Float32, tint: float) -> UInt8:
    """What a camera makes of the light: the same spread of brightness whatever it sees, blur, noise."""
    # Brightness by rank: the k-th darkest pixel of any patch is as dark as the k-th of a normal distribution.
    exposed = np.empty_like(light)
    exposed.flat[light.argsort(axis=None, kind="stable")] = np.sort(
        rng.normal(127, rng.uniform(25, 28), light.size)
    )
    colour = exposed[..., None] * np.array([1.0 + tint, 1.0, 1.0 - tint])
    sharp = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
    image = sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.8)))
    noise = rng.normal(0, rng.uniform(2, 6), (*light.shape, 1))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
