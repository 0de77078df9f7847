"""``example.py``: a page of code beside each export that shows how to use it without this package.

It has to see the very pixels that ``predict`` sees, and so reads and resizes images with the same arithmetic
in the same order. The parity check runs it: ``check_example``.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data import NO_LIMIT
from benchmark.deployment.description import Deployment
from benchmark.deployment.prediction import predictions_of
from benchmark.deployment.predictor import Predictor
from benchmark.deployment.targets import find_target
from benchmark.errors import ExportError
from benchmark.records import Resize, Task

EXAMPLE = "example.py"
MOST_DIFFERENCE = 1e-3
"""Of a probability, where the example lets its runtime choose the threads and this package does."""

_HEAD = '''\
"""Label images: python example.py PHOTO.jpg ...  (needs: pip install {runtime} pillow numpy)."""
import json
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

try:  # HEIC photos, where the package is there
    import pillow_heif

    pillow_heif.register_heif_opener()
except ImportError:
    pass
here = pathlib.Path(__file__).parent
info = json.loads((here / "deployment.json").read_text(encoding="utf-8"))
side = info["input_size"]


def read(path):
    """The pixels as in training: uint8 (1, side, side, 3), RGB."""
    photo = Image.open(path)
    photo.load()
    photo = ImageOps.exif_transpose(photo)
    if photo.mode in ("I", "F"):
        sys.exit(f"{{path}}: pixel values have no fixed range")
    if photo.mode.startswith("I;16"):  # 16-bit grey to 8 bits
        packed = getattr(photo, "tag_v2", {{}}).get(258) == (12,)
        white = 2 ** (12 if packed else info["bit_depth"]) - 1
        greys = np.asarray(photo).astype(int)
        if greys.max() > white:
            sys.exit(f"{{path}}: greys of up to {{greys.max()}}, where {{white}} is white")
        photo = Image.fromarray(((greys * 255 + white // 2) // white).astype(np.uint8))
    if photo.has_transparency_data or photo.mode in ("La", "RGBa"):  # what is transparent shows a white page
        layer = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    photo = np.asarray(photo.convert("RGB"))
    rows = sum(photo[at] * part[:, None, None] for at, part in zip(*sources(photo.shape[0])))
    pixels = sum(rows[:, at] * part[:, None] for at, part in zip(*sources(photo.shape[1])))
    return (pixels + np.float32(0.5)).astype(np.uint8)[None]


def sources(length):
    """Which pixels of a side of the photo make each pixel of the input, and by what part."""
{area}    place = (np.arange(side, dtype="f4") + np.float32(0.5)) * (np.float32(length) / np.float32(side))
    low = np.floor(place - np.float32(0.5))
    upper = place - np.float32(0.5) - low
    return np.clip([low, low + 1], 0, length - 1).astype(int), [1 - upper, upper]
'''

_AREA = """\
    if length > side:
        edges = np.arange(side + 1) * (length / side)
        at = np.floor(edges[:-1]).astype(int) + np.arange(int(np.ceil(length / side)) + 1)[:, None]
        covered = np.minimum(edges[1:], at + 1) - np.maximum(edges[:-1], at)
        return np.minimum(at, length - 1), (np.clip(covered, 0, None) * (side / length)).astype("f4")
"""

_DECISIONS = {
    Task.BINARY: """\
    other = next(label for label in info["labels"] if label != info["positive"])
    label = info["positive"] if probabilities[0] >= info["threshold"] else other
    sure = probabilities[0] if label == info["positive"] else 1 - probabilities[0]
""",
    Task.MULTICLASS: """\
    label, sure = info["labels"][int(probabilities.argmax())], probabilities.max()
""",
    Task.MULTILABEL: """\
    label = ";".join(name for name, p in zip(info["labels"], probabilities) if p >= info["threshold"])
    sure = min(p if p >= info["threshold"] else 1 - p for p in probabilities)
""",
}

_TAIL = """\

for path in sys.argv[1:]:
    probabilities = np.asarray(run(read(path)), "f8")
{decision}    label += "" if sure >= info["sure_from"] else " (unsure)"
    print(path, label, *(float(p) for p in probabilities))
"""


def example_script(description: Deployment) -> str:
    """The text of ``example.py`` for an export."""
    target = find_target(description.target)
    area = _AREA if description.resize is Resize.AREA else ""
    head = _HEAD.format(runtime=target.runtime, area=area)
    tail = _TAIL.format(decision=_DECISIONS[description.task])
    return "\n".join([head, target.example, tail])


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Let Pillow open photographs of any size: training accepted these. In an app its limit protects."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@_any_size()
def check_example(folder: Path, predictor: Predictor, photos: Sequence[Path]) -> float:
    """Run ``example.py`` as it stands on photographs and compare it with the predictor.

    Args:
        folder: of the export.
        predictor: the same export, opened by this package.
        photos: files that can be read.

    Returns:
        The largest difference of a probability.

    Raises:
        ExportError: it sees other pixels, decides otherwise than its own probabilities say, or differs more
            than ``MOST_DIFFERENCE``.
    """
    description, printed = predictor.description, io.StringIO()
    with _arguments(folder / EXAMPLE, photos), contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(folder / EXAMPLE), run_name="__main__")
    largest, rest = 0.0, printed.getvalue()
    for photo in photos:
        seen = np.asarray(names["read"](str(photo)))
        wanted = description.pixels_of(photo, max_pixels=NO_LIMIT)[None]
        if seen.dtype != wanted.dtype or not np.array_equal(seen, wanted):
            raise _differs(photo, "the pixels that predict sees", _pixel_difference(seen, wanted))
        answer = np.asarray(names["run"](seen), np.float32)[None]
        difference = float(np.abs(answer - predictor.predict(wanted)).max())
        if not difference <= MOST_DIFFERENCE:
            raise _differs(photo, f"probabilities within {MOST_DIFFERENCE:g} of predict's", f"{difference:g}")
        (decided,) = predictions_of(answer, description)
        said = f"{decided.label} ({decided.doubt})" if decided.doubt else decided.label
        begins = f"{photo} {said} "  # a photograph's name may hold line breaks itself
        if not rest.startswith(begins):
            raise _differs(photo, f"the decision {said!r}", rest.partition("\n")[0])
        rest = rest.removeprefix(begins).partition("\n")[2]
        largest = max(largest, difference)
    return largest


@contextlib.contextmanager
def _arguments(script: Path, photos: Sequence[Path]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [str(script), *map(str, photos)]
    try:
        yield
    finally:
        sys.argv = before


def _pixel_difference(seen: np.ndarray, wanted: np.ndarray) -> str:
    if seen.shape != wanted.shape or seen.dtype != wanted.dtype:
        return f"{seen.dtype} {seen.shape}"
    return f"a difference of up to {np.abs(seen.astype(int) - wanted).max()} of 255"


def _differs(photo: Path, expected: str, got: str) -> ExportError:
    return ExportError("example.py does not do what predict does", where=photo, expected=expected, got=got)
