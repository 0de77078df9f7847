"""Looking after the cache: what it holds, whether it is whole, making it smaller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.embeddings.files import PartFile, check_folder
from benchmark.embeddings.keys import KEY_FILE, MAX_KEY_BYTES, folder_name, parse_key
from benchmark.embeddings.lookup import Numbers
from benchmark.embeddings.places import Place
from benchmark.embeddings.reading import Damage, PartReader
from benchmark.embeddings.writer import ensure_key_file
from benchmark.engines import model_cache_entries, verify_model
from benchmark.errors import CacheDamaged, CacheError
from benchmark.records import EmbeddingKey, Observer, Silent
from benchmark.storage import (
    DAMAGED_FOLDER,
    Removed,
    Stored,
    lock_folder,
    remove_all,
    shrink,
)

_BAD_MODEL = "a converted model is not what its checksums say"


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


class Upkeep(PartReader):
    """A cache's parts, and the means to look after them."""

    def entries(self, *, count_rows: bool = False) -> tuple[CacheEntry, ...]:
        """Every key of the cache, ascending by folder name.

        Args:
            count_rows: also count the images of each key, which reads and verifies its parts.
        """
        return tuple(self._entry(folder, count_rows) for folder in self.place.folders())

    def _entry(self, folder: Path, count_rows: bool) -> CacheEntry:
        files, stored = self.place.parts(folder), self.place.usage(folder)
        ids = [ids for file in files if (ids := self.numbers_of(file)) is not None] if count_rows else []
        return CacheEntry(
            folder=folder,
            key=self._key_of(folder),
            parts=len(files),
            rows=_distinct(np.concatenate(ids)) if ids else (0 if count_rows else None),
            size_bytes=stored.size_bytes,
            last_used=stored.last_used,
        )

    def keys_of(
        self, backbone: str, *, input_size: int | None = None, weights_sha256: str | None = None
    ) -> tuple[EmbeddingKey, ...]:
        """Keys that the cache has a folder for, as their ``key.json`` files say; None fits everything."""
        found: list[EmbeddingKey] = []
        for folder in self.place.folders():
            try:
                key = _described_key(self.place, folder)
            except CacheError:
                continue
            fits = input_size in {None, key.input_size} and weights_sha256 in {None, key.weights_sha256}
            if key.backbone == backbone and fits:
                found.append(key)
        return tuple(found)

    def verify(self, observer: Observer | None = None) -> VerifyReport:
        """Read every part afresh; damaged ones are moved aside, a lost ``key.json`` is written again."""
        self.place.distrust_copies()
        folders = self.place.folders()
        files = [file for folder in folders for file in self.place.parts(folder)]
        before = len(self.damages)
        parts = (self.open(file) for file in _watched(files, observer or Silent()))
        rows = [None if part is None else len(part.image_ids) for part in parts]
        for folder in folders:
            self._mend_key_file(folder)
        models = [model.path for model in model_cache_entries(self.root)]
        aside, bad_models = self.root / DAMAGED_FOLDER, [path for path in models if not verify_model(path)]
        return VerifyReport(
            keys=len(folders),
            parts=sum(count is not None for count in rows),
            rows=sum(count or 0 for count in rows),
            size_bytes=sum(file.size for file in files),
            models=len(models) - len(bad_models),
            damages=(
                *self.damages[before:],
                *(Damage(path=path, reason=_BAD_MODEL, moved_to=aside) for path in bad_models),
            ),
            strangers=tuple(stranger for folder in folders for stranger in self.place.strangers(folder)),
        )

    def _mend_key_file(self, folder: Path) -> None:
        """A ``key.json`` that cannot be right is set aside and written again from what a part says."""
        try:
            _described_key(self.place, folder)
            return
        except CacheDamaged as error:
            if self.place.holds(folder / KEY_FILE):
                self.set_aside(folder / KEY_FILE, error)
        key = self._key_of(folder)
        if key is not None:
            ensure_key_file(self.place, folder, key)

    def _key_of(self, folder: Path) -> EmbeddingKey | None:
        """The key of a folder, from ``key.json`` or, where that is lost, from a verified part."""
        try:
            return _described_key(self.place, folder)
        except CacheDamaged:
            parts = (self.open(file) for file in self.place.parts(folder))
            return next((part.key for part in parts if part is not None), None)

    def clean(self, keys: Sequence[EmbeddingKey] = ()) -> Removed:
        """Remove temporary files of processes that are gone, the damaged files, and given keys.

        What this program did not write is left alone.

        Raises:
            StorageError: something cannot be removed.
        """
        return self.place.clean(
            [self.root / DAMAGED_FOLDER, *(self.folder(key) for key in dict.fromkeys(keys))]
        )

    def enforce_limit(self, max_bytes: int, keep: Sequence[EmbeddingKey] = ()) -> Removed:
        """Remove the least recently used keys and converted models until the rest fits.

        Args:
            max_bytes: for embeddings, converted models and damaged files together.
            keep: keys that stay; so do those that this store object has read or written, and those that
                another process has locked.
        """
        kept = self._used | {folder_name(key) for key in keep}

        def remove(path: Path) -> bool:
            if path.name in kept:
                return False
            with lock_folder(self.root, path.name) as free:
                return free and bool(remove_all([path]).paths)

        things = [*map(Stored.of, self.place.folders()), *model_cache_entries(self.root)]
        if check_folder(self.root / DAMAGED_FOLDER):  # of no use to anybody
            things.append(replace(Stored.of(self.root / DAMAGED_FOLDER), last_used=0.0))
        return shrink(things, max_bytes, remove)


def _described_key(place: Place, folder: Path) -> EmbeddingKey:
    """What ``key.json`` says.

    Raises:
        CacheDamaged: nothing, nothing readable, or another folder's key.
    """
    content = place.read(folder / KEY_FILE, limit=MAX_KEY_BYTES)
    if content is None:
        raise CacheDamaged("is missing", where=folder / KEY_FILE)
    key = parse_key(content, where=folder / KEY_FILE)
    if folder_name(key) != folder.name:
        raise CacheDamaged("describes another key", where=folder / KEY_FILE, got=folder_name(key))
    return key


def _watched(files: Sequence[PartFile], observer: Observer) -> Iterator[PartFile]:
    observer.started("verify", len(files))
    for done, file in enumerate(files, start=1):
        yield file
        observer.advanced("verify", done, file.path.parent.name)
    observer.finished("verify")


def _distinct(numbers: Numbers) -> int:
    """How many different numbers there are; sorted in place, which takes less memory than ``np.unique``."""
    numbers.sort()
    return int(np.count_nonzero(numbers[1:] != numbers[:-1])) + 1
