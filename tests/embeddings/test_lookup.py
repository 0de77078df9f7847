"""Ids are found whatever they share."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.embeddings.lookup import IdIndex
from benchmark.embeddings.parts import as_ids

DIGITS = st.sampled_from("0123456789abcdef")
# Few distinct beginnings and ends: ids that agree in their first 64 bits, or in all but the last digit.
IDS = st.builds(lambda start, end: start * 16 + "5" * 47 + end, st.sampled_from("0a9f"), DIGITS)


@settings(deadline=None)
@given(asked=st.lists(IDS, max_size=12), held=st.lists(IDS, max_size=12, unique=True))
def test_positions_equal_a_naive_search(asked: list[str], held: list[str]) -> None:
    ready = IdIndex.of(as_ids(asked))
    at, rows = ready.positions(as_ids(sorted(held)))
    found = [image_id.decode() for image_id in ready.wanted[at]]
    assert found == [sorted(held)[row] for row in rows] == sorted(set(asked) & set(held))
    assert [image_id.decode() for image_id in ready.wanted] == sorted(set(asked))
    assert [ready.wanted[position].decode() for position in ready.inverse] == asked
    assert [asked[row] for row in ready.first] == sorted(set(asked))


@given(st.integers(1, 50))
def test_ids_that_differ_early_are_compared_as_numbers(count: int) -> None:
    ids = as_ids([f"{number:016x}" + "0" * 48 for number in range(count)][::-1])
    ready = IdIndex.of(ids)
    assert ready.numbers is not None
    assert ready.numbers.dtype == np.uint64
    assert (ready.numbers == np.arange(count)).all()
