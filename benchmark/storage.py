"""Files that are whole or absent: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from pathlib import Path

from benchmark.errors import StorageFull

TEMPORARY_PREFIX = ".tmp-"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EROFS, errno.EACCES, errno.EPERM}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content, the new content, or nothing; never a part.

    Args:
        path: target; its folder is created where missing.
        content: the bytes.

    Raises:
        StorageFull: no room left, or no permission to write there; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(path, content)
    except OSError as error:
        raise storage_error(error, path) from error


def _write_and_rename(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the platform can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(error: OSError, path: Path) -> StorageFull:
    """The error that tells a user what to do about a failed write."""
    if error.errno in _NO_ROOM:
        next_step = "Free some space or choose another folder, then run again; what is finished is kept."
    elif error.errno in _NO_PERMISSION:
        next_step = "Choose a folder that you may write to (--cache, --results) or change its permissions."
    elif error.errno in _TOO_MANY_FILES:
        next_step = "Allow more open files (ulimit -n 4096), then run again; what is finished is kept."
    else:
        next_step = "Mend the folder or choose another one, then run again; what is finished is kept."
    reason = error.strerror or type(error).__name__
    return StorageFull("cannot be written", where=path, got=reason, next_step=next_step)


def sha256_bytes(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
