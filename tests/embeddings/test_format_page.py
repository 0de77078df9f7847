"""The page on the format tells the truth: its code reads a cache without this program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from store_shelves import Shelf

from benchmark.embeddings import EmbeddingStore

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cache-format.md"


def test_the_code_on_the_page_reads_a_cache(shelf: Shelf) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with EmbeddingStore(shelf.root).writer(
        shelf.key, 5
    ) as writer:  # rows twice, the second time with other bits
        writer.add(shelf.ids[:30], shelf.features[:30] + 1)
    names: dict[str, Any] = {}
    exec(re.sub(r'"embeddings_cache/[^"]*"', repr(str(shelf.folder)), code), names)
    ids = [image_id.decode() for image_id in names["ids"]]
    assert ids == sorted(shelf.ids)
    np.testing.assert_array_equal(names["features"], EmbeddingStore(shelf.root).read(shelf.key, ids).features)


def test_a_part_is_what_the_page_says(shelf: Shelf) -> None:
    with h5py.File(shelf.parts[0]) as file:
        assert set(file) == {"image_ids", "features"}
        assert set(file.attrs) == {"key", "schema", "versions", "generation"}
        assert (file["image_ids"].dtype, file["features"].dtype) == (np.dtype("S64"), np.dtype("<f4"))
        assert file.attrs["key"].decode() + "\n" == (shelf.folder / "key.json").read_text()
    assert shelf.parts[0].read_bytes()[8] in {2, 3}
