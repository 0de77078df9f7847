"""What embedding with a key cost, remembered beside the cache, so that a cached run can still show it.

A measurement decides nothing about vectors: where there is none of this machine, it reads as "not measured".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmark.backbones import select
from benchmark.engines import image_seconds
from benchmark.errors import BenchmarkError
from benchmark.machine import cores, processor_name
from benchmark.records import Backbone, EmbeddingKey, Engine, Precision
from benchmark.storage import Memo

_SUMMED = ("images", "seconds", "inference_seconds")


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
        agreement: lowest cosine with the own library in float32, over the images compared.
    """

    images: int = 0
    seconds: float = 0.0
    inference_seconds: float = 0.0
    images_per_second: float = math.nan
    latency_ms: float = math.nan
    latency_p95_ms: float = math.nan
    noisy: bool = False
    agreement: float = math.nan

    def seconds_for(self, images: int) -> float:
        """What one core takes for some images, start-up apart; nan when unknown."""
        return images / self.images_per_second


def load_measurement(cache: Path, key: EmbeddingKey, *, anywhere: bool = False) -> Measurement:
    """The measurement of a key on this machine, or an empty one.

    Args:
        cache: where it is remembered.
        key: of the embeddings.
        anywhere: without one of this machine, take one of another: workers of a cluster are such.
    """
    memo = _memo(cache)
    known = memo.recall(key.backbone, _question(key))
    if known is None and anywhere:
        digest = key.digest()
        known = next((one for asked, one in memo.everything() if asked[0]["digest"] == digest), None)
    return known or Measurement()


def add_measurement(cache: Path, key: EmbeddingKey, new: Measurement) -> None:
    """Remember a measurement: images and seconds add up, speeds are replaced."""
    old = load_measurement(cache, key)
    summed = {name: getattr(old, name) + getattr(new, name) for name in _SUMMED}
    _memo(cache).remember(key.backbone, _question(key), replace(new, **summed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """How fast backbones are on one core of this machine, as a cache has measured them.

    Attributes:
        of: (architecture, input side, engine, precision) -> seconds an image; noisy figures are left out.
        keys: digests of the keys that they are of.
    """

    of: Mapping[tuple[str, int, Engine, Precision], float] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()

    def is_known(self, key: EmbeddingKey | None) -> bool:
        """Whether a key has been timed and need not be again."""
        return key is not None and key.digest() in self.keys

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
    for asked, measured in _memo(cache).everything():
        if asked[1:] == [*here()] and measured.images_per_second > 0 and not measured.noisy:
            key = asked[0]
            with suppress(ValueError):  # of another version
                way = Engine(key["engine"]), Precision(key["precision"])
                found[key["backbone"], key["input_size"], *way] = 1 / measured.images_per_second
                keys.add(key["digest"])
    return Speeds(of=found, keys=frozenset(keys))


def _registered(name: str) -> tuple[Backbone, ...]:
    try:
        return select(name)
    except BenchmarkError:  # of another version, or from elsewhere
        return ()


def here() -> tuple[str, int]:
    """What a figure that was measured here is kept with: it counts on such a machine alone."""
    return processor_name(), cores()


def _memo(cache: Path) -> Memo[Measurement]:
    return Memo(folder=cache / "measured", kind=Measurement, shared=True)


def _question(key: EmbeddingKey) -> list[object]:
    told = {name: getattr(key, name) for name in ("backbone", "input_size", "engine", "precision")}
    return [{**told, "digest": key.digest()}, *here()]
