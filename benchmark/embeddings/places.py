"""Where a cache's folders of keys lie: on this machine, or at a URL with copies here. One store, two places.

What is at the URL counts. A part is put there before it is kept here, so that a copy is never more than a
copy; one that is not what its name says is fetched again. Nothing locks: parts are immutable and named by
their content, so whoever puts one twice puts the same bytes.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmark.embeddings.files import PartFile, check_folder, list_parts, read_file, unreadable
from benchmark.embeddings.keys import KEY_FILE, is_folder_name
from benchmark.embeddings.parts import MAX_PART_BYTES, PART_NAME, part_name
from benchmark.errors import CacheDamaged, CacheError, StorageError
from benchmark.locations import url_of
from benchmark.storage import (
    DAMAGED_FOLDER,
    STAMP_FILE,
    TEMPORARY_PREFIX,
    RemoteFile,
    RemoteStorage,
    Removed,
    Stored,
    dead_temporaries,
    is_temporary,
    keep_copy,
    remove_all,
    set_aside,
    storage_error,
    write_whole,
)

_READINGS = 3
_FRESH_SECONDS = 30.0
# Whether a process of another machine still runs cannot be asked.
_ABANDONED_SECONDS = 7 * 24 * 3600.0


class Place:
    """Folders of keys, and the files in them, on this machine or one that it shares with others.

    Args:
        root: folder of the cache.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self) -> tuple[Path, ...]:
        """Folders that look like a key's, ascending by name; links and other things are left alone.

        Raises:
            CacheError: the cache cannot be listed.
        """
        try:
            with os.scandir(self._root) as entries:
                names = [
                    e.name for e in entries if is_folder_name(e.name) and e.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise unreadable(error, self._root) from error
        return tuple(self._root / name for name in sorted(names))

    def parts(self, folder: Path) -> tuple[PartFile, ...]:
        """The parts of a folder, ascending by name; none where there is no such folder.

        Raises:
            CacheError: it cannot be listed, or a link or file stands in its place.
        """
        return list_parts(folder) if check_folder(folder) else ()

    def look_again(self, folder: Path) -> None:
        """Forget what a listing said; here nothing is remembered."""

    def distrust_copies(self) -> None:
        """From now on read every file where it counts; here there are no copies."""

    def read(self, path: Path, *, limit: int = MAX_PART_BYTES) -> bytes | None:
        """The whole of a file; None when there is none. Its content is the caller's to verify.

        Raises:
            CacheDamaged: it cannot be one that this program wrote.
            CacheError: this process cannot read it.
        """
        return read_file(path, limit=limit)

    def write(self, path: Path, content: bytes) -> None:
        """Put a file whole.

        Raises:
            StorageError: it cannot be put; nothing is left behind.
        """
        write_whole(path, content, root=self._root)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error

    def set_aside(self, path: Path, inode: int | None) -> Path | None:
        """Move a damaged file to ``damaged/``; see ``storage.set_aside``."""
        return set_aside(path, self._root, inode=inode)

    def holds(self, path: Path) -> bool:
        """Whether something lies there, whatever it is."""
        return os.path.lexists(path)

    def usage(self, folder: Path) -> Stored:
        """Size and last use of a folder."""
        return Stored.of(folder)

    def strangers(self, folder: Path) -> list[Path]:
        """What lies in a key's folder and is not this program's."""
        own = {KEY_FILE, STAMP_FILE, *(file.path.name for file in list_parts(folder))}
        return [
            path
            for path in sorted(folder.iterdir())
            if path.name not in own and not path.name.startswith(TEMPORARY_PREFIX)
        ]

    def clean(self, folders: Sequence[Path]) -> Removed:
        """Remove what processes that are gone left behind, and some folders.

        Raises:
            StorageError: something cannot be removed.
        """
        return remove_all([*dead_temporaries(self._root), *filter(check_folder, folders)])


class _RemotePlace(Place):
    """A URL, and the copies that this machine keeps of its parts.

    A folder is listed once, and again when it turns out to have changed.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._remote = RemoteStorage(root)
        self._listed: dict[Path, dict[str, RemoteFile]] = {}
        self._folders: tuple[Path, ...] = ()
        self._folders_listed = -math.inf
        self._trusting = True

    def folders(self) -> tuple[Path, ...]:
        if not self._knows_folders():
            names = self._remote.folders(self._root)
            self._folders = tuple(self._root / name for name in names if is_folder_name(name))
            self._folders_listed = time.monotonic()
        return self._folders

    def _knows_folders(self) -> bool:
        return time.monotonic() - self._folders_listed < _FRESH_SECONDS

    def parts(self, folder: Path) -> tuple[PartFile, ...]:
        return tuple(
            PartFile(path=folder / name, size=file.size, mtime_ns=0, inode=0)
            for name, file in sorted(self._listing(folder).items())
            if PART_NAME.fullmatch(name)
        )

    def look_again(self, folder: Path) -> None:
        self._listed.pop(folder, None)
        if folder not in self._folders:
            self._folders_listed = -math.inf

    def distrust_copies(self) -> None:
        self._trusting = False

    def _listing(self, folder: Path) -> dict[str, RemoteFile]:
        if folder not in self._listed:
            # A plan asks for many keys that nobody has.
            is_absent = self._knows_folders() and is_folder_name(folder.name) and folder not in self._folders
            self._listed[folder] = {} if is_absent else self._remote.listed(folder)
        return self._listed[folder]

    def read(self, path: Path, *, limit: int = MAX_PART_BYTES) -> bytes | None:
        is_part = PART_NAME.fullmatch(path.name) is not None
        kept = self._copy(path, limit) if self._trusting else None
        if kept is not None and is_part and part_name(kept) == path.name:
            return kept
        known = self._listing(path.parent).get(path.name)
        if known is None:  # whatever a copy says: its name does not say what it holds
            return None
        if kept is not None and not is_part and len(kept) == known.size:
            return kept
        content = None
        for _ in range(_READINGS):  # damaged on the way, or there?
            content = self._fetched(path, known.size, limit)
            if content is None or not is_part or part_name(content) == path.name:
                break
        if content is not None and (not is_part or part_name(content) == path.name):
            with suppress(StorageError):  # a full disk keeps no copy
                keep_copy(path, content)
        return content

    def _copy(self, path: Path, limit: int) -> bytes | None:
        try:
            content = read_file(path, limit=limit)
        except CacheError:
            return None
        if content is not None:
            with suppress(OSError):
                os.utime(path)
        return content

    def _fetched(self, path: Path, size: int, limit: int) -> bytes | None:
        try:
            content = self._remote.read(path, size=size, most_bytes=limit)
        except OSError as error:
            raise CacheDamaged(
                "is not a file that this program wrote", where=url_of(path), got=error.strerror or ""
            ) from error
        if content is None:
            self.look_again(path.parent)
        return content

    def write(self, path: Path, content: bytes) -> None:
        self._remote.write(path, content)
        if path.parent not in self._folders:
            self._folders_listed = -math.inf
        if path.parent in self._listed:
            self._listed[path.parent][path.name] = RemoteFile(size=len(content), tag="", changed=0.0)
        with suppress(StorageError):
            keep_copy(path, content)

    def remove(self, path: Path) -> None:
        self._remote.remove(path)
        self._listing(path.parent).pop(path.name, None)
        super().remove(path)

    def set_aside(self, path: Path, inode: int | None) -> Path | None:
        target = self._root / DAMAGED_FOLDER / f"{path.parent.name}-{path.name}-{secrets.token_hex(4)}"
        try:
            content = self._remote.read(path, most_bytes=MAX_PART_BYTES)
            if content is None or (PART_NAME.fullmatch(path.name) and part_name(content) == path.name):
                return None  # it went away, or was put again whole
            self._remote.write(target, content)
            self.remove(path)
        except (CacheError, OSError):
            return None
        return target

    def holds(self, path: Path) -> bool:
        return path.name in self._listing(path.parent)

    def usage(self, folder: Path) -> Stored:
        files = self._listing(folder).values()
        return Stored(
            path=folder,
            size_bytes=sum(one.size for one in files),
            last_used=max((one.changed for one in files), default=0.0),
        )

    def strangers(self, folder: Path) -> list[Path]:
        return [
            folder / name
            for name in sorted(self._listing(folder))
            if name != KEY_FILE and not PART_NAME.fullmatch(name)
        ]

    def _abandoned(self) -> list[Path]:
        """What runs on a cluster handed over there and were killed before they took it back."""
        names = filter(is_temporary, self._remote.folders(self._root))
        found = [self._root / name for name in names]
        until = time.time() - _ABANDONED_SECONDS
        files = {folder: self._remote.below(folder).values() for folder in found}
        return [folder for folder in found if all(one.changed < until for one in files[folder])]

    def clean(self, folders: Sequence[Path]) -> Removed:
        here = super().clean(folders)
        folders = [*folders, *self._abandoned()]
        freed = [(folder, self._remote.remove_below(folder)) for folder in folders]
        for folder in folders:
            self.look_again(folder)
        self._folders_listed = -math.inf
        gone = tuple(folder for folder, size in freed if size)
        stale = tuple(path for path in here.paths if path not in folders)
        return Removed(paths=(*gone, *stale), size_bytes=sum(size for _, size in freed))


def place_at(root: Path) -> Place:
    """The place of a cache's folder.

    Args:
        root: of this machine; where it stands for a URL, what lies there counts.
    """
    return Place(root) if url_of(root) is None else _RemotePlace(root)
