"""Embedding with our engine against Keras ``predict``: the same decoded images, the same weights, warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import parse_weights, select
from benchmark.data import load_pixels
from benchmark.engines import EngineRequest, FrozenBackbone, open_engine, plan_engine
from benchmark.machine import cores
from benchmark.records import Engine, Float32, Precision, Resize, UInt8
from tests.perf.children import call_child
from tests.perf.figures import Figure, Target, Unit, alternate, mean_of_figures
from tests.perf.setting import Setting
from tests.perf.straightforward import BATCH, embedding_model

SIZE = 224
# So many images that Keras is busy for some seconds.
IMAGES = {
    "MobileNetV3Small": 512,
    "MobileNetV2": 256,
    "EfficientNetB0": 256,
    "EfficientNetV2S": 64,
    "DenseNet121": 64,
    "ResNet50": 64,
    "NASNetMobile": 256,
    "ConvNeXtTiny": 32,
}
_QUICK = ("MobileNetV3Small", "MobileNetV2", "EfficientNetB0")
_EACH, _MEAN = Target(at_least=1.8), Target(at_least=4.0)
_MANY_IMAGES = 100_000
_KERAS = "Keras predict"


def measure(setting: Setting) -> Iterator[Figure]:
    """One figure per backbone, then their geometric mean."""
    names = setting.pick(tuple(IMAGES), _QUICK, _QUICK[:1])
    data = setting.images(setting.pick(256, 128, 32))
    figures = []
    for name in names:
        argument = {
            "backbone": name,
            "data": str(data),
            "images": setting.pick(IMAGES[name], 128, BATCH),
            "pairs": setting.rounds(3, 2),
            "cache": str(setting.folder / "embedding-cache"),
        }
        found = call_child(compare, argument, setting.log)
        figures.append(
            Figure.of_pairs(
                (f"embed, {name}", _KERAS), Unit.IMAGES_PER_SECOND, found["pairs"], _EACH, found["note"]
            )
        )
        yield figures[-1]
    target = _MEAN if len(figures) == len(IMAGES) else None
    if len(figures) < 2:
        return
    yield mean_of_figures((f"embed, {len(figures)} backbones", _KERAS), figures, target)


def compare(argument: dict[str, Any]) -> dict[str, Any]:
    """Time one backbone both ways, in pairs.

    Args:
        argument: ``backbone``, ``data`` folder, ``images`` (a multiple of 32), ``pairs``, ``cache`` folder.

    Returns:
        ``pairs`` of images per second, and a ``note``: engine, arithmetic, agreement with Keras.
    """
    cache = Path(argument["cache"])
    pixels = load_batch(Path(argument["data"]), int(argument["images"]))
    theirs, reference = _keras_way(argument["backbone"], pixels, cache)
    with closing(open_best(argument["backbone"], pixels[:BATCH], cache)) as frozen:
        features = embed_all(frozen, pixels)
        pairs = alternate(
            lambda: images_per_second(pixels, lambda: embed_all(frozen, pixels)),
            lambda: images_per_second(pixels, theirs),
            int(argument["pairs"]),
        )
        note = f"{frozen.engine.value} {frozen.precision.value}, {len(pixels)} images, cosine "
        return {"pairs": pairs, "note": note + f"{lowest_cosine(features, reference):.5f}"}


def load_batch(data: Path, count: int) -> UInt8:
    """uint8 (count, 224, 224, 3): images of a folder, over again where too few.

    They are shuffled: neighbours are patches of one surface, and so alike that an engine could not be told
    from another on a batch of them.
    """
    everything = sorted(data.rglob("*.jpg"))
    paths = [everything[row] for row in np.random.default_rng(0).permutation(len(everything))[:count]]
    images = np.stack([load_pixels(path, SIZE, Resize.BILINEAR) for path in paths])
    return np.ascontiguousarray(images[np.arange(count) % len(images)])


def open_best(name: str, sample: UInt8, cache: Path) -> FrozenBackbone:
    """A backbone in the engine that the planner picks for a large job, on all cores."""
    (backbone,) = select(name)

    def request(engine: Engine | None, precision: Precision | None) -> EngineRequest:
        return EngineRequest(
            backbone=backbone,
            weights=parse_weights("random"),
            input_size=SIZE,
            engine=engine,
            precision=precision,
            threads=cores(),
            cache=cache,
        )

    engine, precision = plan_engine(request(None, None), _MANY_IMAGES)
    return open_engine(request(engine, precision), sample=sample)


def embed_all(frozen: FrozenBackbone, pixels: UInt8) -> Float32:
    """float32 (N, D): every image once, the last batch filled up."""
    size = frozen.batch_size
    batches = (pixels[start : start + size] for start in range(0, len(pixels), size))
    padded = (np.resize(each, (size, *each.shape[1:])) if len(each) < size else each for each in batches)
    return np.concatenate(list(frozen.embed(padded)))[: len(pixels)]


def images_per_second(pixels: UInt8, embed: Callable[[], Float32]) -> float:
    """Throughput of one call over all images."""
    started = time.perf_counter()
    embed()
    return len(pixels) / (time.perf_counter() - started)


def lowest_cosine(ours: Float32, theirs: Float32) -> float:
    """Of embeddings centred on their means (random networks give all images nearly one embedding)."""
    first, second = (
        matrix.astype(np.float64) - matrix.mean(0, dtype=np.float64) for matrix in (ours, theirs)
    )
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / lengths).min())


def _keras_way(name: str, pixels: UInt8, cache: Path) -> tuple[Callable[[], Float32], Float32]:
    """``predict`` over a cached dataset of decoded images, and what its first call returned."""
    import tensorflow as tf

    (backbone,) = select(name)
    model = embedding_model(backbone, SIZE, cache)
    dataset = tf.data.Dataset.from_tensor_slices(pixels.astype(np.float32)).batch(BATCH).cache()

    def predict() -> Float32:
        features: Float32 = model.predict(dataset, verbose=0)
        return features

    return predict, predict()
