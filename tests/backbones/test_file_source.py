"""Networks of the user's own, from files of every kind that is read."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmark.backbones import known_weights_sha256, load_network, parse_weights, select
from benchmark.backbones.onnx_graphs import embedding_onnx
from benchmark.engines import EngineRequest, open_engine
from benchmark.engines.agreement import embed_few
from benchmark.errors import ArgumentError, BenchmarkError
from benchmark.options import RankOptions
from benchmark.pipeline.requests import RankRequest, cheapest_pretrained
from benchmark.records import Backbone, Engine, Precision, UInt8
from tests.backbones.own_networks import SIDE, keras_model, kernel, write_clashing_onnx, write_onnx

WEIGHTS = parse_weights("imagenet")  # of the run; a file has its own


def pictures() -> UInt8:
    generator = np.random.default_rng(1)
    return np.asarray(np.repeat(np.repeat(generator.integers(0, 256, (6, 8, 8, 3)), 4, 1), 4, 2), np.uint8)


def named(pattern: str) -> Backbone:
    (backbone,) = select(pattern)
    return backbone


def embedded(backbone: Backbone, cache: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    request = EngineRequest(
        backbone=backbone,
        weights=WEIGHTS,
        input_size=backbone.default_size,
        engine=None,
        precision=Precision.FLOAT32,
        threads=1,
        cache=cache,
    )
    with open_engine(request, sample=pictures()) as frozen:
        assert frozen.engine is Engine.OPENVINO
        return embed_few(frozen, pictures()), frozen.notes


def expected(mean: float = 0.5, std: float = 0.25, *, bgr: bool = False) -> np.ndarray:
    """The convolution written out."""
    x = (pictures() / 255.0 - mean) / std
    x = x[..., ::-1] if bgr else x
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    return np.maximum(np.einsum("nhwcij,ocij->nhwo", windows, kernel()), 0).mean((1, 2))


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("batch", ["n", 1])
def test_an_onnx_file_says_what_its_arithmetic_says(pooled: bool, batch: int | str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "own.onnx", pooled=pooled, batch=batch)
    backbone = named(f"file:{path}?mean=0.5,0.5,0.5&std=0.25")
    assert backbone.name == f"file:{path}"
    assert (backbone.default_size, backbone.fixed_size, backbone.embedding_dim) == (SIDE, True, 4)
    assert backbone.params == kernel().size
    assert backbone.flops == 2 * kernel().size * 16 * 16 * (224 / SIDE) ** 2
    features, _ = embedded(backbone, tmp_path / "cache")
    np.testing.assert_allclose(features, expected(), rtol=1e-4, atol=1e-5)


def test_names_of_a_network_are_its_own(tmp_path: Path) -> None:
    import onnx
    import openvino

    path = write_clashing_onnx(tmp_path / "own.onnx")
    preprocessing = named(f"file:{path}?mean=0.5,0.5,0.5&std=0.25").preprocessing
    for output, maps in (("", False), ("embeddings", False), ("pixels_scaled", True)):
        model = embedding_onnx(
            onnx.load(path), preprocessing, SIDE, output=output, channels_last=False, maps=maps
        )
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / "whole.onnx")
        core = openvino.Core()
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(tmp_path / "whole.onnx"), "CPU", exact)
        features = compiled(pictures())[0]
        np.testing.assert_allclose(features, expected(), rtol=1e-4, atol=1e-5)


def test_settings_may_stand_in_a_file_beside_it(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    path.with_suffix(".toml").write_text("mean = [0.5, 0.5, 0.5]\nstd = 0.25\nbgr = true\n")
    features, _ = embedded(named(f"file:{path}"), tmp_path / "cache")
    np.testing.assert_allclose(features, expected(bgr=True), rtol=1e-4, atol=1e-5)
    assert str(named(f"file:{path}?preprocessing=caffe").preprocessing) == "caffe"


def test_other_formats_of_the_same_network(tmp_path: Path) -> None:
    import openvino
    import tensorflow as tf

    found = openvino.Core().read_model(write_onnx(tmp_path / "own.onnx"))
    openvino.save_model(found, tmp_path / "own.xml", compress_to_fp16=False)
    model = keras_model()
    features = keras.Model(model.inputs, model.get_layer("pool").output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own
        model.save(tmp_path / "own.keras")
        converted = tf.lite.TFLiteConverter.from_keras_model(features).convert()
    (tmp_path / "own.tflite").write_bytes(converted)
    for name in ("own.xml", "own.tflite", "own.keras&output=pool"):
        file, _, more = name.partition("&")
        backbone = named(f"file:{tmp_path / file}?mean=0.5&std=0.25&{more}")
        answer, _ = embedded(backbone, tmp_path / "cache")
        np.testing.assert_allclose(answer, expected(), rtol=1e-4, atol=1e-5)


def test_another_file_is_another_network(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    pattern = f"file:{path}?mean=0.5&std=0.25"
    first = load_network(named(pattern), WEIGHTS, SIDE, cache=tmp_path).weights_sha256
    assert known_weights_sha256(named(pattern), WEIGHTS, cache=tmp_path) == first
    write_onnx(path, scale=2.0)
    assert known_weights_sha256(named(pattern), WEIGHTS, cache=tmp_path) is None


def test_pixels_on_the_wrong_scale_are_noticed(tmp_path: Path) -> None:
    """Features a hundred times too large, of a network that was trained on normalised pixels."""
    path = write_onnx(tmp_path / "own.onnx")
    _, notes = embedded(named(f"file:{path}?preprocessing=identity"), tmp_path / "cache")
    assert "does it really take pixels 0..255" in notes[0]
    _, notes = embedded(named(f"file:{path}?preprocessing=torch"), tmp_path / "cache")
    assert notes == ()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "does not say what the network expects of its input.*own.toml"),
        ("?mean=0.5", "does not say what the network expects"),
        ("?mean=a&std=1", "cannot be understood"),
        ("?mean=0.5&std=0", "cannot be understood"),
        ("?mean=nan&std=1", "cannot be understood"),
        ("?preprocessing=tf&crop=0", "cannot be understood"),
        ("?preprocessing=magic", "'magic' is no preprocessing"),
        ("?means=1", "unknown setting 'means'"),
        ("?mean=0&std=1&output=nowhere", "not a network that yields one vector per image"),
    ],
)
def test_what_cannot_be_is_said(query: str, message: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    with pytest.raises(BenchmarkError, match=message):
        select(f"file:{path}{query}")


def test_no_such_file_and_no_network(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no such file"):
        select(f"file:{tmp_path}/absent.onnx")
    (tmp_path / "own.onnx").write_bytes(b"nothing")
    with pytest.raises(BenchmarkError, match="not a network that can be read"):
        select(f"file:{tmp_path}/own.onnx?mean=0&std=1")


def test_files_stand_beside_other_sources(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    found = select(f"file:{path}?mean=0.5,0.5,0.5&std=0.25,0.25,0.25,MobileNet_0.5,MobileNet_0.25")
    assert [item.name for item in found] == ["MobileNet_0.25", "MobileNet_0.5", f"file:{path}"]
    assert replace(found[-1], name="x").weights == found[-1].weights


def test_a_file_lends_its_eyes_only_where_its_description_says_what_it_has_learnt(tmp_path: Path) -> None:
    """The audit sees through the cheapest pretrained backbone; what a file has learnt, nobody knows."""
    path = write_onnx(tmp_path / "own.onnx")
    plain = f"file:{path}?mean=0.5,0.5,0.5&std=0.25"
    said = f"{plain}&pretraining=ImageNet-1k&licence=mit&year=2024"

    def seeing(backbones: str) -> str | None:
        found = cheapest_pretrained(
            RankRequest.of(RankOptions.check({"data": tmp_path, "backbones": backbones}))
        )
        return found and found.name

    assert seeing(f"{plain},MobileNet_0.25") == "MobileNet_0.25"
    assert seeing(f"{plain},MobileNet_0.25@random") is None
    assert seeing(f"{said},MobileNet_0.25") == f"file:{path}"
    described = named(said)
    assert (described.pretraining, described.licence, described.year) == ("ImageNet-1k", "mit", 2024)
    with pytest.raises(ArgumentError, match="cannot be understood"):
        named(f"{plain}&year=new")
