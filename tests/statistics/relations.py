"""Photographs with copies of known origin under meaningless names, and what the audit relates."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from photographs import BACKBONES, WEIGHTS
from PIL import Image, ImageEnhance

import benchmark
from benchmark.audit import look_links
from benchmark.options import RankOptions
from benchmark.pipeline import RankRequest, audit_data, embed
from benchmark.pipeline.auditing import Audited
from benchmark.records import Float32, Float64, Int64

EYES = "MobileNet_0.25"
ORIGINS = 35
# Walls of the brick photographs as the eye sees them: last file number of each, per folder.
WALLS = {
    "Positive": [8, 78, 120, 126, 155, 168, 214, 250],
    "Negative": [7, 73, 112, 136, 157, 174, 214, 250],
}
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _crop(share: float) -> Change:
    def crop(picture: Image.Image, random: np.random.Generator) -> Image.Image:
        width, height = round(picture.width * share), round(picture.height * share)
        left = int(random.integers(picture.width - width + 1))
        top = int(random.integers(picture.height - height + 1))
        return picture.crop((left, top, left + width, top + height))

    return crop


def _scaled(across: float, down: float) -> Change:
    return lambda picture, _: picture.resize((round(picture.width * across), round(picture.height * down)))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


KINDS: dict[str, Change] = {
    "JPEG 40": lambda picture, _: Image.open(io.BytesIO(_jpeg(picture, 40))),
    "half size": _scaled(0.5, 0.5),
    "double size": _scaled(2, 2),
    "aspect 1.25": _scaled(1.25, 1),
    "contrast 1.5": lambda picture, _: ImageEnhance.Contrast(picture).enhance(1.5),
    "grey": lambda picture, _: picture.convert("L").convert("RGB"),
    "brightness 0.6": lambda picture, _: ImageEnhance.Brightness(picture).enhance(0.6),
    "brightness 1.3": lambda picture, _: ImageEnhance.Brightness(picture).enhance(1.3),
    "left-right": lambda picture, _: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda picture, _: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "90 degrees": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_90),
    "180 degrees": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_180),
    "270 degrees": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_270),
    "5 degrees": lambda picture, _: picture.rotate(5, Image.Resampling.BICUBIC),
    "crop 90 %": _crop(0.9),
    "crop 80 %": _crop(0.8),
    "crop 60 %": _crop(0.6),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """What the audit related.

    Attributes:
        linked: share of the copies of a kind in the group of their original, by kind.
        false: share of images in a group with an image of another place.
        images: how many there were.
        note: what the audit says.
    """

    linked: dict[str, float]
    false: float
    images: int
    note: str


def wall(path: Path) -> str:
    """The wall of a brick photograph."""
    return str(np.searchsorted(WALLS[path.parent.name], int(path.stem)))


def relate(
    folder: Path, photographs: Sequence[Path], places: Sequence[str], *, origins: int, seed: int
) -> Related:
    """Write photographs and copies of some under random names, and have them audited.

    Args:
        folder: to write to.
        photographs: all originals.
        places: of each photograph; those of one place are rightly related.
        origins: how many of them are copied in every way.
        seed: of origins, crops, names and labels.
    """
    random = np.random.default_rng(seed)
    copied = set(random.permutation(len(photographs))[:origins].tolist())
    facts: dict[str, tuple[int, str]] = {}
    seen: set[bytes] = set()
    for label in ("a", "b"):
        (folder / "data" / label).mkdir(parents=True)
    for number, path in enumerate(photographs):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((640, 640))
        # Photographs that come twice would get two labels, and be left out.
        if (plain := _jpeg(picture, 92)) in seen:
            continue
        seen.add(plain)
        kinds = ["", *(KINDS if number in copied else ())]
        label = "ab"[int(random.integers(2))]
        for kind in kinds:
            changed = KINDS[kind](picture, random) if kind else picture
            name = f"{label}/{random.bytes(8).hex()}.jpg"
            (folder / "data" / name).write_bytes(_jpeg(changed, 92))
            facts[name] = number, kind
    audited = audit(folder / "data", folder / "cache", folder / "results")
    images = audited.images
    groups: Int64 = np.arange(len(images)) if images.groups is None else images.groups
    group = dict(zip(images.paths, groups.tolist(), strict=True))
    group |= {copy: group[kept] for kept, copy in images.duplicates}  # a grey photograph's grey copy
    original = {number: group[name] for name, (number, kind) in facts.items() if not kind}
    linked = {
        kind: float(
            np.mean([group[name] == original[one] for name, (one, of) in facts.items() if of == kind])
        )
        for kind in (KINDS if copied else ())
    }
    held: dict[int, set[str]] = {}
    for name, (number, _) in facts.items():
        held.setdefault(group[name], set()).add(places[number])
    false = float(np.mean([len(held[group[name]]) > 1 for name in facts]))
    return Related(linked=linked, false=false, images=len(facts), note=" ".join(audited.notes))


def audit(data: Path, cache: Path, results: Path) -> Audited:
    """Audit some images through the cheapest of the real backbones."""
    asked = {"data": data, "backbones": EYES, "weights": str(WEIGHTS), "cache": cache, "results": results}
    request = RankRequest.of(RankOptions.check(asked))
    embed(request)
    return audit_data(request)[0]


def scores(data: Path, cache: Path, groups: str) -> Float64:
    """F1 on the board of the four real backbones, float64 (4,), by their names in order."""
    with TemporaryDirectory() as results:
        board = benchmark.rank(
            data, backbones=BACKBONES, weights=WEIGHTS, cache=cache, groups=groups, results=results
        )
    return board.frame.set_index("backbone")["val_f1"].sort_index().to_numpy(np.float64)


def embedded(folder: Path, cache: Path) -> Float32:
    """What the cheapest of the real backbones makes of all JPEG photographs of a folder."""
    with TemporaryDirectory() as work:
        for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
            place = Path(work) / "ab"[number % 2] / f"{number}.jpg"
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)
        return benchmark.embed(work, EYES, weights=WEIGHTS, cache=cache).features


def linked(features: Float32) -> float:
    """The share of some photographs that look like a picture of what another one shows."""
    return len(np.unique(look_links(features))) / len(features)


def scramble(source: Path, folder: Path, seed: int) -> None:
    """Copy class folders of photographs under names that mean nothing."""
    random = np.random.default_rng(seed)
    for path in sorted(source.rglob("*.jpg")):
        place = folder / path.parent.name / f"{random.bytes(8).hex()}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
