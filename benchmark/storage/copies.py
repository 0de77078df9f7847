"""Copies on this machine of what lies at URLs: bounded, and whatever is gone is fetched again.

``BACKBONES_LOCAL_GB`` says how much they may take together (50); the least recently used go first.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmark.errors import ArgumentError, CacheError
from benchmark.locations import Kind, home, is_copy, place_of, url_of
from benchmark.storage.files import is_temporary, write_whole
from benchmark.storage.remote import RemoteStorage
from benchmark.storage.sweep import Stored, remove_all, shrink

LIMIT_VARIABLE: Final = "BACKBONES_LOCAL_GB"
_LIMIT_GB = 50.0
MOST_FETCHED_BYTES: Final = 2**30
# Which files of a place are copies; what else lies there, this machine found out by itself.
_COPIES = {Kind.CACHE: "part-*.h5", Kind.DATA: "[!.]*"}
# Looking at all copies for every new one would take longer than fetching it.
_LOOK_BYTES = 256 * 2**20
# Somebody may be about to read it.
_GRACE_SECONDS = 600.0
_NOTES = ".fetched.json"
_lock = threading.Lock()
_unseen_bytes = 0


def limit_bytes() -> int:
    """Bytes that all copies on this machine may take.

    Raises:
        ArgumentError: the variable is no such number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(text or _LIMIT_GB)
        if limit > 0:
            return round(limit * 1e9)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError("not a size", where=LIMIT_VARIABLE, expected="gigabytes, a number above 0", got=text)


def keep_copy(path: Path, content: bytes) -> None:
    """Keep the copy of a file, and take others away where copies have become too many.

    Raises:
        StorageError: it cannot be written.
    """
    global _unseen_bytes
    write_whole(path, content, root=home())
    with _lock:
        _unseen_bytes += len(content)
        due = _unseen_bytes >= min(_LOOK_BYTES, limit_bytes() // 8)
        if due:
            _unseen_bytes = 0
    if due:
        make_room()


def make_room() -> None:
    """Remove the least recently used copies until the rest fits; those of the last minutes stay.

    Raises:
        StorageError: one cannot be removed.
    """
    settled = time.time() - _GRACE_SECONDS
    noted = _noted()
    things = [_used(path, noted.get(path, 0.0)) for path in _copies()]
    old = {thing.path for thing in things if thing.last_used < settled}
    shrink(things, limit_bytes(), lambda path: path in old and bool(remove_all([path]).paths))


def fetch_copy(path: Path) -> bool:
    """Fetch an image or table that lies at a URL to where its copy belongs; False where there is none.

    Raises:
        CacheError: it cannot be fetched, or not written here.
        OSError: it is too large.
    """
    if not is_copy(path):
        return False
    content = RemoteStorage(place_of(path)).read(path, most_bytes=MOST_FETCHED_BYTES)
    if content is None:
        return False
    keep_copy(path, content)
    return True


def hand_over(path: Path) -> None:
    """Put a file that was just written where other machines see it, if it stands for one at a URL.

    Raises:
        StorageError: it cannot be put.
    """
    if url_of(path):
        RemoteStorage(place_of(path)).write(path, path.read_bytes())


def take_over(path: Path, *, most_bytes: int, again: bool = False) -> None:
    """Make a file that another machine handed over one of this machine.

    Args:
        path: of this machine.
        most_bytes: a larger one is refused.
        again: also where it is one already, which the other may have replaced.

    Raises:
        OSError: it is too large.
        CacheError: it cannot be fetched or kept.
    """
    if url_of(path) and (again or not path.exists()):
        content = RemoteStorage(place_of(path)).read(path, most_bytes=most_bytes)
        if content is not None:
            keep_copy(path, content)


def list_names(folder: Path) -> list[str]:
    """Names of the files that were handed over in a folder; none where they cannot be listed."""
    with suppress(CacheError):
        return sorted(RemoteStorage(place_of(folder)).listed(folder))
    return []


def take_back(handed: Path) -> None:
    """Remove a file that was handed over, or all in a folder, here and where others see it.

    Raises:
        CacheError: it cannot be removed there.
    """
    is_file = handed.is_file()
    if is_file:
        handed.unlink(missing_ok=True)
    else:
        shutil.rmtree(handed, ignore_errors=True)
    if url_of(handed):
        place = RemoteStorage(place_of(handed))
        if is_file:
            place.remove(handed)
        else:
            place.remove_below(handed)


def notes_of(place: Path) -> Path:
    """The file beside the copies of images or a table that says what each is one of."""
    return place.with_name(f".{place.name}{_NOTES}")


def _noted() -> dict[Path, float]:
    """When a run last counted on each copy. A time of the copy itself would say that its content changed."""
    found: dict[Path, float] = {}
    for notes in (home() / Kind.DATA).rglob(f".*{_NOTES}"):
        with suppress(OSError, ValueError, LookupError, TypeError):
            place = notes.with_name(notes.name.removeprefix(".").removesuffix(_NOTES))
            root, used = place if place.is_dir() else place.parent, notes.stat().st_mtime
            for name in json.loads(notes.read_bytes())["meta"]:
                found[root / name] = max(used, found.get(root / name, 0.0))
    return found


def _used(path: Path, noted: float) -> Stored:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Stored(path=path, size_bytes=0, last_used=0.0)
    return Stored(
        path=path, size_bytes=status.st_size, last_used=max(status.st_atime, status.st_mtime, noted)
    )


def _copies() -> Iterator[Path]:
    for kind, names in _COPIES.items():
        for folder, _, files in os.walk(home() / kind):
            # What machines hand each other lies in folders of a run, which alone removes what is at the URL.
            is_handed = any(map(is_temporary, Path(folder).parts))
            for name in files:
                if (is_handed or fnmatch.fnmatchcase(name, names)) and not is_temporary(name):
                    yield Path(folder, name)
