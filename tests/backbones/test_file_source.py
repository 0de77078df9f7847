"""Networks of the user's own, from files of every kind that is read."""

from __future__ import annotations

import errno
import functools
import warnings
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from benchmark.backbones import digests, known_weights_sha256, load_network, parse_weights, select
from benchmark.backbones.digests import file_digest, stored_digest
from benchmark.backbones.onnx_files import external_files
from benchmark.backbones.onnx_graphs import embedding_onnx
from benchmark.engines import EngineRequest, open_engine
from benchmark.engines.agreement import embed_few
from benchmark.errors import ArgumentError, BenchmarkError, WeightsError
from benchmark.options import RankOptions
from benchmark.pipeline.requests import RankRequest, cheapest_pretrained
from benchmark.records import Backbone, Engine, Precision, Preprocessing, UInt8
from benchmark.storage import MOST_MODEL_BYTES
from tests.backbones.own_networks import (
    SIDE,
    keras_model,
    kernel,
    write_clashing_onnx,
    write_onnx,
    write_onnx_apart,
)

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


def test_weights_in_a_file_beside_an_onnx_file_are_its_weights(tmp_path: Path) -> None:
    path = write_onnx_apart(tmp_path / "own.onnx")
    pattern, cache, data = f"file:{path}?mean=0.5&std=0.25", tmp_path / "cache", tmp_path / "own.onnx.data"
    features, _ = embedded(named(pattern), cache)
    np.testing.assert_allclose(features, expected(), rtol=1e-4, atol=1e-5)
    first = known_weights_sha256(named(pattern), WEIGHTS, cache=cache)
    assert first is not None
    content = path.read_bytes()
    assert len(content) < data.stat().st_size
    write_onnx_apart(path, scale=2.0)
    assert path.read_bytes() == content, "retraining changed the other file alone"
    assert known_weights_sha256(named(pattern), WEIGHTS, cache=cache) is None
    retrained, _ = embedded(named(pattern), cache)
    np.testing.assert_allclose(retrained, 2 * expected(), rtol=1e-4, atol=1e-5)
    assert known_weights_sha256(named(pattern), WEIGHTS, cache=cache) not in {None, first}
    data.unlink()
    with pytest.raises(ArgumentError, match=r"weights are not beside it.*own\.onnx\.data"):
        select(pattern)


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "function", "sparse", "training"])
def test_weights_in_other_files_are_found_wherever_they_lie(place: str, tmp_path: Path) -> None:
    def apart(name: str) -> onnx.TensorProto:
        tensor = onnx.numpy_helper.from_array(kernel(), name)
        onnx.external_data_helper.set_external_data(tensor, f"{name}.data", offset=4096)
        tensor.ClearField("raw_data")
        return tensor

    model = onnx.load(write_onnx(tmp_path / "own.onnx"))
    constant = onnx.helper.make_node("Constant", [], ["k"], value=apart("b"))
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    if place == "initializer":
        model.graph.initializer.append(apart("b"))
    elif place == "constant":
        model.graph.node.append(constant)
    elif place == "branch":
        model.graph.node.append(onnx.helper.make_node("If", ["on"], ["k"], then_branch=branch))
    elif place == "function":
        model.functions.append(onnx.helper.make_function("own", "f", [], ["k"], [constant], []))
    elif place == "sparse":
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=apart("b"), indices=apart("a")))
    else:
        model.training_info.append(onnx.TrainingInfoProto(algorithm=branch))
    model.graph.initializer.extend([apart("c"), apart("c")])
    # Who says where values lie without saying that they do has them inside.
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel(), "inside"))
    entry = onnx.StringStringEntryProto(key="location", value="inside.data")
    model.graph.initializer[-1].external_data.append(entry)
    model.metadata_props.append(entry)
    (tmp_path / "own.onnx").write_bytes(model.SerializeToString())
    names = [file.name for file in external_files(tmp_path / "own.onnx")]
    assert names == (["a.data"] if place == "sparse" else []) + ["b.data", "c.data"]


@pytest.mark.parametrize(
    ("said", "is_apart"), [("8100", True), ("81808080f0ffffffff01", True), ("8000", False)]
)
def test_where_values_are_may_be_said_with_more_bytes_than_needed(
    said: str, is_apart: bool, tmp_path: Path
) -> None:
    path = write_onnx_apart(tmp_path / "own.onnx")
    model = onnx.load(path, load_external_data=False)
    (tensor,) = [one for one in model.graph.initializer if one.external_data]
    tensor.ClearField("data_location")
    # Later fields count: of a tensor the last place, and of other kinds none.
    more = b"\x70" + bytes([not is_apart]) + b"\x70" + bytes.fromhex(said) + b"\x72\x01\x00"
    content = tensor.SerializeToString() + more
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.graph.initializer.remove(next(one for one in rest.graph.initializer if one.external_data))
    graph = b"\x2a" + varint(len(content)) + content  # initializer; parts of a message are merged
    path.write_bytes(rest.SerializeToString() + b"\x3a" + varint(len(graph)) + graph)
    merged = onnx.load(path, load_external_data=False).graph.initializer[-1]
    assert merged.data_location == is_apart, "so the package reads it, too"
    assert [file.name for file in external_files(path)] == ["own.onnx.data"] * is_apart


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, *varint(value >> 7)]) if value > 0x7F else bytes([value])


def test_weights_in_other_files_are_looked_for_once_and_when_the_network_changes(tmp_path: Path) -> None:
    path = write_onnx_apart(tmp_path / "own.onnx")
    assert external_files(path) is external_files(path)
    write_onnx(path)
    assert external_files(path) == ()


def test_a_file_system_that_maps_no_files_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("mmap.mmap", refuse)
    path = write_onnx_apart(tmp_path / "own.onnx")
    assert external_files(path) == (tmp_path / "own.onnx.data",)


def test_a_network_that_cannot_be_opened_is_told_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    monkeypatch.setattr("benchmark.backbones.onnx_files.MOST_MODEL_BYTES", 10)
    with pytest.raises(WeightsError, match=r"own\.onnx: not a network that can be read.*more than 10"):
        select(f"file:{path}?mean=0.5&std=0.25")


def test_weights_in_other_files_may_be_larger_than_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digests.MOST_WEIGHTS_BYTES > MOST_MODEL_BYTES
    path = write_onnx_apart(tmp_path / "own.onnx")
    for digest in (stored_digest, functools.partial(file_digest, cache=tmp_path / "cache")):
        monkeypatch.setattr(digests, "MOST_WEIGHTS_BYTES", 10)
        with pytest.raises(OSError, match="more than 10"):
            digest(path)
        monkeypatch.undo()
        assert digest(path)


@pytest.mark.parametrize(
    "location",
    [
        "../kernel",
        "/dev/zero",
        "a/../../kernel",
        ".",
        "..\\kernel",
        "C:\\kernel",
        "\\kernel",
        "C:kernel",
        "a\0b",
    ],
)
def test_weights_outside_of_the_folder_of_a_network_are_not_read(location: str, tmp_path: Path) -> None:
    path = write_onnx_apart(tmp_path / "own.onnx", location=location)
    with pytest.raises(BenchmarkError, match=r"keeps weights outside of its folder.*Save it as one file"):
        select(f"file:{path}?mean=0.5&std=0.25")


def test_an_onnx_file_that_ends_too_early_is_no_network(tmp_path: Path) -> None:
    content = write_onnx(tmp_path / "own.onnx").read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        (tmp_path / "own.onnx").write_bytes(content[:length])
        with pytest.raises(BenchmarkError, match="not a network that can be read"):
            select(f"file:{tmp_path}/own.onnx?mean=0.5&std=0.25")


def test_an_ir_without_its_weights_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "own.xml").write_text("<net/>")
    with pytest.raises(ArgumentError, match=r"weights are not beside it.*own\.bin"):
        select(f"file:{tmp_path}/own.xml?mean=0.5&std=0.25")


@pytest.mark.parametrize(
    ("beside", "query", "preprocessing"),
    [
        ("", "preprocessing=tf&bgr=1", Preprocessing(mean=(127.5,) * 3, scale=(127.5,) * 3, bgr=True)),
        ("", "preprocessing=tf&bgr=0", Preprocessing.parse("tf")),
        ('preprocessing = "torch"', "mean=0.5&std=0.5", Preprocessing.parse("tf")),
        ('preprocessing = "torch"\nbgr = true', "mean=0.5&std=0.5", Preprocessing.parse("tf")),
        ("mean = 0.5\nstd = 0.5\nbgr = true", "preprocessing=torch", Preprocessing.parse("torch")),
        ("mean = 0.5\nstd = 1", "std=0.5", Preprocessing.parse("tf")),
        ("mean = 0.5\nstd = 0.5\nbgr = true", "bgr=false", Preprocessing.parse("tf")),
    ],
)
def test_what_stands_behind_the_name_decides(
    beside: str, query: str, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    path.with_suffix(".toml").write_text(beside)
    assert named(f"file:{path}?{query}").preprocessing == preprocessing


def test_a_model_directory_takes_only_what_it_does_not_say_itself(tmp_path: Path) -> None:
    inputs = keras.Input((SIDE, SIDE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(pooled))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own
        model.save(tmp_path / "model.keras")
    described = named(f"file:{tmp_path}?licence=mit&year=2024")
    assert (described.licence, described.year, str(described.preprocessing)) == ("mit", 2024, "identity")
    for setting in ("preprocessing=tf", "licens=mit", "size=64"):
        with pytest.raises(ArgumentError, match=f"unknown setting '{setting.partition('=')[0]}'.*directory"):
            named(f"file:{tmp_path}?{setting}")


def test_a_file_that_says_twice_what_it_expects_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "own.onnx")
    path.with_suffix(".toml").write_text('preprocessing = "torch"\nmean = 0.5\nstd = 0.5\n')
    with pytest.raises(ArgumentError, match=r"own\.toml: says twice what the network expects"):
        select(f"file:{path}")


def test_one_file_is_one_backbone(tmp_path: Path) -> None:
    pattern = f"file:{write_onnx(tmp_path / 'own.onnx')}?preprocessing"
    assert len(select(f"{pattern}=tf,{pattern}=tf,MobileNet_0.25,MobileNet_*")) > 1
    with pytest.raises(ArgumentError, match=r"own\.onnx: is named twice.*preprocessing tf and torch"):
        select(f"{pattern}=tf,{pattern}=torch")
    with pytest.raises(ArgumentError, match=r"own\.onnx: is named twice.*licence  and mit"):
        select(f"{pattern}=tf,{pattern}=tf&licence=mit")


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
        ("?preprocessing=tf&bgr=yes", "bgr=yes, neither 1 nor 0"),
        ("?mean=0.5&std=0.5&bgr", "bgr=, neither 1 nor 0"),
        ("?preprocessing=tf&mean=0.5", "says twice what the network expects"),
        ("?preprocessing=tf&preprocessing=torch", "'preprocessing' stands twice"),
        ("?preprocessing=tf&size=0", "size=0"),
        ("?preprocessing=tf&crop=0.9", "crop without interpolation"),
        ("?preprocessing=tf&interpolation=cubic", "interpolation=cubic, none of bilinear, bicubic"),
        ("?preprocessing=tf&interpolation=bicubic&fit=centre", "fit=centre, none of squash, center"),
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
