"""Compaction, cleaning, the size limit, the listing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_shelves import KEY, Shelf, fill, make_features, make_ids

from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize
from benchmark.records import EmbeddingKey
from benchmark.storage import temporary_beside, this_process


def test_compaction_joins_parts_and_keeps_every_bit(tmp_path: Path) -> None:
    shelf = fill(tmp_path, rows=200, per_part=7)
    store = EmbeddingStore(tmp_path)
    assert len(shelf.parts) == 29
    assert store.compact(shelf.key) == 28
    assert len(shelf.parts) == 1
    assert store.read(shelf.key, shelf.ids).features.tobytes() == shelf.features.tobytes()
    assert store.compact(shelf.key) == 0
    shelf.check()


def test_compaction_respects_the_size_of_a_part(tmp_path: Path) -> None:
    dim = 2**17  # half a megabyte a row: 127 rows fill a compacted part
    ids = make_ids(150)
    with EmbeddingStore(tmp_path).writer(KEY, dim, size=PartSize(rows=50)) as writer:
        for number, image_id in enumerate(ids):
            writer.add([image_id], np.full((1, dim), number, np.float32))
    store = EmbeddingStore(tmp_path)
    assert store.compact(KEY) == 1
    sizes = sorted(file.size for file in store.parts(KEY))
    assert sizes[0] < sizes[1] <= 64 * 2**20 + 8192
    assert (store.read(KEY, ids).features[:, 7] == np.arange(150)).all()


def test_compaction_sets_damaged_parts_aside_and_keeps_the_rest(shelf: Shelf) -> None:
    shelf.parts[1].write_bytes(b"damaged")
    store = EmbeddingStore(shelf.root)
    assert store.compact(shelf.key) == 1
    assert len(store.missing(shelf.key, shelf.ids)) == 20
    shelf.check()


def test_two_compactions_at_once_do_not_remove_what_the_other_relies_on(shelf: Shelf) -> None:
    """Compacted parts of equal rows have different names: no part is one's new and the other's old one."""
    store = EmbeddingStore(shelf.root)
    old = {path: path.read_bytes() for path in shelf.parts}
    store.compact(shelf.key)
    (first,) = shelf.parts
    for path, content in old.items():
        path.write_bytes(content)
    first.rename(shelf.root / "first")
    store.compact(shelf.key)
    (second,) = shelf.parts
    assert first.name != second.name


def test_entries_tell_parts_rows_and_bytes(shelf: Shelf) -> None:
    with EmbeddingStore(shelf.root).writer(shelf.key, 5) as writer:  # doubles count once
        writer.add(shelf.ids[:7], shelf.features[:7])
    (entry,) = EmbeddingStore(shelf.root).entries(count_rows=True)
    assert (entry.key, entry.parts, entry.rows) == (shelf.key, 4, 60)
    assert entry.size_bytes == sum(path.stat().st_size for path in shelf.folder.iterdir())
    assert EmbeddingStore(shelf.root).entries()[0].rows is None


def sized(root: Path, ages: list[int]) -> list[EmbeddingKey]:
    """One key per age, all of one size; the larger the age, the longer ago it was used."""
    keys = [replace(KEY, input_size=100 + number) for number in range(len(ages))]
    for key, age in zip(keys, ages, strict=True):
        shelf = fill(root, rows=10, per_part=10, key=key)
        EmbeddingStore(root).read(key, shelf.ids)
        os.utime(shelf.folder / "last-used", (1e9 - age, 1e9 - age))
    return keys


def total(root: Path) -> int:
    return sum(entry.size_bytes for entry in EmbeddingStore(root).entries())


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    keys = sized(tmp_path, [3, 9, 1, 5])
    one = total(tmp_path) // 4
    store = EmbeddingStore(tmp_path)
    removed = store.enforce_limit(2 * one + one // 2)
    assert set(removed.paths) == {store.folder(keys[1]), store.folder(keys[3])}
    assert removed.size_bytes == 2 * one
    assert {entry.key for entry in store.entries()} == {keys[0], keys[2]}
    assert store.enforce_limit(2 * one).paths == ()


def test_keys_of_earlier_versions_stay_readable(tmp_path: Path) -> None:
    """Those had neither engine version nor instruction set; nobody asks for them, and nothing is damaged."""
    earlier = replace(KEY, engine_version="", instructions="")
    assert set(json.loads(earlier.to_json())).isdisjoint({"engine_version", "instructions"})
    later = replace(KEY, engine_version="2.21.0", instructions="x86_64+avx2")
    assert json.loads(later.to_json())["instructions"] == "x86_64+avx2"
    for key in (earlier, later):
        fill(tmp_path, rows=10, per_part=10, key=key)
    store = EmbeddingStore(tmp_path)
    assert {entry.key for entry in store.entries()} == {earlier, later}
    report = store.verify()
    assert (report.keys, report.rows, report.damages) == (2, 20, ())


def test_keys_in_use_stay(tmp_path: Path) -> None:
    keys = sized(tmp_path, [9, 8, 7, 6])
    store = EmbeddingStore(tmp_path)
    store.read(keys[0], make_ids(10))
    with EmbeddingStore(tmp_path).lock(keys[1]):
        store.enforce_limit(0, keep=[keys[2]])
    assert {entry.key for entry in store.entries()} == {keys[0], keys[1], keys[2]}


def test_reading_makes_a_key_recent(tmp_path: Path) -> None:
    keys = sized(tmp_path, [9, 5])
    EmbeddingStore(tmp_path).read(keys[0], make_ids(10))
    EmbeddingStore(tmp_path).enforce_limit(total(tmp_path) - 1)
    assert [entry.key for entry in EmbeddingStore(tmp_path).entries()] == [keys[0]]


def model_of(root: Path, name: str, size: int, used: float) -> Path:
    folder = root / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(bytes(size))
    for path in (folder / "model.bin", folder):
        os.utime(path, (used, used))
    return folder


def test_damaged_files_and_converted_models_count_too(tmp_path: Path) -> None:
    (key,) = sized(tmp_path, [5])
    young, old = model_of(tmp_path, "A-01", 10_000, 1e9), model_of(tmp_path, "B-02", 10_000, 10)
    growing = model_of(tmp_path, temporary_beside(Path("any")).name, 9000, 1e9)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "part").write_bytes(bytes(5000))
    store, one = EmbeddingStore(tmp_path), total(tmp_path)
    assert store.enforce_limit(one + 20_000).paths == (tmp_path / "damaged",)
    assert store.enforce_limit(one + 10_000).paths == (old,)
    assert store.enforce_limit(one + 9999).paths == (store.folder(key),)
    assert young.exists()
    assert growing.exists()


def test_verify_reads_converted_models_and_clean_removes_damaged_ones(tmp_path: Path) -> None:
    fill(tmp_path, rows=2, per_part=2)
    model = model_of(tmp_path, "A-01", 100, 1e9)
    report = EmbeddingStore(tmp_path).verify()
    assert (report.models, [damage.path for damage in report.damages]) == (0, [model])
    assert not model.exists()
    assert report.damages[0].moved_to == tmp_path / "damaged"
    assert EmbeddingStore(tmp_path).clean().paths == (tmp_path / "damaged",)


def test_cleaning_takes_stale_files_and_given_keys_only(shelf: Shelf) -> None:
    other = replace(KEY, input_size=64)
    fill(shelf.root, rows=4, per_part=4, key=other)
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    mine, dead = temporary_beside(shelf.folder / "any"), shelf.folder / f".tmp-{gone}.17-0123456789ab"
    old_folder = shelf.root / f".tmp-{gone}.17-ba9876543210"
    old_folder.mkdir()
    (old_folder / "part").write_bytes(b"123")
    mine.write_bytes(b"1")
    dead.write_bytes(b"22")
    (shelf.root / ".tmp-notes").write_text("mine")
    removed = EmbeddingStore(shelf.root).clean([other])
    assert set(removed.paths) == {dead, old_folder, EmbeddingStore(shelf.root).folder(other)}
    assert mine.exists()
    assert (shelf.root / ".tmp-notes").exists()
    assert [entry.key for entry in EmbeddingStore(shelf.root).entries()] == [shelf.key]
    shelf.check()


def test_a_younger_process_with_the_number_of_a_dead_one_does_not_keep_its_files(shelf: Shelf) -> None:
    """Whatever a file server's clock says of when they were written."""
    host, pid, started = this_process().split(".")
    own, stale = (
        shelf.folder / f".tmp-{host}.{pid}.{start}-0123456789ab" for start in (started, int(started) - 60)
    )
    for path in (own, stale):
        path.write_bytes(b"")
        os.utime(path, (1, 1))
    assert EmbeddingStore(shelf.root).clean().paths == (stale,)
    assert own.exists()


@pytest.mark.parametrize(("days", "is_removed"), [(6, False), (8, True)])
def test_what_another_machine_is_writing_on_a_shared_folder_stays_for_a_week(
    shelf: Shelf, days: int, is_removed: bool
) -> None:
    """Its commands hand files over to a cluster from such a folder, for as long as they run."""
    theirs = shelf.root / ".tmp-00000000.17.1700000000-0123456789ab"
    theirs.mkdir()
    (theirs / "model").write_bytes(b"123")
    then = time.time() - days * 24 * 3600
    for path in (theirs / "model", theirs):
        os.utime(path, (then, then))
    assert EmbeddingStore(shelf.root).clean().paths == ((theirs,) if is_removed else ())
    assert theirs.exists() != is_removed


class Diary:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    def started(self, task: str, total: int) -> None:
        self.lines.append(("started", task, total))

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.lines.append(("advanced", task, done))

    def finished(self, task: str, note: str = "") -> None:
        self.lines.append(("finished", task))

    def message(self, text: str) -> None:
        self.lines.append(("message", text))


def test_an_observer_sees_progress_and_damage(shelf: Shelf) -> None:
    shelf.parts[0].write_bytes(b"")
    told, watched = Diary(), Diary()
    EmbeddingStore(shelf.root, observer=told).verify(watched)
    assert watched.lines[0] == ("started", "verify", 3)
    assert watched.lines[-2:] == [("advanced", "verify", 3), ("finished", "verify")]
    ((_, message),) = told.lines
    assert "the bytes are not those that were written" in str(message)
    assert "damaged" in str(message)


@pytest.mark.parametrize("name", ["a/b:c", "..", "", ".hidden", "ü" * 300, "-", "CON", "a\nb"])
def test_any_backbone_name_makes_a_plain_folder(tmp_path: Path, name: str) -> None:
    shelf = fill(tmp_path, rows=3, per_part=3, key=replace(KEY, backbone=name))
    assert shelf.folder.parent == tmp_path
    assert shelf.folder.is_dir()
    assert (
        make_features(shelf.ids, 5).tobytes()
        == EmbeddingStore(tmp_path).read(shelf.key, shelf.ids).features.tobytes()
    )
