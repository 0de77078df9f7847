"""Whatever bytes lie in the cache: our error or a sound part, never a crash, a hang or another exception."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_shelves import KEY

from benchmark.embeddings.keys import parse_key
from benchmark.embeddings.parts import open_part, part_name
from benchmark.errors import CacheDamaged

_FUZZER = Path(__file__).with_name("fuzz_parts.py")


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 300), *(pytest.param(seed, 5000, marks=pytest.mark.torture) for seed in range(1, 7))],
)
def test_mutated_parts_under_a_right_hash(seed: int, count: int, torture_row: Callable[..., None]) -> None:
    done = subprocess.run(
        [sys.executable, str(_FUZZER), str(seed), str(count)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"mutant {done.stderr[-300:]} of seed {seed}: status {done.returncode}"
    refused, taken = map(int, done.stdout.split())
    assert refused + taken == count
    torture_row("fuzzed part under a right hash", injected=count, survived=count)


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_no_part(content: bytes) -> None:
    with pytest.raises(CacheDamaged):
        open_part(content, name=part_name(content), where="fuzz")


@settings(deadline=None)
@given(st.binary(max_size=400), st.text(max_size=40))
def test_any_bytes_under_any_name_are_no_part(content: bytes, name: str) -> None:
    with pytest.raises(CacheDamaged):
        open_part(content, name=name, where="fuzz")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(json.loads(KEY.to_json()))), JSON, min_size=1)


@settings(max_examples=150, deadline=None)
@given(changes=FIELDS)
def test_any_value_in_any_field_of_the_key_file(changes: dict[str, object]) -> None:
    record = {**json.loads(KEY.to_json()), **changes}
    try:
        key = parse_key(json.dumps(record).encode(), where="fuzz")
    except CacheDamaged:
        return
    assert json.loads(key.to_json()) == record


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_no_key_file(content: bytes) -> None:
    with pytest.raises(CacheDamaged):
        parse_key(content, where="fuzz")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mutated_key_file_is_refused_or_means_what_it_says(data: st.DataObject) -> None:
    content = bytearray(KEY.to_json().encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        key = parse_key(bytes(content), where="fuzz")
    except CacheDamaged:
        return
    assert json.loads(key.to_json()) == json.loads(content)
