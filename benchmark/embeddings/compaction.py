"""Joining small parts into few, with every row present and unchanged at every moment."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from benchmark.embeddings.files import PartFile
from benchmark.embeddings.lookup import Numbers, fold
from benchmark.embeddings.parts import Ids, build_part, most_rows, part_name
from benchmark.embeddings.reading import PartReader
from benchmark.records import Bool, EmbeddingKey, Float32


def compact(store: PartReader, key: EmbeddingKey) -> int:
    """Join small parts; see ``EmbeddingStore.compact``."""
    files = store.parts(key)
    held = {file: ids for file in files if (ids := store.numbers_of(file, key)) is not None}
    if len(held) < 2:
        return 0
    rows_per_part = most_rows(store.dim(key) or 1)
    wins = _winners(list(held.values()))
    if -(-sum(map(np.count_nonzero, wins)) // rows_per_part) >= len(held):
        return 0
    joined = _Joined(store, key, rows_per_part)
    if not joined.take_all(held, wins) or not joined.is_whole():
        return 0
    # Larger hashes first: while some are gone, the part that won a row is the last of its holders to go, so
    # no reader ever sees another part's bits for it.
    for file in sorted(held, key=lambda file: file.path.name, reverse=True):
        store.place.remove(file.path)
    return len(held) - len(joined.written)


class _Joined:
    """Writes the winning rows of many parts as few parts.

    The new parts carry a fresh generation, so their names are new: a part that this call relies on cannot be
    one that another compaction, at work at the same time, has already decided to remove.
    """

    def __init__(self, store: PartReader, key: EmbeddingKey, rows_per_part: int) -> None:
        self._store = store
        self._key = key
        self._rows_per_part = rows_per_part
        self._generation = secrets.token_hex(8)
        self._ids: list[Ids] = []
        self._features: list[Float32] = []
        self.written: set[str] = set()

    def take_all(self, held: dict[PartFile, Numbers], wins: Sequence[Bool]) -> bool:
        """Write everything; False when a part went away or was damaged: then nothing may be removed."""
        for file, winners in zip(held, wins, strict=True):
            part = self._store.open(file, self._key)
            if part is None or not np.array_equal(fold(part.image_ids), held[file]):
                return False
            self._take(part.image_ids[winners], part.features[winners])
        self._write()
        return True

    def is_whole(self) -> bool:
        """Whether every new part can be read back."""
        files = [file for file in self._store.parts(self._key) if file.path.name in self.written]
        return len(files) == len(self.written) and all(self._store.open(file, self._key) for file in files)

    def _take(self, ids: Ids, features: Float32) -> None:
        """Buffer rows; whenever they fill a part, write it."""
        start = 0
        while start < len(ids):
            stop = start + self._rows_per_part - sum(map(len, self._ids))
            self._ids.append(ids[start:stop])
            self._features.append(features[start:stop])
            if stop <= len(ids):
                self._write()
            start = stop

    def _write(self) -> None:
        if not self._ids:
            return
        ids, features = np.concatenate(self._ids), np.concatenate(self._features)
        self._ids, self._features = [], []
        content = build_part(self._key, ids, features, generation=self._generation)
        name = part_name(content)
        self._store.place.write(self._store.folder(self._key) / name, content)
        self.written.add(name)


def _winners(held: Sequence[Numbers]) -> list[Bool]:
    """For each part, ascending by hash, which of its rows no part with a smaller hash holds."""
    together = np.concatenate(held)
    wins = np.zeros(len(together), dtype=bool)
    wins[np.unique(together, return_index=True)[1]] = True
    return np.split(wins, np.cumsum([len(ids) for ids in held])[:-1])
