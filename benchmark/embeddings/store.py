"""The embedding cache: immutable, content-addressed parts, one folder per key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from benchmark.embeddings import compaction
from benchmark.embeddings.keys import folder_name
from benchmark.embeddings.lookup import IdIndex
from benchmark.embeddings.parts import as_ids
from benchmark.embeddings.upkeep import Upkeep
from benchmark.embeddings.writer import PartSize, PartWriter
from benchmark.errors import CacheError, EmbeddingError
from benchmark.memory import PackedStrings
from benchmark.records import Bool, EmbeddingKey, Embeddings, Float32, Observer
from benchmark.storage import lock_folder

_ATTEMPTS = 4  # parts may be compacted by another process while they are read


class EmbeddingStore(Upkeep):
    """Vectors by key and image id.

    Nothing is read without its hash being checked; what fails is moved to ``damaged/`` and counts as missing.
    Any number of processes may use one cache at once, with or without working file locks.

    Args:
        root: folder of the cache; made when something is first written.
        observer: told of damage; without one it goes to the log.
    """

    def __init__(self, root: Path, *, observer: Observer | None = None) -> None:
        super().__init__(root, observer=observer)
        self._index: tuple[tuple[str, ...] | PackedStrings, IdIndex] | None = None
        self._looked_at: set[Path] = set()

    def missing(self, key: EmbeddingKey, image_ids: Sequence[str]) -> tuple[str, ...]:
        """Which of some images have no vector yet.

        Every part is read and verified once per process; afterwards only files that changed are.

        Args:
            key: whose vectors.
            image_ids: hexadecimal image ids.

        Returns:
            Those without a vector, in the order given, each once.

        Raises:
            CacheError: the cache cannot be read.
        """
        rows = np.flatnonzero(self.lacking(key, image_ids)).tolist()
        return tuple(dict.fromkeys(image_ids[row] for row in rows))

    def lacking(self, key: EmbeddingKey, image_ids: Sequence[str]) -> Bool:
        """Which of N images have no vector yet, bool (N,); otherwise as ``missing``."""
        index = self._index_of(image_ids)
        absent = np.ones(len(index.wanted), dtype=bool)
        if self.folder(key) in self._looked_at:
            self.place.look_again(self.folder(key))
        self._looked_at.add(self.folder(key))
        for _ in range(_ATTEMPTS):
            gone, files = False, self.parts(key)
            for file in files:
                numbers = self.numbers_of(file, key)
                if numbers is not None:
                    absent[index.places(numbers)] = False
                gone |= numbers is None
            # A part that went away between listing and reading was compacted: its rows are in a newer one.
            if not gone or files == self.parts(key):
                break
        return absent[index.inverse]

    def read(self, key: EmbeddingKey, image_ids: Sequence[str]) -> Embeddings:
        """Vectors in the order asked for.

        Args:
            key: whose vectors.
            image_ids: N >= 1 hexadecimal image ids.

        Returns:
            features float32 (N, D). Where two parts hold one row, the part with the smaller hash wins.

        Raises:
            CacheError: some rows are missing, or the cache cannot be read.
        """
        index = self._index_of(image_ids)
        self.mark_used(key)
        for _ in range(_ATTEMPTS):
            features, absent = self._gather(key, index)
            if features is not None and not absent:
                kept = image_ids if isinstance(image_ids, PackedStrings) else tuple(image_ids)
                return Embeddings(image_ids=kept, features=features)
            self.place.look_again(self.folder(key))
        raise CacheError(
            "rows are missing",
            where=self.folder(key),
            expected=f"{len(index)} rows",
            got=f"{absent} missing",
            next_step="Run 'backbones embed' to compute them.",
        )

    def writer(self, key: EmbeddingKey, dim: int, *, size: PartSize | None = None) -> PartWriter:
        """A context manager that takes rows of one key and writes them as parts.

        Args:
            key: whose vectors.
            dim: length D of a vector.
            size: when a part is full; by default as ``PartSize`` says.

        Raises:
            EmbeddingError: the cache holds vectors of another length under this key.
        """
        self.mark_used(key)
        held = self.dim(key)
        if held not in {None, dim}:
            raise EmbeddingError(
                "vectors of another length than the cache holds under this key",
                where=self.folder(key),
                expected=str(held),
                got=str(dim),
                next_step="Remove this key (backbones cache clean) if the old vectors are wrong.",
            )
        return PartWriter(self.place, self.root, key, dim, size=size)

    def lock(self, key: EmbeddingKey, *, timeout: float = 0.0) -> AbstractContextManager[bool]:
        """Try to be the one process that computes a key; see ``lock_folder``."""
        return lock_folder(self.root, folder_name(key), timeout=timeout)

    def compact(self, key: EmbeddingKey) -> int:
        """Join the parts of a key into fewer, of 64 MiB each; vectors keep their bits.

        New parts are durable before old ones go, so this may be killed at any moment and run beside readers,
        writers and other compactions.

        Returns:
            By how many parts the key has fewer now.

        Raises:
            StorageError: the new parts cannot be written; the old ones are still there.
        """
        return compaction.compact(self, key)

    def _index_of(self, image_ids: Sequence[str]) -> IdIndex:
        """Ids sorted once, however many keys are asked for the same sequence of them, if it cannot change."""
        if self._index is None or self._index[0] is not image_ids:
            index = IdIndex.of(as_ids(image_ids))
            if not isinstance(image_ids, tuple | PackedStrings):
                return index
            self._index = (image_ids, index)
        return self._index[1]

    def _gather(self, key: EmbeddingKey, index: IdIndex) -> tuple[Float32 | None, int]:
        """Features of ids as far as they are there, and how many are not."""
        absent = np.ones(len(index.wanted), dtype=bool)
        features: Float32 | None = None
        for file in self.parts(key):  # ascending by hash, each read afresh
            known = self._known.get(file.path.parent, {}).get(file)
            if known is not None and not absent[index.places(known)].any():
                continue
            part = self.open(file, key)
            if part is None:
                continue
            at, rows = index.positions(part.image_ids)
            new = absent[at]
            if features is None:
                features = np.empty((len(index), part.features.shape[1]), dtype=np.float32)
            if part.features.shape[1] != features.shape[1]:
                raise _two_dims(self.folder(key), features.shape[1], part.features.shape[1])
            features[index.first[at[new]]] = part.features[rows[new]]
            absent[at] = False
        if features is not None and len(index.wanted) < len(index):
            features = features[index.first[index.inverse]]
        return features, int(absent.sum())


def _two_dims(folder: Path, dim: int, other: int) -> CacheError:
    return CacheError(
        "parts of one key disagree on the length of a vector",
        where=folder,
        expected=str(dim),
        got=str(other),
        next_step="Remove the folder and run again.",
    )
