"""Collecting rows into parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from benchmark.embeddings.keys import KEY_FILE, MAX_KEY_BYTES, folder_name
from benchmark.embeddings.parts import (
    ROWS_PER_PART,
    SECONDS_PER_PART,
    Ids,
    as_ids,
    build_part,
    most_rows,
    part_name,
)
from benchmark.embeddings.places import Place
from benchmark.errors import CacheDamaged, CacheError, EmbeddingError, StorageError
from benchmark.memory import give_back_memory
from benchmark.records import Bool, EmbeddingKey, Float32
from benchmark.storage import storage_error, sync_folder

_ATTEMPTS = 3  # another process that keeps the cache within its limit may take the folder away meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSize:
    """When a part is full.

    Attributes:
        rows: at most so many rows in a part, and at most 64 MiB.
        seconds: rows older than this are written at the next addition.
    """

    rows: int = ROWS_PER_PART
    seconds: float = SECONDS_PER_PART


class PartWriter:
    """Writes rows of one key as parts; a context manager.

    Leaving it writes what is buffered, also when an exception (Ctrl-C included) is on its way. Rows that were
    flushed are durable: they survive SIGKILL and power loss.

    Attributes:
        rows_written: rows in the parts that were written.
        written: names of these parts.
    """

    def __init__(
        self,
        place: Place,
        root: Path,
        key: EmbeddingKey,
        dim: int,
        *,
        size: PartSize | None = None,
        generation: str = "",
    ) -> None:
        self._place = place
        self._folder = root / folder_name(key)
        self._key = key
        self._dim = dim
        self._generation = generation
        self._size = size or PartSize()
        self._most = min(self._size.rows, most_rows(dim))
        self._ids: list[Ids] = []
        self._features: list[Float32] = []
        self._since = time.monotonic()
        self.rows_written = 0
        self.written: list[str] = []

    def __enter__(self) -> Self:
        self._place.parts(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
            return
        if isinstance(error, StorageError):
            return  # it is this writer's own: trying again would meet the same disk
        try:
            self.flush()
        except CacheError as failure:
            error.add_note(f"The last rows could not be kept either: {failure}")

    @property
    def rows_buffered(self) -> int:
        """Rows that are not on the disk yet."""
        return sum(map(len, self._ids))

    def add(self, image_ids: Sequence[str] | Ids, features: Float32) -> None:
        """Take rows, and write a part when enough have come together.

        Args:
            image_ids: n hexadecimal image ids.
            features: float32 (n, D), copied; row i belongs to ``image_ids[i]``.

        Raises:
            EmbeddingError: another shape or type, or a value that is not finite; none of these rows is taken.
            StorageError: a part cannot be written.
        """
        ids = as_ids(image_ids)
        self._check(ids, features)
        start = 0
        while start < len(ids):
            if not self._ids:
                self._since = time.monotonic()
            stop = start + self._most - self.rows_buffered
            self._ids.append(ids[start:stop].copy())
            self._features.append(features[start:stop].copy())
            if stop <= len(ids) or time.monotonic() - self._since >= self._size.seconds:
                self.flush()
            start = stop

    def _check(self, ids: Ids, features: Float32) -> None:
        if features.dtype != np.float32 or features.shape != (len(ids), self._dim):
            raise EmbeddingError(
                "embeddings of another shape or type than their backbone makes",
                where=self._key.backbone,
                expected=f"float32 {(len(ids), self._dim)}",
                got=f"{features.dtype} {features.shape}",
            )
        finite: Bool = np.asarray(np.isfinite(features).all(axis=1))
        if not finite.all():
            raise EmbeddingError(
                "embeddings that are not finite",
                where=f"{self._key.backbone}, image {as_ids(ids)[int(np.argmin(finite))].decode()}",
                expected="finite numbers",
                got=f"NaN or infinity in {int((~finite).sum())} of {len(finite)} rows",
                next_step="Try `precision=float32` or another `engine`; check the weights.",
            )

    def flush(self) -> None:
        """Write what is buffered as one part; nothing when nothing is.

        Raises:
            StorageError: it cannot be written; the rows stay buffered, the cache is as it was.
        """
        if not self._ids:
            return
        ids, features = np.concatenate(self._ids), np.concatenate(self._features)
        if not (ids[1:] > ids[:-1]).all():
            ids, first = np.unique(ids, return_index=True)
            features = features[first]
        self._write(build_part(self._key, ids, features, generation=self._generation))
        self._ids, self._features = [], []
        give_back_memory()
        self.rows_written += len(ids)

    def _write(self, content: bytes) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                ensure_key_file(self._place, self._folder, self._key)
                self._place.write(self._folder / part_name(content), content)
                self.written.append(part_name(content))
            except StorageError as error:
                if attempt + 1 < _ATTEMPTS and isinstance(error.__cause__, FileNotFoundError):
                    continue
                raise
            return


def make_folder(folder: Path) -> None:
    """Make a folder whose entry in its parent survives power loss, and its parents likewise.

    Raises:
        StorageError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise storage_error(error, folder) from error


def ensure_key_file(place: Place, folder: Path, key: EmbeddingKey) -> None:
    """Write ``key.json`` where it is missing or not this key's."""
    make_folder(folder)
    wanted = (key.to_json() + "\n").encode()
    try:
        present = place.read(folder / KEY_FILE, limit=MAX_KEY_BYTES)
    except CacheDamaged:
        present = None
    if present != wanted:
        place.write(folder / KEY_FILE, wanted)
