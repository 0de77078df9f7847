"""Files are whole or absent, and a failed write says what to do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from benchmark.cells import cell_text, figure, printable, safe_cell
from benchmark.errors import StorageError
from benchmark.storage import (
    Memo,
    Stored,
    check_inside,
    dead_temporaries,
    is_abandoned,
    lock_folder,
    parse_record,
    path_part,
    place,
    remove_leftovers,
    replace_folder,
    sha256_bytes,
    sha256_file,
    shrink,
    storage_error,
    sync_folder,
    this_process,
    write_whole,
)


def test_a_file_is_written_whole_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    write_whole(target, b"one", root=tmp_path)
    write_whole(target, b"two", root=tmp_path)
    assert target.read_bytes() == b"two"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert sha256_file(target) == sha256_bytes(b"two")


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
def test_where_locks_do_not_work_everybody_is_alone_and_nothing_is_left_that_could_go_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    with lock_folder(tmp_path, "key") as first, lock_folder(tmp_path, "key") as second:
        assert first
        assert second
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert not left, "no file says who has a lock"


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be written"):
        write_whole(target, b"a file cannot replace a folder", root=tmp_path)
    assert (target / "inside").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def folders(root: Path) -> tuple[Path, Path]:
    """A finished folder, and the one that it is to replace."""
    staged, final = root / "staged", root / "final"
    for folder, content in ((staged, "new"), (final, "old")):
        folder.mkdir()
        (folder / "file").write_text(content)
    return staged, final


def test_a_folder_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    staged, final = folders(tmp_path)
    replace_folder(staged, final)
    assert (final / "file").read_text() == "new"
    final.rename(staged)
    replace_folder(staged, final)
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOTEMPTY, "a file that is open elsewhere"), KeyboardInterrupt()]
)
def test_the_new_folder_stands_however_deleting_the_old_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    staged, final = folders(tmp_path)
    monkeypatch.setattr(shutil, "rmtree", fail)
    with suppress(KeyboardInterrupt):
        replace_folder(staged, final)
    assert (final / "file").read_text() == "new"


def test_of_those_who_replace_a_folder_at_once_each_puts_his_own_whole(tmp_path: Path) -> None:
    final = tmp_path / "final"

    def replace_often(who: str) -> None:
        for number in range(300):
            staged = tmp_path / f"{who}-{number}"
            staged.mkdir()
            (staged / "file").write_text(who)
            replace_folder(staged, final)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(replace_often, "abc"))
    assert (final / "file").read_text() in "abc"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_the_old_folder_stands_where_there_is_no_new_one(tmp_path: Path) -> None:
    staged, final = folders(tmp_path)
    shutil.rmtree(staged)
    with pytest.raises(StorageError):
        replace_folder(staged, final)
    assert (final / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_leftover_that_cannot_be_deleted_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stuck", "free"):
        (tmp_path / "export" / name / ".tmp-999999999.1-0a").mkdir(parents=True)
    own = shutil.rmtree

    def sometimes(path: Path) -> None:
        if path.parent.name == stuck:
            raise PermissionError(path)
        own(path)

    monkeypatch.setattr(shutil, "rmtree", sometimes)
    stuck = next(dead_temporaries(tmp_path)).parent.name  # the first that is tried
    remove_leftovers(tmp_path)
    (other,) = {"stuck", "free"} - {stuck}
    assert list((tmp_path / "export" / other).iterdir()) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_folder_that_cannot_be_flushed_fails_no_write(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared folders of virtual machines flush files alone."""
    broken_folders(number, monkeypatch)
    write_whole(tmp_path / "file", b"content", root=tmp_path)
    assert (tmp_path / "file").read_bytes() == b"content"
    sync_folder(tmp_path)


def test_a_folder_that_fails_to_be_flushed_fails_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_folders(errno.EIO, monkeypatch)
    with pytest.raises(StorageError):
        write_whole(tmp_path / "file", b"content", root=tmp_path)


def broken_folders(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on flushing a folder fails with an error of this number."""
    flush = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


def test_a_machine_of_the_same_name_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """Two containers may share a cache and their host's name; neither sees the other's processes."""
    host, pid, started = this_process().split(".")
    assert is_abandoned(tmp_path, f"{host}.{pid}.{int(started) - 60}")
    namesake = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    theirs = f"{namesake}.{pid}.{int(started) - 60}"
    assert not is_abandoned(tmp_path, theirs)
    os.utime(tmp_path, (1, 1))
    assert is_abandoned(tmp_path, theirs), "nothing was written there for a week"


def test_making_room_looks_at_each_thing_a_few_times_at_most() -> None:
    """A cache of a million images has a million copies."""
    looks = 0

    class Watched(Stored):
        __slots__ = ()

        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += name == "size_bytes"
            return super().__getattribute__(name)

    things = [Watched(path=Path(f"{one:04}"), size_bytes=1, last_used=0.0) for one in range(1000)]
    asked: list[Path] = []

    def remove(path: Path) -> bool:
        asked.append(path)
        return path != Path("0001")

    removed = shrink(things, 900, remove)
    assert asked == [Path(f"{one:04}") for one in range(101)]
    assert removed.paths == (Path("0000"), *(Path(f"{one:04}") for one in range(2, 101)))
    assert removed.size_bytes == 100
    assert looks < 4 * len(things)


@dataclass(frozen=True)
class Reading:
    name: str
    share: Annotated[float, Field(le=1)]
    parts: dict[str, int]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"share": 2.0}, "share: Input should be less than or equal to 1; got 2.0"),
        ({"share": "0.5"}, "share: Input should be a valid number; got '0.5'"),
        ({"name": None}, "name: Input should be a valid string; got None"),
        ({"share": "9" * 500}, "share: Input should be a valid number; got '" + "9" * 99),
        ({"parts": {"a": 1.5}}, "parts.a: Input should be a valid integer; got 1.5"),
        ({"name": ["x"] * 500}, "name: Input should be a valid string"),
    ],
)
def test_a_record_that_does_not_fit_says_where_and_what_it_holds(
    change: dict[str, object], said: str
) -> None:
    good: dict[str, object] = {"name": "a", "share": 0.5, "parts": {}}
    assert parse_record(Reading, json.dumps(good)) == Reading(name="a", share=0.5, parts={})
    with pytest.raises(ValueError, match=r"^\w") as caught:
        parse_record(Reading, json.dumps(good | change))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EROFS, "may write to"),
        (errno.EMFILE, "ulimit"),
        (errno.EIO, "Mend"),
    ],
)
def test_the_error_says_what_to_do(number: int, advice: str) -> None:
    error = storage_error(OSError(number, os.strerror(number)), Path("x"))
    assert advice in str(error)
    assert error.exit_status == 1


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@x", "\tx", "'x", "'=x", "plain", "", "a\\nb", "a\nb", "\\x1b", "\udce9", "\u202e"],
)
def test_safe_cells_come_back(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    assert cell.isprintable()
    assert cell_text(cell) == text


def test_control_characters_are_escaped() -> None:
    assert printable("a\nb") == "a\\nb"
    assert printable("\x1b[31m\u202eevil") == "\\x1b[31m\\u202eevil"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1360.0, "1,360"),
        (12.5, "12.5"),
        (0.004, "0.004"),
        (123456.7, "123,457"),
        (0, "0"),
        (1e-9, "0.000000001"),
    ],
)
def test_figures_are_plain(value: float, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(
    "text",
    ["brick_cracks", "MobileNet_0.25", "Risse 2024 (neu)", "r\u00e9sum\u00e9", "MobileNetV2@random", "a..b"],
)
def test_a_harmless_name_stays_as_it_is(text: str) -> None:
    assert path_part(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "...",
            " ",
            ".hidden",
            "ends.",
            "../../etc",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "C:x",
            "a\0b",
        ),
        *(
            "a\nb",
            "\x1b[31m",
            "\u202egpj",
            "\udcff",
            "nul",
            "COM1.txt",
            "x" * 5000,
            "\u4e2d" * 90,
            "a\u2028b",
        ),
    ],
)
def test_any_text_becomes_one_plain_name(text: str, tmp_path: Path) -> None:
    name = path_part(text)
    assert name.isprintable()
    assert not set(name) & set('<>:"/\\|?*')
    assert not name.startswith(".")
    assert path_part(name) == name
    assert name not in {path_part(text + "x"), path_part("x" + text)}
    target = place(tmp_path, text, "inside")
    write_whole(target, b"x", root=tmp_path)
    assert target.parent.parent == tmp_path


@pytest.mark.parametrize("path", ["../out", "a/../../out", "link/out", "link/deep/out", "circle/out", "a/.."])
def test_nothing_is_written_outside_of_its_root(path: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "elsewhere"
    outside.mkdir()
    (root / "a").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(StorageError, match="leads out of the folder"):
        write_whole(root / path, b"x", root=root)
    assert list(outside.iterdir()) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "root"]


def test_a_root_may_be_a_link_and_a_linked_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "other").write_bytes(b"kept")
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "disk")
    (root / "file").symlink_to(tmp_path / "other")
    check_inside(root / "deep" / "file", root)
    write_whole(root / "file", b"new", root=root)
    assert (tmp_path / "other").read_bytes() == b"kept"
    assert (tmp_path / "disk" / "file").read_bytes() == b"new"


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_memo_gives_what_was_kept_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    memo = Memo(folder=tmp_path_factory.mktemp("cache") / "sizes", kind=list[float])
    question = ["a/b", 1, None, "\udcff"]
    assert memo.recall("a/b", question) is None
    memo.remember("a/b", question, [1.5, float("inf")])
    assert memo.recall("a/b", question) == [1.5, float("inf")]
    assert memo.recall("a/b", [*question, 2]) is None
    (file,) = memo.folder.iterdir()
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    file.write_bytes(content)
    assert memo.recall("a/b", question) in (None, [1.5, float("inf")])


def test_a_memo_of_another_question_is_not_believed(tmp_path: Path) -> None:
    memo = Memo(folder=tmp_path / "cache" / "memo", kind=str)
    for question in ("one", "other"):
        memo.remember("name", question, question)
    first, second = memo.folder.iterdir()
    first.write_bytes(second.read_bytes())
    assert {memo.recall("name", question) for question in ("one", "other")} in (
        {"one", None},
        {"other", None},
    )


def test_a_memo_that_cannot_be_written_says_so_to_who_asks(tmp_path: Path) -> None:
    (tmp_path / "memo").write_bytes(b"")
    memo = Memo(folder=tmp_path / "memo", kind=str)
    memo.remember("name", 1, "answer")
    with pytest.raises(StorageError):
        memo.keep("name", 1, "answer")
