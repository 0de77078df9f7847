"""Engines: the same vectors as Keras, the same bits whatever the batch."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.backbones import engines_of, load_weights, select
from benchmark.engines import (
    EngineRequest,
    FrozenBackbone,
    Speed,
    embedding_key,
    hardware,
    open_engine,
    plan_engine,
    tensorflow_engine,
    torch_engine,
)
from benchmark.engines import engine as engines
from benchmark.engines.agreement import compare
from benchmark.errors import ArgumentError
from benchmark.machine import instruction_set
from benchmark.records import Backbone, Engine, Float32, Precision, Resize, UInt8

ENGINES = ["tensorflow_request", "openvino_request"]


def embed(frozen: FrozenBackbone, images: UInt8) -> Float32:
    """All images, the last batch padded with zeros."""
    size = frozen.batch_size
    padded = np.concatenate([images, np.zeros((-len(images) % size, *images.shape[1:]), np.uint8)])
    batches = (padded[start : start + size] for start in range(0, len(padded), size))
    return np.concatenate(list(frozen.embed(batches)))[: len(images)]


@pytest.fixture(params=ENGINES)
def engine_request(request: pytest.FixtureRequest) -> EngineRequest:
    found: EngineRequest = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def frozen(engine_request: EngineRequest, images: UInt8) -> Iterator[FrozenBackbone]:
    with open_engine(engine_request, sample=images[:16]) as frozen:
        yield frozen


def by_keras(request: EngineRequest, images: UInt8) -> Float32:
    model = request.backbone.build(request.input_size)
    load_weights(request.backbone, model, request.weights, cache=request.cache)
    return np.asarray(model(request.backbone.preprocess(images), training=False))


def test_an_engine_says_what_keras_says(
    engine_request: EngineRequest, frozen: FrozenBackbone, images: UInt8
) -> None:
    assert frozen.engine is engine_request.engine
    expected = by_keras(engine_request, images)
    np.testing.assert_allclose(embed(frozen, images), expected, rtol=2e-4, atol=1e-5 * np.abs(expected).max())
    assert frozen.embedding_dim == engine_request.backbone.embedding_dim == expected.shape[1]
    assert 0.999 <= frozen.agreement <= 1.0 + 1e-9


def test_bits_do_not_depend_on_neighbours_or_threads(
    engine_request: EngineRequest, frozen: FrozenBackbone, images: UInt8
) -> None:
    plain = embed(frozen, images)
    order = np.random.default_rng(1).permutation(len(images))
    np.testing.assert_array_equal(embed(frozen, images[order]), plain[order])
    with open_engine(replace(engine_request, threads=1), sample=images[:16]) as other:
        np.testing.assert_array_equal(embed(other, images), plain)
        np.testing.assert_array_equal(embed(other, images[5:6]), plain[5:6])


def test_stopping_midway_leaves_the_engine_usable(frozen: FrozenBackbone, images: UInt8) -> None:
    plain = embed(frozen, images)
    batch = np.resize(images, (frozen.batch_size, *images.shape[1:]))
    started = frozen.embed([batch] * 5)
    next(iter(started))
    del started
    np.testing.assert_array_equal(embed(frozen, images), plain)


def test_latency_is_measured_on_single_images(frozen: FrozenBackbone, images: UInt8) -> None:
    speed = frozen.speed(images)
    assert 0 < speed.latency_ms <= speed.latency_p95_ms
    assert speed.images_per_second > 0
    one = frozen.embed_one(images[0])
    plain = embed(frozen, images)
    np.testing.assert_allclose(one, plain[0], rtol=1e-3, atol=1e-4 * np.abs(one).max())
    np.testing.assert_array_equal(frozen.embed_together(images[: frozen.together]), plain[: frozen.together])


class Clockwork(FrozenBackbone):
    """Takes as long as it is told, by a clock that it moves itself."""

    together = 4
    share = 1.0

    def __init__(self, singles: Iterable[float], full: float) -> None:
        self.now = 0.0
        self._singles = iter(singles)
        self._full = full

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        raise AssertionError("speed is measured on single images and full requests alone")

    def embed_one(self, image: UInt8) -> Float32:
        self.now += next(self._singles)
        return np.zeros(1, np.float32)

    def embed_together(self, images: UInt8) -> Float32:
        assert len(images) == self.together
        self.now += self._full
        return np.zeros((4, 1), np.float32)

    def close(self) -> None:
        pass


STEADY = [0.010] * 22
SHAKEN = [0.010] * 12 + [0.010, 0.050] * 5


def timed(frozen: Clockwork, monkeypatch: pytest.MonkeyPatch) -> Speed:
    monkeypatch.setattr(engines.time, "perf_counter", lambda: frozen.now)
    monkeypatch.setattr(engines.time, "process_time", lambda: frozen.now * frozen.share)
    return frozen.speed(np.zeros((2, 8, 8, 3), np.uint8))


def test_steady_timings_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = timed(Clockwork(STEADY, 0.020), monkeypatch)
    assert speed == pytest.approx((10.0, 10.0, 200.0, False))


def test_what_was_noisy_is_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = timed(Clockwork([*SHAKEN, *STEADY], 0.020), monkeypatch)
    assert speed == pytest.approx((10.0, 10.0, 200.0, False))


def test_what_stays_noisy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = timed(Clockwork(itertools.cycle(SHAKEN), 0.020), monkeypatch)
    assert speed.noisy
    assert (speed.latency_ms, speed.latency_p95_ms) == pytest.approx((10.0, 50.0))


def test_a_core_shared_with_other_programs_is_noise_though_all_calls_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = Clockwork(itertools.repeat(0.020), 0.040)
    frozen.share = 0.5
    assert timed(frozen, monkeypatch).noisy
    frozen.on_gpu = True
    assert not timed(frozen, monkeypatch).noisy


def test_slow_networks_are_timed_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = Clockwork(itertools.repeat(1.0), 4.0)
    assert timed(frozen, monkeypatch) == pytest.approx((1000.0, 1000.0, 1.0, False))
    assert frozen.now == 7 * 1.0 + 7 * 4.0


def test_too_small_an_input_is_an_argument_error(engine_request: EngineRequest, images: UInt8) -> None:
    backbone = select("Xception")[0]
    with pytest.raises(ArgumentError, match="at least 71 pixels"):
        open_engine(replace(engine_request, backbone=backbone), sample=images)


# Agreement ----------------------------------------------------------------------------------------


def test_agreement_is_measured_on_centred_embeddings() -> None:
    generator = np.random.default_rng(0)
    reference = (generator.normal(size=(8, 32)) * 0.01 + 5).astype(np.float32)
    noise = (generator.normal(size=(8, 32)) * 0.005).astype(np.float32)
    assert compare(reference, reference).passed
    assert not compare(reference + noise, reference).passed  # uncentred, the cosine would be 0.999999


def test_tiny_embeddings_are_compared_like_others() -> None:
    reference = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    tiny = reference * np.float32(1e-30)
    assert compare(tiny * np.float32(1.00001), tiny).passed
    assert not compare(np.zeros_like(tiny), tiny).passed


def test_what_is_not_finite_never_agrees() -> None:
    reference = np.ones((4, 3), np.float32)
    for bad in (np.nan, np.inf):
        features = reference.copy()
        features[0, 0] = bad
        assert not compare(features, reference).passed


def test_one_image_or_equal_images_are_compared_uncentred() -> None:
    reference = np.arange(1, 5, dtype=np.float32)[None]
    assert compare(reference * np.float32(1.0001), reference).passed
    assert not compare(-reference, reference).passed
    assert compare(np.repeat(reference, 3, 0), np.repeat(reference, 3, 0)).passed


def test_bfloat16_that_disagrees_falls_back_and_says_so(
    openvino_request: EngineRequest, images: UInt8
) -> None:
    """Whether it agrees is this processor's business; that the answer is recorded and kept is ours."""
    wanted = replace(openvino_request, precision=Precision.BFLOAT16)
    with open_engine(wanted, sample=images[:16]) as frozen:
        fell_back = frozen.precision is Precision.FLOAT32
        assert fell_back == any("agrees with TensorFlow only" in note for note in frozen.notes)
    with open_engine(wanted, sample=images[:16]) as again:
        assert again.precision is frozen.precision


def test_tensorflow_in_bfloat16_passes_the_same_check(
    tensorflow_request: EngineRequest, images: UInt8
) -> None:
    expected = by_keras(tensorflow_request, images)
    half = replace(tensorflow_request, precision=Precision.BFLOAT16)
    with open_engine(half, sample=images[:16]) as frozen:
        features = embed(frozen, images)
    assert compare(features[:16], expected[:16]).passed
    fell_back = frozen.precision is Precision.FLOAT32
    assert fell_back == any("TensorFlow's bfloat16 agrees" in note for note in frozen.notes)
    assert plan_engine(half, 9) == (Engine.TENSORFLOW, frozen.precision)
    with open_engine(half, sample=images[:16]) as again:
        assert again.precision is frozen.precision


def faint(values: Any) -> Any:  # noqa: ANN401 - a tensor
    """Pixels of which bfloat16, with its 8 bits, keeps nothing."""
    return values * 1e-5 + 1.0


def test_tensorflow_in_bfloat16_is_refused_where_it_says_something_else(
    tensorflow_request: EngineRequest, images: UInt8
) -> None:
    backbone = replace(tensorflow_request.backbone, preprocess=faint)
    half = replace(tensorflow_request, backbone=backbone, precision=Precision.BFLOAT16)
    with open_engine(half, sample=images[:16]) as frozen:
        assert frozen.precision is Precision.FLOAT32
        assert "not used" in frozen.notes[0]
    assert plan_engine(half, 9) == (Engine.TENSORFLOW, Precision.FLOAT32)
    (note,) = half.cache.glob("agreement/*.json")
    for damage in ("", "[]", "{}", '{"identity": {}, "agreement": {}}'):
        note.write_text(damage)
        assert plan_engine(half, 9) == (Engine.TENSORFLOW, Precision.BFLOAT16)


# GPUs ---------------------------------------------------------------------------------------------


def test_tensorflow_computes_where_its_key_says(
    tensorflow_request: EngineRequest, images: UInt8, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that was full when it was asked for, or of a kind that nobody asks for, is still listed."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a card"])
    configurations: list[Any] = []
    session = tf.compat.v1.Session

    def opened(graph: Any, config: Any) -> Any:  # noqa: ANN401 - TensorFlow's
        configurations.append(config)
        return session(graph=graph, config=config)

    monkeypatch.setattr(tf.compat.v1, "Session", opened)
    half = replace(tensorflow_request, precision=Precision.BFLOAT16)
    with open_engine(half, sample=images[:4]) as frozen:
        assert not frozen.on_gpu
        assert frozen.embed_one(images[0]).shape == (frozen.embedding_dim,)
    assert len(configurations) >= 2, "the reference is computed in another one"
    assert all(dict(one.device_count) == {"GPU": 0} for one in configurations)
    assert not tensorflow_engine._session_config(tf, on_gpu=True).device_count


class ToyModule:
    """What the engine asks of a module of PyTorch."""

    device = ""

    def to(self, device: str, memory_format: str) -> ToyModule:
        self.device = device
        return self


@pytest.fixture
def toy_torch(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - it stands for a module
    """A PyTorch that sees a GPU and can do nothing."""
    toy = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: True),
        device=str,
        channels_last="channels last",
        inference_mode=contextlib.nullcontext,
        from_numpy=lambda pixels: SimpleNamespace(to=lambda _: pixels),
        set_num_threads=lambda _: None,
        backends=SimpleNamespace(
            cudnn=SimpleNamespace(conv=SimpleNamespace(fp32_precision="tf32")),
            cuda=SimpleNamespace(matmul=SimpleNamespace(fp32_precision="none")),
        ),
    )
    monkeypatch.setitem(sys.modules, "torch", toy)  # type: ignore[arg-type]
    return toy


@pytest.mark.parametrize(
    ("has_gpu", "device", "precisions"),
    [(False, "cpu", ["tf32", "none"]), (True, "cuda:0", ["ieee", "ieee"])],
)
def test_torch_computes_where_its_key_says_and_in_all_digits(
    has_gpu: bool,
    device: str,
    precisions: list[str],
    tensorflow_request: EngineRequest,
    images: UInt8,
    toy_torch: Any,  # noqa: ANN401 - it stands for a module
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ampere and later GPUs round what float32 convolutions take to 10 bits unless told otherwise.

    Whoever uses PyTorch in the same process finds it as it was.
    """
    places = (toy_torch.backends.cudnn.conv, toy_torch.backends.cuda.matmul)
    seen: list[list[str]] = []

    def features(self: ToyModule, pixels: UInt8) -> Any:  # noqa: ANN401 - it stands for a tensor
        seen.append([place.fp32_precision for place in places])
        on_processor = SimpleNamespace(numpy=lambda: pixels.mean(axis=(1, 2), dtype=np.float32))
        return SimpleNamespace(float=lambda: SimpleNamespace(cpu=lambda: on_processor))

    monkeypatch.setattr(ToyModule, "__call__", features, raising=False)
    network = SimpleNamespace(module=ToyModule(), weights_sha256="0" * 64)
    monkeypatch.setattr(torch_engine, "load_network", lambda *_, **__: network)
    monkeypatch.setattr(torch_engine, "has_gpu", lambda engine: has_gpu and engine is Engine.TORCH)
    with torch_engine.open_frozen(tensorflow_request, Precision.FLOAT32, images[:4]) as frozen:
        assert frozen.on_gpu is has_gpu
        assert network.module.device == device
        frozen.embed_together(images[:1])
    assert seen == [precisions]
    assert [place.fp32_precision for place in places] == ["tf32", "none"]


# Keys ---------------------------------------------------------------------------------------------


def test_every_field_of_a_key_comes_from_what_was_used(tiny: Backbone) -> None:
    key = embedding_key(
        tiny,
        "a" * 64,
        input_size=64,
        resize=Resize.BILINEAR,
        decoder="pillow-1",
        engine=Engine.OPENVINO,
        precision=Precision.BFLOAT16,
    )
    assert (key.backbone, key.arguments, key.pooling) == ("MobileNet_0.25", (("alpha", "0.25"),), "avg")
    assert (key.engine, key.precision, key.input_size) == (Engine.OPENVINO, Precision.BFLOAT16, 64)
    assert (key.engine_version, key.instructions) == (metadata.version("openvino"), instruction_set())


def test_another_version_or_processor_is_another_key(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def key_of(engine: Engine) -> str:
        return embedding_key(
            tiny,
            "a" * 64,
            input_size=64,
            resize=Resize.BILINEAR,
            decoder="pixels-1",
            engine=engine,
            precision=Precision.FLOAT32,
        ).digest()

    here = {engine: key_of(engine) for engine in engines_of(tiny)}
    monkeypatch.setattr(hardware, "instruction_set", lambda: "x86_64+avx2")
    assert all(key_of(engine) != digest for engine, digest in here.items())
    monkeypatch.undo()
    monkeypatch.setattr(engines, "engine_version", lambda engine: f"{engine} 99")
    assert all(key_of(engine) != digest for engine, digest in here.items())
    monkeypatch.undo()
    cards = {Engine.TENSORFLOW: "NVIDIA H100"}
    monkeypatch.setattr(hardware, "gpu_name", lambda engine: cards.get(engine, ""))
    assert key_of(Engine.TENSORFLOW) != here[Engine.TENSORFLOW]
    assert key_of(Engine.OPENVINO) == here[Engine.OPENVINO], "it computes on the processor"
