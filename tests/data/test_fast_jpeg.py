"""The faster JPEG decoder: Pillow's bits or nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.data import decode
from benchmark.data.fast_jpeg import fast_decoder, fast_pixels

BRICKS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "brick_cracks"
pytestmark = pytest.mark.skipif(
    fast_decoder() is None, reason="no faster decoder is installed, or it differs"
)


def jpeg(seed: int, size: tuple[int, int], **options: object) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8)).resize(size)
    noisy = np.clip(np.asarray(coarse) + rng.normal(0, 12, (size[1], size[0], 3)), 0, 255)
    file = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    restart=st.integers(0, 3),
)
def test_it_gives_pillows_bits(
    seed: int, width: int, height: int, quality: int, subsampling: int, progressive: bool, restart: int
) -> None:
    content = jpeg(
        seed,
        (width, height),
        quality=quality,
        subsampling=subsampling,
        progressive=progressive,
        restart_marker_blocks=restart,
    )
    pixels = fast_pixels(content)
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(content))))


@settings(max_examples=80, deadline=None)
@given(cut=st.floats(0.05, 0.98))
def test_what_is_cut_off_is_left_to_pillow(cut: float) -> None:
    content = jpeg(1, (64, 48), quality=90)
    assert fast_pixels(content[: int(cut * len(content))]) is None


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_damage_is_judged_by_pillow(edits: list[tuple[float, int]]) -> None:
    damaged = bytearray(jpeg(2, (40, 30), quality=80))
    for place, value in edits:
        damaged[int(place * len(damaged))] = value
    pixels = fast_pixels(bytes(damaged))
    if pixels is not None and damaged[:3] == b"\xff\xd8\xff":
        image = Image.open(io.BytesIO(damaged))
        if image.format == "JPEG" and image.mode == "RGB":
            assert np.array_equal(pixels, np.asarray(image))


def test_grey_and_cmyk_do_not_come_this_way() -> None:
    for mode in ("L", "CMYK"):
        file = io.BytesIO()
        Image.new(mode, (9, 9), 80 if mode == "L" else (0, 255, 255, 0)).save(file, "JPEG")
        expected = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
        assert np.array_equal(decode(file.getvalue()), expected)


@pytest.mark.skipif(not BRICKS.is_dir(), reason="the photographs are not here")
def test_it_gives_pillows_bits_on_photographs() -> None:
    for path in sorted(BRICKS.rglob("*.jpg"))[::5]:
        content = path.read_bytes()
        pixels = fast_pixels(content)
        assert pixels is not None
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(content))))
