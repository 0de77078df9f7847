"""Images through a frozen backbone, into the cache."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmark.embeddings.parts import Ids, as_ids
from benchmark.embeddings.writer import PartWriter
from benchmark.errors import EmbeddingError
from benchmark.records import Float32, Int64, UInt8


class BatchEmbedder(Protocol):
    """What extraction needs of a frozen backbone inside its engine."""

    @property
    def batch_size(self) -> int:
        """Images in every batch."""

    def embed(self, batches: Iterable[UInt8], /) -> Iterator[Float32]:
        """Batches uint8 (B, S, S, 3) -> vectors float32 (B, D), in order."""

    def close(self) -> None:
        """Give back the engine's memory."""


class RowSource(Protocol):
    """Where pixels come from."""

    def rows(self, start: int, stop: int) -> UInt8:
        """uint8 (stop - start, S, S, 3), row i being image ``start + i``; waits until they are decoded."""


Reopen = Callable[[int], BatchEmbedder]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractReport:
    """What became of an extraction.

    Attributes:
        images: images embedded.
        seconds: from the first batch to the last row handed to the writer.
        notes: remarks for the reader (a smaller batch because memory ran out).
    """

    images: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The images to embed.

    Attributes:
        source: where pixels come from.
        image_ids: S64 (N,) ids.
        positions: int64 (N,) row of each image in the source.
    """

    source: RowSource
    image_ids: Ids
    positions: Int64

    def batches(self, start: int, size: int) -> Iterator[UInt8]:
        """uint8 (size, S, S, 3) from image ``start`` on; the last is padded with its own last row.

        Every batch has one shape, so that an image's vector does not depend on its company.
        """
        for first in range(start, len(self.positions), size):
            batch = self._gather(self.positions[first : first + size])
            short = size - len(batch)
            yield np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)]) if short else batch

    def _gather(self, positions: Int64) -> UInt8:
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        runs = [self.source.rows(int(run[0]), int(run[-1]) + 1) for run in np.split(positions, breaks)]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)


def extract(
    frozen: BatchEmbedder,
    rows: RowSource,
    image_ids: Sequence[str],
    writer: PartWriter,
    progress: Callable[[int], None] | None = None,
    *,
    positions: Int64 | None = None,
    reopen: Reopen | None = None,
) -> ExtractReport:
    """Embed images and hand the vectors to a writer, batch by batch.

    Args:
        frozen: backbone inside its engine; its batch size is the batch shape.
        rows: pixels.
        image_ids: N hexadecimal ids.
        writer: takes the rows; checks that they are finite and of the right length.
        progress: called with the number of images finished.
        positions: int64 (N,), row of each image in ``rows``; by default 0..N-1.
        reopen: opens the same backbone with a smaller batch size, for when memory runs out. Vectors may
            then differ in the last bits from those of the full batch, and the report says so; it may close
            ``frozen`` first. Without it running out of memory is an error.

    Raises:
        EmbeddingError: vectors that cannot be right, or not enough memory for a single image.
        StorageError: the cache cannot be written.
    """
    ids = as_ids(image_ids)
    where = np.arange(len(ids), dtype=np.int64) if positions is None else positions
    work = _Extraction(Pixels(source=rows, image_ids=ids, positions=where), writer, progress)
    started = time.perf_counter()
    work.run(frozen, reopen)
    return ExtractReport(images=work.done, seconds=time.perf_counter() - started, notes=tuple(work.notes))


class _Extraction:
    """The state of one extraction: what is done, what was remarked."""

    def __init__(self, pixels: Pixels, writer: PartWriter, progress: Callable[[int], None] | None) -> None:
        self._pixels = pixels
        self._writer = writer
        self._progress = progress
        self.done = 0
        self.notes: list[str] = []

    def run(self, frozen: BatchEmbedder, reopen: Reopen | None) -> None:
        """Embed everything; when memory runs out, go on from there with half the batch."""
        failed = self._attempt(frozen)
        while failed:
            if reopen is None or failed < 2:
                raise _out_of_memory(failed)
            self.notes.append(f"memory ran out at batch {failed}: went on with {failed // 2}")
            smaller = reopen(failed // 2)
            try:
                failed = self._attempt(smaller)
            finally:
                smaller.close()

    def _attempt(self, frozen: BatchEmbedder) -> int:
        """0 when everything is done, else the batch size at which memory ran out."""
        try:
            self._run_with(frozen)
        except _memory_errors() as error:
            if not _is_memory(error):
                raise
            return frozen.batch_size
        return 0

    def _run_with(self, frozen: BatchEmbedder) -> None:
        size, total = frozen.batch_size, len(self._pixels.image_ids)
        for features in frozen.embed(self._pixels.batches(self.done, size)):
            wanted = min(size, total - self.done)
            self._take(features, size, wanted)
        if self.done != total:
            raise EmbeddingError(
                "an engine that returned too few batches", expected=f"{total} rows", got=f"{self.done}"
            )

    def _take(self, features: Float32, size: int, wanted: int) -> None:
        if features.ndim != 2 or len(features) != size or wanted < 1:
            raise EmbeddingError(
                "an engine that returned another batch than it was given",
                expected=f"{size} rows",
                got=f"shape {features.shape}",
            )
        ids = self._pixels.image_ids[self.done : self.done + wanted]
        self._writer.add(ids, features[:wanted])
        self.done += wanted
        if self._progress is not None:
            self._progress(self.done)


def _memory_errors() -> tuple[type[Exception], ...]:
    """What engines raise when memory runs out; OpenVINO has no type of its own for it."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return (MemoryError, RuntimeError)
    return (MemoryError, RuntimeError, tensorflow.errors.ResourceExhaustedError)


def _is_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("bad_alloc", "bad alloc", "out of memory", "failed to allocate"))


def _out_of_memory(size: int) -> EmbeddingError:
    return EmbeddingError(
        "not enough memory",
        got=f"memory ran out at batch {size}",
        next_step="Use a smaller `size` or fewer `jobs`, or leave this backbone out.",
    )
