"""What a reader must know of some embeddings, remembered beside the cache, so that a cached run says it, too.

That an engine fell back to another arithmetic is found out when it is opened: a run that finds all vectors in
the cache opens none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmark.errors import StorageError
from benchmark.pipeline.requests import EmbedRequest
from benchmark.records import EmbeddingKey
from benchmark.storage import path_part, read_json, write_whole

_AUTO = "auto"


def load_remarks(request: EmbedRequest, key: EmbeddingKey) -> tuple[str, ...]:
    """The remarks of those who asked for the same engine and arithmetic; none where they cannot be read."""
    return _read(_path(request.options.cache, key)).get(_asked(request), ())


def add_remarks(request: EmbedRequest, key: EmbeddingKey, remarks: Sequence[str]) -> None:
    """Remember remarks, each once. A cache that cannot be written to remembers nothing."""
    path, asked = _path(request.options.cache, key), _asked(request)
    known = _read(path)
    wanted = tuple(dict.fromkeys((*known.get(asked, ()), *remarks)))
    if wanted != known.get(asked, ()):
        with suppress(StorageError):
            write_whole(
                path, json.dumps({**known, asked: wanted}, indent=1).encode(), root=request.options.cache
            )


def _asked(request: EmbedRequest) -> str:
    """A fall-back is one only for whoever asked for something else."""
    return f"{request.options.engine or _AUTO} {request.options.precision or _AUTO}"


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        stored = read_json(path)
        return {str(asked): tuple(map(str, remarks)) for asked, remarks in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _path(cache: Path, key: EmbeddingKey) -> Path:
    return cache / "remarks" / f"{path_part(key.backbone)}-{key.digest()[:16]}.json"
