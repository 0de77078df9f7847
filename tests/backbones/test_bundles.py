"""Bundles of weights for machines without a network."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.backbones import (
    BundleState,
    bundle_weights,
    fetch_weights,
    known_weights_sha256,
    load_weights,
    parse_weights,
    verify_bundle,
)
from benchmark.backbones.downloads import Downloads
from benchmark.backbones.registry import description
from benchmark.errors import WeightsError
from benchmark.records import Backbone

# NumPy 2 warns about how Keras reads a TensorFlow variable when it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module")
def published(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a file as Keras publishes it (the legacy format), and the digest of its weights."""
    folder = tmp_path_factory.mktemp("published")
    model = tiny.build(32)
    loaded = load_weights(tiny, model, parse_weights("random", 5), cache=folder)
    write_legacy(folder / description()[tiny.architecture]["weights"]["file"], model)
    return folder, loaded


def write_legacy(path: Path, model: object) -> None:
    """Write weights as Keras 2 did: layer by layer, with names as attributes."""
    import h5py

    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]  # type: ignore[attr-defined]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=weight.numpy())


@pytest.fixture
def downloads(published: tuple[Path, str]) -> Downloads:
    """Downloads that find the file already there, and nothing else anywhere."""
    return Downloads(base="http://127.0.0.1:9", folder=published[0], tries=1)


def test_published_weights_load(
    tiny: Backbone, downloads: Downloads, published: tuple[Path, str], tmp_path: Path
) -> None:
    assert fetch_weights(tiny, downloads=downloads).parent == published[0]
    source = parse_weights("imagenet")
    loaded = load_weights(tiny, tiny.build(32), source, cache=tmp_path, downloads=downloads)
    assert loaded == published[1]


@pytest.mark.parametrize("way", ["load", "fetch"])
def test_a_partial_file_that_keras_left_behind_is_not_used(
    tiny: Backbone, published: tuple[Path, str], tmp_path: Path, way: str
) -> None:
    name = description()[tiny.architecture]["weights"]["file"]
    partial = tmp_path / name
    partial.write_bytes((published[0] / name).read_bytes()[:5000])
    away = Downloads(base="http://127.0.0.1:9", folder=tmp_path, tries=1)
    source, cache = parse_weights("imagenet"), tmp_path / "cache"
    attempts: dict[str, Callable[[], object]] = {
        "fetch": lambda: fetch_weights(tiny, downloads=away),
        "load": lambda: load_weights(tiny, tiny.build(32), source, cache=cache, downloads=away),
    }
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        attempts[way]()
    assert not partial.exists()


def test_a_bundle_is_used_elsewhere(
    tiny: Backbone, downloads: Downloads, published: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    path = bundle_weights(tiny, folder, cache=tmp_path, downloads=downloads)
    assert path.name == "MobileNet_0.25.weights.h5"
    written = path.stat().st_mtime_ns
    assert bundle_weights(tiny, folder, cache=tmp_path, downloads=downloads).stat().st_mtime_ns == written
    source = parse_weights(str(folder))
    assert load_weights(tiny, tiny.build(32), source, cache=tmp_path) == published[1]
    assert known_weights_sha256(tiny, source, cache=tmp_path) == published[1]
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0
    check_damages(folder)


def check_damages(folder: Path) -> None:
    assert list(verify_bundle(folder).values()) == [BundleState.INTACT]
    (folder / "extra.weights.h5").write_bytes(b"x")
    (path,) = folder.glob("Mobile*.weights.h5")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verify_bundle(folder) == {path.name: BundleState.DAMAGED, "extra.weights.h5": BundleState.UNLISTED}
    path.unlink()
    assert BundleState.MISSING in verify_bundle(folder).values()


def test_a_bundle_needs_a_checksum_list(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no checksum list"):
        verify_bundle(tmp_path)
