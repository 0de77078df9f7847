"""Copies of many files at a URL, made to be what lies there now: fetched once, again when they changed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from benchmark.data.folders import is_never_read
from benchmark.errors import CacheError, DataError
from benchmark.locations import home, is_copy, is_step, place_of, spelled, url_of
from benchmark.storage import (
    LIMIT_VARIABLE,
    MOST_FETCHED_BYTES,
    RemoteFile,
    RemoteStorage,
    fetch_copy,
    is_temporary,
    keep_copy,
    limit_bytes,
    load_json,
    lock_folder,
    notes_of,
    path_part,
    remove_all,
    write_json,
)

_AT_ONCE = 8
_QUEUED = 1024  # of millions, not all at once
_READINGS = 4
_ROUNDS = 3
_LONGEST_NAME_BYTES, _LONGEST_PATH_BYTES = 255, 4000
_MD5 = re.compile(r"[0-9a-f]{32}")
Told = Callable[[int], None]


@dataclass(kw_only=True)
class Mirror:
    """The copies of files below a folder.

    Attributes:
        root: folder of this machine that the names start from.
        place: of the images or the table, whose notes say what each copy is one of.
    """

    root: Path
    place: Path
    _known: dict[str, list[object]] = field(default_factory=dict, init=False)
    _gone: set[str] = field(default_factory=set, init=False)

    def update(self, there: Mapping[str, RemoteFile], told: Told) -> None:
        """Fetch what is missing or has changed. When this returns, all of them are here, as used just now.

        Args:
            there: the files, by path from the root, as they are listed; those that nobody looks into become
                empty ones.
            told: how many are here.

        Raises:
            DataError: they need more room than copies may take.
            CacheError: they cannot be fetched or kept.
        """
        wanted = {name: file for name, file in there.items() if not is_never_read(name)}
        size = sum(file.size for file in wanted.values())
        if size > limit_bytes():
            raise self._no_room(f"{size:,} bytes in {len(wanted):,} files", size)
        self._known = self._remembered()
        missing = {
            name: file
            for name, file in there.items()
            if not self._is_here(name, file, empty=name not in wanted)
        }
        self._keep_notes()
        for _ in range(_ROUNDS):  # while one is fetched, room may be made by taking another away
            self._fetch_all(missing, wanted, told, done=len(there) - len(missing))
            missing = {
                name: file
                for name, file in there.items()
                if name not in self._gone and not (self.root / name).exists()
            }
            if not missing:
                return
        raise self._no_room(f"{len(missing):,} copies made room for others before they were read", size)

    def _fetch_all(
        self,
        missing: Mapping[str, RemoteFile],
        wanted: Mapping[str, RemoteFile],
        told: Told,
        done: int,
    ) -> None:
        try:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
                items = iter(missing.items())
                while some := tuple(islice(items, _QUEUED)):
                    for _ in pool.map(lambda item: self._fetch(*item, empty=item[0] not in wanted), some):
                        done += 1
                        told(done)
                    with suppress(OSError):
                        os.utime(notes_of(self.place))
        finally:
            self._keep_notes()

    def _keep_notes(self) -> None:
        """Remember what each copy is one of; those in the notes count as used when these were written."""
        with suppress(CacheError):
            write_json(notes_of(self.place), self._known, root=self.place.parent)

    def _no_room(self, got: str, size: int) -> DataError:
        enough = max(1, round(max(size, limit_bytes()) / 0.8e9))
        return DataError(
            "more than copies on this machine may take",
            where=spelled(self.root),
            expected=f"{limit_bytes():,} bytes at most",
            got=got,
            next_step=f"Allow more, for example {LIMIT_VARIABLE}={enough}.",
        )

    def forget_others(self, there: Mapping[str, RemoteFile]) -> None:
        """Remove copies of what is not there any more; not what a process is just writing."""
        for folder, _, files in os.walk(self.root, topdown=False):
            for file in files:
                path = Path(folder, file)
                if not is_temporary(file) and path.relative_to(self.root).as_posix() not in there:
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # only empty ones go
                Path(folder).rmdir()

    def _remembered(self) -> dict[str, list[object]]:
        with suppress(OSError, ValueError):
            known = load_json(notes_of(self.place))
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
        self._clear(path)
        if content is None:
            self._gone.add(name)
        else:
            keep_copy(path, content)
            self._known[name] = [len(content), file.tag]
        return name

    def _clear(self, path: Path) -> None:
        """Take away what lay at a path, and a file that lay where a folder belongs now."""
        above = (self.root / step for step in path.relative_to(self.root).parents)
        remove_all([*(one for one in above if one.is_file()), path])

    def _content(self, path: Path, file: RemoteFile) -> bytes | None:
        """The bytes of a file, twice the same where no digest tells that they are right."""
        place, last = RemoteStorage(place_of(path)), None
        try:
            for _ in range(_READINGS):
                content = place.read(path, size=file.size, most_bytes=MOST_FETCHED_BYTES)
                if content is None or content == last or _is_tagged(content, file.tag):
                    return content
                last = content
        except OSError as error:  # it was put anew, and larger, since it was listed
            raise CacheError("cannot be read", where=spelled(path), got=error.strerror or "") from error
        raise CacheError("arrives otherwise each time", where=spelled(path))


def list_place(place: Path) -> tuple[dict[str, RemoteFile], list[str]]:
    """All files below a place, by path from there, and the names among them that no file here can have.

    Raises:
        CacheError: they cannot be listed.
    """
    return _possible(place, RemoteStorage(place).below(place))


def _possible(root: Path, found: Mapping[str, RemoteFile]) -> tuple[dict[str, RemoteFile], list[str]]:
    """Those of some files that can have copies in a folder, and the names of the others."""
    folders = {folder.as_posix() for name in found for folder in PurePosixPath(name).parents}
    odd = {name for name in found if name in folders or not _is_possible(root, name)}
    return {name: file for name, file in found.items() if name not in odd}, sorted(odd)


def _is_possible(root: Path, name: str) -> bool:
    steps = name.split("/")
    return (
        all(is_step(step) and len(os.fsencode(step)) <= _LONGEST_NAME_BYTES for step in steps)
        and len(os.fsencode(root / name)) <= _LONGEST_PATH_BYTES
    )


def list_folders(root: Path, names: Iterable[str]) -> tuple[dict[str, RemoteFile], list[str]]:
    """Those of some files below a folder that are there, and the names that no file here can have.

    Raises:
        CacheError: a folder cannot be listed.
    """
    listed: dict[Path, dict[str, RemoteFile]] = {}
    found = {}
    for name in sorted(set(names)):
        path = root / name
        if path.parent not in listed:
            listed[path.parent] = RemoteStorage(path.parent).listed(path.parent)
        if path.name in listed[path.parent]:
            found[name] = listed[path.parent][path.name]
    return _possible(root, found)


@contextmanager
def hold_place(place: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only process of this machine that changes the copies of a place.

    Args:
        place: of images or a table.
        waiting: called once if another process holds it.
    """
    name = path_part(url_of(place) or str(place))
    with lock_folder(home(), name) as owned:
        if owned:
            yield
            return
    waiting()
    with lock_folder(home(), name, timeout=-1):
        yield


def fetch_missing(paths: Iterable[Path]) -> None:
    """Fetch copies that are missing, several at a time; who reads one that cannot be had is told why."""
    missing = [path for path in paths if is_copy(path) and not path.exists()]
    if missing:
        with ThreadPoolExecutor(min(_AT_ONCE, len(missing)), thread_name_prefix="fetch") as pool:
            deque(pool.map(_try_to_fetch, missing), maxlen=0)


def _try_to_fetch(path: Path) -> None:
    with suppress(CacheError, OSError):
        fetch_copy(path)


def _is_tagged(content: bytes, tag: str) -> bool:
    """Whether a tag is the MD5 of some bytes: those of objects put in pieces or encrypted there are not."""
    return bool(_MD5.fullmatch(tag)) and hashlib.md5(content, usedforsecurity=False).hexdigest() == tag


def _facts(file: RemoteFile) -> list[object]:
    return [file.size, file.tag]
