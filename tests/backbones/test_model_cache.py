"""Converted models: opened without TensorFlow, never used when damaged, listed and removed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.backbones import known_weights_sha256, parse_weights
from benchmark.engines import EngineRequest, model_cache_entries, open_engine, verify_model
from benchmark.engines.model_cache import (
    Agreement,
    check_files,
    identity_of,
    model_folder,
    read_meta,
    write_meta,
)
from benchmark.errors import CacheDamaged
from benchmark.records import Float32, Precision, UInt8
from benchmark.storage import remove_all


@pytest.fixture(scope="module")
def converted(
    module_request: EngineRequest, images: UInt8, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Float32]:
    """A cache with one converted model, and what it embeds."""
    cache = tmp_path_factory.mktemp("converted")
    request = replace(module_request, cache=cache)
    with open_engine(request, sample=images[:16]) as frozen:
        return cache, next(iter(frozen.embed([images[: frozen.batch_size]])))


@pytest.fixture
def request_with_model(openvino_request: EngineRequest, converted: tuple[Path, Float32]) -> EngineRequest:
    """A request whose own cache holds the converted model."""
    shutil.copytree(converted[0], openvino_request.cache, dirs_exist_ok=True)
    return openvino_request


def is_used(request: EngineRequest) -> bool:
    """Whether the engine would use the cached model."""
    weights = known_weights_sha256(request.backbone, request.weights, cache=request.cache)
    assert weights is not None
    identity = identity_of(request.backbone, weights, request.input_size)
    folder = model_folder(request.cache, identity)
    meta = read_meta(folder, identity)
    if meta is None:
        return False
    try:
        check_files(folder, meta)
    except CacheDamaged:
        return False
    return True


def open_elsewhere(request: EngineRequest) -> tuple[list[str], str]:
    """Open in a new process: which heavy modules it imported, and the digest of what it embedded."""
    code = """
import hashlib, json, pickle, sys
import numpy as np
from benchmark.engines import open_engine
request = pickle.loads(bytes.fromhex(sys.argv[1]))
images = np.random.default_rng(5).integers(0, 256, (32, 64, 64, 3), np.uint8)
with open_engine(request, sample=images[:16]) as frozen:
    features = np.concatenate(list(frozen.embed([images])))
heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
print(json.dumps([heavy, hashlib.sha256(features.tobytes()).hexdigest()]))
"""
    command = [sys.executable, "-c", code, pickle.dumps(request).hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy, digest = json.loads(done.stdout.splitlines()[-1])
    return heavy, digest


def test_a_second_process_opens_the_converted_model_without_tensorflow(
    request_with_model: EngineRequest,
) -> None:
    first, second = (open_elsewhere(replace(request_with_model, threads=threads)) for threads in (1, 2))
    assert first == second
    assert first[0] == []


def damage(path: Path, fault: str) -> None:
    content = bytearray(path.read_bytes())
    if fault == "remove":
        path.unlink()
    elif fault == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) * int(fault) // 10] ^= 0x01
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "meta.json"])
@pytest.mark.parametrize("fault", ["truncate", "remove", "1", "3", "5", "7", "9"])
def test_a_damaged_model_is_noticed_and_moved_aside(
    name: str, fault: str, request_with_model: EngineRequest
) -> None:
    (entry,) = model_cache_entries(request_with_model.cache)
    assert is_used(request_with_model)
    damage(entry.path / name, fault)
    assert not is_used(request_with_model)
    assert not model_cache_entries(request_with_model.cache)
    (left,) = (request_with_model.cache / "damaged").iterdir()
    assert left.name.startswith(f"models-{entry.path.name}-")


@pytest.mark.parametrize("name", ["model.bin", "meta.json"])
def test_a_damaged_model_is_converted_again(
    name: str, request_with_model: EngineRequest, converted: tuple[Path, Float32], images: UInt8
) -> None:
    (entry,) = model_cache_entries(request_with_model.cache)
    damage(entry.path / name, "truncate")
    with open_engine(request_with_model, sample=images[:16]) as frozen:
        features = next(iter(frozen.embed([images[: frozen.batch_size]])))
        assert any("damaged" in note for note in frozen.notes) or name == "meta.json"
    np.testing.assert_array_equal(features, converted[1])
    assert is_used(request_with_model)


def test_verification_moves_damaged_models_aside(request_with_model: EngineRequest) -> None:
    (entry,) = model_cache_entries(request_with_model.cache)
    assert verify_model(entry.path)
    damage(entry.path / "meta.json", "5")
    assert not verify_model(entry.path)
    assert not model_cache_entries(request_with_model.cache)
    assert len([*(request_with_model.cache / "damaged").iterdir()]) == 1


def test_other_weights_are_another_model(request_with_model: EngineRequest, images: UInt8) -> None:
    other = replace(request_with_model, weights=parse_weights("random", 1))
    open_engine(other, sample=images[:16]).close()
    assert len(model_cache_entries(request_with_model.cache)) == 2


def test_models_are_listed_by_last_use_and_removed(request_with_model: EngineRequest, images: UInt8) -> None:
    cache = request_with_model.cache
    (entry,) = model_cache_entries(cache)
    assert entry.path.name.startswith("MobileNet_0.25-")
    assert entry.size_bytes > 4 * 200_000
    foreign = cache / "models" / "foreign"
    foreign.mkdir()
    (foreign / "file").write_bytes(b"x")
    os.utime(foreign / "file", (1.0, 1.0))
    os.utime(foreign, (1.0, 1.0))
    open_engine(request_with_model, sample=images[:16]).close()
    oldest, newest = model_cache_entries(cache)
    assert (oldest.path, newest.path) == (foreign, entry.path)
    assert newest.last_used >= entry.last_used
    assert remove_all([oldest.path, oldest.path]).paths == (oldest.path,)
    assert [item.path for item in model_cache_entries(cache)] == [newest.path]
    assert not list((cache / "models").glob(".tmp-*"))


def test_an_empty_cache_has_no_models(tmp_path: Path) -> None:
    assert model_cache_entries(tmp_path) == ()


def test_an_arithmetic_is_compared_with_the_library_where_no_other_has_passed(
    request_with_model: EngineRequest, images: UInt8
) -> None:
    weights = known_weights_sha256(
        request_with_model.backbone, request_with_model.weights, cache=request_with_model.cache
    )
    assert weights is not None
    identity = identity_of(request_with_model.backbone, weights, request_with_model.input_size)
    folder = model_folder(request_with_model.cache, identity)
    meta = read_meta(folder, identity)
    assert meta is not None
    failed = {Precision.FLOAT32.value: Agreement(cosine=0.5, images=4, passed=False)}
    write_meta(folder, replace(meta, agreement=failed))
    with open_engine(replace(request_with_model, precision=Precision.BFLOAT16), sample=images[:16]) as frozen:
        assert frozen.agreement >= 0.999
