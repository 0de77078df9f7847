"""Every small file is read by one guarded reader: regular, of a possible size and depth, or refused."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import stat
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark
from benchmark.backbones import select, verify_bundle
from benchmark.backbones.digests import recall, remember
from benchmark.backbones.registry import _read_description, registry
from benchmark.backbones.weights import file_sha256, read_checksums
from benchmark.data.demo import _marked_plan
from benchmark.data.index import Index
from benchmark.data.pixel_buffer import _failure
from benchmark.deployment.description import read_description
from benchmark.deployment.samples import read_split
from benchmark.embeddings.places import place_at
from benchmark.embeddings.upkeep import _described_key
from benchmark.engines.model_cache import read_meta
from benchmark.errors import BenchmarkError, CacheDamaged
from benchmark.finetuning import Recipe, load_manifest
from benchmark.finetuning.progress import Progress
from benchmark.pipeline.devices import read_measured
from benchmark.ranking import load_outcome
from benchmark.reporting import RunRecord, read_board, read_image_list
from benchmark.storage import load_json, open_regular, parse_json, read_small, sha256_file
from benchmark.storage.reading import read_array, read_arrays

pytestmark = pytest.mark.faults("files that are none")

# Name of the file, and what reads it given its folder.
READERS: dict[str, Callable[[Path], object]] = {
    "leaderboard.json": lambda folder: read_board(folder / "leaderboard.json"),
    "run.json": RunRecord.read,
    "images.csv": read_image_list,
    "x.outcome": lambda folder: load_outcome(folder / "x.outcome"),
    "any.json": lambda folder: load_json(folder / "any.json"),
    "keras-9.json": lambda folder: _read_description(folder / "keras-9.json"),
    "SHA256SUMS": read_checksums,
    "a.weights.h5": lambda folder: file_sha256(folder / "a.weights.h5"),
    "meta.json": lambda folder: read_meta(folder, {}),
    "recipe.toml": lambda folder: Recipe.load(folder / "recipe.toml"),
    "manifest.json": load_manifest,
    "deployment.json": read_description,
    "split.csv": read_split,
    "state.npz": lambda folder: Progress.load(folder / "state.npz"),
    "demo.json": _marked_plan,
    "failure.json": _failure,
    "pi5.json": lambda folder: read_measured(folder / "pi5.json", "pi5"),
    "key.json": lambda folder: _described_key(place_at(folder.parent), folder),
    "model.keras": lambda folder: sha256_file(folder / "model.keras"),
}


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        path.symlink_to("/dev/zero")


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 * 2**30)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_circle(path: Path) -> None:
    path.symlink_to(path)


def make_deep(path: Path) -> None:
    path.write_bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


def make_garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00[{" * 1000)


@pytest.mark.parametrize(
    "make", [make_pipe, make_device, make_sparse, make_folder, make_circle, make_deep, make_garbage]
)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_ours_is_refused_at_once(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / name)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with suppress(BenchmarkError, OSError, ValueError):  # the last two: what callers expect and handle
        READERS[name](folder)
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_notes_and_indexes_that_are_no_files_count_as_absent(tmp_path: Path) -> None:
    remember(tmp_path, "name", "a" * 64)
    (note,) = (tmp_path / "weights").iterdir()
    assert recall(tmp_path, "name") == "a" * 64
    note.unlink()
    make_pipe(note)
    assert recall(tmp_path, "name") is None
    Index.load(tmp_path / "index", "data", "").save(())
    (index,) = (tmp_path / "index").iterdir()
    index.unlink()
    make_sparse(index)
    assert Index.load(tmp_path / "index", "data", "").verdict("0" * 64) is None


def test_a_bundle_with_a_pipe_says_so(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'a' * 64}  MobileNet_0.25.weights.h5\n")
    make_pipe(tmp_path / "MobileNet_0.25.weights.h5")
    assert list(verify_bundle(tmp_path).values()) == ["missing"]
    assert registry()
    assert select("MobileNet_0.25")


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    assert read_small(tmp_path / "file", most_bytes=11) == b"x" * 11
    with pytest.raises(OSError, match="11 bytes, more than 10"):
        read_small(tmp_path / "file", most_bytes=10)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_small(tmp_path / "link") == b"x" * 11
    with (
        pytest.raises(OSError, match=r"symbolic|link"),
        open_regular(tmp_path / "link", most_bytes=11, follow_links=False),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["[" * 101 + "]" * 101, '[{"a":' * 60 + "1" + "}]" * 60, "[" * 10**6, "\ufeffx"]
)
def test_json_that_is_too_deep_or_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"deeper|Expecting|BOM"):
        parse_json(text)


def test_brackets_in_texts_are_no_depth() -> None:
    value = ["[{" * 500, '"\\' * 500, {"a": ["]"]}]
    assert parse_json(json.dumps(value)) == value
    assert parse_json("[" * 100 + "]" * 100)


def test_an_unending_text_takes_linear_time() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="Unterminated"):
        parse_json('"' + '\\"' * 2_000_000)
    assert time.monotonic() - started < 60


def archive(**arrays: Any) -> io.BytesIO:  # noqa: ANN401 - any array
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=True, **arrays)
    return stream


def test_arrays_come_back_and_bombs_do_not() -> None:
    found = read_arrays(archive(a=np.arange(6).reshape(2, 3), b=np.array("text"), c=np.zeros((0, 4))))
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    assert str(found["b"]) == "text"
    assert found["c"].shape == (0, 4)
    with pytest.raises(ValueError, match="more bytes are declared"):
        read_arrays(archive(a=np.zeros(200_000_000, np.uint8)))
    with pytest.raises(ValueError, match="not an array of numbers"):
        read_arrays(archive(a=np.array([{}], object)))
    with pytest.raises(ValueError, match="not an archive"):
        read_arrays(io.BytesIO(b"PK\x03\x04 nothing"))


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-1,)", "(2, 2)", "('a',)", "(" * 300 + ")" * 300])
def test_an_array_holds_what_it_declares(shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    text = header.encode() + b" " * (64 - (len(header) + 11) % 64) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 8
    with pytest.raises(ValueError, match=r"array|header|shape|literal|parse|nested"):
        read_array(content)


def test_a_forged_outcome_is_damaged(tmp_path: Path) -> None:
    from benchmark.storage import sha256_bytes

    for number, content in enumerate(
        [
            archive(fields=np.array("[]"), a=np.zeros(3)).getvalue(),
            archive(fields=np.array('{"a":' * 5000)).getvalue(),
            archive(fields=np.array("{}"), val=np.zeros(400_000_000, np.uint8)).getvalue(),
            b"no archive",
        ]
    ):
        path = tmp_path / f"{number}.outcome"
        path.write_bytes(f"outcome {sha256_bytes(content)}\n".encode() + content)
        with pytest.raises(CacheDamaged, match="not a stored outcome"):
            load_outcome(path)


def test_the_archive_reader_knows_only_what_is_bounded() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.npy", b"\0" * 1000)
    with pytest.raises(ValueError, match="unknown way"):
        read_arrays(stream)


# Files of the operating system, of the package itself, and of processes that this program started.
UNGUARDED = {
    "backbones/weights.py",
    "data/fingerprint.py",
    "deployment/converters.py",
    "deployment/examples.py",
    "deployment/export.py",
    "deployment/kit.py",
    "deployment/measure.py",
    "deployment/visit.py",
    "deployment/measuring.py",
    "deployment/worker.py",
    "deployment/targets/onnx.py",
    "engines/hardware.py",
    "execution/apart.py",
    "finetuning/familiar.py",
    "finetuning/recipe.py",
    "machine.py",
    "pipeline/self_test.py",
    "ranking/baselines.py",
    "serving/answers.py",
    "storage/copies.py",
    "storage/reading.py",
}


def test_nothing_else_reads_small_files() -> None:
    package = Path(benchmark.__file__).parent
    direct = re.compile(r"\.read_(text|bytes)\(|\bjson\.loads?\(|\bnp\.load\(|\btomllib\.load\(")
    found = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if direct.search(path.read_text())
    }
    assert found <= UNGUARDED, "read what others may have written with benchmark.storage"
