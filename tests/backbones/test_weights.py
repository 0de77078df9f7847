"""Weights: the right ones, proven; everything else refused with a reason."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmark.backbones import known_weights_sha256, load_weights, parse_weights, select
from benchmark.backbones.digests import file_digest, recall, remember
from benchmark.backbones.downloads import Downloads
from benchmark.backbones.keras_models import KerasModel
from benchmark.backbones.weights import inspect_file
from benchmark.errors import WeightsError
from benchmark.records import Backbone, WeightsKind, WeightsSource

# NumPy 2 warns about how Keras reads a TensorFlow variable when it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module")
def saved(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good weights file of the smallest backbone."""
    folder = tmp_path_factory.mktemp("saved")
    model = tiny.build(32)
    load_weights(tiny, model, parse_weights("random", 11), cache=folder)
    path = folder / f"{tiny.architecture}.weights.h5"
    model.save_weights(path)
    return path


@functools.cache
def network(backbone_name: str) -> KerasModel:
    """A built network; loading overwrites all of it."""
    return select(backbone_name)[0].build(32)


def load(backbone: Backbone, path: Path, cache: Path) -> str:
    source = WeightsSource(kind=WeightsKind.FILE, path=path)
    return load_weights(backbone, network(backbone.name), source, cache=cache)


# Digests ------------------------------------------------------------------------------------------


def test_random_weights_depend_on_seed_and_name_alone(tiny: Backbone, tmp_path: Path) -> None:
    other = select("MobileNet_0.5")[0]

    def digest(backbone: Backbone, seed: int) -> str:
        source = parse_weights("random", seed)
        return load_weights(backbone, network(backbone.name), source, cache=tmp_path)

    first = digest(tiny, 1)
    assert digest(tiny, 1) == first
    assert len({first, digest(tiny, 2), digest(other, 1)}) == 3


@pytest.mark.parametrize("name", ["ConvNeXtTiny", "Xception"])
def test_unnamed_layers_do_not_make_the_digest_depend_on_the_process(name: str, tmp_path: Path) -> None:
    backbone, source = select(name)[0], parse_weights("random")
    digests = {load_weights(backbone, backbone.build(75), source, cache=tmp_path) for _ in range(2)}
    assert len(digests) == 1


def test_a_file_has_the_digest_of_what_was_saved(tiny: Backbone, saved: Path, tmp_path: Path) -> None:
    random = load_weights(tiny, network(tiny.name), parse_weights("random", 11), cache=tmp_path)
    assert load(tiny, saved, tmp_path) == random


def test_digests_are_remembered_without_tensorflow(tiny: Backbone, saved: Path, tmp_path: Path) -> None:
    source = WeightsSource(kind=WeightsKind.DIRECTORY, path=saved.parent)
    assert known_weights_sha256(tiny, source, cache=tmp_path) is None
    digest = load(tiny, saved, tmp_path)
    assert known_weights_sha256(tiny, source, cache=tmp_path) == digest


def test_a_changed_file_is_not_known(tiny: Backbone, saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.weights.h5"
    shutil.copy(saved, copy)
    source = WeightsSource(kind=WeightsKind.FILE, path=copy)
    load(tiny, copy, tmp_path)
    with h5py.File(copy, "r+") as file:
        file["layers/conv2d/vars/0"][...] += 1
    assert known_weights_sha256(tiny, source, cache=tmp_path) is None


def test_the_weights_of_a_name_override_the_runs(tiny: Backbone, saved: Path, tmp_path: Path) -> None:
    own = dataclasses.replace(tiny, weights=parse_weights("random", 11))
    missing = WeightsSource(kind=WeightsKind.DIRECTORY, path=tmp_path)
    loaded = load_weights(own, network(own.name), missing, cache=tmp_path)
    assert loaded == load(tiny, saved, tmp_path)


def test_a_damaged_or_foreign_note_is_not_believed(tmp_path: Path) -> None:
    remember(tmp_path, "name", "a" * 64)
    assert recall(tmp_path, "name") == "a" * 64
    note = next((tmp_path / "weights").iterdir())
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"name": "other", "sha256": "' + b"a" * 64 + b'"}',
        b'{"name": "name"}',
    ):
        note.write_bytes(content)
        assert recall(tmp_path, "name") is None


def test_a_read_only_cache_only_costs_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"content")
    assert file_digest(blocked, blocked) == file_digest(blocked, tmp_path)


# Real weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["MobileNet_0.25", "MobileNet_0.5", "MobileNetV2_0.35", "MobileNetV3Small_0.75"]
)
def test_real_weights_load(name: str, shared_weights: Path, tmp_path: Path) -> None:
    backbone = select(name)[0]
    source = WeightsSource(kind=WeightsKind.DIRECTORY, path=shared_weights)
    loaded = load_weights(backbone, backbone.build(96), source, cache=tmp_path)
    assert known_weights_sha256(backbone, source, cache=tmp_path) == loaded


def test_a_missing_file_names_near_ones(shared_weights: Path, tmp_path: Path) -> None:
    backbone = select("MobileNet_0.75")[0]
    source = WeightsSource(kind=WeightsKind.DIRECTORY, path=shared_weights)
    with pytest.raises(WeightsError, match=r"MobileNet_0\.5\.weights\.h5"):
        load_weights(backbone, None, source, cache=tmp_path)


def test_imagenet_without_a_network_names_both_ways_out(tiny: Backbone, tmp_path: Path) -> None:
    away = Downloads(base="http://127.0.0.1:9", folder=tmp_path, tries=1)
    source = parse_weights("imagenet")
    with pytest.raises(WeightsError, match=r"`weights=DIR`.*`weights=random`"):
        load_weights(tiny, network(tiny.name), source, cache=tmp_path, downloads=away)


# Wrong files --------------------------------------------------------------------------------------


def edited(saved: Path, target: Path, change: Callable[[h5py.File], Any]) -> Path:
    shutil.copy(saved, target)
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def replace_kernel(file: h5py.File, **dataset: object) -> None:
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", **dataset)


def link_elsewhere(file: h5py.File) -> None:
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"]["0"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file: h5py.File) -> None:
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"]["0"] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def stored_elsewhere(file: h5py.File) -> None:
    replace_kernel(file, shape=(3, 3, 3, 8), dtype="f4", external=[("/etc/passwd", 0, 864)])


def virtual(file: h5py.File) -> None:
    del file["layers/conv2d/vars/0"]
    layout = h5py.VirtualLayout((3, 3, 3, 8), "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", (3, 3, 3, 8))
    file["layers/conv2d/vars"].create_virtual_dataset("0", layout)


def a_bomb(file: h5py.File) -> None:
    replace_kernel(file, shape=(1 << 40,), dtype="f4", chunks=(1 << 20,))


CHANGES: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "external link": (link_elsewhere, "link to elsewhere"),
    "soft link": (soft_link, "link to elsewhere"),
    "external storage": (stored_elsewhere, "other files"),
    "virtual dataset": (virtual, "other files"),
    "terabytes declared": (a_bomb, "more bytes"),
    "text": (lambda file: replace_kernel(file, data=b"text"), "not numbers"),
    "a missing array": (lambda file: file.__delitem__("layers/conv2d/vars/0"), "arrays missing"),
    "a foreign array": (lambda file: file.create_dataset("extra", data=np.zeros((5, 7))), "does not have"),
    "a wrong shape": (lambda file: replace_kernel(file, data=np.zeros((3, 3, 3, 9), "f4")), "arrays missing"),
    "no number": (lambda file: replace_kernel(file, data=np.full((3, 3, 3, 8), np.nan, "f4")), "not finite"),
    "a whole model": (lambda file: file.attrs.__setitem__("model_config", "{}"), "can carry code"),
    "a legacy file": (lambda file: file.attrs.__setitem__("layer_names", [b"conv1"]), "legacy Keras 2"),
    "a renamed layer": (lambda file: file.move("layers/conv2d", "layers/other"), "weights of MobileNet_0.25"),
}


@pytest.mark.parametrize("fault", CHANGES)
@pytest.mark.faults("foreign and damaged weights")
def test_a_wrong_file_is_refused_with_the_reason(
    fault: str, tiny: Backbone, saved: Path, tmp_path: Path
) -> None:
    change, reason = CHANGES[fault]
    path = edited(saved, tmp_path / "wrong.weights.h5", change)
    with pytest.raises(WeightsError, match=reason):
        load(tiny, path, tmp_path)


@pytest.mark.faults("foreign and damaged weights")
def test_another_backbones_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not the weights of MobileNet_0\.5|more bytes"):
        load(select("MobileNet_0.5")[0], saved, tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89HDF\r\n\x1a\n" + b"\x00" * 500])
@pytest.mark.faults("foreign and damaged weights")
def test_what_is_not_hdf5_is_refused(content: bytes, tiny: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "bad.weights.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable HDF5 file"):
        load(tiny, path, tmp_path)


@pytest.mark.faults("foreign and damaged weights")
def test_truncated_files_are_refused(tiny: Backbone, saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "short.weights.h5"
    for share in (0.01, 0.5, 0.999):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(WeightsError):
            load(tiny, path, tmp_path)


@pytest.mark.faults("foreign and damaged weights")
def test_a_file_that_differs_from_the_checksum_beside_it_is_refused(
    tiny: Backbone, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / saved.name
    shutil.copy(saved, path)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(WeightsError, match="differs from the checksum"):
        load(tiny, path, tmp_path)


@pytest.mark.faults("foreign and damaged weights")
@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (b"0" * 64 + b"  other.weights.h5\n", "not on the checksum list"),
        (b"not a list\n", "not a list of checksums"),
        (b"0" * 64 + b"\n", "not a list of checksums"),
        (b"\xff\xfe", "not a list of checksums"),
    ],
)
def test_a_file_must_be_on_the_list_beside_it(
    tiny: Backbone, saved: Path, tmp_path: Path, listed: bytes, reason: str
) -> None:
    path = Path(shutil.copy(saved, tmp_path / saved.name))
    (tmp_path / "SHA256SUMS").write_bytes(listed)
    with pytest.raises(WeightsError, match=reason):
        load(tiny, path, tmp_path)


@pytest.mark.faults("foreign and damaged weights")
def test_the_lines_of_sha256sum_are_understood(tiny: Backbone, saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(saved, tmp_path / "a file.weights.h5"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for line in (f"{digest}  {path.name}\n", f"{digest.upper()} *{path.name}\r\n"):
        (tmp_path / "SHA256SUMS").write_text(f"{line}\n")
        load(tiny, path, tmp_path)


@pytest.mark.faults("foreign and damaged weights")
def test_a_reader_that_hangs_or_dies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a usable weights file"):
        inspect_file(tmp_path / "absent.weights.h5", 1000)
