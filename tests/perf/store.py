"""The embedding store with very many rows of one backbone: what it does, in processor seconds and memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.embeddings import EmbeddingStore
from benchmark.memory import PackedStrings
from benchmark.records import EmbeddingKey, Engine, Precision, Resize
from tests.perf.children import call_child
from tests.perf.figures import Figure
from tests.perf.jobs import empty
from tests.perf.setting import Setting

_DIM = 16
_AT_ONCE = 100_000
_FEW = 1000
_KEY = EmbeddingKey(
    backbone="Generated",
    arguments=(),
    weights_sha256="0" * 64,
    input_size=224,
    decoder="pixels-0",
    resize=Resize.BILINEAR,
    preprocessing="tf",
    pooling="avg",
    engine=Engine.OPENVINO,
    precision=Precision.FLOAT32,
    keras_version="0",
)


def measure(setting: Setting) -> Iterator[Figure]:
    """Each step in a process of its own, on the store as a run writes it, and then with its parts joined."""
    rows = setting.pick(10_000_000, 1_000_000, 10_000)
    cache = empty(setting.folder / "store")
    steps = (
        write,
        count,
        append,
        look_up,
        look_up_all,
        read,
        list_all,
        verify,
        compact,
        look_up_all,
        list_all,
    )
    for step in steps:
        found = call_child(step, {"cache": str(cache), "rows": rows}, setting.log)
        yield Figure(
            work=f"store of {rows:,} rows x {_DIM}: {(step.__doc__ or '').rstrip('.')}",
            ours=found["seconds"],
            note=f"peak {found['megabytes']:.0f} MB; {found['note']}",
        )


def ids_of(start: int, stop: int) -> PackedStrings:
    """Ids of generated images, one a row of the range, ascending as those of a data set are."""
    letters = np.empty((stop - start, 64), np.uint8)
    for at in range(start, stop, _AT_ONCE):
        end = min(at + _AT_ONCE, stop)
        digests = np.random.default_rng(at).integers(0, 256, (end - at, 32), np.uint8)
        digests[:, :4] = np.arange(at, end, dtype=">u4").view(np.uint8).reshape(-1, 4)
        digits = digests.tobytes().hex().encode("ascii")
        letters[at - start : end - start] = np.frombuffer(digits, np.uint8).reshape(-1, 64)
    return PackedStrings.of_width(letters.ravel(), 64)


def _timed(argument: dict[str, Any], work: Callable[[EmbeddingStore, int], object]) -> dict[str, Any]:
    """Processor seconds of some work on a freshly opened store, and the peak memory of this process."""
    store = EmbeddingStore(Path(argument["cache"]))
    begun, used = time.perf_counter(), time.process_time()
    note = work(store, argument["rows"])
    seconds = time.process_time() - used
    note = f"{note}; {time.perf_counter() - begun:.0f} s on the clock"
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {"seconds": seconds, "megabytes": kilobytes * 1024 / 1e6, "note": str(note)}


def write(argument: dict[str, Any]) -> dict[str, Any]:
    """written"""

    def work(store: EmbeddingStore, rows: int) -> str:
        random = np.random.default_rng(0)
        with store.writer(_KEY, _DIM) as writer:
            for at in range(0, rows, _AT_ONCE):
                ids = ids_of(at, min(at + _AT_ONCE, rows))
                writer.add(ids, random.standard_normal((len(ids), _DIM), np.float32))
        return f"{len(writer.written)} parts"

    return _timed(argument, work)


def count(argument: dict[str, Any]) -> dict[str, Any]:
    """opened, its keys and parts counted"""
    return _timed(argument, lambda store, rows: f"{store.entries()[0].parts} parts")


def append(argument: dict[str, Any]) -> dict[str, Any]:
    """1,000 rows appended"""

    def work(store: EmbeddingStore, rows: int) -> str:
        with store.writer(_KEY, _DIM) as writer:
            ids = ids_of(rows * 2, rows * 2 + _FEW)
            writer.add(ids, np.ones((len(ids), _DIM), np.float32))
        return f"{len(writer.written)} part"

    return _timed(argument, work)


def look_up(argument: dict[str, Any]) -> dict[str, Any]:
    """1,000 images looked up"""
    return _timed(argument, lambda store, rows: f"{store.lacking(_KEY, ids_of(0, _FEW)).sum()} missing")


def look_up_all(argument: dict[str, Any]) -> dict[str, Any]:
    """all images looked up"""
    return _timed(argument, lambda store, rows: f"{store.lacking(_KEY, ids_of(0, rows)).sum()} missing")


def read(argument: dict[str, Any]) -> dict[str, Any]:
    """1,000 vectors read"""
    return _timed(argument, lambda store, rows: store.read(_KEY, ids_of(0, _FEW)).features.shape)


def list_all(argument: dict[str, Any]) -> dict[str, Any]:
    """listed, its distinct images counted"""

    def work(store: EmbeddingStore, rows: int) -> str:
        (entry,) = store.entries(count_rows=True)
        return f"{entry.rows:,} images in {entry.parts} parts, {entry.size_bytes / 1e9:.2f} GB"

    return _timed(argument, work)


def verify(argument: dict[str, Any]) -> dict[str, Any]:
    """verified"""
    return _timed(argument, lambda store, rows: f"{len(store.verify().damages)} damaged")


def compact(argument: dict[str, Any]) -> dict[str, Any]:
    """parts joined"""
    return _timed(argument, lambda store, rows: f"{store.compact(_KEY)} parts fewer")
