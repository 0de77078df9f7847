"""Backbones: the registry, their weights, and the engines that execute them.

Importing this room imports neither TensorFlow nor OpenVINO; building, loading and opening do.
"""

from __future__ import annotations

from benchmark.backbones.downloads import Downloads
from benchmark.backbones.engines import (
    EngineRequest,
    FrozenBackbone,
    Latency,
    embedding_key,
    open_engine,
    plan_engine,
)
from benchmark.backbones.registry import keras_version, parse_weights, registry, select
from benchmark.backbones.weights import LoadedWeights, known_weights_sha256, load_weights, weights_file

__all__ = [
    "Downloads",
    "EngineRequest",
    "FrozenBackbone",
    "Latency",
    "LoadedWeights",
    "embedding_key",
    "keras_version",
    "known_weights_sha256",
    "load_weights",
    "open_engine",
    "parse_weights",
    "plan_engine",
    "registry",
    "select",
    "walk",
    "weights_file",
]


def walk() -> tuple[object, ...]:
    """Every constructor of the installed Keras and its published variants; imports TensorFlow."""
    from benchmark.backbones.describe import walk as walk_installed

    return walk_installed()
