"""The memo of scans: what did not change is not read or decoded again, and damage does not matter."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from benchmark.data import load_images, scan
from benchmark.data.index import Index
from benchmark.data.scan import Scanner
from benchmark.data.workers import map_in_order

Picture = Callable[[int], bytes]


class Scanned:
    """What a scan of a folder did, and found."""

    def __init__(self, folder: Path, cache: Path) -> None:
        paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
        index = Index.load(cache, str(folder), "test")
        scanner = Scanner(root=str(folder), index=index, max_pixels=10**6)
        with (
            mock.patch.object(scan, "read_stamped", wraps=scan.read_stamped) as reads,
            mock.patch.object(scan, "check_decodable", wraps=scan.check_decodable) as checks,
        ):
            self.findings = dict(zip(paths, scanner.scan(paths), strict=True))
        self.read, self.decoded = reads.call_count, checks.call_count
        self.file = index.file


class Watcher:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def started(self, task: str, total: int) -> None:
        self.calls.append(("started", task, total))

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.calls.append(("advanced", task, done))

    def finished(self, task: str, note: str = "") -> None:
        self.calls.append(("finished", task))

    def message(self, text: str) -> None:
        self.calls.append(("message", text))


@pytest.fixture
def settled(folder: Path) -> Path:
    """A folder whose files are older than the clock tick within which a change could go unseen."""
    (folder / "a" / "bad.png").write_bytes(b"<html>")
    time.sleep(0.06)
    return folder


def test_a_second_scan_reads_nothing(settled: Path, cache: Path) -> None:
    first, second = Scanned(settled, cache), Scanned(settled, cache)
    assert (first.read, first.decoded) == (31, 31)
    assert (second.read, second.decoded) == (0, 0)
    assert second.findings == first.findings
    assert [path for path, finding in first.findings.items() if finding.reason] == ["a/bad.png"]


def test_only_what_is_new_is_read(settled: Path, cache: Path, picture: Picture) -> None:
    Scanned(settled, cache)
    (settled / "a" / "new.png").write_bytes(picture(40))
    again = Scanned(settled, cache)
    assert (again.read, again.decoded) == (1, 1)


def test_renamed_and_copied_files_are_not_decoded_again(settled: Path, cache: Path) -> None:
    before = Scanned(settled, cache).findings
    (settled / "a" / "00.png").rename(settled / "a" / "renamed.png")
    shutil.copyfile(settled / "a" / "bad.png", settled / "b" / "bad too.png")
    again = Scanned(settled, cache)
    assert (again.read, again.decoded) == (2, 0)
    assert again.findings["a/renamed.png"] == before["a/00.png"]
    assert again.findings["b/bad too.png"] == before["a/bad.png"]


def test_a_change_of_the_same_size_and_time_is_seen(settled: Path, cache: Path, picture: Picture) -> None:
    Scanned(settled, cache)
    path = settled / "a" / "00.png"
    status = path.stat()
    changed = bytearray(path.read_bytes())
    changed[-20] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Scanned(settled, cache).read == 1


def test_a_file_that_was_just_written_is_not_remembered(folder: Path, cache: Path, picture: Picture) -> None:
    path = folder / "a" / "00.png"
    path.write_bytes(picture(41))
    soon = path.stat().st_ctime_ns + 1_000_000
    with mock.patch.object(scan.time, "time_ns", return_value=soon):
        Scanned(folder, cache)
    time.sleep(0.06)
    assert Scanned(folder, cache).read >= 1
    assert Scanned(folder, cache).read == 0


def test_files_that_are_gone_are_forgotten(settled: Path, cache: Path, picture: Picture) -> None:
    size = Scanned(settled, cache).file.stat().st_size
    for path in (settled / "b").iterdir():
        path.unlink()
    (settled / "a" / "new.png").write_bytes(picture(42))
    time.sleep(0.06)
    assert Scanned(settled, cache).file.stat().st_size < size


@pytest.mark.parametrize("at", [0, 31, 32, 40, 200, 1000, -1])
def test_a_flipped_byte_of_the_index_is_noticed(settled: Path, cache: Path, at: int) -> None:
    first = Scanned(settled, cache)
    content = bytearray(first.file.read_bytes())
    content[at] ^= 0x10
    first.file.write_bytes(content)
    again = Scanned(settled, cache)
    assert again.read == 31
    assert again.findings == first.findings
    assert Scanned(settled, cache).read == 0


@pytest.mark.parametrize("content", [b"", b"x", bytes(32), b'{"not": "ours"}\n' * 9])
def test_a_foreign_index_is_ignored(settled: Path, cache: Path, content: bytes) -> None:
    first = Scanned(settled, cache)
    first.file.write_bytes(content)
    assert Scanned(settled, cache).findings == first.findings


def test_loading_uses_the_memo_and_tells_how_far_it_is(settled: Path, cache: Path) -> None:
    watcher = Watcher()
    images = load_images(settled, cache=cache, observer=watcher)
    assert watcher.calls[0] == ("started", "scan", 31)
    assert watcher.calls[-2:] == [("advanced", "scan", 31), ("finished", "scan")]
    assert list((cache / "index").glob("*.npz"))
    assert load_images(settled, cache=cache).fingerprint() == images.fingerprint()


def test_an_index_that_cannot_be_written_is_told(settled: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    (tmp_path / "file").write_bytes(b"")
    load_images(settled, cache=tmp_path / "file", observer=watcher)
    assert any(call[0] == "message" and "cannot be remembered" in str(call[1]) for call in watcher.calls)


def test_mapping_keeps_order_and_holds_only_a_few_items() -> None:
    taken: list[int] = []

    def items() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    results = map_in_order(lambda number: number * 2, items(), 2)  # type: ignore[arg-type]
    assert next(results) == 0
    assert len(taken) <= 16
    assert list(results) == [2 * number for number in range(1, 1000)]


def test_an_error_comes_where_its_result_would_have() -> None:
    results = map_in_order(lambda number: 1 // (3 - number), range(100), 2)
    assert [next(results), next(results), next(results)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
