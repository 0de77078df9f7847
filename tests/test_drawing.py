"""What is drawn is fair and depends on nothing but seeds and what is drawn from."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import benchmark
from benchmark.drawing import derived_seed, fair_order, fill_parts

STRATA = st.lists(st.integers(0, 4), min_size=1, max_size=80)


def test_a_seed_is_the_digest_of_its_parts() -> None:
    digest = hashlib.sha256(b"3:MobileNet:7").digest()
    assert derived_seed(3, "MobileNet", 7) == int.from_bytes(digest[:4], "little") >> 1
    assert derived_seed("3|fold 1|batches") != derived_seed("3|fold 1|weights")


@given(strata=STRATA, first=st.integers(0, 3))
def test_every_beginning_of_a_fair_order_is_a_fair_share(strata: list[int], first: int) -> None:
    order = fair_order(np.array(strata), first=first)
    assert sorted(order.tolist()) == list(range(len(strata)))
    sizes = Counter(strata)
    early = sum(min(first, size) for size in sizes.values())
    assert Counter(strata[place] for place in order[:early]) == Counter(
        {stratum: min(first, size) for stratum, size in sizes.items() if first}
    )
    for stop in range(early, len(strata) + 1):
        held = Counter(strata[place] for place in order[:stop])
        for stratum, size in sizes.items():
            fair = size * stop / len(strata)
            assert first or abs(held[stratum] - fair) <= len(sizes) / 2 + 0.5
            assert held[stratum] >= min(first, size)
    for stratum in sizes:
        members = [place for place in order.tolist() if strata[place] == stratum]
        assert members == sorted(members), "within a stratum the order of the drawing stays"


@given(amounts=st.lists(st.integers(1, 5), min_size=6, max_size=60))
def test_groups_go_where_they_are_missed_most(amounts: list[int]) -> None:
    counts = np.array(amounts, np.float64)[:, None]
    wanted = np.array([[0.6], [0.2], [0.2]]) * counts.sum()
    part_of = fill_parts(counts, range(len(counts)), wanted)
    held = np.array([counts[part_of == part].sum() for part in range(3)])
    assert held.sum() == counts.sum()
    assert np.abs(held - wanted[:, 0]).max() <= max(amounts)


def test_seeds_fair_shares_and_greedy_filling_are_written_once() -> None:
    """A digest turned into a seed, or a place within a stratum, anywhere else would be a copy."""
    seeds, shares = [], []
    for path in sorted(Path(benchmark.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
        if "from_bytes" in names and ">> 1" in text:
            seeds.append(path.name)
        if "+ 0.5) /" in text and ("rank" in text or "place" in text):
            shares.append(path.name)
    assert seeds == ["drawing.py"]
    assert shares == ["drawing.py"]
