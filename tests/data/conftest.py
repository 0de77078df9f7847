"""Small images with contents of their own, and folders of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Picture = Callable[[int], bytes]


def picture(number: int) -> bytes:
    """A PNG of 8 x 8 whose content depends on the number."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session", name="picture")
def picture_fixture() -> Picture:
    return picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``data/{a,b}/*.png``: ten images of class a, twenty of class b."""
    root = tmp_path / "data"
    for number in range(30):
        path = root / ("a" if number < 10 else "b") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
