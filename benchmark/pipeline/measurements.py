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

from benchmark.errors import StorageError
from benchmark.machine import cores, processor_name
from benchmark.records import EmbeddingKey
from benchmark.storage import path_part, read_json, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Speed of one key on this machine.

    The first three add up over data sets and runs, and say where time went. The others describe the machine:
    one core of it, pixels in memory, nothing else in them.

    Attributes:
        images: images embedded so far.
        seconds: of worker processes that embedded them, building and converting included.
        inference_seconds: of them, from the first batch to the last.
        images_per_second: of one core.
        latency_ms: p50 of a single image on one core.
        latency_p95_ms: p95 of a single image on one core.
        noisy: the timings differed too much to be relied on, also when repeated.
    """

    images: int = 0
    seconds: float = 0.0
    inference_seconds: float = 0.0
    images_per_second: float = math.nan
    latency_ms: float = math.nan
    latency_p95_ms: float = math.nan
    noisy: bool = False

    def seconds_for(self, images: int) -> float:
        """What one core takes for some images, start-up apart; nan when unknown."""
        return images / self.images_per_second


def load_measurement(cache: Path, key: EmbeddingKey) -> Measurement:
    """The measurement of a key on this machine, or an empty one."""
    try:
        fields: dict[str, Any] = read_json(_path(cache, key))
        return _parsed(fields) if _is_ours(fields) else Measurement()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return Measurement()


def add_measurement(cache: Path, key: EmbeddingKey, new: Measurement) -> None:
    """Remember a measurement: images and seconds add up, speeds are replaced.

    A cache that cannot be written to remembers nothing: what was embedded is not worth less for that.
    """
    old = load_measurement(cache, key)
    summed = ("images", "seconds", "inference_seconds")
    total = asdict(new) | {name: getattr(old, name) + getattr(new, name) for name in summed}
    known = {name: None if math.isnan(value) else value for name, value in total.items()}
    with suppress(StorageError):
        write_whole(_path(cache, key), json.dumps({**_machine(), **known}, indent=1).encode(), root=cache)


def _parsed(fields: dict[str, Any]) -> Measurement:
    """A measurement from a file's fields; those of later versions are passed over."""
    return Measurement(
        images=int(fields["images"]),
        seconds=float(fields["seconds"]),
        inference_seconds=float(fields["inference_seconds"]),
        images_per_second=_speed(fields["images_per_second"]),
        latency_ms=_speed(fields["latency_ms"]),
        latency_p95_ms=_speed(fields["latency_p95_ms"]),
        noisy=bool(fields["noisy"]),
    )


def _speed(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _machine() -> dict[str, Any]:
    return {"processor": processor_name(), "cores": cores()}


def _is_ours(fields: dict[str, Any]) -> bool:
    """Whether this machine measured."""
    return all(fields[name] == value for name, value in _machine().items())


def _path(cache: Path, key: EmbeddingKey) -> Path:
    return cache / "measured" / f"{path_part(key.backbone)}-{key.digest()[:16]}.json"
