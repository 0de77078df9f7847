"""Files that are whole or absent, and never outside of the folder that they belong to.

A file is written beside its target, flushed to the disk, then renamed.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import StorageError
from benchmark.machine import own_processes_id

TEMPORARY_PREFIX = ".tmp-"
OF_ONE_PROCESS = "backbones-apart-"
"""How the temporary folders of tasks in processes of their own begin."""
# As ``this_process`` says it; earlier versions left machine or start out, or digested the host name alone.
_PROCESS = re.compile(r"((?P<host>[0-9a-f]{8})\.)?(?P<pid>[0-9]+)(\.(?P<started>[0-9]+))?")
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<maker>[0-9a-f.]+)-[0-9a-f]+")
_ABANDONED_SECONDS = 7 * 24 * 3600.0
# A process's start is computed from the time since the machine's, which a correction of its clock moves.
_SAME_START_SECONDS = 10
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EROFS, errno.EACCES, errno.EPERM}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}
# What file systems answer that cannot flush a folder: those that a virtual machine shares, for one.
_CANNOT_FLUSH = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}


# What some system reads as a separator, a wildcard or a device.
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_DEVICE = re.compile(r"^(con|prn|aux|nul|(com|lpt)\d)(?=\.|$)", re.IGNORECASE)
_LONGEST_PART_BYTES = 150
_DIGEST_DIGITS = 8


def path_part(text: str) -> str:
    """The one name of a file or folder that stands for a text: of a data set, class, backbone or run.

    A text that is a harmless name stays as it is. Any other becomes a readable name that ends in digits of
    its SHA-256, so that two texts never share a name: no part of a path leads elsewhere, is hidden, holds
    what a terminal acts on, or is longer than file systems allow.
    """
    plain = "".join(letter if letter.isprintable() else "_" for letter in _UNSAFE.sub("_", text))
    plain = _DEVICE.sub(r"_\g<0>", plain.strip().lstrip(".").rstrip(". "))
    if plain == text and 0 < len(text.encode()) <= _LONGEST_PART_BYTES:
        return text
    readable = plain.encode()[: _LONGEST_PART_BYTES - _DIGEST_DIGITS - 1].decode(errors="ignore")
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    return f"{readable or 'unnamed'}-{digest}"


def place(root: Path, *names: str) -> Path:
    """A path below a folder, each of its parts made from a text (see ``path_part``).

    Raises:
        StorageError: links lead it out of the folder.
    """
    path = root.joinpath(*map(path_part, names))
    check_inside(path, root)
    return path


def check_inside(path: Path, root: Path) -> None:
    """Assert that what is written to a path stays in a folder. The last part is replaced, not followed.

    Raises:
        StorageError: it lies elsewhere, or a link leads it there.
    """
    try:
        inside = path.name and path.name != ".." and path.parent.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a circle of links
        inside = False
    if not inside:
        raise StorageError(
            "leads out of the folder that it belongs to",
            where=path,
            expected=f"a place in {root}",
            got=path.parent.resolve() if path.parent.exists() else path.parent,
            next_step="Remove the link, or give the folder that it leads to instead.",
        )


def write_whole(path: Path, content: bytes, *, root: Path) -> None:
    """Write a file so that a reader finds the old content, the new content, or nothing; never a part.

    Args:
        path: target; its folder is created where missing.
        content: the bytes.
        root: the folder that the target must lie in, links followed.

    Raises:
        StorageError: no room left, no permission to write there, or a target outside of its root; nothing is
            left behind.
    """
    check_inside(path, root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(path, content)
    except OSError as error:
        raise storage_error(error, path) from error


def _write_and_rename(path: Path, content: bytes) -> None:
    temporary = temporary_beside(path)
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
    """Flush a folder's entries to the disk, where platform and file system can (Windows opens no folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)


def storage_error(error: OSError, path: Path) -> StorageError:
    """The error that tells a user what to do about a failed write."""
    if error.errno in NO_ROOM:
        next_step = "Free some space or choose another folder, then run again; what is finished is kept."
    elif error.errno in _NO_PERMISSION:
        next_step = "Choose a folder that you may write to (`cache`, `results`) or change its permissions."
    elif error.errno in _TOO_MANY_FILES:
        next_step = "Allow more open files (ulimit -n 4096), then run again; what is finished is kept."
    else:
        next_step = "Mend the folder or choose another one, then run again; what is finished is kept."
    reason = error.strerror or type(error).__name__
    return StorageError("cannot be written", where=_lasting(path), got=reason, next_step=next_step)


def _lasting(path: Path) -> Path:
    """The path, or the folder around it that is still there when the process that works in it has ended."""
    passing = [one for one in (path, *path.parents) if one.name.startswith(OF_ONE_PROCESS)]
    return passing[-1].parent if passing else path


def temporary_beside(path: Path) -> Path:
    """A name for what will be renamed to a path or away from it, which says whose process made it."""
    return path.with_name(f"{TEMPORARY_PREFIX}{this_process()}-{secrets.token_hex(6)}")


def this_process() -> str:
    """What tells this process from every other: its machine, its number, and the second it started."""
    return f"{_host()}.{os.getpid()}.{_started(os.getpid())}"


@functools.cache
def _host() -> str:
    """A short name of this machine (of this container), for folders that machines may share."""
    return hashlib.sha256(own_processes_id().encode()).hexdigest()[:8]


@functools.cache
def _started(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).create_time())


def is_temporary(name: str) -> bool:
    """Whether a file is one that is being written, or was when its process ended; no reader looks at it."""
    return (found := _TEMPORARY.fullmatch(name)) is not None and bool(_PROCESS.fullmatch(found["maker"]))


def dead_temporaries(root: Path) -> Iterator[Path]:
    """Temporary files and folders under a folder whose process is gone; links are not followed."""
    for folder, folders, files in os.walk(root, topdown=True, followlinks=False):
        for name in (*folders, *files):
            found = _TEMPORARY.fullmatch(name)
            if found and is_abandoned(Path(folder, name), found["maker"]):
                yield Path(folder, name)
        folders[:] = [name for name in folders if not is_temporary(name)]


def is_abandoned(path: Path, process: str) -> bool:
    """Whether the process that made a file or folder is gone.

    A process of its number that started at another time is another one. The times that a file server puts on
    files say nothing of that: its clock is its own. Processes of another machine (each container is one)
    cannot be asked: theirs is abandoned when nothing was written there for a week.

    Args:
        path: what was made.
        process: who made it, as ``this_process`` said; anybody else's is left alone.
    """
    found = _PROCESS.fullmatch(process)
    if found is None:
        return False
    if found["host"] in {None, _host()}:
        return not _is_running(found["pid"], found["started"] or "")
    try:
        last_written = max(one.lstat().st_mtime for one in (path, *path.rglob("*")))
    except OSError:  # a file server that does not answer says nothing of its age
        return False
    return last_written < time.time() - _ABANDONED_SECONDS


def _is_running(pid: str, started: str) -> bool:
    import psutil

    try:
        away_seconds = psutil.Process(int(pid)).create_time() - int(started)
        return bool(abs(away_seconds) < _SAME_START_SECONDS)
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):  # it is gone, or no such name was given
        return False
