"""Files are whole or absent, and a failed write says what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from benchmark.cells import guarded, printable, unguarded
from benchmark.errors import StorageFull
from benchmark.storage import sha256_bytes, sha256_file, storage_error, write_whole


def test_a_file_is_written_whole_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    write_whole(target, b"one")
    write_whole(target, b"two")
    assert target.read_bytes() == b"two"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert sha256_file(target) == sha256_bytes(b"two")


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(StorageFull, match="cannot be written"):
        write_whole(target, b"a file cannot replace a folder")
    assert (target / "inside").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


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


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "'x", "plain", ""])
def test_guarded_cells_come_back(text: str) -> None:
    cell = guarded(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    assert unguarded(cell) == text


def test_control_characters_are_escaped() -> None:
    assert printable("a\nb") == "a\\nb"
    assert guarded(printable("\t=x"), raw="\t=x").startswith("'")
