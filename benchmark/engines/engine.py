"""What executes a frozen backbone; without TensorFlow or OpenVINO."""

from __future__ import annotations

import functools
import json
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.backbones import library_version
from benchmark.engines.hardware import computes_on
from benchmark.records import (
    Backbone,
    EmbeddingKey,
    Engine,
    Float32,
    Float64,
    Precision,
    UInt8,
    WeightsSource,
)

POOLING = "avg"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What to open.

    Attributes:
        backbone: which network; its own ``weights`` override those below.
        weights: of the run.
        input_size: side S in pixels.
        engine: None means auto.
        precision: None means auto.
        threads: processor threads to use.
        cache: folder of converted models and remembered digests.
        batch_size: images in a batch; None means the engine's own. Smaller where memory is short.
    """

    backbone: Backbone
    weights: WeightsSource
    input_size: int
    engine: Engine | None
    precision: Precision | None
    threads: int
    cache: Path
    batch_size: int | None = None


_NOISE = 2.0
_OWN_CORE = 0.8
_ATTEMPTS = 3
_WARM_UP = 2
_FEWEST, _MOST = 5, 20
_ENOUGH_SECONDS = 1.5


class Speed(NamedTuple):
    """How fast a backbone is on one core of this machine (or on its GPU), pixels in memory, start-up apart.

    Attributes:
        latency_ms: milliseconds for a single image, one after the other, median.
        latency_p95_ms: 95th percentile of the same.
        images_per_second: with as many images at a time as the engine likes best.
        noisy: some calls took more than twice as long as the median, or other programs took a part of the
            core, also when they were timed again.
    """

    latency_ms: float = math.nan
    latency_p95_ms: float = math.nan
    images_per_second: float = math.nan
    noisy: bool = False


def in_order(
    pool: Executor, call: Callable[[UInt8], Float32], batches: Iterable[UInt8], workers: int
) -> Iterator[Float32]:
    """What a call makes of batches, as many at a time as there are workers, and one that waits."""
    waiting: deque[Future[Float32]] = deque()
    for batch in batches:
        waiting.append(pool.submit(call, batch))
        if len(waiting) > workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class FrozenBackbone(ABC):
    """A backbone that only embeds. Close it to give its memory back.

    Attributes:
        engine: what executes it.
        precision: the arithmetic that it really uses.
        weights_sha256: of the weights that were really loaded.
        batch_size: B; every batch has exactly this many images.
        together: how many of them one core takes at a time.
        on_gpu: whether a GPU computes, while the processor waits.
        embedding_dim: D.
        notes: remarks for the reader of the board (fallbacks).
        agreement: lowest cosine of a batch-centred embedding with that of its own library in float32; 1
            where it is that itself, nan where nobody compared.
    """

    engine: Engine
    precision: Precision
    weights_sha256: str
    batch_size: int
    together: int
    on_gpu: bool = False
    embedding_dim: int
    notes: tuple[str, ...] = ()
    agreement: float = math.nan

    @abstractmethod
    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        """Embed batches, several at a time, in order.

        Args:
            batches: uint8 (B, S, S, 3) RGB each; the caller pads the last one.

        Yields:
            float32 (B, D) each. The bits of a row depend on its image alone.
        """

    def embed_one(self, image: UInt8) -> Float32:
        """The embedding of one image alone on one core, uint8 (S, S, 3) -> float32 (D,)."""
        row: Float32 = self.embed_together(image[None])[0]
        return row

    @abstractmethod
    def embed_together(self, images: UInt8) -> Float32:
        """Embeddings of one request on one core, uint8 (n, S, S, 3) -> float32 (n, D).

        Args:
            images: ``together`` of them; one alone, too, unless the engine has an ``embed_one`` of its own.
        """

    @abstractmethod
    def close(self) -> None:
        """Give memory and threads back; the backbone cannot be used afterwards."""

    def speed(self, sample: UInt8) -> Speed:
        """Time single images and full requests on one core; what is noisy is timed again, a few times.

        Args:
            sample: uint8 (n, S, S, 3), at least one image.
        """
        images = np.resize(sample, (self.together, *sample.shape[1:]))
        tries: list[Speed] = []
        while len(tries) < _ATTEMPTS:
            single, undisturbed = _seconds(lambda: self.embed_one(sample[0]))
            full = single
            if self.together > 1:
                full, also = _seconds(lambda: self.embed_together(images))
                undisturbed = undisturbed and also
            p50, p95 = np.percentile(single * 1000, [50, 95])
            noisy = any(np.percentile(one, 95) > _NOISE * np.median(one) for one in (single, full))
            noisy = noisy or not (undisturbed or self.on_gpu)
            rate = self.together / float(np.median(full))
            tries.append(Speed(float(p50), float(p95), rate, bool(noisy)))
            if not noisy:
                break
        return min(tries, key=lambda one: (one.noisy, one.latency_ms))

    def __enter__(self) -> FrozenBackbone:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _seconds(call: Callable[[], object]) -> tuple[Float64, bool]:
    """How long each of some calls takes, after two that warm up; fewer where they take long.

    Returns:
        Seconds of each call, and whether this process had a core to itself meanwhile. Where other programs
        take half of it, all calls take twice as long, and none stands out.
    """
    for _ in range(_WARM_UP):
        call()
    found: list[float] = []
    begun, used = time.perf_counter(), time.process_time()
    while len(found) < _MOST and (len(found) < _FEWEST or time.perf_counter() - begun < _ENOUGH_SECONDS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    share = (time.process_time() - used) / max(1e-9, time.perf_counter() - begun)
    return np.asarray(found), share >= _OWN_CORE


@functools.cache
def engine_version(engine: Engine) -> str:
    """The installed version of an engine's package; ``absent`` where it is not installed."""
    try:
        return metadata.version(engine.value)
    except metadata.PackageNotFoundError:
        return "absent"


def embedding_key(
    backbone: Backbone,
    weights_sha256: str,
    *,
    input_size: int,
    resize: str,
    decoder: str,
    engine: Engine,
    precision: Precision,
) -> EmbeddingKey:
    """The cache key of a backbone's embeddings: everything that changes a vector."""
    arguments = tuple(sorted((name, json.dumps(value)) for name, value in backbone.arguments.items()))
    return EmbeddingKey(
        backbone=backbone.architecture,
        arguments=arguments,
        weights_sha256=weights_sha256,
        input_size=input_size,
        decoder=decoder,
        resize=resize,
        preprocessing=str(backbone.preprocessing),
        pooling=POOLING,
        engine=engine,
        precision=precision,
        keras_version=library_version(backbone),
        engine_version=engine_version(engine),
        instructions=computes_on(engine),
    )
