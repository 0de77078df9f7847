"""Damaged and foreign files: detected, named, moved aside, computed again; never used."""

from __future__ import annotations

import io
import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_shelves import KEY, Shelf, fill, make_features, make_ids

from benchmark.embeddings import EmbeddingStore
from benchmark.errors import CacheError
from benchmark.storage import sha256_bytes

Damage = Callable[[bytes], bytes]


def assert_found_and_recomputed(shelf: Shelf, path: Path, reason: str) -> None:
    """One file is damaged: its rows are missing, it lies in ``damaged/``; running again mends the cache."""
    store = EmbeddingStore(shelf.root)
    absent = store.missing(shelf.key, shelf.ids)
    shelf.check()
    assert [damage.path for damage in store.damages] == [path]
    assert reason in store.damages[0].reason
    assert not path.exists()
    assert store.damages[0].moved_to is not None
    assert store.damages[0].moved_to.parent == shelf.root / "damaged"
    with store.writer(shelf.key, 5) as writer:
        writer.add(absent, make_features(absent, 5))
    assert store.missing(shelf.key, shelf.ids) == ()
    shelf.check()


def outcome(shelf: Shelf, part: Path, content: bytes) -> tuple[bool, int]:
    """Whether a damaged part was found, and how many rows were handed out wrong; the part is restored."""
    good = part.read_bytes()
    part.write_bytes(content)
    store = EmbeddingStore(shelf.root)
    absent = set(store.missing(shelf.key, shelf.ids))
    held = [row for row, image_id in enumerate(shelf.ids) if image_id not in absent]
    read = store.read(shelf.key, [shelf.ids[row] for row in held]).features
    part.write_bytes(good)
    return bool(store.damages) and len(absent) == 20, int((read != shelf.features[held]).any(axis=1).sum())


def inject(shelf: Shelf, contents: Iterator[bytes], fault: str, torture_row: Callable[..., None]) -> int:
    part = shelf.parts[1]
    outcomes = [outcome(shelf, part, content) for content in contents]
    wrong = sum(bad for _, bad in outcomes)
    found = sum(seen for seen, _ in outcomes)
    shelf.check()
    lost = len(EmbeddingStore(shelf.root).missing(shelf.key, shelf.ids))
    torture_row(fault, injected=len(outcomes), survived=found, rows_lost=lost, rows_wrong=wrong)
    assert (found, wrong, lost) == (len(outcomes), 0, 0)
    return len(outcomes)


def flips(content: bytes, count: int) -> Iterator[bytes]:
    chance = random.Random(count)
    for position in chance.sample(range(len(content)), min(count, len(content))):
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        yield bytes(damaged)


@pytest.mark.parametrize("count", [60, pytest.param(1500, marks=pytest.mark.torture)])
def test_flipped_bits(shelf: Shelf, count: int, torture_row: Callable[..., None]) -> None:
    inject(shelf, flips(shelf.parts[1].read_bytes(), count), "flipped bit", torture_row)


@pytest.mark.parametrize("step", [97, pytest.param(5, marks=pytest.mark.torture)])
def test_truncations(shelf: Shelf, step: int, torture_row: Callable[..., None]) -> None:
    content = shelf.parts[1].read_bytes()
    with h5py.File(io.BytesIO(content)) as file:
        starts = [file[name].id.get_offset() for name in file]
        ends = [file[name].id.get_offset() + file[name].id.get_storage_size() for name in file]
    edges = {0, 1, 7, 8, 9, 48, 512, 4096, len(content) - 1, *starts, *ends}
    edges |= {edge + nudge for edge in edges for nudge in (-1, 1)}
    cuts = {cut for cut in (*edges, *range(0, len(content), step)) if 0 <= cut < len(content)}
    inject(shelf, (content[:cut] for cut in sorted(cuts)), "truncated part", torture_row)


@pytest.mark.parametrize("step", [256, pytest.param(32, marks=pytest.mark.torture)])
def test_zeroed_pages(shelf: Shelf, step: int, torture_row: Callable[..., None]) -> None:
    content = shelf.parts[1].read_bytes()
    pages = (
        content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :]
        for at in range(0, len(content), step)
    )
    inject(shelf, (page for page in pages if page != content), "zeroed page", torture_row)


def test_appended_bytes(shelf: Shelf, torture_row: Callable[..., None]) -> None:
    content = shelf.parts[1].read_bytes()
    inject(shelf, iter([content + b"\0", content + content, b"\0" + content]), "appended bytes", torture_row)


def put(shelf: Shelf, content: bytes) -> Path:
    """Put bytes into the folder under the name that they ask for: only their structure can give them away."""
    path = shelf.folder / f"part-{sha256_bytes(content)[:16]}.h5"
    path.write_bytes(content)
    return path


def hdf5(write: Callable[[h5py.File], object], version: str = "v110") -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=(version, "latest")) as file:
        write(file)
    return memory.getvalue()


def plain(file: h5py.File, *, skip: str = "", key: str = KEY.to_json(), rows: int = 3) -> None:
    """A part as this program writes it, unless something is asked to be left out."""
    file.attrs["key"] = np.bytes_(key.encode())
    file.attrs["schema"] = np.int64(1)
    ids = make_ids(rows, "planted")
    if skip != "image_ids":
        file["image_ids"] = np.sort(np.array(ids, "S64"))
    if skip != "features":
        file["features"] = np.ones((rows, 5), np.float32)


def external_link(file: h5py.File) -> None:
    plain(file, skip="features")
    file["features"] = h5py.ExternalLink("/etc/hostname", "features")


def soft_link(file: h5py.File) -> None:
    plain(file, skip="features")
    file["features"] = h5py.SoftLink("/image_ids")


def external_storage(file: h5py.File) -> None:
    plain(file, skip="features")
    file.create_dataset("features", (3, 5), "<f4", external=[("/etc/passwd", 0, 60)])


def virtual(file: h5py.File) -> None:
    plain(file, skip="features")
    layout = h5py.VirtualLayout((3, 5), "<f4")
    layout[:] = h5py.VirtualSource("/elsewhere.h5", "features", (3, 5))
    file.create_virtual_dataset("features", layout)


def bomb(file: h5py.File) -> None:
    """Declares 4 TB in two kilobytes."""
    plain(file, skip="features")
    file.create_dataset("features", (2**40, 1), "<f4", chunks=(2**20, 1))


def contiguous_bomb(file: h5py.File) -> None:
    plain(file, skip="features")
    file.create_dataset("features", (2**40, 1), "<f4")


def long_key(file: h5py.File) -> None:
    plain(file, key="x" * 60_000)


def bomb_of_ids(file: h5py.File) -> None:
    plain(file, skip="image_ids")
    file.create_dataset("image_ids", (2**36,), "S64", chunks=(2**10,))


def compressed(file: h5py.File) -> None:
    plain(file, skip="features")
    file.create_dataset("features", data=np.zeros((3, 5), np.float32), compression="gzip")


def objects(file: h5py.File) -> None:
    plain(file, skip="image_ids")
    file["image_ids"] = ["a", "b", "c"]


def big_endian(file: h5py.File) -> None:
    plain(file, skip="features")
    file["features"] = np.ones((3, 5), ">f4")


def fewer_features(file: h5py.File) -> None:
    plain(file, skip="features")
    file["features"] = np.ones((2, 5), np.float32)


def not_finite(file: h5py.File) -> None:
    plain(file, skip="features")
    file["features"] = np.full((3, 5), np.nan, np.float32)


def unsorted_ids(file: h5py.File) -> None:
    plain(file, skip="image_ids")
    file["image_ids"] = np.array(make_ids(1, "x") * 3, "S64")


def extra_member(file: h5py.File) -> None:
    plain(file)
    file["more"] = 1


def a_group(file: h5py.File) -> None:
    plain(file, skip="features")
    file.create_group("features")


def empty(file: h5py.File) -> None:
    file.attrs["key"] = np.bytes_(KEY.to_json().encode())


def no_rows(file: h5py.File) -> None:
    plain(file, rows=0)


def no_key(file: h5py.File) -> None:
    plain(file)
    del file.attrs["key"]


def variable_key(file: h5py.File) -> None:
    plain(file)
    file.attrs["key"] = KEY.to_json()


def other_schema(file: h5py.File) -> None:
    plain(file)
    file.attrs["schema"] = np.int64(0)


def huge_schema(file: h5py.File) -> None:
    plain(file)
    file.attrs["schema"] = np.zeros(5000, np.int64)


FOREIGN = [
    external_link, soft_link, external_storage, virtual, bomb, contiguous_bomb, bomb_of_ids, compressed,
    objects, big_endian, fewer_features, not_finite, unsorted_ids, extra_member, a_group, empty, no_rows,
    no_key, variable_key, long_key, other_schema, huge_schema,
]  # fmt: skip


@pytest.mark.parametrize("write", FOREIGN, ids=lambda write: write.__name__)
def test_hdf5_that_is_no_part_is_refused(
    shelf: Shelf, write: Callable[[h5py.File], object], torture_row: Callable[..., None]
) -> None:
    path = put(shelf, hdf5(write))
    store = EmbeddingStore(shelf.root)
    assert store.missing(shelf.key, shelf.ids) == ()
    assert [damage.path for damage in store.damages] == [path]
    assert store.missing(shelf.key, make_ids(3, "planted")) == make_ids(3, "planted")
    shelf.check()
    torture_row("foreign HDF5 content under a right hash", injected=1, survived=1)


def test_the_planted_part_would_be_read_if_nothing_were_wrong_with_it(shelf: Shelf) -> None:
    put(shelf, hdf5(plain))
    store = EmbeddingStore(shelf.root)
    assert store.missing(shelf.key, make_ids(3, "planted")) == ()
    assert store.damages == ()


FILES = {
    "zero length": lambda shelf: b"",
    "text": lambda shelf: b"path,label\n",
    "old HDF5": lambda shelf: hdf5(plain, "earliest"),
    "another backbone": lambda shelf: other(shelf, backbone="MobileNet_0.5"),
    "other weights": lambda shelf: other(shelf, weights_sha256="b" * 64),
    "old schema": lambda shelf: other(shelf, schema=0),
}


def other(shelf: Shelf, **changes: object) -> bytes:
    """A good part of another key."""
    return fill(shelf.root / "other", rows=5, per_part=5, key=replace(KEY, **changes)).parts[0].read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_foreign_files_under_a_right_hash(shelf: Shelf, name: str, torture_row: Callable[..., None]) -> None:
    path = put(shelf, FILES[name](shelf))
    assert_found_and_recomputed(shelf, path, "")
    torture_row("foreign file under a right hash", injected=1, survived=1)


def test_another_parts_content_under_this_name(shelf: Shelf, torture_row: Callable[..., None]) -> None:
    path = shelf.parts[0]
    path.write_bytes(other(shelf, backbone="ResNet50"))
    assert_found_and_recomputed(shelf, path, "not those that were written")
    torture_row("another backbone's part under this name", injected=1, survived=1)


def test_a_part_that_declares_more_than_any_part_has_is_not_read(shelf: Shelf) -> None:
    path = shelf.folder / f"part-{'0' * 16}.h5"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse terabyte
    assert_found_and_recomputed(shelf, path, "1,099,511,627,776 bytes")


def link(path: Path, shelf: Shelf) -> None:
    target = shelf.root / "elsewhere.h5"
    target.write_bytes(shelf.parts[0].read_bytes())
    path.symlink_to(target)


def folder(path: Path, shelf: Shelf) -> None:
    path.mkdir()


def pipe(path: Path, shelf: Shelf) -> None:
    os.mkfifo(path)


def dangling(path: Path, shelf: Shelf) -> None:
    path.symlink_to("nowhere")


def unix_socket(path: Path, shelf: Shelf) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(path.parent)  # socket names are at most 108 bytes long
        end.bind(path.name)


@pytest.mark.skipif(os.name != "posix", reason="links, pipes and sockets as on POSIX")
@pytest.mark.parametrize("make", [link, folder, pipe, dangling, unix_socket], ids=lambda make: make.__name__)
def test_what_is_no_regular_file_is_neither_read_nor_touched(
    shelf: Shelf,
    make: Callable[[Path, Shelf], None],
    monkeypatch: pytest.MonkeyPatch,
    torture_row: Callable[..., None],
) -> None:
    monkeypatch.chdir(shelf.root)
    path = shelf.folder / "part-0000000000000000.h5"
    make(path, shelf)
    store = EmbeddingStore(shelf.root)
    shelf.check()
    report = store.verify()
    assert report.strangers == (path,)
    assert report.damages == ()
    assert os.path.lexists(path)
    torture_row("link, folder, pipe or socket among the parts", injected=1, survived=1)


def test_files_of_other_programs_is_left_alone(shelf: Shelf) -> None:
    names = [
        "part-xyz.h5",
        "notes.txt",
        "part-0123456789abcdef.h5.bak",
        ".DS_Store",
        "PART-0123456789ABCDEF.H5",
    ]
    for name in names:
        (shelf.folder / name).write_text("mine")
    (shelf.root / "my folder").mkdir()
    (shelf.root / "x-0123").mkdir()
    store = EmbeddingStore(shelf.root)
    store.clean()
    assert store.compact(shelf.key) == 2
    assert {path.name for path in store.verify().strangers} == set(names)
    assert (shelf.root / "my folder").is_dir()
    shelf.check()


def test_a_key_folder_that_is_a_link_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shelf.folder.rename(elsewhere)
    shelf.folder.symlink_to(elsewhere)
    store = EmbeddingStore(shelf.root)
    for act in (
        lambda: store.missing(shelf.key, shelf.ids),
        lambda: store.read(shelf.key, shelf.ids),
        lambda: store.writer(shelf.key, 5),
        lambda: store.clean([shelf.key]),
    ):
        with pytest.raises(CacheError, match="a link or a file"):
            act()
    assert store.entries() == ()
    assert len(list(elsewhere.glob("part-*"))) == 3


def test_a_damaged_folder_that_is_a_link_receives_nothing(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (shelf.root / "damaged").symlink_to(tmp_path / "elsewhere")
    part = shelf.parts[0]
    part.write_bytes(b"")
    store = EmbeddingStore(shelf.root)
    assert len(store.missing(shelf.key, shelf.ids)) == 20
    assert store.damages[0].moved_to is None
    assert part.exists()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_part_replaced_by_a_good_one_is_not_moved_aside(shelf: Shelf) -> None:
    """Another process mended the part between our reading it and our moving it: the good one stays."""
    part = shelf.parts[0]
    good = part.read_bytes()
    part.write_bytes(b"damaged")
    store = EmbeddingStore(shelf.root)
    (seen, *_) = store.parts(shelf.key)
    part.unlink()
    (part.parent / "new").write_bytes(good)
    (part.parent / "new").rename(part)
    assert store.open(replace(seen, inode=seen.inode)) is not None
    shelf.check()
    assert store.damages == ()


KEY_FILES = {
    "missing": None,
    "empty": b"",
    "torn": KEY.to_json().encode()[:100],
    "another key": replace(KEY, input_size=64).to_json().encode(),
    "not JSON": b"\x89HDF",
    "not UTF-8": b"\xff\xfe",
    "deep": b"[" * 60_000,
    "huge": b" " * 100_000,
    "a list": b"[]",
    "an extra field": KEY.to_json().replace("{", '{"more": 1,', 1).encode(),
    "a missing field": KEY.to_json().replace('"pooling": "avg",', "").encode(),
    "a wrong type": KEY.to_json().replace('"input_size": 32', '"input_size": "32"').encode(),
    "true for one": KEY.to_json().replace('"schema": 1', '"schema": true').encode(),
    "an unknown engine": KEY.to_json().replace('"tensorflow"', '"abacus"').encode(),
    "a huge number": KEY.to_json().replace('"input_size": 32', f'"input_size": 1{"0" * 5000}').encode(),
}


@pytest.mark.parametrize("name", KEY_FILES)
def test_a_damaged_key_file_is_written_again(
    shelf: Shelf, name: str, torture_row: Callable[..., None]
) -> None:
    path = shelf.folder / "key.json"
    good = path.read_bytes()
    content = KEY_FILES[name]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    store = EmbeddingStore(shelf.root)
    assert store.keys_of(shelf.key.backbone) == ()
    assert [entry.key for entry in store.entries()] == [shelf.key]
    shelf.check()
    report = store.verify()
    assert [damage.path for damage in report.damages] == [path] * (content is not None)
    assert path.read_bytes() == good
    assert store.keys_of(shelf.key.backbone) == (shelf.key,)
    torture_row("damaged key.json", injected=1, survived=1)


def test_verify_reads_everything_and_names_every_damage(shelf: Shelf) -> None:
    fill(shelf.root, rows=30, per_part=10, key=replace(KEY, input_size=64))
    broken = [shelf.parts[0], shelf.parts[2]]
    for part in broken:
        part.write_bytes(part.read_bytes()[:-1])
    report = EmbeddingStore(shelf.root).verify()
    assert (report.keys, report.parts, report.rows) == (2, 4, 50)
    assert {damage.path for damage in report.damages} == set(broken)
    assert all("not those that were written" in damage.reason for damage in report.damages)
