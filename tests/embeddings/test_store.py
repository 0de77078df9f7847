"""What the store promises when nothing goes wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from store_shelves import KEY, Shelf, fill, make_features, make_ids

from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize
from benchmark.errors import CacheError, EmbeddingError
from benchmark.memory import PackedStrings
from benchmark.records import EmbeddingKey, Engine, Float32, Precision, Resize

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
MATRICES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=FINITE)


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@settings(max_examples=20, deadline=None)
@given(features=MATRICES, per_part=st.integers(1, 5), data=st.data())
def test_round_trip_is_bit_exact_in_any_order(features: Float32, per_part: int, data: st.DataObject) -> None:
    image_ids = [digest(row) for row in range(len(features))]
    order = data.draw(st.permutations(range(len(features))))
    key = data.draw(KEYS)
    with TemporaryDirectory() as folder:
        with EmbeddingStore(Path(folder)).writer(
            key, features.shape[1], size=PartSize(rows=per_part)
        ) as writer:
            writer.add(image_ids, features)
        store = EmbeddingStore(Path(folder))
        assert store.missing(key, image_ids) == ()
        read = store.read(key, [image_ids[row] for row in order])
    assert read.features.dtype == np.float32
    assert read.features.tobytes() == features[list(order)].tobytes()
    assert read.image_ids == tuple(image_ids[row] for row in order)


TEXT = st.text(max_size=20)
KEYS = st.builds(
    EmbeddingKey,
    backbone=TEXT,
    arguments=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    weights_sha256=TEXT,
    input_size=st.integers(1, 2**40),
    decoder=TEXT,
    resize=st.sampled_from(Resize),
    preprocessing=st.sampled_from(["identity", "caffe", "mean=0,0,0;scale=2,2,2"]),
    pooling=TEXT,
    engine=st.sampled_from(Engine),
    precision=st.sampled_from(Precision),
    keras_version=TEXT,
    schema=st.integers(0, 9),
)


@given(one=KEYS, other=KEYS, data=st.data())
def test_any_changed_field_changes_the_digest(
    one: EmbeddingKey, other: EmbeddingKey, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from([field.name for field in fields(EmbeddingKey)]))
    changed = replace(one, **{field: getattr(other, field)})
    assert (changed.digest() == one.digest()) == (changed == one)


@settings(max_examples=25, deadline=None)
@given(key=KEYS)
def test_every_key_has_a_folder_that_can_be_found_again(key: EmbeddingKey) -> None:
    with TemporaryDirectory() as folder:
        store = EmbeddingStore(Path(folder))
        with store.writer(key, 1) as writer:
            writer.add([digest(0)], np.ones((1, 1), np.float32))
        assert store.folder(key).parent == Path(folder)
        assert store.keys_of(key.backbone) == (key,)
        assert [entry.key for entry in store.entries()] == [key]


def test_only_missing_rows_are_named_in_order_and_once(shelf: Shelf) -> None:
    store = EmbeddingStore(shelf.root)
    new = make_ids(3, "new")
    asked = [new[2], shelf.ids[0], new[0], new[2], shelf.ids[5]]
    assert store.missing(shelf.key, asked) == (new[2], new[0])
    assert store.missing(shelf.key, []) == ()
    assert store.missing(replace(shelf.key, input_size=64), asked) == (
        new[2],
        shelf.ids[0],
        new[0],
        shelf.ids[5],
    )


@given(rows=st.lists(st.integers(0, 9), max_size=12), kind=st.sampled_from([list, tuple, PackedStrings.of]))
@settings(max_examples=40, deadline=None)
def test_what_is_lacking_is_told_row_by_row(
    rows: list[int], kind: Callable[[list[str]], Sequence[str]]
) -> None:
    with TemporaryDirectory() as folder:
        store = EmbeddingStore(Path(folder))
        with store.writer(KEY, 1) as writer:
            writer.add([digest(row) for row in range(5)], np.ones((5, 1), np.float32))
        lacking = store.lacking(KEY, kind([digest(row) for row in rows]))
    assert lacking.tolist() == [row >= 5 for row in rows]


def test_long_vectors_make_parts_of_few_rows(tmp_path: Path, key: EmbeddingKey) -> None:
    """A part above what a reader accepts would be computed again and again."""
    dim, rows = 4 * 2**20, 9
    store = EmbeddingStore(tmp_path)
    with store.writer(key, dim) as writer:
        for row in range(rows):
            writer.add([digest(row)], np.full((1, dim), row, np.float32))
    assert len(writer.written) == 3
    assert all(file.path.stat().st_size < 65 * 2**20 for file in store.parts(key))
    assert store.missing(key, [digest(row) for row in range(rows)]) == ()


def test_of_an_image_added_twice_the_first_vector_counts(tmp_path: Path, key: EmbeddingKey) -> None:
    store = EmbeddingStore(tmp_path)
    with store.writer(key, 1) as writer:
        for row, value in ((3, 1.0), (1, 2.0), (3, 9.0), (2, 3.0)):
            writer.add([digest(row)], np.full((1, 1), value, np.float32))
    assert writer.rows_written == 3
    assert store.read(key, [digest(3), digest(1), digest(2)]).features.tolist() == [[1.0], [2.0], [3.0]]


def test_one_row_may_be_asked_for_twice(shelf: Shelf) -> None:
    rows = [3, 3, 59, 0, 3]
    read = EmbeddingStore(shelf.root).read(shelf.key, [shelf.ids[row] for row in rows])
    np.testing.assert_array_equal(read.features, shelf.features[rows])


def test_reading_a_missing_row_says_so(shelf: Shelf) -> None:
    with pytest.raises(
        CacheError, match=r"rows are missing; expected 2 rows; got 1 missing.*backbones embed"
    ):
        EmbeddingStore(shelf.root).read(shelf.key, [shelf.ids[0], *make_ids(1, "new")])


def test_the_smaller_part_hash_wins(tmp_path: Path, key: EmbeddingKey) -> None:
    image_ids = make_ids(1)
    for value in range(6):
        with EmbeddingStore(tmp_path).writer(key, 1) as writer:
            writer.add(image_ids, np.full((1, 1), value, np.float32))
    store = EmbeddingStore(tmp_path)
    smallest = store.open(store.parts(key)[0])
    assert smallest is not None
    winner = smallest.features[0, 0]
    assert store.read(key, image_ids).features[0, 0] == winner
    assert store.compact(key) == 5
    assert EmbeddingStore(tmp_path).read(key, image_ids).features[0, 0] == winner


def test_equal_rows_make_equal_parts_whatever_their_order(tmp_path: Path, key: EmbeddingKey) -> None:
    image_ids = make_ids(50)
    features = make_features(image_ids, 3)
    for order in (np.arange(50), np.arange(50)[::-1]):
        with EmbeddingStore(tmp_path).writer(key, 3) as writer:
            writer.add([image_ids[row] for row in order], features[order])
    assert len(EmbeddingStore(tmp_path).parts(key)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_is_never_nan_or_infinite(shelf: Shelf, value: float) -> None:
    features = np.zeros((4, 5), np.float32)
    features[2, 3] = value
    new = make_ids(4, "new")
    store = EmbeddingStore(shelf.root)
    with (
        pytest.raises(EmbeddingError, match=f"MobileNet_0.25, image {new[2]}.*not finite.*1 of 4 rows"),
        store.writer(shelf.key, 5) as writer,
    ):
        writer.add(new, features)
    assert store.missing(shelf.key, new) == new


@pytest.mark.parametrize(
    "features",
    [np.zeros((4, 6), np.float32), np.zeros((3, 5), np.float32), np.zeros((4, 5)), np.zeros(4, np.float32)],
    ids=["dim", "rows", "float64", "flat"],
)
def test_another_shape_or_type_is_refused(shelf: Shelf, features: Float32) -> None:
    with (
        EmbeddingStore(shelf.root).writer(shelf.key, 5) as writer,
        pytest.raises(EmbeddingError, match=r"expected float32 \(4, 5\)"),
    ):
        writer.add(make_ids(4, "new"), features)


def test_a_writer_of_another_dim_than_the_cache_holds_is_refused(shelf: Shelf) -> None:
    with (
        pytest.raises(EmbeddingError, match="expected 5; got 7"),
        EmbeddingStore(shelf.root).writer(shelf.key, 7),
    ):
        pass


@pytest.mark.parametrize("bad", ["", "abc", "G" * 64, "A" * 64, "a" * 65, "ü" * 64, "a" * 63 + "\0", 7, None])
def test_only_digests_address_rows(shelf: Shelf, bad: object) -> None:
    store = EmbeddingStore(shelf.root)
    with pytest.raises(EmbeddingError, match="hexadecimal"):
        store.missing(shelf.key, [shelf.ids[0], bad])  # type: ignore[list-item]


def test_parts_are_full_by_rows_or_by_age(tmp_path: Path, key: EmbeddingKey) -> None:
    image_ids = make_ids(100)
    features = make_features(image_ids, 2)
    store = EmbeddingStore(tmp_path)
    with store.writer(key, 2, size=PartSize(rows=30)) as writer:
        writer.add(image_ids[:70], features[:70])
        assert (len(writer.written), writer.rows_written, writer.rows_buffered) == (2, 60, 10)
    with store.writer(key, 2, size=PartSize(seconds=0.0)) as writer:
        writer.add(image_ids[70:72], features[70:72])
        writer.add(image_ids[72:], features[72:])
        assert len(writer.written) == 2
    assert store.missing(key, image_ids) == ()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_is_finished_is_kept_when_interrupted(
    tmp_path: Path, key: EmbeddingKey, interruption: type[BaseException]
) -> None:
    image_ids = make_ids(10)
    store = EmbeddingStore(tmp_path)
    with pytest.raises(interruption), store.writer(key, 2) as writer:  # noqa: PT012 - the writer is under test
        writer.add(image_ids[:7], np.ones((7, 2), np.float32))
        raise interruption
    assert store.missing(key, image_ids) == image_ids[7:]


def test_the_writer_copies_what_it_is_given(tmp_path: Path, key: EmbeddingKey) -> None:
    features = np.ones((3, 2), np.float32)
    store = EmbeddingStore(tmp_path)
    with store.writer(key, 2) as writer:
        writer.add(make_ids(3), features)
        features[:] = 7
    assert (store.read(key, make_ids(3)).features == 1).all()


def test_every_part_is_verified_once_and_then_remembered(shelf: Shelf) -> None:
    store = EmbeddingStore(shelf.root)
    assert store.missing(shelf.key, shelf.ids) == ()
    for part in shelf.parts:  # damaged from now on; size, time and inode stay as they were
        before = part.stat()
        part.write_bytes(bytes(byte ^ 1 for byte in part.read_bytes()))
        os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.missing(shelf.key, shelf.ids) == ()
    with pytest.raises(CacheError, match="rows are missing"):  # what is used is always verified
        store.read(shelf.key, shelf.ids)
    assert len(store.damages) == 3
    assert store.missing(shelf.key, shelf.ids) == shelf.ids


def test_new_parts_of_another_process_are_seen(shelf: Shelf) -> None:
    store = EmbeddingStore(shelf.root)
    new = make_ids(2, "new")
    assert store.missing(shelf.key, new) == new
    with EmbeddingStore(shelf.root).writer(shelf.key, 5) as writer:
        writer.add(new, np.ones((2, 5), np.float32))
    assert store.missing(shelf.key, new) == ()


def test_keys_of_filters_by_backbone_size_and_weights(shelf: Shelf) -> None:
    fill(shelf.root, rows=2, per_part=2, key=replace(shelf.key, input_size=64))
    fill(shelf.root, rows=2, per_part=2, key=replace(shelf.key, weights_sha256="b" * 64))
    fill(shelf.root, rows=2, per_part=2, key=replace(shelf.key, backbone="MobileNet_0.5"))
    store = EmbeddingStore(shelf.root)
    assert len(store.keys_of("MobileNet_0.25")) == 3
    assert store.keys_of("MobileNet_0.25", input_size=32, weights_sha256="a" * 64) == (shelf.key,)
    assert store.keys_of("MobileNet") == ()
    assert len(store.entries()) == 4


def test_an_absent_cache_is_empty(tmp_path: Path, key: EmbeddingKey) -> None:
    store = EmbeddingStore(tmp_path / "none")
    assert store.missing(key, make_ids(2)) == make_ids(2)
    assert store.entries() == ()
    assert store.verify().parts == 0
    assert store.clean().paths == ()
    assert store.compact(key) == 0
    assert store.enforce_limit(0).paths == ()
    assert not (tmp_path / "none").exists()
