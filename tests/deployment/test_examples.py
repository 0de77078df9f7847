"""``example.py`` reads an image as the package does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from benchmark.data import decode, load_pixels
from benchmark.deployment.description import Deployment
from benchmark.deployment.examples import check_example, example_script
from benchmark.deployment.predictor import Predictor
from benchmark.errors import ExportError
from benchmark.records import Resize, Task, UInt8

SIDE = 24


def describe(resize: Resize) -> Deployment:
    return Deployment(
        schema=1,
        target="onnx",
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


def seen_by_the_example(
    photo: Path, resize: Resize, monkeypatch: pytest.MonkeyPatch, bit_depth: int = 16
) -> UInt8:
    """The pixels that the example hands to the runtime: everything before the model is loaded."""
    description = replace(describe(resize), bit_depth=bit_depth)
    (photo.parent / "deployment.json").write_bytes(description.to_json())
    script = example_script(description)
    assert len([line for line in script.splitlines() if line.strip()]) <= 65
    head = script.split("\nimport onnxruntime")[0]
    names: dict[str, object] = {"__file__": str(photo.parent / "example.py")}
    monkeypatch.setattr(sys, "argv", ["example.py", str(photo)])
    exec(head, names)
    pixels = np.asarray(names["read"](str(photo)))  # type: ignore[operator]
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


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_twelve_bits_are_seen_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    photo = tmp_path / f"photo.{suffix}"
    values = np.random.default_rng(0).integers(0, 4096, (3 * SIDE, SIDE), np.uint16)
    Image.fromarray(values).save(photo)
    seen = seen_by_the_example(photo, Resize.BILINEAR, monkeypatch, bit_depth=12)
    np.testing.assert_array_equal(seen, load_pixels(photo, SIDE, bit_depth=12))
    assert seen.max() > 200
    Image.fromarray(values + np.uint16(4000)).save(photo)
    with pytest.raises(SystemExit, match="where 4095 is white"):
        seen_by_the_example(photo, Resize.BILINEAR, monkeypatch, bit_depth=12)


@pytest.mark.parametrize("resize", Resize)
def test_sizes_are_changed_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Resize
) -> None:
    for width, height in ((3 * SIDE, 2 * SIDE), (227, 101), (7, 5), (SIDE, 3 * SIDE + 1), (1, 900)):
        photo = tmp_path / "photo.png"
        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(photo)
        seen = seen_by_the_example(photo, resize, monkeypatch)
        np.testing.assert_array_equal(seen, load_pixels(photo, SIDE, resize))


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "png"])
def test_photos_are_turned_upright_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    photo = tmp_path / f"photo.{suffix}"
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture("RGB").resize((2 * SIDE, 3 * SIDE)).save(photo, exif=exif)
        seen = seen_by_the_example(photo, Resize.AREA, monkeypatch)
        np.testing.assert_array_equal(seen, load_pixels(photo, SIDE, Resize.AREA))


LABELS = {Task.BINARY: ("crack", "plain"), Task.MULTICLASS: ("a", "b", "c"), Task.MULTILABEL: ("a", "b", "c")}
# Stands for a runtime: the model is a function of the pixels.
RUNTIME = """
class InferenceSession:
    def __init__(self, path, providers): pass
    def get_inputs(self): return [self]
    name = "pixels"
    def run(self, outputs, inputs): return [inputs["pixels"].mean((1, 2)) [:, :{outputs}] / 255]
"""


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """Write a photograph and an export with its example, change the example, and check it."""

    def check(task: Task, old: str = "", new: str = "", resize: Resize = Resize.BILINEAR) -> float:
        labels = LABELS[task]
        description = replace(
            describe(resize), task=task, labels=labels, positive="crack" if task is Task.BINARY else None
        )
        (tmp_path / "deployment.json").write_bytes(description.to_json())
        script = example_script(description)
        assert old in script
        (tmp_path / "example.py").write_text(script.replace(old, new))
        runtime = ModuleType("onnxruntime")
        exec(RUNTIME.replace("{outputs}", str(description.outputs)), runtime.__dict__)
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        photo = tmp_path / "a photo,\n of \u2028 two\u202flines.png"
        picture("RGB").resize((50, 40)).save(photo)
        session = runtime.InferenceSession(None, None)
        predictor = Predictor(description, lambda images: session.run(None, {"pixels": images})[0])
        before = list(sys.argv)
        try:
            return check_example(tmp_path, predictor, [photo, photo])
        finally:
            assert sys.argv == before

    return check


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("resize", Resize)
def test_the_check_runs_the_example_as_it_stands(
    checked: Callable[..., float], task: Task, resize: Resize
) -> None:
    assert checked(task, resize=resize) == 0


def test_photographs_of_any_size_are_compared_and_an_app_keeps_its_limit(
    checked: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    assert checked(Task.BINARY) == 0, "2,000 pixels, more than twice the limit"
    assert Image.MAX_IMAGE_PIXELS == 900


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "np.float32(0.5)).astype(np.uint8)",
            "np.float32(0.4)).astype(np.uint8)",
            "difference of up to 1 of 255",
        ),
        ("side = info", "side = 1 + info", r"uint8 \(1, 25, 25, 3\)"),
        (">= info", "< info", "the decision"),
        ("return model.run", "return 0.9 * model.run", "within 0.001"),
    ],
)
def test_the_check_finds_what_an_example_does_otherwise(
    checked: Callable[..., float], old: str, new: str, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        checked(Task.BINARY, old, new)
