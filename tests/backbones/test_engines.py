"""Engines: the same vectors as Keras, the same bits whatever the batch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.backbones import (
    EngineRequest,
    FrozenBackbone,
    embedding_key,
    load_weights,
    model_cache_entries,
    open_engine,
    parse_weights,
    remove_model,
    select,
    verify_model,
)
from benchmark.backbones.agreement import compare
from benchmark.errors import ArgumentError
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
    p50, p95 = frozen.latency_ms(images[0], repeats=5)
    assert 0 < p50 <= p95
    one = frozen.embed_one(images[0])
    np.testing.assert_allclose(one, embed(frozen, images)[0], rtol=1e-3, atol=1e-4 * np.abs(one).max())


def test_too_small_an_input_is_an_argument_error(engine_request: EngineRequest, images: UInt8) -> None:
    backbone = select("Xception")[0]
    with pytest.raises(ArgumentError, match="at least 71 pixels"):
        open_engine(replace(engine_request, backbone=backbone), sample=images)


def test_tensorflow_in_bfloat16_agrees_roughly(tensorflow_request: EngineRequest, images: UInt8) -> None:
    expected = by_keras(tensorflow_request, images)
    half = replace(tensorflow_request, precision=Precision.BFLOAT16)
    with open_engine(half, sample=images) as frozen:
        features = embed(frozen, images)
    assert frozen.precision is Precision.BFLOAT16
    assert np.abs(features - expected).max() < 0.1 * np.abs(expected).max()


# Converted models ---------------------------------------------------------------------------------


def open_elsewhere(request: EngineRequest) -> tuple[list[str], str]:
    """Open in a new process: which heavy modules it imported, and the digest of what it embedded."""
    code = """
import hashlib, json, pickle, sys
import numpy as np
from benchmark.backbones import open_engine
request = pickle.loads(bytes.fromhex(sys.argv[1]))
images = np.random.default_rng(5).integers(0, 256, (32, 64, 64, 3), np.uint8)
with open_engine(request, sample=images[:16]) as frozen:
    features = np.concatenate(list(frozen.embed([images])))
heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
print(json.dumps([heavy, hashlib.sha256(features.tobytes()).hexdigest()]))
"""
    import pickle

    command = [sys.executable, "-c", code, pickle.dumps(request).hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy, digest = json.loads(done.stdout.splitlines()[-1])
    return heavy, digest


def test_a_second_process_opens_the_converted_model_without_tensorflow(
    openvino_request: EngineRequest, images: UInt8
) -> None:
    open_engine(openvino_request, sample=images[:16]).close()
    first, second = open_elsewhere(openvino_request), open_elsewhere(openvino_request)
    assert first == second
    assert first[0] == []


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "meta.json"])
@pytest.mark.parametrize("fault", ["flip", "truncate", "remove"])
def test_a_damaged_model_is_noticed_moved_aside_and_converted_again(
    name: str, fault: str, openvino_request: EngineRequest, images: UInt8
) -> None:
    with open_engine(openvino_request, sample=images[:16]) as frozen:
        plain = embed(frozen, images)
    (entry,) = model_cache_entries(openvino_request.cache)
    damage(entry.path / name, fault)
    with open_engine(openvino_request, sample=images[:16]) as frozen:
        np.testing.assert_array_equal(embed(frozen, images), plain)
    entries = model_cache_entries(openvino_request.cache)
    assert sum(verify_model(item) for item in entries) == 1
    assert any(item.path.name.startswith("damaged-") for item in entries) or fault == "remove"


def damage(path: Path, fault: str) -> None:
    content = bytearray(path.read_bytes())
    if fault == "remove":
        path.unlink()
    elif fault == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 3] ^= 0x01
        path.write_bytes(content)


def test_models_are_listed_by_last_use_and_removed(openvino_request: EngineRequest, images: UInt8) -> None:
    cache = openvino_request.cache
    assert model_cache_entries(cache) == ()
    other = replace(openvino_request, weights=parse_weights("random", 1))
    for request in (openvino_request, other, openvino_request):
        open_engine(request, sample=images[:16]).close()
    oldest, newest = model_cache_entries(cache)
    assert oldest.backbone == newest.backbone == "MobileNet_0.25"
    assert oldest.input_size == 64
    assert oldest.bytes > 4 * 200_000
    assert oldest.last_used <= newest.last_used
    remove_model(oldest)
    assert [item.path for item in model_cache_entries(cache)] == [newest.path]
    assert not list((cache / "models").glob(".tmp-*"))


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
