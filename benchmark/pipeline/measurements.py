"""What embedding with a key cost, remembered beside the cache, so that a cached run can still show it.

A measurement decides nothing about vectors: where there is no file, or a damaged one, or one of another
machine (caches are copied), it reads as "not measured".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.backbones import select
from benchmark.engines import image_seconds
from benchmark.errors import ArgumentError, StorageError
from benchmark.machine import cores, processor_name
from benchmark.records import Backbone, EmbeddingKey, Engine, Precision
from benchmark.storage import path_part, read_json, write_whole

_FOLDER = "measured"
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError)


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
        return _parsed(_read(_path(cache, key)))
    except _UNREADABLE:
        return Measurement()


def add_measurement(cache: Path, key: EmbeddingKey, new: Measurement) -> None:
    """Remember a measurement: images and seconds add up, speeds are replaced.

    A cache that cannot be written to remembers nothing: what was embedded is not worth less for that.
    """
    old = load_measurement(cache, key)
    summed = ("images", "seconds", "inference_seconds")
    total = asdict(new) | {name: getattr(old, name) + getattr(new, name) for name in summed}
    known = {name: None if math.isnan(value) else value for name, value in total.items()}
    of = {name: getattr(key, name) for name in ("backbone", "input_size", "engine", "precision")}
    with suppress(StorageError):
        write_whole(_path(cache, key), json.dumps({**here(), **of, **known}, indent=1).encode(), root=cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """How fast backbones are on one core of this machine, as a cache has measured them.

    Attributes:
        of: (architecture, input side, engine, precision) -> seconds an image.
        keys: digests of the keys whose speed is known and steady.
    """

    of: Mapping[tuple[str, int, Engine, Precision], float] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()

    def is_known(self, key: EmbeddingKey | None) -> bool:
        """Whether a key has been timed and need not be again."""
        return key is not None and _file_name(key) in self.keys

    def correction(self, engine: Engine, precision: Precision) -> float:
        """By how much images take longer here than the model says, over the backbones that were measured."""
        ratios = [
            seconds / image_seconds(backbone, size, engine, precision)
            for (name, size, *way), seconds in self.of.items()
            if way == [engine, precision]
            for backbone in _registered(name)
        ]
        return median(ratios) if ratios else 1.0


def known_speeds(cache: Path) -> Speeds:
    """What a cache has measured on this machine."""
    found: dict[tuple[str, int, Engine, Precision], float] = {}
    keys = set()
    for path in sorted((cache / _FOLDER).glob("*-*.json")):
        try:
            fields = _read(path)
            measured = _parsed(fields)
            way = Engine(fields["engine"]), Precision(fields["precision"])
            name = str(fields["backbone"]), int(fields["input_size"]), *way
        except _UNREADABLE:
            continue
        if measured.images_per_second > 0:
            found[name] = 1 / measured.images_per_second
            keys |= set() if measured.noisy else {path.name}
    return Speeds(of=found, keys=frozenset(keys))


def _registered(name: str) -> tuple[Backbone, ...]:
    try:
        return select(name)
    except ArgumentError:  # of another version, or from elsewhere
        return ()


def _read(path: Path) -> dict[str, Any]:
    """The fields of a measurement that this machine made.

    Raises:
        ValueError: it was another.
    """
    fields: dict[str, Any] = read_json(path)
    if any(fields[name] != value for name, value in here().items()):
        raise ValueError("measured on another machine")
    return fields


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


def here() -> dict[str, Any]:
    """What a figure that was measured here is kept with: it counts on such a machine alone."""
    return {"processor": processor_name(), "cores": cores()}


def _path(cache: Path, key: EmbeddingKey) -> Path:
    return cache / _FOLDER / _file_name(key)


def _file_name(key: EmbeddingKey) -> str:
    return f"{path_part(key.backbone)}-{key.digest()[:16]}.json"
