"""What embeddings are good for is looked at before anything is built on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmark.backbones import FILE
from benchmark.embeddings import EmbeddingStore, equal_matrices
from benchmark.errors import CacheError
from benchmark.records import EmbeddingKey

_IMAGES = 64
_ATTEMPTS = 3
_OWN = f"{FILE}:"


def unusable_embeddings(
    store: EmbeddingStore, names: Mapping[EmbeddingKey, str], image_ids: Sequence[str]
) -> Iterator[tuple[EmbeddingKey, str]]:
    """Embeddings that went away after they were computed, and those that equal another backbone's.

    Args:
        store: where they are.
        names: backbone by key.
        image_ids: of the data set; a sample of it is looked at.

    Yields:
        (key, why the backbone has failed); a key comes once for each reason.

    Raises:
        CacheError: the cache cannot be read.
    """
    sample = image_ids[:: max(1, len(image_ids) // _IMAGES)]
    there = dict(names)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            pairs = equal_matrices(store, list(there), sample)
        except CacheError:
            gone = [(key, error) for key in there if (error := _why_unreadable(store, key, sample))]
            if not gone and attempt == _ATTEMPTS:
                raise
            for key, error in gone:
                del there[key]
                yield key, f"its embeddings went away after they were computed: {error}"
            continue
        for pair in pairs:
            if may_be_equal(*(names[key] for key in pair)):
                continue
            for key, twin in (pair, pair[::-1]):
                yield key, _equal(names[twin])
        return


def may_be_equal(one: str, other: str) -> bool:
    """Whether two names on a board may stand for one network, whose weights look different to a digest.

    A user's file may be any other network, converted; two libraries may call the weights of one differently.
    """
    if one.startswith(_OWN) or other.startswith(_OWN):
        return True
    (source, name), (other_source, other_name) = (
        (text.rpartition(":")[0], text.rpartition(":")[2])
        for text in (each.partition("@")[0] for each in (one, other))
    )
    return source != other_source and name == other_name


def _why_unreadable(store: EmbeddingStore, key: EmbeddingKey, sample: Sequence[str]) -> CacheError | None:
    try:
        store.read(key, sample)
    except CacheError as error:
        return error
    return None


def _equal(twin: str) -> str:
    return (
        f"its embeddings equal those of {twin}, which has different weights: one of them did not run "
        "what its name says. Remove both from the cache ('backbones cache clean --backbones NAME') "
        "and check the weights."
    )
