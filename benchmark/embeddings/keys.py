"""What a folder of the cache is called, and the ``key.json`` that says whose vectors it holds."""

from __future__ import annotations

import re

from benchmark.errors import CacheDamaged
from benchmark.records import EmbeddingKey
from benchmark.storage import parse_record, path_part

KEY_FILE = "key.json"
KEY_DIGITS = 16
MAX_KEY_BYTES = 65_536
_FOLDER = re.compile(r"[^./][^/]*-[0-9a-f]{16}")


def folder_name(key: EmbeddingKey) -> str:
    """``<backbone>-<key16>``: a readable prefix, then the first 64 bits of the key's SHA-256.

    Sixteen digits name the folder; every part inside carries the whole key, which is compared in full.
    """
    return f"{path_part(key.backbone)}-{key.digest()[:KEY_DIGITS]}"


def is_folder_name(name: str) -> bool:
    """Whether a directory entry could be a key's folder."""
    return _FOLDER.fullmatch(name) is not None


def parse_key(content: bytes, *, where: object) -> EmbeddingKey:
    """Read ``key.json``, or a part's ``key`` attribute, which holds the same text.

    Args:
        content: UTF-8 JSON, at most ``MAX_KEY_BYTES``.
        where: file named in the error.

    Raises:
        CacheDamaged: not a key of this program, field for field.
    """
    try:
        if len(content) > MAX_KEY_BYTES:
            raise ValueError(f"{len(content)} bytes")
        return parse_record(EmbeddingKey, content)
    except (ValueError, RecursionError) as error:
        raise CacheDamaged(
            "is not the description of an embedding key",
            where=where,
            expected="the JSON fields of an EmbeddingKey",
            got=f"{type(error).__name__}: {error}",
        ) from error
