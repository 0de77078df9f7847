"""Strings packed into one block behave like any sequence of strings, and take little memory."""

from __future__ import annotations

import pickle
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.memory import PackedStrings, give_back_memory
from benchmark.records import ImageSet, Split, Task

# Surrogate escapes stand for bytes of file names that are not UTF-8; other lone surrogates name no file.
names = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=12)
lists = st.lists(names, max_size=12).map(
    # What decodes to the same name is the same name: bytes that happen to be UTF-8 are never escaped.
    lambda texts: [
        text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for text in texts
    ]
)


@given(lists, st.data())
def test_packed_strings_are_the_same_sequence(strings: list[str], data: st.DataObject) -> None:
    packed = PackedStrings.of(strings)
    assert list(packed) == strings
    assert packed == strings
    assert packed == tuple(strings)
    assert len(packed) == len(strings)
    assert packed != [*strings, "one more"]
    assert packed != "".join(strings)
    for at in range(-len(strings), len(strings)):
        assert packed[at] == strings[at]
    with pytest.raises(IndexError):
        packed[len(strings)]
    start, stop, step = (data.draw(st.integers(-14, 14)) for _ in range(3))
    assert packed[start : stop : step or 1] == strings[start : stop : step or 1]
    assert pickle.loads(pickle.dumps(packed)) == strings
    assert PackedStrings.of(packed) is packed


@given(lists.filter(bool), st.data())
def test_rows_are_taken_in_their_order(strings: list[str], data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=8)), np.int64)
    assert PackedStrings.of(strings).take(rows) == [strings[row] for row in rows]
    packed = PackedStrings.of(strings)
    assert packed.take(np.arange(len(strings))) is packed


def test_strings_of_one_width_are_an_array_without_a_copy() -> None:
    packed = PackedStrings.of(["ab", "cd", "ef"])
    array = packed.as_bytes(2)
    assert array is not None
    assert array.tolist() == [b"ab", b"cd", b"ef"]
    assert np.shares_memory(array, packed.as_bytes(2))
    assert packed.as_bytes(3) is None
    assert PackedStrings.of(["a", "bcd"]).as_bytes(2) is None, "four letters, but not two each"
    assert PackedStrings.of_width(np.frombuffer(b"abcdef", np.uint8), 2) == ["ab", "cd", "ef"]
    with pytest.raises(ValueError, match="5 bytes are no whole number"):
        PackedStrings.of_width(np.frombuffer(b"abcde", np.uint8), 2)


def test_a_set_of_images_takes_two_hundred_bytes_an_image() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        images = ImageSet(
            name="many",
            root=Path("/photos"),
            paths=tuple(f"Positive/photograph-{row:08d}.jpg" for row in range(count)),
            image_ids=tuple(f"{row:064x}" for row in range(count)),
            targets=np.zeros(count, np.int64),
            classes=("Negative", "Positive"),
            task=Task.BINARY,
            positive=1,
            groups=None,
            split=Split(
                train=np.arange(count), val=np.zeros(0, np.int64), test=np.zeros(0, np.int64), given=True
            ),
        )
        assert tracemalloc.get_traced_memory()[0] < 200 * count
    finally:
        tracemalloc.stop()
    assert images.paths[-1] == "Positive/photograph-00019999.jpg"
    assert replace(images, name="again").image_ids is images.image_ids


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_goes_back() -> None:
    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

    give_back_memory()
    before = anonymous()
    # Blocks too small to be mapped by themselves, the last of which holds up the heap.
    blocks = [bytearray(b"x") * 65_536 for _ in range(1_250)]
    last = blocks[-1]
    grown = anonymous()
    del blocks
    give_back_memory()
    assert grown - before > 60e6
    assert anonymous() - before < 20e6
    assert last
