"""Small inputs and the smallest backbone; the photographs and weights beside the project, if there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.backbones import select
from benchmark.engines import EngineRequest
from benchmark.records import Backbone, Engine, Precision, UInt8, WeightsKind, WeightsSource

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
SIZE = 64


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return select("MobileNet_0.25")[0]


@pytest.fixture(scope="session")
def random_weights() -> WeightsSource:
    return WeightsSource(kind=WeightsKind.RANDOM, seed=3)


@pytest.fixture(scope="session")
def images() -> UInt8:
    """uint8 (48, 64, 64, 3): blotches of different colours and scales, so that embeddings differ."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (48, 8, 8, 3), np.uint8)
    noise = generator.integers(0, 40, (48, SIZE, SIZE, 3), np.uint8)
    return np.asarray(np.repeat(np.repeat(small, 8, 1), 8, 2) // 2 + noise, np.uint8)


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    folder = SHARED / "weights"
    if not folder.is_dir():
        pytest.skip("no real weights beside the project")
    return folder


@pytest.fixture(scope="session")
def photographs() -> UInt8:
    """uint8 (32, 224, 224, 3) real photographs."""
    paths = sorted((SHARED / "data" / "brick_cracks").glob("*/*.jpg"))[:: 498 // 32][:32]
    if not paths:
        pytest.skip("no photographs beside the project")
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in paths])


@pytest.fixture(scope="session")
def module_request(tiny: Backbone, random_weights: WeightsSource) -> EngineRequest:
    """A request for the OpenVINO engine; its cache is to be replaced."""
    return EngineRequest(
        backbone=tiny,
        weights=random_weights,
        input_size=SIZE,
        engine=Engine.OPENVINO,
        precision=Precision.FLOAT32,
        threads=2,
        cache=Path("absent"),
    )


@pytest.fixture
def openvino_request(module_request: EngineRequest, tmp_path: Path) -> EngineRequest:
    return replace(module_request, cache=tmp_path)


@pytest.fixture
def tensorflow_request(openvino_request: EngineRequest) -> EngineRequest:
    return replace(openvino_request, engine=Engine.TENSORFLOW)
