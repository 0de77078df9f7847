"""Looking after the cache: what it holds, whether it is whole, making it smaller."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.embeddings.damage import DAMAGED_FOLDER, Damage
from benchmark.embeddings.files import PartFile, check_folder, list_parts, read_file, unreadable
from benchmark.embeddings.keys import KEY_FILE, MAX_KEY_BYTES, folder_name, is_folder_name, parse_key
from benchmark.embeddings.locks import claim_folder
from benchmark.embeddings.reading import PartReader
from benchmark.embeddings.stale_files import bytes_under, remove_whole
from benchmark.embeddings.writer import ensure_key_file
from benchmark.engines import model_cache_entries, verify_model
from benchmark.errors import CacheDamaged, CacheError
from benchmark.records import EmbeddingKey, Observer
from benchmark.storage import TEMPORARY_PREFIX, dead_temporaries, storage_error

STAMP_FILE = "last-used"
_DAMAGED_MODEL = "damaged-"


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
        models: converted models that are whole.
        damages: files that were not what their names or checksums say.
        strangers: paths in key folders that this program did not write; they are left alone.
    """

    keys: int
    parts: int
    rows: int
    size_bytes: int
    models: int
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


def key_of(store: PartReader, folder: Path) -> EmbeddingKey | None:
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


def entries(store: PartReader, *, count_rows: bool) -> tuple[CacheEntry, ...]:
    """Every key of the cache; see ``EmbeddingStore.entries``."""
    return tuple(_entry(store, folder, count_rows) for folder in key_folders(store.root))


def _entry(store: PartReader, folder: Path, count_rows: bool) -> CacheEntry:
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


def verify(store: PartReader, observer: Observer | None) -> VerifyReport:
    """Read every part; see ``EmbeddingStore.verify``."""
    folders = key_folders(store.root)
    files = [file for folder in folders for file in list_parts(folder)]
    before = len(store.damages)
    rows = [_verified_rows(store, file) for file in _watched(files, observer)]
    for folder in folders:
        _mend_key_file(store, folder)
    models = [model for model in model_cache_entries(store.root) if _is_named_model(model.path)]
    bad_models = [model.path for model in models if not verify_model(model)]
    return VerifyReport(
        keys=len(folders),
        parts=sum(count is not None for count in rows),
        rows=sum(count or 0 for count in rows),
        size_bytes=sum(file.size for file in files),
        models=len(models) - len(bad_models),
        damages=(*store.damages[before:], *map(_model_damage, bad_models)),
        strangers=tuple(stranger for folder in folders for stranger in _strangers(folder)),
    )


def _is_named_model(path: Path) -> bool:
    return not path.name.startswith((TEMPORARY_PREFIX, _DAMAGED_MODEL))


def _model_damage(path: Path) -> Damage:
    return Damage(path=path, reason="a converted model is not what its checksums say", moved_to=None)


def _watched(files: Sequence[PartFile], observer: Observer | None) -> Iterator[PartFile]:
    if observer is not None:
        observer.started("verify", len(files))
    for done, file in enumerate(files, start=1):
        yield file
        if observer is not None:
            observer.advanced("verify", done, file.path.parent.name)
    if observer is not None:
        observer.finished("verify")


def _verified_rows(store: PartReader, file: PartFile) -> int | None:
    part = store.open(file)
    return None if part is None else len(part.image_ids)


def _mend_key_file(store: PartReader, folder: Path) -> None:
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


def clean(store: PartReader, keys: Sequence[EmbeddingKey], *, damaged: bool) -> Removed:
    """Remove stale files and given keys; see ``EmbeddingStore.clean``."""
    paths = list(dead_temporaries(store.root))
    if damaged:
        paths += _damaged_things(store.root)
    paths += [store.folder(key) for key in dict.fromkeys(keys) if check_folder(store.folder(key))]
    return _remove_all(paths)


def _damaged_things(root: Path) -> list[Path]:
    models = [model.path for model in model_cache_entries(root)]
    damaged = [path for path in models if path.name.startswith(_DAMAGED_MODEL)]
    return [root / DAMAGED_FOLDER, *damaged] if check_folder(root / DAMAGED_FOLDER) else damaged


def _remove_all(paths: Sequence[Path]) -> Removed:
    gone, freed = [], 0
    for path in paths:
        size = bytes_under(path)
        try:
            remove_whole(path)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            raise storage_error(error, path) from error
        freed += size
        gone.append(path)
    return Removed(paths=tuple(gone), size_bytes=freed)


def enforce_limit(store: PartReader, max_bytes: int, in_use: set[str]) -> Removed:
    """Shrink the cache; see ``EmbeddingStore.enforce_limit``."""
    things = [thing for thing in _things(store.root) if not thing.path.name.startswith(TEMPORARY_PREFIX)]
    excess = sum(thing.size_bytes for thing in things) - max_bytes
    gone: list[_Thing] = []
    for thing in sorted(things, key=lambda thing: (thing.last_used, thing.path.name)):
        if excess <= sum(other.size_bytes for other in gone):
            break
        if thing.path.name not in in_use and _remove_unless_claimed(store.root, thing.path):
            gone.append(thing)
    return Removed(
        paths=tuple(thing.path for thing in gone), size_bytes=sum(thing.size_bytes for thing in gone)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Thing:
    """What the size limit may take away; damaged things count as never used."""

    path: Path
    size_bytes: int
    last_used: float


def _things(root: Path) -> Iterator[_Thing]:
    for folder in key_folders(root):
        yield _Thing(path=folder, size_bytes=bytes_under(folder), last_used=_last_used(folder))
    for model in model_cache_entries(root):
        damaged = model.path.name.startswith(_DAMAGED_MODEL)
        yield _Thing(path=model.path, size_bytes=model.bytes, last_used=0.0 if damaged else model.last_used)
    if (root / DAMAGED_FOLDER).exists() and check_folder(root / DAMAGED_FOLDER):
        yield _Thing(path=root / DAMAGED_FOLDER, size_bytes=bytes_under(root / DAMAGED_FOLDER), last_used=0.0)


def _remove_unless_claimed(root: Path, path: Path) -> bool:
    with claim_folder(root, path.name) as free:
        return free and bool(_remove_all([path]).paths)


def keys_of(
    store: PartReader, backbone: str, input_size: int | None, weights_sha256: str | None
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
