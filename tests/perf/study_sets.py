"""Six small data sets for ``backbones study``: ``python -m tests.perf.study_sets DIR``.

Brick photographs (cracked or not) with related ones kept together and split at random, stretches of wall cut
from them, scikit-learn's digits, drawn concrete, drawn textures. Nothing is written twice.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data import write_demo

_ROOT = Path(__file__).resolve().parents[2]
_BRICKS = _ROOT.parent / "shared" / "data" / "brick_cracks"
_OF_A_KIND = 100
_STRETCH, _STRETCHES = 20, 6  # photographs that were taken one after the other
_SIDE = 64
_TEXTURES, _EACH = 6, 20


def write_sets(folder: Path) -> None:
    """All six; those of photographs only where they are."""
    if _BRICKS.is_dir():
        photographs = [
            path for kind in sorted(_BRICKS.iterdir()) for path in sorted(kind.glob("*.jpg"))[:_OF_A_KIND]
        ]
        labelled = [(path, path.parent.name) for path in photographs]
        _write_table(folder / "bricks_in_groups.csv", ((path, label) for path, label in labelled))
        _write_table(
            folder / "bricks_at_random.csv",
            ((path, label, number) for number, (path, label) in enumerate(labelled)),
        )
        _write_walls(folder / "walls", sorted((_BRICKS / "Negative").glob("*.jpg")))
    write_digits(folder / "digits", 240)
    _write_textures(folder / "textures")
    write_demo(folder / "concrete", count=120)


def _write_table(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    """A CSV of path and label; a third column is the group, one an image where all stand alone."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"][: len(rows[0])])
        writer.writerows(rows)


def _write_walls(folder: Path, photographs: list[Path]) -> None:
    """The middle of sound photographs; the class is the stretch of wall that they were taken of."""
    for number, path in enumerate(photographs[: _STRETCH * _STRETCHES]):
        target = folder / f"stretch{number // _STRETCH}" / f"{number % _STRETCH:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            left, top = ((side - 2 * _SIDE) // 2 for side in image.size)
            image.crop((left, top, left + 2 * _SIDE, top + 2 * _SIDE)).save(target)


def write_digits(folder: Path, count: int) -> Path:
    """Scikit-learn's digits, 8 x 8 of 16 greys, as pictures in ten folders."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (values, label) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        path = folder / f"digit{label}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.clip(np.rint(values * 255 / 16), 0, 255).astype(np.uint8)
        Image.fromarray(np.repeat(grey[..., None], 3, -1)).save(path)
    return folder


def _write_textures(folder: Path) -> None:
    """Waves of six directions under twice as much noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    for kind in range(_TEXTURES):
        for number in range(_EACH):
            angle = np.pi * (kind + random.uniform(-0.25, 0.25)) / _TEXTURES
            along = np.cos(angle) * columns + np.sin(angle) * rows
            wave = np.sin(2 * np.pi * along / random.uniform(5, 12) + random.uniform(0, 2 * np.pi))
            grey = 128 + 30 * wave + 60 * random.normal(size=wave.shape)
            path = folder / f"direction{kind}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, -1)).save(path)


if __name__ == "__main__":
    write_sets(Path(sys.argv[1]))
