"""What a reader must know of some embeddings, remembered beside the cache, so that a cached run says it, too.

That an engine fell back to another arithmetic is found out when it is opened: a run that finds all vectors in
the cache opens none.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.pipeline.requests import EmbedRequest
from benchmark.records import EmbeddingKey
from benchmark.storage import Memo


def load_remarks(request: EmbedRequest, key: EmbeddingKey) -> tuple[str, ...]:
    """The remarks of those who asked for the same engine and arithmetic."""
    return _memo(request).recall(key.backbone, _question(request, key)) or ()


def add_remarks(request: EmbedRequest, key: EmbeddingKey, remarks: Sequence[str]) -> None:
    """Remember remarks, each once."""
    known = load_remarks(request, key)
    wanted = tuple(dict.fromkeys((*known, *remarks)))
    if wanted != known:
        _memo(request).remember(key.backbone, _question(request, key), wanted)


def _memo(request: EmbedRequest) -> Memo[tuple[str, ...]]:
    return Memo(folder=request.options.cache / "remarks", kind=tuple[str, ...])


def _question(request: EmbedRequest, key: EmbeddingKey) -> list[object]:
    """A fall-back is one only for whoever asked for something else."""
    return [key.digest(), request.options.engine, request.options.precision]
