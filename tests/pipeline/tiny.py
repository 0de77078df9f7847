"""A backbone of two layers and a folder of drawn images: everything real, nothing large."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from benchmark.execution import thread_environment
from benchmark.execution.apart import run_apart
from benchmark.pipeline import FinetuneJob, finetune_backbones
from benchmark.pipeline.finetuning import FinetuneResult
from benchmark.records import Backbone, Preprocessing, UInt8

SIZE = 24


def build_tiny(filters: int, input_size: int) -> Any:  # noqa: ANN401 - a Keras model
    """A convolution, pooled: (S, S, 3) -> (filters,)."""
    import keras

    return keras.Sequential(
        [
            keras.Input((input_size, input_size, 3)),
            keras.layers.Conv2D(filters, 3, strides=2, activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
        ]
    )


def scale(values: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    """The preprocessing of the tiny backbone."""
    return values / 127.5 - 1.0


def poison(values: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    """A preprocessing that makes every vector NaN."""
    return values * float("nan")


def explode(filters: int, input_size: int) -> Any:  # noqa: ANN401 - never returns
    """A build that fails."""
    raise RuntimeError("no such architecture")


def tune(job: FinetuneJob, _: int) -> dict[str, Any]:
    return {"result": finetune_backbones(job)}


def tune_afresh(job: FinetuneJob) -> FinetuneResult:
    """Fine-tune in a process that has just begun: another may have started TensorFlow with fewer threads."""
    told = run_apart(tune, job, 1, environment=thread_environment())
    return cast(FinetuneResult, told["result"])


def tiny_backbone(
    name: str = "Tiny",
    filters: int = 8,
    *,
    build: Callable[[int, int], Any] = build_tiny,
    preprocess: Callable[[Any], Any] = scale,
) -> Backbone:
    """A Backbone record around ``build_tiny``."""
    return Backbone(
        name=name,
        architecture=name,
        family="tiny",
        source="keras",
        module=__name__,
        constructor=name,
        arguments={"filters": filters},
        preprocessing=Preprocessing.parse("tf"),
        default_size=SIZE,
        min_size=8,
        embedding_dim=filters,
        params=28 * filters,
        flops=2 * 27 * filters * 112 * 112,
        build=partial(build, filters),
        preprocess=preprocess,
    )


def drawing(random: np.random.Generator, *, cracked: bool) -> UInt8:
    """uint8 (SIZE, SIZE, 3): grey noise, with a dark diagonal where cracked."""
    image = random.normal(150, 25, (SIZE, SIZE, 3))
    if cracked:
        for row in range(SIZE):
            column = (row + int(random.integers(0, 4))) % SIZE
            image[row, max(0, column - 1) : column + 2] -= 110
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_photos(folder: Path, count: int = 30, seed: int = 0) -> Path:
    """Write ``count`` images of each class to ``folder/{cracked,sound}``."""
    random = np.random.default_rng(seed)
    for label in ("cracked", "sound"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.fromarray(drawing(random, cracked=label == "cracked"))
            image.save(folder / label / f"{seed}-{number:03}.png")
    return folder
