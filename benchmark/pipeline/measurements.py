"""What embedding with a key cost, remembered beside the cache, so that a cached run can still show it.

A measurement decides nothing: a missing or damaged file reads as "not measured".
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.records import EmbeddingKey
from benchmark.storage import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Speed of one key on this machine.

    Attributes:
        images: images embedded so far.
        seconds: all time spent on them, building and converting included.
        images_per_second: throughput of inference alone in the latest run, all threads of its process.
        latency_ms: p50 of a single image.
        latency_p95_ms: p95 of a single image.
    """

    images: int = 0
    seconds: float = 0.0
    images_per_second: float = math.nan
    latency_ms: float = math.nan
    latency_p95_ms: float = math.nan


def load_measurement(cache: Path, key: EmbeddingKey) -> Measurement:
    """The measurement of a key, or an empty one."""
    try:
        fields: dict[str, Any] = json.loads(_path(cache, key).read_text())
        known: dict[str, Any] = {name: math.nan if value is None else value for name, value in fields.items()}
        return Measurement(**known)
    except (OSError, ValueError, TypeError, AttributeError):
        return Measurement()


def add_measurement(cache: Path, key: EmbeddingKey, new: Measurement) -> None:
    """Remember a measurement: images and seconds add up, speeds are the latest.

    Raises:
        StorageFull: no room, or no permission.
    """
    old = load_measurement(cache, key)
    total = {**asdict(new), "images": old.images + new.images, "seconds": old.seconds + new.seconds}
    fields = {name: None if math.isnan(value) else value for name, value in total.items()}
    write_whole(_path(cache, key), json.dumps(fields, indent=1).encode())


def _path(cache: Path, key: EmbeddingKey) -> Path:
    return cache / "measured" / f"{key.backbone}-{key.digest()[:16]}.json"
