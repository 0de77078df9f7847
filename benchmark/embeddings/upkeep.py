"""Looking after the cache: what it holds, whether it is whole, making it smaller."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.embeddings.claims import claim_folder
from benchmark.embeddings.damage import DAMAGED_FOLDER, Damage
from benchmark.embeddings.files import PartFile, check_folder, list_parts, read_file, unreadable
from benchmark.embeddings.keys import KEY_FILE, MAX_KEY_BYTES, folder_name, is_folder_name, parse_key
from benchmark.embeddings.litter import bytes_under, dead_temporaries, remove_whole
from benchmark.embeddings.parts import Ids, build_part, part_name
from benchmark.embeddings.writer import ensure_key_file
from benchmark.errors import CacheDamaged, CacheError
from benchmark.records import Bool, EmbeddingKey, Float32, Observer
from benchmark.storage import TEMPORARY_PREFIX, storage_error, write_whole

if TYPE_CHECKING:
    from benchmark.embeddings.store import EmbeddingStore

STAMP_FILE = "last-used"
CONVERTED_FOLDER = "converted"
COMPACT_PART_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One key of the cache.

    Attributes:
        folder: its directory.
        key: whose vectors it holds; None when neither ``key.json`` nor a part says so.
        parts: number of parts.
        rows: number of distinct images; None when they were not counted.
        size_bytes: of all its files.
        last_used: seconds since the epoch.
    """

    folder: Path
    key: EmbeddingKey | None
    parts: int
    rows: int | None
    size_bytes: int
    last_used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What reading the whole cache found.

    Attributes:
        keys: folders of keys.
        parts: parts that are whole.
        rows: rows in them, doubles included.
        size_bytes: read.
        damages: files that were not what their names say.
        strangers: paths in key folders that this program did not write; they are left alone.
    """

    keys: int
    parts: int
    rows: int
    size_bytes: int
    damages: tuple[Damage, ...]
    strangers: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was taken away.

    Attributes:
        paths: files and folders.
        size_bytes: freed.
    """

    paths: tuple[Path, ...] = ()
    size_bytes: int = 0


def key_folders(root: Path) -> tuple[Path, ...]:
    """Folders that look like a key's, ascending by name; links and other things are left alone.

    Raises:
        CacheError: the cache cannot be listed.
    """
    try:
        with os.scandir(root) as entries:
            names = [e.name for e in entries if is_folder_name(e.name) and e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise unreadable(error, root) from error
    return tuple(root / name for name in sorted(names))


def key_of(store: EmbeddingStore, folder: Path) -> EmbeddingKey | None:
    """The key of a folder, from ``key.json`` or, where that is lost, from a verified part."""
    try:
        return _described_key(folder)
    except CacheDamaged:
        parts = (store.open(file) for file in list_parts(folder))
        return next((part.key for part in parts if part is not None), None)


def _described_key(folder: Path) -> EmbeddingKey:
    """What ``key.json`` says.

    Raises:
        CacheDamaged: nothing, nothing readable, or another folder's key.
    """
    content = read_file(folder / KEY_FILE, limit=MAX_KEY_BYTES)
    if content is None:
        raise CacheDamaged("is missing", where=folder / KEY_FILE)
    key = parse_key(content, where=folder / KEY_FILE)
    if folder_name(key) != folder.name:
        raise CacheDamaged("describes another key", where=folder / KEY_FILE, got=folder_name(key))
    return key


def entries(store: EmbeddingStore, *, count_rows: bool) -> tuple[CacheEntry, ...]:
    """Every key of the cache; see ``EmbeddingStore.entries``."""
    return tuple(_entry(store, folder, count_rows) for folder in key_folders(store.root))


def _entry(store: EmbeddingStore, folder: Path, count_rows: bool) -> CacheEntry:
    files = list_parts(folder)
    ids = [ids for file in files if (ids := store.ids_of(file)) is not None] if count_rows else []
    return CacheEntry(
        folder=folder,
        key=key_of(store, folder),
        parts=len(files),
        rows=len(np.unique(np.concatenate(ids))) if ids else (0 if count_rows else None),
        size_bytes=bytes_under(folder),
        last_used=_last_used(folder),
    )


def _last_used(path: Path) -> float:
    for candidate in (path / STAMP_FILE, path):
        try:
            return candidate.lstat().st_mtime
        except OSError:
            continue
    return 0.0


def verify(store: EmbeddingStore, observer: Observer | None) -> VerifyReport:
    """Read every part; see ``EmbeddingStore.verify``."""
    folders = key_folders(store.root)
    files = [file for folder in folders for file in list_parts(folder)]
    before = len(store.damages)
    rows = [_verified_rows(store, file) for file in _watched(files, observer)]
    for folder in folders:
        _mend_key_file(store, folder)
    return VerifyReport(
        keys=len(folders),
        parts=sum(count is not None for count in rows),
        rows=sum(count or 0 for count in rows),
        size_bytes=sum(file.size for file in files),
        damages=store.damages[before:],
        strangers=tuple(stranger for folder in folders for stranger in _strangers(folder)),
    )


def _watched(files: Sequence[PartFile], observer: Observer | None) -> Iterator[PartFile]:
    if observer is not None:
        observer.started("verify", len(files))
    for done, file in enumerate(files, start=1):
        yield file
        if observer is not None:
            observer.advanced("verify", done, file.path.parent.name)
    if observer is not None:
        observer.finished("verify")


def _verified_rows(store: EmbeddingStore, file: PartFile) -> int | None:
    part = store.open(file)
    return None if part is None else len(part.image_ids)


def _mend_key_file(store: EmbeddingStore, folder: Path) -> None:
    """A ``key.json`` that cannot be right is set aside and written again from what a part says."""
    try:
        _described_key(folder)
        return
    except CacheDamaged as error:
        store.set_aside(folder / KEY_FILE, error)
    key = key_of(store, folder)
    if key is not None:
        ensure_key_file(folder, key)


def _strangers(folder: Path) -> list[Path]:
    own = {KEY_FILE, STAMP_FILE, *(file.path.name for file in list_parts(folder))}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name not in own and not path.name.startswith(TEMPORARY_PREFIX)
    ]


def clean(store: EmbeddingStore, keys: Sequence[EmbeddingKey], *, damaged: bool) -> Removed:
    """Remove litter and given keys; see ``EmbeddingStore.clean``."""
    paths = list(dead_temporaries(store.root))
    damaged_folder = store.root / DAMAGED_FOLDER
    if damaged and check_folder(damaged_folder):
        paths.append(damaged_folder)
    paths += [store.folder(key) for key in dict.fromkeys(keys) if check_folder(store.folder(key))]
    return _remove_all(paths)


def _remove_all(paths: Sequence[Path]) -> Removed:
    freed = 0
    for path in paths:
        size = bytes_under(path)
        try:
            remove_whole(path)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            raise storage_error(error, path) from error
        freed += size
    return Removed(paths=tuple(paths), size_bytes=freed)


def enforce_limit(store: EmbeddingStore, max_bytes: int, in_use: set[str]) -> Removed:
    """Shrink the cache; see ``EmbeddingStore.enforce_limit``."""
    excess = sum(bytes_under(path) for path in _counted(store.root)) - max_bytes
    removed = Removed()
    for path in _by_age(store.root):
        if excess <= removed.size_bytes:
            break
        if path.name in in_use:
            continue
        with claim_folder(store.root, path.name) as free:
            gone = _remove_all([path]) if free else Removed()
        removed = Removed(paths=removed.paths + gone.paths, size_bytes=removed.size_bytes + gone.size_bytes)
    return removed


def _counted(root: Path) -> list[Path]:
    return [root / DAMAGED_FOLDER, root / CONVERTED_FOLDER, *key_folders(root)]


def _by_age(root: Path) -> list[Path]:
    """What may go, in the order of going: damaged files, then the least recently used."""
    converted = root / CONVERTED_FOLDER
    models = sorted(converted.iterdir()) if converted.is_dir() and not converted.is_symlink() else []
    damaged = [root / DAMAGED_FOLDER] if (root / DAMAGED_FOLDER).is_dir() else []
    return damaged + sorted((*key_folders(root), *models), key=lambda path: (_last_used(path), path.name))


def compact(store: EmbeddingStore, key: EmbeddingKey) -> int:
    """Join small parts; see ``EmbeddingStore.compact``."""
    files = store.parts(key)
    held = {file: ids for file in files if (ids := store.ids_of(file, key)) is not None}
    if len(held) < 2:
        return 0
    rows_per_part = max(1, COMPACT_PART_BYTES // (64 + 4 * (store.dim(key) or 1)))
    total = len(np.unique(np.concatenate(list(held.values()))))
    if -(-total // rows_per_part) >= len(held):
        return 0
    joined = _Joined(store, key, rows_per_part)
    if not joined.take_all(held) or not joined.is_whole():
        return 0
    # Larger hashes first: while some are gone, the part that won a row is the last of its holders to go, so
    # no reader ever sees another part's bits for it.
    for file in sorted(held, key=lambda file: file.path.name, reverse=True):
        _unlink(file.path)
    return len(held) - len(joined.written)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


class _Joined:
    """Writes the winning rows of many parts as few parts.

    The new parts carry a fresh generation, so their names are new: a part that this call relies on cannot be
    one that another compaction, at work at the same time, has already decided to remove.
    """

    def __init__(self, store: EmbeddingStore, key: EmbeddingKey, rows_per_part: int) -> None:
        self._store = store
        self._key = key
        self._rows_per_part = rows_per_part
        self._generation = secrets.token_hex(8)
        self._ids: list[Ids] = []
        self._features: list[Float32] = []
        self.written: set[str] = set()

    def take_all(self, held: dict[PartFile, Ids]) -> bool:
        """Write everything; False when a part went away or was damaged: then nothing may be removed."""
        for file, wins in _winners(held):
            part = self._store.open(file, self._key)
            if part is None or not np.array_equal(part.image_ids, held[file]):
                return False
            self._take(part.image_ids[wins], part.features[wins])
        self._write(everything=True)
        return True

    def is_whole(self) -> bool:
        """Whether every new part can be read back."""
        files = [file for file in self._store.parts(self._key) if file.path.name in self.written]
        return len(files) == len(self.written) and all(self._store.open(file, self._key) for file in files)

    def _take(self, ids: Ids, features: Float32) -> None:
        self._ids.append(ids)
        self._features.append(features)
        self._write(everything=False)

    def _write(self, *, everything: bool) -> None:
        ids, features = np.concatenate(self._ids), np.concatenate(self._features)
        while len(ids) >= self._rows_per_part or (everything and len(ids)):
            now, ids = ids[: self._rows_per_part], ids[self._rows_per_part :]
            rows, features = features[: self._rows_per_part], features[self._rows_per_part :]
            content = build_part(self._key, now, rows, generation=self._generation)
            write_whole(self._store.folder(self._key) / part_name(content), content)
            self.written.add(part_name(content))
        self._ids, self._features = [ids], [features]


def _winners(held: dict[PartFile, Ids]) -> Iterator[tuple[PartFile, Bool]]:
    """For each part, ascending by hash, which of its rows no part with a smaller hash holds."""
    together = np.concatenate(list(held.values()))
    wins = np.zeros(len(together), dtype=bool)
    wins[np.unique(together, return_index=True)[1]] = True
    start = 0
    for file, ids in held.items():
        yield file, wins[start : start + len(ids)]
        start += len(ids)


def keys_of(
    store: EmbeddingStore, backbone: str, input_size: int | None, weights_sha256: str | None
) -> tuple[EmbeddingKey, ...]:
    """Keys that the cache holds; see ``EmbeddingStore.keys_of``."""
    found: list[EmbeddingKey] = []
    for folder in key_folders(store.root):
        try:
            key = _described_key(folder)
        except CacheError:
            continue
        fits = input_size in {None, key.input_size} and weights_sha256 in {None, key.weights_sha256}
        if key.backbone == backbone and fits:
            found.append(key)
    return tuple(found)
