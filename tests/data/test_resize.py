"""Resizing against its definition, and against the way that Keras loads images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.data import load_pixels, resize_pixels
from benchmark.records import Float64, Resize, UInt8

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRICKS = SHARED / "data" / "brick_cracks"


def noise(height: int, width: int, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def bilinear(image: UInt8, size: int) -> Float64:
    """The definition, in float64: half-pixel centres, two taps per axis, edges repeated."""

    def axis(length: int) -> Float64:
        weights = np.zeros((size, length))
        for target in range(size):
            place = (target + 0.5) * length / size - 0.5
            low = int(np.floor(place))
            weights[target, np.clip(low, 0, length - 1)] += 1 - (place - low)
            weights[target, np.clip(low + 1, 0, length - 1)] += place - low
        return weights

    rows = np.einsum("yh,hwc->ywc", axis(image.shape[0]), image)
    return np.einsum("ywc,xw->yxc", rows, axis(image.shape[1]))


def area(image: UInt8, size: int) -> Float64:
    """The definition, in float64: a source pixel counts with the part of it that a target pixel covers."""

    def axis(length: int) -> Float64:
        edges = np.arange(size + 1) * length / size
        covered = np.minimum(edges[1:, None], np.arange(1, length + 1)) - np.maximum(
            edges[:-1, None], np.arange(length)
        )
        return np.clip(covered, 0, None) * size / length

    rows = np.einsum("yh,hwc->ywc", axis(image.shape[0]), image)
    return np.einsum("ywc,xw->yxc", rows, axis(image.shape[1]))


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 70), seed=st.integers(0, 99))
def test_bilinear_is_within_half_a_level_of_its_definition(
    height: int, width: int, size: int, seed: int
) -> None:
    image = noise(height, width, seed)
    before = image.copy()
    resized = resize_pixels(image, size)
    assert resized.dtype == np.uint8
    assert resized.shape == (size, size, 3)
    assert np.abs(resized - bilinear(image, size)).max() <= 0.5 + 1e-3
    assert np.array_equal(image, before)


def test_bilinear_of_a_large_photograph() -> None:
    image = noise(1500, 4100)
    assert np.abs(resize_pixels(image, 64) - bilinear(image, 64)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("height", "width"), [(64, 96), (100, 37), (500, 333)])
def test_area_is_the_mean_of_what_a_pixel_covers(height: int, width: int) -> None:
    image = noise(height, width)
    resized = resize_pixels(image, 32, Resize.AREA)
    assert np.abs(resized - area(image, 32)).max() <= 0.5 + 1e-3


def test_area_keeps_a_thin_line_that_bilinear_misses() -> None:
    image = np.full((640, 640, 3), 200, np.uint8)
    image[:, 323] = 0
    assert resize_pixels(image, 64, Resize.BILINEAR).min() == 200
    assert resize_pixels(image, 64, Resize.AREA).min() == 180


def test_area_enlarges_as_bilinear_does() -> None:
    image = noise(10, 12)
    assert np.array_equal(resize_pixels(image, 40, Resize.AREA), resize_pixels(image, 40))


def test_the_same_size_is_left_alone() -> None:
    image = noise(20, 20)
    assert np.array_equal(resize_pixels(image, 20), image)
    assert np.array_equal(resize_pixels(image, 20, Resize.AREA), image)


def test_agrees_with_image_dataset_from_directory(tmp_path: Path) -> None:
    """PNG within half a grey level, JPEG within 1.5 on average: the decoders differ."""
    keras = pytest.importorskip("keras")
    smooth = np.asarray(Image.fromarray(noise(12, 12)).resize((227, 191), Image.Resampling.BICUBIC))
    for kind in ("png", "jpg"):
        (tmp_path / kind).mkdir()
        Image.fromarray(smooth).save(tmp_path / kind / f"x.{kind}")
    loaded = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(160, 160), batch_size=1, shuffle=False, verbose=False
    )
    jpg, png = (batch[0][0].numpy() for batch in loaded)
    assert np.abs(load_pixels(tmp_path / "png" / "x.png", 160, Resize.BILINEAR) - png).max() <= 0.5 + 1e-3
    assert np.abs(load_pixels(tmp_path / "jpg" / "x.jpg", 160, Resize.BILINEAR) - jpg).mean() <= 1.5


@pytest.mark.skipif(not BRICKS.is_dir(), reason="the photographs are not here")
def test_agrees_with_tensorflow_on_photographs() -> None:
    tf = pytest.importorskip("tensorflow")
    for path in sorted(BRICKS.rglob("*.jpg"))[::60]:
        decoded = tf.io.decode_jpeg(path.read_bytes(), channels=3)
        theirs = tf.image.resize(decoded, (224, 224), antialias=False).numpy()
        assert np.abs(load_pixels(path, 224, Resize.BILINEAR) - theirs).mean() <= 1.5
