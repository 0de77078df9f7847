"""The demo data set: drawn, seeded, small, and hard enough that backbones differ."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmark.data.concrete import PATCHES, draw_concrete
from benchmark.data.workers import map_in_order
from benchmark.errors import ArgumentError
from benchmark.records import Bool, UInt8
from benchmark.storage import read_json, write_whole

GENERATION: Final = 2
"""Raised whenever the same arguments draw other pictures."""

_MARKER = "demo.json"
_CLASSES = ("Negative", "Positive")
_OWN_NAME = re.compile(r"surface-\d+-\d\.jpg")
_FEWEST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a demo folder holds."""

    count: int
    seed: int
    generation: int = GENERATION


def write_demo(folder: Path, *, count: int = 300, seed: int = 0) -> Path:
    r"""Write a data set of concrete-like surfaces with and without cracks.

    Half of the images are cracked. Four patches come from one surface, whose number stands in their names
    (``surface-012-3.jpg``): ``--groups 'surface-(\d+)'`` keeps them together.

    Args:
        folder: ``folder/{Negative,Positive}/*.jpg`` is written; it must be new, empty, or an earlier demo,
            whose pictures are drawn again unless they are the very ones asked for.
        count: images of 227 x 227.
        seed: the same seed draws the same files.

    Returns:
        The folder.

    Raises:
        ArgumentError: too few images, or a folder with other content.
        StorageError: the folder cannot be written.
    """
    if count < _FEWEST:
        raise ArgumentError("too few images", where="count", expected=f"at least {_FEWEST}", got=count)
    plan = _Plan(count=count, seed=seed)
    cracked = _labels(plan)
    names = [_name(number, bool(label)) for number, label in enumerate(cracked)]
    if _is_written(folder, plan, names):
        return folder
    _make_room(folder, plan)
    surfaces = range(0, count, PATCHES)
    with closing(map_in_order(lambda first: _drawn(plan, cracked, first), surfaces, 0)) as drawn:
        for name, content in (file for files in drawn for file in files):
            write_whole(folder / name, content, root=folder)
    return folder


def _labels(plan: _Plan) -> Bool:
    """Boolean (count,): which patches are cracked; exactly half, most of them on surfaces prone to it."""
    rng = np.random.default_rng([plan.seed, plan.generation])
    surfaces = -(-plan.count // PATCHES)
    prone = np.repeat(rng.beta(0.8, 0.8, surfaces), PATCHES)[: plan.count]
    chance = prone + rng.uniform(0, 0.8, plan.count)
    cracked = np.zeros(plan.count, bool)
    cracked[np.argsort(-chance)[: plan.count // 2]] = True
    return cracked


def _name(number: int, cracked: bool) -> str:
    return f"{_CLASSES[cracked]}/surface-{number // PATCHES:03d}-{number % PATCHES}.jpg"


def _drawn(plan: _Plan, cracked: Bool, first: int) -> list[tuple[str, bytes]]:
    """(name, JPEG) of the patches of one surface."""
    labels = [bool(label) for label in cracked[first : first + PATCHES]]
    seed = (plan.seed, plan.generation, first // PATCHES)
    patches = draw_concrete(seed, labels)
    return [
        (_name(first + number, label), _jpeg(patch, quality=60 + 37 * (first + number) % 36))
        for number, (patch, label) in enumerate(zip(patches, labels, strict=True))
    ]


def _jpeg(patch: UInt8, *, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(patch).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _is_written(folder: Path, plan: _Plan, names: list[str]) -> bool:
    marked = _marked_plan(folder) == asdict(plan)
    return marked and sorted(_own_files(folder)) == sorted(folder / name for name in names)


def _marked_plan(folder: Path) -> object:
    """What the marker of a demo folder says; None where there is no readable marker."""
    try:
        return read_json(folder / _MARKER)
    except (OSError, ValueError):
        return None


def _own_files(folder: Path) -> Iterator[Path]:
    for name in _CLASSES:
        if (folder / name).is_dir():
            yield from (path for path in (folder / name).iterdir() if _OWN_NAME.fullmatch(path.name))


def _make_room(folder: Path, plan: _Plan) -> None:
    """Clear earlier demo pictures away, and nothing else, and mark the folder before the first new one."""
    if folder.exists() and not folder.is_dir():
        raise ArgumentError("not a folder", where=folder, next_step="Choose another name.")
    if folder.is_dir() and any(folder.iterdir()) and _marked_plan(folder) is None:
        raise ArgumentError(
            "a folder that holds something else",
            where=folder,
            expected="a new or empty folder, or an earlier demo",
            next_step="Choose another folder.",
        )
    for path in list(_own_files(folder)):
        path.unlink()
    write_whole(folder / _MARKER, json.dumps(asdict(plan)).encode(), root=folder)
