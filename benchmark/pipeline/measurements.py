"""What embedding with a key cost, remembered beside the cache, so that a cached run can still show it.

A measurement decides nothing about vectors: where there is no file, or a damaged one, or one of another
machine (caches are copied), it reads as "not measured".
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import StorageFull
from benchmark.machine import cores, processor_name
from benchmark.records import EmbeddingKey
from benchmark.storage import path_part, read_json, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Speed of one key on this machine.

    Attributes:
        images: images embedded so far.
        seconds: all time spent on them, building and converting included.
        images_per_second: throughput of inference alone in the latest run, all threads of its process.
        latency_ms: p50 of a single image.
        latency_p95_ms: p95 of a single image.
        threads: of the process in the latest run; 0 when unknown.
    """

    images: int = 0
    seconds: float = 0.0
    images_per_second: float = math.nan
    latency_ms: float = math.nan
    latency_p95_ms: float = math.nan
    threads: int = 0


def load_measurement(cache: Path, key: EmbeddingKey) -> Measurement:
    """The measurement of a key on this machine, or an empty one."""
    try:
        fields: dict[str, Any] = read_json(_path(cache, key))
        return _parsed(fields) if _is_ours(fields) else Measurement()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return Measurement()


def add_measurement(cache: Path, key: EmbeddingKey, new: Measurement) -> None:
    """Remember a measurement: images and seconds add up, speeds are the latest.

    A cache that cannot be written to remembers nothing: what was embedded is not worth less for that.
    """
    old = load_measurement(cache, key)
    total = {**asdict(new), "images": old.images + new.images, "seconds": old.seconds + new.seconds}
    known = {name: None if math.isnan(value) else value for name, value in total.items()}
    with suppress(StorageFull):
        write_whole(_path(cache, key), json.dumps({**_machine(), **known}, indent=1).encode(), root=cache)


def _parsed(fields: dict[str, Any]) -> Measurement:
    """A measurement from a file's fields; those of later versions are passed over."""
    return Measurement(
        images=int(fields["images"]),
        seconds=float(fields["seconds"]),
        images_per_second=_speed(fields["images_per_second"]),
        latency_ms=_speed(fields["latency_ms"]),
        latency_p95_ms=_speed(fields["latency_p95_ms"]),
        threads=int(fields.get("threads", 0)),
    )


def _speed(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _machine() -> dict[str, Any]:
    return {"processor": processor_name(), "cores": cores()}


def _is_ours(fields: dict[str, Any]) -> bool:
    """Whether this machine measured; files of earlier versions do not say, and count as its own."""
    return all(fields.get(name, value) == value for name, value in _machine().items())


def _path(cache: Path, key: EmbeddingKey) -> Path:
    return cache / "measured" / f"{path_part(key.backbone)}-{key.digest()[:16]}.json"
