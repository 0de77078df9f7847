"""No room, no permission, no file handles: a clear error, earlier work intact, a later run goes on."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from store_processes import finish, start
from store_shelves import KEY, make_features, make_ids
from store_worker import DIM

from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits and permissions as on POSIX")

_ROWS = 64
_NOBODY = "65534"


def fill(root: Path) -> None:
    with EmbeddingStore(root).writer(KEY, DIM, size=PartSize(rows=8)) as writer:
        writer.add(make_ids(_ROWS), make_features(make_ids(_ROWS), DIM))


def lost_and_wrong(root: Path) -> tuple[int, int]:
    store = EmbeddingStore(root)
    lost = len(store.missing(KEY, make_ids(_ROWS)))
    features = store.read(KEY, make_ids(_ROWS)).features
    return lost, int((features != make_features(make_ids(_ROWS), DIM)).any(axis=1).sum())


def said_error(task: str, root: Path, limits: Mapping[str, str], rows: int = 320) -> str:
    """The error that a worker met, as its user would see it; empty when it met none."""
    return next((rest for event, rest in finish(start(task, root, rows, limits)) if event == "error"), "")


def test_a_limit_on_the_size_of_files(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    fill(tmp_path)
    other = tmp_path / "big"
    fill(other)
    # The key of the full disk test has vectors of another length: it needs a cache of its own.
    message = said_error("overfill", tmp_path / "new", {"WORKER_FSIZE": "200000"})
    assert message.startswith("StorageError")
    assert "cannot be written; got File too large. Free some space" in message
    assert not list(tmp_path.rglob(".tmp-*"))
    lost, wrong = lost_and_wrong(tmp_path)
    torture_row("file-size limit", injected=1, survived=1, rows_lost=lost, rows_wrong=wrong)
    assert said_error("overfill", tmp_path / "new", {}) == ""
    assert EmbeddingStore(tmp_path / "new").missing(KEY, make_ids(320)) == ()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(small_disk: Path, torture_row: Callable[..., None]) -> None:
    lines = finish(start("overfill", small_disk, 320))
    (message,) = [rest for event, rest in lines if event == "error"]
    durable = int([rest for event, rest in lines if event == "part"][-1])
    assert 0 < durable < 320
    assert "No space left on device. Free some space" in message
    store = EmbeddingStore(small_disk)
    ids = make_ids(320)
    lost = len(store.missing(KEY, ids[:durable]))
    wrong = int((store.read(KEY, ids[:durable]).features != 1).any(axis=1).sum())
    assert not list(small_disk.rglob(".tmp-*"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert said_error("overfill", small_disk, {}) == ""
    lost += len(EmbeddingStore(small_disk).missing(KEY, ids))
    torture_row("full disk", injected=1, survived=1, rows_lost=lost, rows_wrong=wrong)
    assert (lost, wrong) == (0, 0)


def test_too_many_open_files(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    fill(tmp_path)
    for task in ("look", "overfill"):
        message = said_error(task, tmp_path, {"WORKER_NOFILE": "3"}, _ROWS)
        assert "Too many open files. Raise the limit of open files (ulimit -n)" in message
    lost, wrong = lost_and_wrong(tmp_path)
    assert not (tmp_path / "damaged").exists()
    torture_row("too many open files", injected=2, survived=2, rows_lost=lost, rows_wrong=wrong)
    assert (lost, wrong) == (0, 0)


@pytest.fixture
def read_only() -> Iterator[tuple[Path, dict[str, str]]]:
    """A filled cache that the worker may read and not write, and the worker's environment."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "cache")
        fill(root)
        paths = [Path(folder), root, *root.rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield root, {"WORKER_USER": _NOBODY} if os.geteuid() == 0 else {}
        for path in paths:
            path.chmod(0o755)


def test_a_read_only_cache_can_be_read(
    read_only: tuple[Path, dict[str, str]], torture_row: Callable[..., None]
) -> None:
    root, environment = read_only
    lines = finish(start("look", root, _ROWS, environment))
    assert lines == [("part", str(_ROWS)), ("owned", "1"), ("wrong", "0"), ("done", "")]
    torture_row("read-only cache, read", injected=1, survived=1)


def test_writing_to_a_read_only_cache_says_what_to_do(
    read_only: tuple[Path, dict[str, str]], torture_row: Callable[..., None]
) -> None:
    root, environment = read_only
    process = start("fill", root, _ROWS + 8, environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "StorageError" in errors
    assert "got Permission denied. Choose a folder that you may write to" in errors
    lost, wrong = lost_and_wrong(root)
    torture_row("read-only cache, written", injected=1, survived=1, rows_lost=lost, rows_wrong=wrong)
    assert (lost, wrong) == (0, 0)


def test_damage_in_a_read_only_cache_is_found_and_stays(read_only: tuple[Path, dict[str, str]]) -> None:
    root, environment = read_only
    part = EmbeddingStore(root).parts(KEY)[0].path
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1])
    part.chmod(0o444)
    lines = finish(start("look", root, _ROWS, environment))
    assert lines[0] == ("part", str(_ROWS - 8))
    assert "rows are missing" in lines[2][1]
    assert part.exists()


def test_a_full_disk_keeps_the_buffered_rows_for_another_try(tmp_path: Path) -> None:
    """The rows of a failed flush stay with the writer: nothing is half-written, nothing forgotten."""
    root = tmp_path / "cache"
    fill(root)
    store = EmbeddingStore(root)
    folder, aside = store.folder(KEY), tmp_path / "aside"
    new = make_ids(4, "new")
    with store.writer(KEY, DIM) as writer:
        writer.add(new, np.ones((4, DIM), np.float32))
        folder.rename(aside)
        folder.write_text("in the way")
        with pytest.raises(Exception, match="cannot be"):
            writer.flush()
        assert writer.rows_buffered == 4
        folder.unlink()
        aside.rename(folder)
    assert store.missing(KEY, new) == ()
