"""Temporary files of processes that are gone, and folders that are taken away whole."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmark.storage import TEMPORARY_PREFIX

_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<pid>[0-9]+)-[0-9a-f]+")


def dead_temporaries(root: Path) -> Iterator[Path]:
    """Temporary files and folders under a cache whose process is gone; links are not followed.

    On a shared folder a process of another machine may look gone. Its write then fails cleanly: a part is
    written again by the writer, and no reader ever looks at a temporary file.
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
        with contextlib.suppress(OSError):
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
    aside = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}")
    path.rename(aside)
    shutil.rmtree(aside)
