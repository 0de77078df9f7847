"""Copies of many files at a URL, made to be what lies there now: fetched once, again when they changed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmark.errors import CacheError, DataError
from benchmark.locations import is_copy, is_step, place_of, spelled
from benchmark.storage.blobs import load_json, write_json
from benchmark.storage.copies import LIMIT_VARIABLE, MOST_FETCHED_BYTES, fetch_copy, keep_copy, limit_bytes
from benchmark.storage.remote import RemoteFile, RemoteStorage

_AT_ONCE = 8
_QUEUED = 1024  # of millions, not all at once
_READINGS = 4
_MD5 = re.compile(r"[0-9a-f]{32}")
Told = Callable[[int], None]


@dataclass(kw_only=True)
class Mirror:
    """The copies of files below a folder.

    Attributes:
        root: folder of this machine that the names start from.
        notes: file that remembers what each copy is one of.
    """

    root: Path
    notes: Path
    _known: dict[str, list[object]] = field(default_factory=dict, init=False)
    # The tag of an object is the MD5 of its bytes, unless it was put in pieces or encrypted there.
    _tags_are_md5: bool = field(default=True, init=False)

    def update(self, there: Mapping[str, RemoteFile], only_named: Callable[[str], bool], told: Told) -> None:
        """Fetch what is missing or has changed.

        Args:
            there: the files, by path from the root, as they are listed.
            only_named: of which the name alone is of use; they become empty files.
            told: how many are here.

        Raises:
            DataError: they need more room than copies may take.
            CacheError: they cannot be fetched or kept.
        """
        wanted = {
            name: file
            for name, file in there.items()
            if not only_named(name) and file.size <= MOST_FETCHED_BYTES
        }
        size = sum(file.size for file in wanted.values())
        if size > limit_bytes():
            raise DataError(
                "more than copies on this machine may take",
                where=spelled(self.root),
                expected=f"{limit_bytes():,} bytes at most",
                got=f"{size:,} bytes in {len(wanted):,} files",
                next_step=f"Allow more, for example {LIMIT_VARIABLE}={max(1, round(size / 0.8e9))}.",
            )
        self._known = self._remembered()
        missing = {
            name: file
            for name, file in there.items()
            if not self._is_here(name, file, empty=name not in wanted)
        }
        try:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
                done = len(there) - len(missing)
                items = iter(missing.items())
                while some := tuple(islice(items, _QUEUED)):
                    for _ in pool.map(lambda item: self._fetch(*item, empty=item[0] not in wanted), some):
                        done += 1
                        told(done)
        finally:
            with suppress(CacheError):
                write_json(self.notes, self._known, root=self.notes.parent)

    def forget_others(self, there: Mapping[str, RemoteFile]) -> None:
        """Remove copies of what is not there any more."""
        for folder, _, files in os.walk(self.root):
            for file in files:
                path = Path(folder, file)
                if path.relative_to(self.root).as_posix() not in there:
                    path.unlink(missing_ok=True)

    def _remembered(self) -> dict[str, list[object]]:
        with suppress(OSError, ValueError):
            known = load_json(self.notes)
            if isinstance(known, dict):
                return known
        return {}

    def _is_here(self, name: str, file: RemoteFile, *, empty: bool) -> bool:
        with suppress(OSError):
            status = (self.root / name).lstat()
            size_fits = status.st_size == (0 if empty else file.size)
            return stat.S_ISREG(status.st_mode) and size_fits and self._known.get(name) == _facts(file)
        return False

    def _fetch(self, name: str, file: RemoteFile, *, empty: bool) -> str:
        path = self.root / name
        content = b"" if empty else self._content(path, file)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            keep_copy(path, content)
            self._known[name] = _facts(file)
        return name

    def _content(self, path: Path, file: RemoteFile) -> bytes | None:
        """The bytes of a file, twice the same where no digest tells that they are right."""
        place, last = RemoteStorage(place_of(path)), None
        for _ in range(_READINGS):
            content = place.read(path, size=file.size, most_bytes=MOST_FETCHED_BYTES)
            is_md5 = self._tags_are_md5 and _MD5.fullmatch(file.tag)
            if (
                content is None
                or not is_md5
                or hashlib.md5(content, usedforsecurity=False).hexdigest() == file.tag
            ):
                return content
            if content == last:
                self._tags_are_md5 = False
                return content
            last = content
        raise CacheError("arrives otherwise each time", where=spelled(path))


def list_place(place: Path) -> tuple[dict[str, RemoteFile], list[str]]:
    """All files below a place, by path from there, and the names among them that no file here can have.

    Raises:
        CacheError: they cannot be listed.
    """
    found = RemoteStorage(place).below(place)
    odd = [name for name in found if not all(map(is_step, name.split("/")))]
    return {name: file for name, file in found.items() if name not in set(odd)}, odd


def list_folders(root: Path, names: Iterable[str]) -> dict[str, RemoteFile]:
    """Those of some files below a folder that are there.

    Raises:
        CacheError: a folder cannot be listed.
    """
    listed: dict[Path, dict[str, RemoteFile]] = {}
    found = {}
    for name in sorted(set(names)):
        path = root / name
        if path.parent not in listed:
            listed[path.parent] = RemoteStorage(place_of(path)).listed(path.parent)
        if path.name in listed[path.parent]:
            found[name] = listed[path.parent][path.name]
    return found


def fetch_missing(paths: Iterable[Path]) -> None:
    """Fetch copies that are missing, several at a time; who reads one that cannot be had is told why."""
    missing = [path for path in paths if is_copy(path) and not path.exists()]
    if missing:
        with ThreadPoolExecutor(min(_AT_ONCE, len(missing)), thread_name_prefix="fetch") as pool:
            deque(pool.map(_try_to_fetch, missing), maxlen=0)


def _try_to_fetch(path: Path) -> None:
    with suppress(CacheError, OSError):
        fetch_copy(path)


def _facts(file: RemoteFile) -> list[object]:
    return [file.size, file.tag]
