"""The worker entry: one backbone embedded, or one backbone's heads trained. Errors come back as data."""

from __future__ import annotations

import math
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data import PixelBuffer
from benchmark.embeddings import VIEWS, BatchEmbedder, EmbeddingStore, ExtractReport, TurnedEmbedder, extract
from benchmark.engines import EngineRequest, FrozenBackbone, Speed, embedding_key, open_engine
from benchmark.execution import failure, quiet_environment
from benchmark.pipeline.measurements import Measurement, add_measurement, load_measurement
from benchmark.pipeline.progress import ProgressTable, Stage
from benchmark.records import EmbeddingKey, Resize, UInt8

SAMPLE_IMAGES = 32
# How long another run may take over one backbone before this one computes the same rows beside it.
_PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedTask:
    """Embed the images of a scratch with one backbone.

    Attributes:
        engine: backbone, weights, size, engine, precision, threads and cache.
        resize: how the scratch's images got their size.
        decoder: how their files became pixels.
        scratch: folder of the decoded images.
        progress: file of the progress table.
        row: this task's row in it.
        wait: wait for another run that computes the same, instead of coming back as busy.
        only_measure: embed nothing; time single images, if nobody has yet.
        turned: embed views of each image instead, and time nothing.
    """

    engine: EngineRequest
    resize: Resize
    decoder: str
    scratch: Path
    progress: Path
    row: int
    wait: bool = False
    only_measure: bool = False
    turned: bool = False


def embed_task(task: EmbedTask, threads: int) -> dict[str, Any]:
    """Run one EmbedTask with some threads.

    Returns:
        ``key`` (EmbeddingKey), ``images``, ``notes``, and what it cost: ``prepare_seconds`` and
        ``inference_seconds`` of one core, and whether ``imported_tensorflow``; or ``busy``; or ``error`` and
        ``trace``.
    """
    quiet_environment(threads)
    task = replace(task, engine=replace(task.engine, threads=threads))
    table = ProgressTable(task.progress)
    table.update(task.row, Stage.PREPARING)
    try:
        return _embed(task, table)
    except Exception as error:
        return failure(error)
    finally:
        table.update(task.row, Stage.DONE)


def _embed(task: EmbedTask, table: ProgressTable) -> dict[str, Any]:
    started, was_light, clock = time.perf_counter(), "tensorflow" not in sys.modules, _Clock()
    scratch = PixelBuffer.attach(task.scratch)
    sample = _sample(scratch)
    with closing(open_engine(task.engine, sample=sample)) as frozen:
        clock.lap("prepare_seconds")
        report = _report(task, scratch, frozen, table)
        if report is None:
            return {"busy": True}
        clock.lap("inference_seconds")
        notes = (*frozen.notes, *report.notes)
        notes += () if task.turned else _measure(task, frozen, sample, report, time.perf_counter() - started)
    clock.lap("prepare_seconds")
    if frozen.on_gpu:  # the processor waited for it
        clock.laps["inference_seconds"] = report.seconds
    imported = was_light and "tensorflow" in sys.modules
    return {
        "key": _key(task, frozen),
        "images": report.images,
        "notes": notes,
        "imported_tensorflow": imported,
        **clock.laps,
    }


class _Clock:
    """Adds up seconds of processor time by name: they stay the same however busy the machine is."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.process_time()

    def lap(self, name: str) -> None:
        """Count what was used since the last call under a name."""
        now = time.process_time()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._since
        self._since = now


def _report(
    task: EmbedTask, scratch: PixelBuffer, frozen: FrozenBackbone, table: ProgressTable
) -> ExtractReport | None:
    """What embedding the task's images came to; None while another run is busy with the same."""
    if task.only_measure:
        return ExtractReport(images=0, seconds=0.0)
    store = EmbeddingStore(task.engine.cache)
    with store.claim(_key(task, frozen), timeout=_PATIENCE_SECONDS if task.wait else 0.0) as mine:
        if not mine and not task.wait:
            return None
        return _extract_missing(task, scratch, frozen, store, table)


def _key(task: EmbedTask, frozen: FrozenBackbone) -> EmbeddingKey:
    return embedding_key(
        task.engine.backbone,
        frozen.weights_sha256,
        input_size=task.engine.input_size,
        resize=task.resize,
        decoder=task.decoder,
        engine=frozen.engine,
        precision=frozen.precision,
    )


def _extract_missing(
    task: EmbedTask, scratch: PixelBuffer, frozen: FrozenBackbone, store: EmbeddingStore, table: ProgressTable
) -> ExtractReport:
    """Embed what the cache still lacks; another run may have filled a part of it meanwhile."""
    key = _key(task, frozen)
    rows = np.flatnonzero(store.lacking(key, scratch.image_ids))
    if not len(rows):
        return ExtractReport(images=0, seconds=0.0)
    table.update(task.row, Stage.WORKING)
    with store.writer(key, frozen.embedding_dim * (VIEWS if task.turned else 1)) as writer:
        return extract(
            TurnedEmbedder(frozen) if task.turned else frozen,
            scratch,
            scratch.image_ids.take(rows),
            writer,
            lambda done: table.update(task.row, Stage.WORKING, done),
            positions=rows,
            reopen=lambda size: _smaller(task, frozen, scratch, size),
        )


def _smaller(task: EmbedTask, frozen: FrozenBackbone, scratch: PixelBuffer, size: int) -> BatchEmbedder:
    """The same backbone in the same engine and arithmetic with smaller batches; gives back the large one."""
    frozen.close()
    engine = replace(task.engine, engine=frozen.engine, precision=frozen.precision, batch_size=size)
    smaller = open_engine(engine, sample=_sample(scratch))
    return TurnedEmbedder(smaller) if task.turned else smaller


def _sample(scratch: PixelBuffer) -> UInt8:
    return scratch.rows(0, min(SAMPLE_IMAGES, len(scratch.image_ids)))


def _measure(
    task: EmbedTask, frozen: FrozenBackbone, sample: UInt8, report: ExtractReport, seconds: float
) -> tuple[str, ...]:
    """Remember what this cost, and how fast the backbone is where nobody has a steady figure for it yet.

    Not where memory ran out: the backbone is closed then, and what is short of memory is not timed.

    Returns:
        Remarks for the reader. Embeddings are not lost because they could not be timed.
    """
    key = _key(task, frozen)
    known = load_measurement(task.engine.cache, key)
    speed = Speed(known.latency_ms, known.latency_p95_ms, known.images_per_second, known.noisy)
    notes: tuple[str, ...] = ()
    if (math.isnan(speed.latency_ms) or speed.noisy) and not report.notes:
        speed, notes = _speed(frozen, sample)
    new = Measurement(
        images=report.images,
        seconds=seconds if report.images else 0.0,
        inference_seconds=report.seconds,
        **speed._asdict(),
    )
    add_measurement(task.engine.cache, key, new)
    return notes


def _speed(frozen: FrozenBackbone, sample: UInt8) -> tuple[Speed, tuple[str, ...]]:
    """The speed of a backbone; where it cannot be had, a remark that says why."""
    try:
        return frozen.speed(sample), ()
    except Exception as error:
        return Speed(), (f"its latency could not be measured: {error}",)
