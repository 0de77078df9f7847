"""``example.py`` reads an image as the package does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import decode, load_pixels
from benchmark.deployment.description import Deployment
from benchmark.deployment.examples import example_script
from benchmark.deployment.targets import Target
from benchmark.records import Resize, Task, UInt8

SIDE = 24


def describe(resize: Resize) -> Deployment:
    return Deployment(
        schema=1,
        target=Target.ONNX,
        model="model.onnx",
        backbone="Tiny",
        task=Task.BINARY,
        labels=("crack", "plain"),
        positive="crack",
        threshold=0.5,
        input_size=SIDE,
        input_shape=(0, SIDE, SIDE, 3),
        input_dtype="uint8",
        input_range=(0.0, 255.0),
        channels="RGB",
        resize=resize,
        output_dtype="float32",
        notes=(),
        files={"model.onnx": "0" * 64},
    )


def picture(mode: str) -> Image.Image:
    noise = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(noise.integers(0, 65536, (SIDE, SIDE), np.uint16))
    if mode == "P":
        drawn = picture("RGBA").quantize(16)
        drawn.info["transparency"] = 0
        return drawn
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    return Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, *channels), np.uint8), mode)


def seen_by_the_example(photo: Path, resize: Resize, monkeypatch: pytest.MonkeyPatch) -> UInt8:
    """The pixels that the example hands to the runtime: everything before the model is loaded."""
    description = describe(resize)
    (photo.parent / "deployment.json").write_bytes(description.to_json())
    head = example_script(description).split("\nimport onnxruntime")[0]
    names = {"__file__": str(photo.parent / "example.py")}
    monkeypatch.setattr(sys, "argv", ["example.py", str(photo)])
    exec(head, names)
    pixels = np.asarray(names["pixels"])
    assert pixels.dtype == np.uint8
    return pixels[0]


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("I;16", "png"),
        ("I;16", "tiff"),
        ("L", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("RGB", "png"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
    ],
)
def test_every_kind_of_image_is_seen_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, suffix: str
) -> None:
    photo = tmp_path / f"photo.{suffix}"
    picture(mode).save(photo)
    seen = seen_by_the_example(photo, Resize.BILINEAR, monkeypatch)
    np.testing.assert_array_equal(seen, decode(photo.read_bytes()))
    assert np.ptp(seen) > 50, "neither white nor black throughout"


@pytest.mark.parametrize("resize", Resize)
def test_sizes_are_changed_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Resize
) -> None:
    photo = tmp_path / "photo.png"
    picture("RGB").resize((3 * SIDE, 2 * SIDE)).save(photo)
    seen = seen_by_the_example(photo, resize, monkeypatch)
    wanted = load_pixels(photo, SIDE, resize)
    assert np.abs(seen.astype(int) - wanted).max() <= 1
