"""What a folder of the cache is called, and the ``key.json`` that says whose vectors it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from benchmark.errors import CacheDamaged
from benchmark.records import EmbeddingKey, Engine, Precision, PreprocessingMode, Resize
from benchmark.storage import parse_json, path_part

KEY_FILE = "key.json"
KEY_DIGITS = 16
MAX_KEY_BYTES = 65_536
_FOLDER = re.compile(r"[^./][^/]*-[0-9a-f]{16}")
_ENUMS = {"resize": Resize, "preprocessing": PreprocessingMode, "engine": Engine, "precision": Precision}
# Missing in the keys of earlier versions.
_LATER = {"engine_version", "instructions"}
_INTEGERS = {"input_size", "schema"}


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
        return _key_of(parse_json(content))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CacheDamaged(
            "is not the description of an embedding key",
            where=where,
            expected="the JSON fields of an EmbeddingKey",
            got=f"{type(error).__name__}: {error}",
        ) from error


def _key_of(record: object) -> EmbeddingKey:
    if not isinstance(record, Mapping):
        raise TypeError(f"a JSON {type(record).__name__}")
    names = {field.name for field in fields(EmbeddingKey)}
    wrong = set(record) ^ names
    if not wrong <= _LATER:
        raise KeyError(", ".join(sorted(map(str, wrong))))
    return EmbeddingKey(**{name: _field(name, record[name]) for name in names & set(record)})


def _field(name: str, value: object) -> Any:  # noqa: ANN401 - each field has its own type
    if name == "arguments":
        return _arguments(value)
    if name in _INTEGERS:
        if type(value) is not int:
            raise TypeError(f"{name} is not an integer")
        return value
    if type(value) is not str:
        raise TypeError(f"{name} is not text")
    return _ENUMS[name](value) if name in _ENUMS else value


def _arguments(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        raise TypeError("arguments is not a list")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(part) is str for part in pair)):
            raise TypeError("arguments holds something other than pairs of text")
    return tuple((pair[0], pair[1]) for pair in value)
