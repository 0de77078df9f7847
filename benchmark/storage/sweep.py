"""What lies about: files on their way, what is used least, and taking things away whole."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

TEMPORARY_PREFIX = ".tmp-"
STAMP_FILE = "last-used"
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<pid>[0-9]+)-[0-9a-f]+")


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

    paths: tuple[Path, ...] = ()
    size_bytes: int = 0


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
        if sum(other.size_bytes for other in gone) < excess and remove(thing.path):
            gone.append(thing)
    return Removed(
        paths=tuple(thing.path for thing in gone), size_bytes=sum(thing.size_bytes for thing in gone)
    )


def temporary_beside(path: Path) -> Path:
    """A name for what will be renamed to a path or away from it, which says whose process made it."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}")


def is_temporary(name: str) -> bool:
    """Whether a file is one that is being written, or was when its process ended; no reader looks at it."""
    return _TEMPORARY.fullmatch(name) is not None


def dead_temporaries(root: Path) -> Iterator[Path]:
    """Temporary files and folders under a folder whose process is gone; links are not followed.

    On a shared folder a process of another machine may look gone. Its write then fails cleanly: no reader
    ever looks at a temporary file.
    """
    for folder, folders, files in os.walk(root, topdown=True, followlinks=False):
        for name in (*folders, *files):
            found = _TEMPORARY.fullmatch(name)
            if found and not _alive(int(found["pid"]), Path(folder, name)):
                yield Path(folder, name)
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]


def _alive(pid: int, file: Path) -> bool:
    """Whether the process that made a file still runs; a younger one of the same number is another."""
    import psutil

    try:
        return bool(psutil.Process(pid).create_time() <= file.lstat().st_mtime + 1)
    except (psutil.Error, OSError, OverflowError):
        return bool(psutil.pid_exists(pid)) if pid < 2**31 else False


def bytes_under(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; links count as themselves."""
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            return path.lstat().st_size
        return 0
    return sum(bytes_under(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def remove_whole(path: Path) -> None:
    """Remove a file or folder; a folder disappears under its name at once, before its files go one by one.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = temporary_beside(path)
    path.rename(aside)
    shutil.rmtree(aside)
