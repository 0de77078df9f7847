"""What a file says without its picture: bytes, sides, JPEG quality. Telling classes by it is a shortcut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmark.data.decode import open_header
from benchmark.data.files import read_regular
from benchmark.errors import DataError
from benchmark.records import Float32, ImageSet, Int64

FACTS = ("bytes", "width", "height", "aspect", "jpeg_quantisation")


def file_facts(images: ImageSet, rows: Int64, names: Sequence[str] = FACTS) -> Float32:
    """Facts of some files, logarithms where they are sizes.

    Args:
        images: the data set.
        rows: int64 (n,) which of its rows.
        names: which of ``FACTS``.

    Returns:
        float32 (n, K), in the order of the names; nan for files that cannot be read any more.
    """
    found = np.full((len(rows), len(FACTS)), np.nan, np.float32)
    for place, row in enumerate(rows.tolist()):
        try:
            content = read_regular(images.root / images.paths[row])
            found[place] = _facts(content, open_header(content))
        except DataError:
            continue
    return found[:, [FACTS.index(name) for name in names]]


def _facts(content: bytes, image: Image.Image) -> list[float]:
    width, height = image.size
    tables = getattr(image, "quantization", None) or {}
    steps = [step for table in tables.values() for step in table]
    return [
        math.log(len(content)),
        math.log(width),
        math.log(height),
        math.log(width / height),
        # A coarser table is a lower quality; files that are no JPEG have none.
        math.log(1 + sum(steps) / len(steps)) if steps else 0.0,
    ]
