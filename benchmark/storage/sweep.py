"""What is used least, and taking things away whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmark.errors import StorageError
from benchmark.storage.files import dead_temporaries, storage_error, temporary_beside

STAMP_FILE = "last-used"
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file or folder of a cache.

    Attributes:
        path: where it lies.
        size_bytes: of all its files.
        last_used: seconds since the epoch.
    """

    path: Path
    size_bytes: int
    last_used: float

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at a path; what says nothing of its last use was used when its newest file was written."""
        times = [0.0]
        with suppress(OSError):
            stamp = path / STAMP_FILE
            dated = [stamp] if stamp.exists() else [path, *(path.iterdir() if path.is_dir() else ())]
            times = [one.lstat().st_mtime for one in dated]
        return cls(path=path, size_bytes=bytes_under(path), last_used=max(times))


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was taken away.

    Attributes:
        paths: files and folders.
        size_bytes: freed.
    """

    paths: tuple[Path, ...]
    size_bytes: int

    @classmethod
    def of(cls, gone: Sequence[Stored]) -> Self:
        """These things."""
        return cls(paths=tuple(one.path for one in gone), size_bytes=sum(one.size_bytes for one in gone))


def mark_used(folder: Path) -> None:
    """Note that a folder is in use; a cache that cannot be written to keeps no such notes."""
    stamp = folder / STAMP_FILE
    with suppress(OSError):
        never_wait = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        os.close(os.open(stamp, os.O_WRONLY | os.O_CREAT | never_wait, 0o644))
        os.utime(stamp)


def shrink(things: Iterable[Stored], max_bytes: int, remove: Callable[[Path], bool]) -> Removed:
    """Remove the least recently used things until the rest fits.

    Args:
        things: all that count.
        max_bytes: for all of them together.
        remove: takes one away; False where it stays.
    """
    ordered = sorted(things, key=lambda thing: (thing.last_used, thing.path.name))
    excess = sum(thing.size_bytes for thing in ordered) - max_bytes
    gone: list[Stored] = []
    for thing in ordered:
        if excess <= 0:
            break
        if remove(thing.path):
            gone.append(thing)
            excess -= thing.size_bytes
    return Removed.of(gone)


def remove_all(paths: Iterable[Path]) -> Removed:
    """Remove files and folders whole; those that another process has just removed do not count.

    Raises:
        StorageError: one cannot be removed.
    """
    gone: list[Stored] = []
    for path in paths:
        thing = Stored.of(path)
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:  # it disappears under its name at once, before its files go one by one
                aside = temporary_beside(path)
                path.rename(aside)
                shutil.rmtree(aside)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
        gone.append(thing)
    return Removed.of(gone)


def remove_leftovers(root: Path) -> None:
    """Take away what killed processes left half done under a folder; what cannot be removed stays."""
    for leftover in list(dead_temporaries(root)):
        with suppress(StorageError):
            remove_all([leftover])


def replace_folder(staged: Path, final: Path) -> None:
    """Put a finished folder, which lies beside it, in the place of what stands there.

    The old one goes aside, the new one in its place, and only then is the old one deleted. What of it cannot
    be deleted stays under the name of a temporary file. Of those who do so at once the last one's stays.

    Raises:
        StorageError: a folder cannot be renamed; what stood there stands there.
    """
    aside = temporary_beside(final)
    try:
        try:
            with suppress(FileNotFoundError):
                final.rename(aside)
            staged.rename(final)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in _TAKEN:  # another process was faster
                replace_folder(staged, final)
            else:
                with suppress(OSError):
                    aside.rename(final)
                raise
    except OSError as error:
        raise storage_error(error, final) from error
    with suppress(StorageError):
        remove_all([aside])


def bytes_under(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; links count as themselves."""
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            return path.lstat().st_size
        return 0
    return sum(bytes_under(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)
