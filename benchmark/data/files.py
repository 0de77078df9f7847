"""Opening files that strangers named: regular files only, never a pipe, never without end."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark.errors import DataError
from benchmark.storage import open_regular

MAX_FILE_BYTES: Final = 1 << 30
_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ELOOP: "a link that leads in a circle",
    errno.ENAMETOOLONG: "the path is too long for this system",
    errno.EISDIR: "a folder, not a file",
    errno.ENXIO: "not a regular file",
    errno.EINVAL: "not a regular file",
    errno.EFBIG: "too large a file",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file's content does, in integers as ``os.stat`` gives them."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp in a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def reason_of(error: OSError | ValueError) -> str:
    """Why a path cannot be read, as one clause."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
    return "not a possible file name"


def read_stamped(path: str | Path) -> tuple[bytes, Stamp]:
    """All bytes of a regular file with the stamp they were read under.

    A pipe, device or folder is refused without waiting for it.

    Raises:
        DataError: not a regular file, not readable, too large, or it changed while being read.
    """
    try:
        with open_regular(path, most_bytes=MAX_FILE_BYTES) as file:
            before = Stamp.of(os.fstat(file.fileno()))
            content = file.read(before.size + 1)
            stamp = Stamp.of(os.fstat(file.fileno()))
    except OSError as error:
        got = error.strerror if error.errno == errno.EFBIG else ""
        raise DataError(reason_of(error), got=got) from error
    except ValueError as error:
        raise DataError(reason_of(error)) from error
    if stamp != before or len(content) != stamp.size:
        raise DataError("it changed while being read")
    return content, stamp


def read_regular(path: str | Path) -> bytes:
    """All bytes of a regular file; see ``read_stamped``."""
    return read_stamped(path)[0]
