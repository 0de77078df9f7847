"""Ids are found whatever they share."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.embeddings.lookup import IdIndex, fold
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


@given(asked=st.lists(IDS, min_size=1, max_size=12), held=st.lists(IDS, max_size=12, unique=True))
def test_numbers_stand_for_their_ids(asked: list[str], held: list[str]) -> None:
    ready = IdIndex.of(as_ids(asked))
    found = [image_id.decode() for image_id in ready.wanted[ready.places(fold(as_ids(held)))]]
    assert sorted(found) == sorted(set(asked) & set(held))


def test_ids_that_share_their_number_are_told_apart_where_it_matters() -> None:
    one, other = "0" * 64, "1" * 32 + "0" * 32
    assert len(set(fold(as_ids([one, other, "1" * 64])).tolist())) == 1
    ready = IdIndex.of(as_ids([one, other]))
    assert not ready.is_unique
    at, rows = ready.positions(as_ids([other, "1" * 64]))
    assert (at.tolist(), rows.tolist()) == ([1], [0])
    assert sorted(ready.places(fold(as_ids([one])))) == [0, 1], "either may be in that part"
