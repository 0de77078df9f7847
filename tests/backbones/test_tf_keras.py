"""Keras 2 beside Keras 3: its constructors, its files, and the same embeddings from the same weights."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.backbones import known_weights_sha256, load_network, parse_weights, select
from benchmark.backbones.describe import preprocessing_of, walk
from benchmark.backbones.keras_models import preprocess_function
from benchmark.backbones.openvino_graphs import run_graph
from benchmark.backbones.registry import description, registry
from benchmark.backbones.sources import tf_keras as source
from benchmark.engines import EngineRequest, open_engine
from benchmark.engines.agreement import compare, embed_few
from benchmark.errors import WeightsError
from benchmark.pipeline.sanity_checks import may_be_equal
from benchmark.records import Backbone, Engine, Precision, Preprocessing, UInt8
from tests.backbones.conftest import SHARED

tf_keras = pytest.importorskip("tf_keras", reason="pip install backbone-benchmark[legacy]")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's

SIDE = 64
SMALL = "tf_keras:RegNetX002"
IMAGENET = parse_weights("imagenet")


def named(pattern: str) -> Backbone:
    (backbone,) = select(pattern)
    return backbone


def pictures(count: int = 4, size: int = SIDE) -> UInt8:
    blotches = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size))) for one in blotches])


def test_all_are_those_that_keras_has_no_longer() -> None:
    found = {item.constructor for item in select("tf_keras:all")}
    assert len(found) == 31
    assert {name.rstrip("0123456789") for name in found} == {"RegNetX", "RegNetY", "ResNetRS"}
    assert found.isdisjoint(item.constructor for item in registry())
    assert named("tf_keras:MobileNet_0.25").name == "tf_keras:MobileNet_0.25"
    assert len(select("tf_keras:family:regnet")) == 24
    both = select("all", sources="keras,tf_keras")
    assert len(both) == len(registry()) + 31


def test_the_description_is_that_of_the_installed_version() -> None:
    described = description("tf_keras")
    assert {item.name for item in walk("tf_keras")} == set(described)
    assert len({entry["constructor"] for entry in described.values()}) == 71
    for name, entry in described.items():
        function = preprocess_function(getattr(tf_keras.applications, entry["constructor"]))
        found = preprocessing_of(function)
        assert found == Preprocessing.parse(entry["preprocessing"]), name


@pytest.mark.parametrize("name", ["RegNetY002", "ResNetRS50"])
def test_what_is_described_is_what_is_built(name: str) -> None:
    backbone = named(f"tf_keras:{name}")
    model = backbone.build(SIDE)
    assert model.__module__.startswith("tf_keras.")
    assert model.count_params() == backbone.params
    assert model.output_shape[-1] == backbone.embedding_dim
    assert len(model.weights) == backbone.variables


@pytest.mark.parametrize("name", ["MobileNet_0.25", "EfficientNetB0"])
def test_the_same_weights_say_the_same_in_both(name: str, tmp_path: Path) -> None:
    """A file of Keras 3, loaded into both."""
    current = named(name)
    model = current.build(SIDE)
    values = np.random.default_rng(1)
    for variable in model.weights:  # statistics and scales, too: equal ones would hide a wrong order
        shape = tuple(variable.shape)
        kernel = values.normal(0, math.prod(shape[:-1]) ** -0.5, shape)
        variable.assign(kernel if len(shape) > 1 else values.uniform(0.5, 1.5, shape))
    model.save_weights(tmp_path / f"{name}.weights.h5")
    folder = parse_weights(str(tmp_path))
    one = load_network(current, folder, SIDE, cache=tmp_path)
    other = load_network(named(f"tf_keras:{name}"), folder, SIDE, cache=tmp_path)
    expected, found = one.run(pictures()), other.run(pictures())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no published weights beside the project")
@pytest.mark.parametrize("name", ["MobileNetV3Small_0.75", "MobileNetV2_0.35"])
def test_published_weights_see_the_same_in_both(name: str, tmp_path: Path) -> None:
    files = sorted((SHARED / "data" / "brick_cracks").glob("*/*.jpg"))[::120]
    images = np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in files])
    folder = parse_weights(str(SHARED / "weights"))
    one, other = (
        load_network(named(prefix + name), folder, 224, cache=tmp_path) for prefix in ("", "tf_keras:")
    )
    expected = one.run(images)
    np.testing.assert_allclose(other.run(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_network_that_keras_lacks_is_embedded(tmp_path: Path) -> None:
    request = EngineRequest(
        backbone=named(SMALL),
        weights=parse_weights("random", 3),
        input_size=SIDE,
        engine=None,
        precision=Precision.FLOAT32,
        threads=1,
        cache=tmp_path,
    )
    network = load_network(request.backbone, request.weights, SIDE, cache=tmp_path)
    again = load_network(request.backbone, request.weights, SIDE, cache=tmp_path)
    assert network.weights_sha256 == again.weights_sha256
    assert known_weights_sha256(request.backbone, request.weights, cache=tmp_path) == again.weights_sha256
    other = load_network(request.backbone, parse_weights("random", 4), SIDE, cache=tmp_path)
    assert network.weights_sha256 != other.weights_sha256
    expected = network.run(pictures())
    assert expected.shape == (4, request.backbone.embedding_dim)
    assert np.abs(run_graph(network.convert(tmp_path), pictures()) - expected).max() <= 1e-4 * expected.max()
    with open_engine(replace(request, engine=Engine.OPENVINO), sample=pictures()) as frozen:
        assert frozen.engine is Engine.OPENVINO
        assert compare(embed_few(frozen, pictures()), expected).cosine > 0.9999
    half = replace(request, engine=Engine.TENSORFLOW, precision=Precision.BFLOAT16)
    with open_engine(half, sample=pictures()) as frozen:
        assert compare(embed_few(frozen, pictures()), expected).cosine > 0.99


def test_both_may_stand_on_one_board_with_the_same_weights() -> None:
    """Equal embeddings are an alarm among different networks, not between two libraries' versions of one."""
    assert may_be_equal("MobileNetV2_0.35", "tf_keras:MobileNetV2_0.35")
    assert may_be_equal("MobileNetV2_0.35@mine.weights.h5", "tf_keras:MobileNetV2_0.35")
    assert may_be_equal("file:mine.onnx", "timm:resnet18.a1_in1k")
    assert not may_be_equal("MobileNetV2_0.35", "tf_keras:MobileNetV2_0.5")
    assert not may_be_equal("MobileNetV2_0.35", "MobileNetV2_0.35@mine.weights.h5")


def test_its_own_files_are_loaded_and_others_refused(tmp_path: Path) -> None:
    backbone = named(SMALL)
    model = backbone.build(SIDE)
    model.save_weights(tmp_path / "RegNetX002.weights.h5")
    loaded = load_network(backbone, parse_weights(str(tmp_path)), SIDE, cache=tmp_path)
    expected = model(pictures().astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(loaded.run(pictures()), expected, rtol=1e-4, atol=1e-5)
    other = tmp_path / "other.weights.h5"
    named("tf_keras:RegNetY002").build(SIDE).save_weights(other)
    with pytest.raises(WeightsError, match=r"not the weights of|not a usable weights file"):
        load_network(backbone, parse_weights(str(other)), SIDE, cache=tmp_path)
    with pytest.raises(WeightsError, match="no weights file for this backbone"):
        load_network(named("tf_keras:RegNetX004"), parse_weights(str(tmp_path)), SIDE, cache=tmp_path)


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.backbones.keras_models.util.find_spec", lambda _: None)
    assert len(select("tf_keras:all")) == 31, "listing needs nothing"
    assert source.SOURCE.versions()["tf_keras"]
    with pytest.raises(WeightsError, match=r"pip install 'backbone-benchmark\[legacy\]'"):
        load_network(named(SMALL), parse_weights("random"), SIDE, cache=tmp_path)


def test_keras_never_brings_it_along(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmark.backbones import *; "
        "load_network(select('MobileNet_0.25')[0], parse_weights('random'), 32, cache=Path('.'));"
        "import json; print(json.dumps('tf_keras' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout) is False, done.stderr
