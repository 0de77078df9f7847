"""Generate the registry description of the installed Keras: ``python -m benchmark.backbones.describe``.

With ``tf_keras`` behind it, that of the installed tf_keras.

The walk finds every constructor of tf.keras.applications; each is then built once to learn what a user
wants to know without building it. Nothing is downloaded: Keras's own download call is observed, not made.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np

from benchmark.backbones.keras_models import (
    LEGACY,
    KerasModel,
    Tensor,
    build_model,
    for_inference,
    import_library,
    preprocess_function,
)
from benchmark.backbones.legacy_models import build_legacy, freeze_legacy
from benchmark.backbones.openvino_graphs import graph_flops as openvino_flops
from benchmark.backbones.registry import (
    DESCRIPTION_SCHEMA,
    description_name,
    shipped_descriptions,
)
from benchmark.errors import ArgumentError
from benchmark.records import FLOPS_SIZE, Float32, Precision, Preprocessing
from benchmark.storage import write_whole

# Non-default arguments with published ImageNet weights (Keras documentation of the three constructors).
_VARIANTS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "MobileNet": tuple((f"{alpha:g}", {"alpha": alpha}) for alpha in (0.25, 0.5, 0.75)),
    "MobileNetV2": tuple((f"{alpha:g}", {"alpha": alpha}) for alpha in (0.35, 0.5, 0.75, 1.3, 1.4)),
    "MobileNetV3Small": (("0.75", {"alpha": 0.75}), ("minimalistic", {"minimalistic": True})),
    "MobileNetV3Large": (("0.75", {"alpha": 0.75}), ("minimalistic", {"minimalistic": True})),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One entry of the walk: what is known before anything is built.

    Attributes:
        name: as on the board.
        family: submodule name.
        module: module that defines the constructor and its ``preprocess_input``.
        constructor: name in ``keras.applications``.
        arguments: non-default constructor arguments.
        preprocessing: found by probing ``preprocess_input``.
    """

    name: str
    family: str
    module: str
    constructor: str
    arguments: Mapping[str, Any]
    preprocessing: Preprocessing


def walk(library: str = "keras") -> tuple[Found, ...]:
    """Every constructor of the installed ``keras.applications`` and its published variants, by name."""
    applications = import_library(library).applications
    found: list[Found] = []
    for name in sorted(dir(applications)):
        constructor = getattr(applications, name)
        if name[:1].isupper() and callable(constructor):
            found += _entries(name, constructor)
    return tuple(found)


def _entries(name: str, constructor: Callable[..., KerasModel]) -> Iterator[Found]:
    module = constructor.__module__
    preprocessing = preprocessing_of(preprocess_function(constructor))
    for suffix, arguments in (("", {}), *_VARIANTS.get(name, ())):
        yield Found(
            name=f"{name}_{suffix}" if suffix else name,
            family=module.rpartition(".")[2],
            module=module,
            constructor=name,
            arguments=arguments,
            preprocessing=preprocessing,
        )


def preprocessing_of(function: Callable[[Tensor], Tensor]) -> Preprocessing:
    """What a ``preprocess_input`` does, found by what it does to black, to primary colours and to others.

    Raises:
        ArgumentError: it is no shift and scale of each channel, in RGB or BGR order.
    """
    answer = np.asarray(function(255 * np.vstack([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)[None]))[0]
    black, moved = answer[0], answer[1:] - answer[0]
    bgr = bool(moved[0, 2])
    scale = 255 / (moved[:, ::-1] if bgr else moved).diagonal()
    mean = -(black[::-1] if bgr else black) * scale
    found = Preprocessing(mean=_rounded(mean), scale=_rounded(scale), bgr=bgr)
    pixels = np.array([[[[0, 64, 255], [10, 128, 200], [255, 1, 30]]]], np.float32)
    expected, answer = found.apply(pixels), np.asarray(function(pixels.copy()))
    if not np.allclose(answer, expected, atol=1e-3):
        raise ArgumentError(
            "an unknown preprocessing",
            where=f"{function.__module__}.preprocess_input",
            expected="a shift and a scale of each channel",
            got=answer.tolist(),
        )
    return found


def _rounded(values: Float32) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 3) for value in values)
    return first, second, third


@dataclass(slots=True)
class _Observed:
    """What a constructor asks of Keras's helpers."""

    # MobileNetV3 has these two written into its constructor instead of asking the helper.
    sizes: dict[str, int] = field(default_factory=lambda: {"default_size": 224, "min_size": 32})
    files: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def _observing(library: str) -> Iterator[_Observed]:
    """Record size limits and weight files that constructors ask for; nothing is downloaded or loaded."""
    keras = import_library(library)
    utilities = sys.modules[f"{library}.src.applications.imagenet_utils"]
    downloads = sys.modules[f"{library}.src.utils.{'data' if library == LEGACY else 'file'}_utils"]
    original = utilities.obtain_input_shape
    observed = _Observed()

    def sizes(*args: object, **kwargs: int) -> object:
        observed.sizes = {"default_size": kwargs["default_size"], "min_size": kwargs["min_size"]}
        return original(*args, **kwargs)

    def file(fname: str, origin: str, file_hash: str | None = None, **others: object) -> str:
        digest = file_hash or str(others.get("md5_hash") or "")
        observed.files.append({"file": fname, "url": origin, "hash": digest})
        return fname

    with (
        mock.patch.object(utilities, "obtain_input_shape", sizes),
        mock.patch.object(downloads, "get_file", file),
        mock.patch.object(keras.Model, "load_weights"),
    ):
        yield observed


def describe(found: Found, library: str = "keras") -> dict[str, Any]:
    """One description entry: everything that ``Backbone`` holds, and where ImageNet weights are."""
    keras = import_library(library)
    with _observing(library) as observed:
        getattr(keras.applications, found.constructor)(
            include_top=False,
            weights="imagenet",
            pooling="avg",
            input_shape=(FLOPS_SIZE, FLOPS_SIZE, 3),
            **found.arguments,
        )
    build = build_legacy if library == LEGACY else build_model
    model = build(FLOPS_SIZE, constructor=found.constructor, arguments=found.arguments)
    entry = {
        "name": found.name,
        "family": found.family,
        "module": found.module,
        "constructor": found.constructor,
        "arguments": dict(found.arguments),
        "preprocessing": str(found.preprocessing),
        **observed.sizes,
        "embedding_dim": int(model.output_shape[-1]),
        "variables": len(model.weights),
        "params": int(model.count_params()),
        "flops": legacy_flops(model) if library == LEGACY else graph_flops(model, FLOPS_SIZE),
        "weights": observed.files[-1],
    }
    keras.backend.clear_session()
    del model
    gc.collect()
    return entry


def graph_flops(model: KerasModel, size: int) -> int:
    """Floating-point operations for one image, counted on the traced graph; a multiply-add is two."""
    import tensorflow as tf

    network = for_inference(model, Precision.FLOAT32)
    traced = tf.function(network, autograph=False).get_concrete_function(
        tf.TensorSpec((1, size, size, 3), tf.float32), training=False
    )
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    counted = tf.compat.v1.profiler.profile(traced.graph, options=options)
    return int(counted.total_float_ops)


def legacy_flops(model: KerasModel) -> int:
    """The same of tf_keras, counted on OpenVINO's graph: TensorFlow does not look into what XLA compiles."""
    import openvino

    with TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.pb"
        graph.write_bytes(freeze_legacy(lambda pixels: pixels, model, Precision.FLOAT32).SerializeToString())
        network = openvino.Core().read_model(graph)
    network.reshape([1, FLOPS_SIZE, FLOPS_SIZE, 3])
    return openvino_flops(network)


def generate(folder: Path, library: str = "keras") -> Path:
    """Write the description of the installed Keras into a folder; minutes, because every network is built.

    Returns:
        the file written.
    """
    entries = [describe(found, library) for found in walk(library)]
    version = metadata.version(library)
    content = {"schema": DESCRIPTION_SCHEMA, library: version, "backbones": entries}
    target = folder / description_name(version, library)
    write_whole(target, (json.dumps(content, indent=1) + "\n").encode(), root=folder)
    return target


if __name__ == "__main__":
    wanted = [word for word in sys.argv[1:] if word != LEGACY]
    generate(
        Path(wanted[0]) if wanted else shipped_descriptions(), LEGACY if LEGACY in sys.argv[1:] else "keras"
    )
