"""Extraction: fixed batch shapes, guards, memory running out, progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from store_shelves import KEY, make_ids

from benchmark.embeddings import EmbeddingStore, extract
from benchmark.errors import EmbeddingError
from benchmark.records import EmbeddingKey, Float32, UInt8


class Pictures:
    """100 images of 2 x 2; image i is filled with i."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def rows(self, start: int, stop: int) -> UInt8:
        self.asked.append((start, stop))
        return np.repeat(np.arange(start, stop, dtype=np.uint8), 12).reshape(-1, 2, 2, 3)


class Means:
    """A backbone whose vector is the mean colour, three times over; runs out of memory above a batch size."""

    def __init__(self, batch_size: int, *, room: int = 1000, error: Exception | None = None) -> None:
        self.batch_size = batch_size
        self.shapes: set[tuple[int, ...]] = set()
        self.closed = False
        self._room = room
        self._error = error or MemoryError()

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        for number, batch in enumerate(batches):
            self.shapes.add(batch.shape)
            if self.batch_size > self._room and number == 2:
                raise self._error
            yield self.vectors(batch)

    def vectors(self, batch: UInt8) -> Float32:
        return batch.mean(axis=(1, 2), dtype=np.float32)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 30])
def test_every_batch_has_one_shape_and_every_row_its_place(
    tmp_path: Path, key: EmbeddingKey, count: int
) -> None:
    ids = make_ids(count)
    frozen, finished = Means(8), list[int]()
    store = EmbeddingStore(tmp_path)
    with store.writer(key, 3) as writer:
        report = extract(frozen, Pictures(), ids, writer, finished.append)
    assert frozen.shapes == {(8, 2, 2, 3)}
    assert (report.images, report.notes, finished[-1]) == (count, (), count)
    assert (store.read(key, ids).features == np.arange(count)[:, None]).all()


def test_missing_images_are_taken_from_where_they_are(tmp_path: Path, key: EmbeddingKey) -> None:
    positions = np.array([2, 3, 4, 9, 50, 51, 99], np.int64)
    pictures, store, ids = Pictures(), EmbeddingStore(tmp_path), make_ids(7)
    with store.writer(key, 3) as writer:
        extract(Means(4), pictures, ids, writer, positions=positions)
    assert (store.read(key, ids).features == positions[:, None]).all()
    assert pictures.asked == [(2, 5), (9, 10), (50, 52), (99, 100)]


def test_nothing_to_do(tmp_path: Path, key: EmbeddingKey) -> None:
    with EmbeddingStore(tmp_path).writer(key, 3) as writer:
        assert extract(Means(4), Pictures(), (), writer).images == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate 9 bytes")]
)
def test_out_of_memory_halves_the_batch_and_says_so(
    tmp_path: Path, key: EmbeddingKey, error: Exception
) -> None:
    opened: list[Means] = []

    def reopen(size: int) -> Means:
        opened.append(Means(size, room=2, error=error))
        return opened[-1]

    store, ids = EmbeddingStore(tmp_path), make_ids(40)
    with store.writer(key, 3) as writer:
        report = extract(Means(8, room=2, error=error), Pictures(), ids, writer, reopen=reopen)
    assert report.notes == (
        "memory ran out at batch 8: went on with 4",
        "memory ran out at batch 4: went on with 2",
    )
    assert [(frozen.batch_size, frozen.closed) for frozen in opened] == [(4, True), (2, True)]
    assert (store.read(key, ids).features == np.arange(40)[:, None]).all()


def test_out_of_memory_without_a_way_out_keeps_what_is_done(tmp_path: Path, key: EmbeddingKey) -> None:
    store, ids = EmbeddingStore(tmp_path), make_ids(40)
    with pytest.raises(EmbeddingError, match="not enough memory; got memory ran out at batch 8"):  # noqa: SIM117
        with store.writer(key, 3) as writer:
            extract(Means(8, room=0), Pictures(), ids, writer)
    assert store.missing(key, ids) == ids[16:]


def test_not_enough_memory_for_one_image(tmp_path: Path, key: EmbeddingKey) -> None:
    with (
        EmbeddingStore(tmp_path).writer(key, 3) as writer,
        pytest.raises(EmbeddingError, match="memory ran out at batch 1"),
    ):
        extract(Means(2, room=0), Pictures(), make_ids(9), writer, reopen=lambda size: Means(size, room=0))


def test_other_errors_of_an_engine_are_not_taken_for_memory(tmp_path: Path, key: EmbeddingKey) -> None:
    error = RuntimeError("unsupported operation")
    with (
        EmbeddingStore(tmp_path).writer(key, 3) as writer,
        pytest.raises(RuntimeError, match="unsupported operation"),
    ):
        extract(Means(4, room=0, error=error), Pictures(), make_ids(20), writer, reopen=Means)


class NotFinite(Means):
    def vectors(self, batch: UInt8) -> Float32:
        return super().vectors(batch) / np.float32(0)


class Longer(Means):
    def vectors(self, batch: UInt8) -> Float32:
        return np.concatenate([super().vectors(batch)] * 2, axis=1)


class TooFew(Means):
    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        yield from list(super().embed(batches))[:-1]


class ShortBatch(Means):
    def vectors(self, batch: UInt8) -> Float32:
        return super().vectors(batch)[:-1]


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NotFinite, "not finite"),
        (Longer, r"expected float32 \(4, 3\); got float32 \(4, 6\)"),
        (TooFew, "too few batches; expected 20 rows; got 16"),
        (ShortBatch, "another batch than it was given"),
    ],
)
def test_vectors_that_cannot_be_right(
    tmp_path: Path, key: EmbeddingKey, kind: type[Means], message: str
) -> None:
    with EmbeddingStore(tmp_path).writer(KEY, 3) as writer, pytest.raises(EmbeddingError, match=message):
        extract(kind(4), Pictures(), make_ids(20), writer)
