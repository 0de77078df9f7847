"""A small fine-tuned model on generated patches of cracked and plain plaster, and its exports."""

# ruff: noqa: ANN401 - Keras carries no types

from __future__ import annotations

import csv
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmark.deployment import export_model
from benchmark.deployment.export import ExportResult
from benchmark.finetuning.manifest import write_manifest
from benchmark.options import ExportOptions
from benchmark.records import Float32, Manifest, UInt8
from benchmark.storage import sha256_bytes, sha256_file
from tests.manifests import a_manifest

sys.path.append(str(Path(__file__).resolve().parent))

SIDE = 32
PATCHES = 560
CLASSES = ("crack", "plain")


def plaster(generator: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """A plain wall: smooth shading and grain, float64 (H, W) in 0..255."""
    coarse = generator.normal(0, 12, (height // 8 + 2, width // 8 + 2))
    shading = np.asarray(
        Image.fromarray(coarse.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    )
    return 165 + shading + generator.normal(0, 6, (height, width))


def draw_crack(
    wall: npt.NDArray[np.float64], centre: tuple[float, float], angle: float, length: float
) -> None:
    """A dark line about two pixels wide, in place."""
    rows, columns = np.mgrid[: wall.shape[0], : wall.shape[1]]
    down, right = rows - centre[0], columns - centre[1]
    along = down * np.sin(angle) + right * np.cos(angle)
    across = np.abs(-down * np.cos(angle) + right * np.sin(angle))
    wall -= 70 * np.clip(1.7 - across, 0, 1) * (np.abs(along) <= length / 2)


def as_photo(wall: npt.NDArray[np.float64]) -> UInt8:
    return np.clip(wall, 0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def patch(generator: np.random.Generator, *, cracked: bool) -> UInt8:
    """One training patch; cracks lie wholly inside, anywhere."""
    wall = plaster(generator, SIDE, SIDE)
    if cracked:
        centre = generator.uniform(10, SIDE - 10, 2)
        draw_crack(wall, (centre[0], centre[1]), generator.uniform(0, np.pi), 16)
    return as_photo(wall)


def network() -> Any:
    """Preprocessing, a nested backbone with hard-swish and squeeze-and-excite, and a head."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    inner = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False)(inner)
    x = layers.Activation("hard_silu")(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization(momentum=0.8)(x))
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(12, 1, activation="hard_sigmoid")(
        layers.Conv2D(6, 1, activation="relu")(squeezed)
    )
    x = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(layers.Multiply()([x, squeezed]))
    backbone = keras.Model(inner, x, name="backbone")
    images = keras.Input((SIDE, SIDE, 3))
    features = layers.GlobalMaxPooling2D()(backbone(layers.Rescaling(1 / 127.5, offset=-1.0)(images)))
    head = layers.Dense(1)(layers.Dropout(0.1)(features))
    return keras.Model(images, layers.Activation("sigmoid")(head))


def save_keras(model: Any, path: Path) -> None:
    with warnings.catch_warnings():
        # Keras 3.15 reads TensorFlow's variables with np.array, which NumPy 2 tells TensorFlow about.
        warnings.filterwarnings(
            "ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning
        )
        model.save(path)


@dataclass(frozen=True)
class Trained:
    model: Any
    model_dir: Path
    manifest: Manifest
    data: Path
    pixels: UInt8
    targets: Float32
    parts: npt.NDArray[np.str_]


def _write_data(root: Path, pixels: UInt8, cracked: npt.NDArray[np.bool_]) -> list[tuple[str, str, str]]:
    rows = []
    for number, (image, positive) in enumerate(zip(pixels, cracked, strict=True)):
        label = CLASSES[0] if positive else CLASSES[1]
        path = root / label / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        rows.append((path.relative_to(root).as_posix(), sha256_bytes(path.read_bytes()), label))
    return rows


def manifest_of(model_dir: Path, data: Path) -> Manifest:
    names = [name for name in ("model.keras", "split.csv") if (model_dir / name).exists()]
    files = {name: sha256_file(model_dir / name) for name in names}
    return a_manifest(classes=CLASSES, input_size=SIDE, data=str(data), files=files, sure_from=0.97)


@pytest.fixture(scope="session")
def tools() -> ModuleType:
    """The generators above, for tests that draw their own walls."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import keras

    generator = np.random.default_rng(11)
    cracked = np.arange(PATCHES) % 2 == 0
    pixels = np.stack([patch(generator, cracked=bool(positive)) for positive in cracked])
    parts = np.where(np.arange(PATCHES) < 460, "train", "val")
    targets = cracked.astype(np.float32)[:, None]
    model = network()
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy")
    train = parts == "train"
    model.fit(pixels[train].astype(np.float32), targets[train], epochs=6, batch_size=32, verbose=0)
    root = tmp_path_factory.mktemp("deployment")
    model_dir, data = root / "model", root / "data"
    model_dir.mkdir()
    rows = _write_data(data, pixels, cracked)
    with (model_dir / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "image_id", "label", "part"])
        writer.writerows([*row, str(part)] for row, part in zip(rows, parts, strict=True))
    save_keras(model, model_dir / "model.keras")
    manifest = manifest_of(model_dir, data)
    write_manifest(model_dir, manifest)
    return Trained(model, model_dir, manifest, data, pixels, targets, parts)


@pytest.fixture(scope="session")
def exported(trained: Trained) -> dict[str, ExportResult]:
    results = export_model(trained.model_dir, ExportOptions(to="all"))
    return {result.target: result for result in results}
