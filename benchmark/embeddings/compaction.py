"""Joining small parts into few, with every row present and unchanged at every moment."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import numpy as np

from benchmark.embeddings.files import PartFile
from benchmark.embeddings.lookup import Numbers, fold
from benchmark.embeddings.parts import most_rows
from benchmark.embeddings.reading import PartReader
from benchmark.embeddings.writer import PartSize, PartWriter
from benchmark.records import Bool, EmbeddingKey


def compact(store: PartReader, key: EmbeddingKey) -> int:
    """Join small parts; see ``EmbeddingStore.compact``."""
    files = store.parts(key)
    held = {file: ids for file in files if (ids := store.numbers_of(file, key)) is not None}
    dim = store.dim(key)
    if len(held) < 2 or dim is None:
        return 0
    wins = _winners(list(held.values()))
    if -(-sum(map(np.count_nonzero, wins)) // most_rows(dim)) >= len(held):
        return 0
    # The new parts carry a fresh generation, so their names are new: a part that this call relies on cannot
    # be one that another compaction, at work at the same time, has already decided to remove.
    size = PartSize(rows=most_rows(dim), seconds=math.inf)
    with PartWriter(store.place, store.root, key, dim, size=size, generation=secrets.token_hex(8)) as writer:
        is_whole = _write(store, key, held, wins, writer)
    if not is_whole or not _can_be_read(store, key, set(writer.written)):
        return 0
    # Larger hashes first: while some are gone, the part that won a row is the last of its holders to go, so
    # no reader ever sees another part's bits for it.
    for file in sorted(held, key=lambda file: file.path.name, reverse=True):
        store.place.remove(file.path)
    return len(held) - len(writer.written)


def _write(
    store: PartReader,
    key: EmbeddingKey,
    held: dict[PartFile, Numbers],
    wins: Sequence[Bool],
    writer: PartWriter,
) -> bool:
    """Write the winning rows; False when a part went away or was damaged: then nothing may be removed."""
    for file, winners in zip(held, wins, strict=True):
        part = store.open(file, key)
        if part is None or not np.array_equal(fold(part.image_ids), held[file]):
            return False
        writer.add(part.image_ids[winners], part.features[winners])
    return True


def _can_be_read(store: PartReader, key: EmbeddingKey, written: set[str]) -> bool:
    files = [file for file in store.parts(key) if file.path.name in written]
    return len(files) == len(written) and all(store.open(file, key) for file in files)


def _winners(held: Sequence[Numbers]) -> list[Bool]:
    """For each part, ascending by hash, which of its rows no part with a smaller hash holds."""
    together = np.concatenate(held)
    wins = np.zeros(len(together), dtype=bool)
    wins[np.unique(together, return_index=True)[1]] = True
    return np.split(wins, np.cumsum([len(ids) for ids in held])[:-1])
