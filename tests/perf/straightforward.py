"""The notebook's way, correctly paired: one Keras model per backbone, ``predict`` over a cached dataset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.backbones import load_weights, parse_weights, select
from benchmark.records import Backbone, Float32
from tests.perf.children import run_reported

BATCH = 32


def embedding_model(backbone: Backbone, size: int, cache: Path) -> Any:  # noqa: ANN401 - a keras.Model
    """``keras.Model(inputs, base(preprocess(inputs)))`` with seeded random weights."""
    import keras

    base = backbone.build(size)
    load_weights(backbone, base, parse_weights("random"), cache=cache)
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, base(backbone.preprocess(inputs)))


def embed_folder(argument: dict[str, Any]) -> dict[str, float]:
    """Embed a folder of images with one backbone after the other, as a notebook does.

    Args:
        argument: ``data`` folder, ``backbones`` names, ``size`` in pixels.

    Returns:
        Seconds by backbone, building and the first call included.
    """
    import keras

    size = int(argument["size"])
    dataset = keras.utils.image_dataset_from_directory(
        argument["data"], image_size=(size, size), batch_size=BATCH, shuffle=False, verbose=False
    ).cache()
    return {name: _embed_with(name, dataset, size) for name in argument["backbones"]}


def _embed_with(name: str, dataset: Any, size: int) -> float:  # noqa: ANN401 - a tf.data.Dataset
    import keras

    started = time.perf_counter()
    (backbone,) = select(name)
    base = getattr(keras.applications, backbone.constructor)(
        include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3), **backbone.arguments
    )
    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, base(backbone.preprocess(inputs)))
    features: Float32 = model.predict(dataset, verbose=0)
    assert features.shape[1] == backbone.embedding_dim
    return time.perf_counter() - started


def loop_seconds(
    data: Path, backbones: Sequence[str], size: int, log: Path
) -> tuple[float, dict[str, float]]:
    """Wall time of the straightforward loop in a new process, and seconds by backbone."""
    argument = {"data": str(data), "backbones": list(backbones), "size": size}
    return run_reported(embed_folder, argument, log)
