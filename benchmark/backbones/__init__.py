"""Backbones: the registry, their weights, and the engines that execute them.

Importing this room imports neither TensorFlow nor OpenVINO; building, loading and opening do.
"""

from __future__ import annotations

from benchmark.backbones.bundles import (
    BundleCheck,
    BundleState,
    bundle_weights,
    fetch_weights,
    verify_bundle,
)
from benchmark.backbones.downloads import Downloads
from benchmark.backbones.engines import (
    EngineRequest,
    FrozenBackbone,
    Speed,
    embedding_key,
    open_engine,
    scaled_flops,
)
from benchmark.backbones.hardware import has_gpu
from benchmark.backbones.model_cache import (
    ModelCacheEntry,
    model_cache_entries,
    remove_model,
    verify_model,
)
from benchmark.backbones.planning import memory_bytes, plan_engine
from benchmark.backbones.registry import keras_version, parse_weights, registry, select
from benchmark.backbones.weights import (
    LoadedWeights,
    inspect_file,
    known_weights_sha256,
    load_weights,
    weights_file,
)

__all__ = [
    "BundleCheck",
    "BundleState",
    "Downloads",
    "EngineRequest",
    "FrozenBackbone",
    "LoadedWeights",
    "ModelCacheEntry",
    "Speed",
    "bundle_weights",
    "embedding_key",
    "fetch_weights",
    "has_gpu",
    "inspect_file",
    "keras_version",
    "known_weights_sha256",
    "load_weights",
    "memory_bytes",
    "model_cache_entries",
    "open_engine",
    "parse_weights",
    "plan_engine",
    "registry",
    "remove_model",
    "scaled_flops",
    "select",
    "verify_bundle",
    "verify_model",
    "walk",
    "weights_file",
]


def walk() -> tuple[object, ...]:
    """Every constructor of the installed Keras and its published variants; imports TensorFlow."""
    from benchmark.backbones.describe import walk as walk_installed

    return walk_installed()
