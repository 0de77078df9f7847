"""Listing and reading the files of a key's folder, without following links or waiting for a pipe."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from benchmark.embeddings.parts import MAX_PART_BYTES, PART_NAME
from benchmark.errors import CacheDamaged, CacheError
from benchmark.storage import open_regular

LISTINGS = (
    8  # a folder that changes each time it is listed, more often than this, is taken as it was seen last
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A part as it lies in its folder.

    Attributes:
        path: of the file.
        size: bytes.
        mtime_ns: time of its last change.
        inode: together with size and time tells whether it is still the same file.
    """

    path: Path
    size: int
    mtime_ns: int
    inode: int


def check_folder(folder: Path) -> bool:
    """Whether a folder of the cache is there.

    Raises:
        CacheError: it is a link or no folder; this program does not write through either.
    """
    try:
        mode = folder.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(error, folder) from error
    if not stat.S_ISDIR(mode):
        raise CacheError(
            "stands where a folder of the cache belongs",
            where=folder,
            expected="a folder",
            got="a link or a file",
            next_step="Remove it, or choose another cache (`cache`).",
        )
    return True


def list_parts(folder: Path) -> tuple[PartFile, ...]:
    """The parts of a folder, ascending by name (which is by hash). Anything else in it is left alone.

    The folder is listed until two listings agree: a single one may miss files that are renamed meanwhile.

    Raises:
        CacheError: the folder cannot be listed.
    """
    seen = _list_once(folder)
    for _ in range(LISTINGS):
        again = _list_once(folder)
        if again == seen:
            break
        seen = again
    return seen


def _list_once(folder: Path) -> tuple[PartFile, ...]:
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if PART_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise unreadable(error, folder) from error
    found = (_part_file(folder / name) for name in sorted(names))
    return tuple(part for part in found if part is not None)


def _part_file(path: Path) -> PartFile | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return PartFile(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


def read_file(path: Path, *, limit: int = MAX_PART_BYTES) -> bytes | None:
    """The whole of a regular file; None when there is none.

    Raises:
        CacheDamaged: not a regular file, larger than ``limit`` bytes, or the disk cannot read it back.
        CacheError: this process cannot read it (permission, open files, memory).
    """
    try:
        with open_regular(path, most_bytes=limit, follow_links=False) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in {errno.EISDIR, errno.EINVAL, errno.EFBIG}:
            raise CacheDamaged(
                "is not a file that this program wrote", where=path, got=error.strerror or ""
            ) from error
        if error.errno in {errno.EIO, errno.ELOOP, errno.ENXIO}:
            raise CacheDamaged("cannot be read back", where=path, got=error.strerror or "") from error
        raise unreadable(error, path) from error


def unreadable(error: OSError, path: Path) -> CacheError:
    """The error that tells a user what to do about a failed read: nothing is damaged, only out of reach."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        next_step = "Raise the limit of open files (ulimit -n) or use fewer `jobs`."
    elif error.errno in {errno.EACCES, errno.EPERM}:
        next_step = "Change its permissions or choose another cache (`cache`)."
    else:
        next_step = "Mend the folder or choose another cache (`cache`)."
    return CacheError(
        "cannot be read", where=path, got=error.strerror or type(error).__name__, next_step=next_step
    )
