"""The worker entry: backbones embedded on this machine's decoded pixels, or on images decoded by the worker.

Errors come back as data.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmark.data import DecodedImages, PixelBuffer, decoder_name
from benchmark.embeddings import VIEWS, BatchEmbedder, EmbeddingStore, ExtractReport, TurnedEmbedder, extract
from benchmark.engines import (
    EngineRequest,
    FrozenBackbone,
    Speed,
    believe_gpus,
    embedding_key,
    open_engine,
    plan_engine,
)
from benchmark.errors import DataError
from benchmark.execution import failure, quiet_environment
from benchmark.memory import PackedStrings
from benchmark.pipeline.measurements import Measurement, add_measurement, load_measurement
from benchmark.pipeline.progress import ProgressTable, Stage
from benchmark.pipeline.remarks import EngineRemarks
from benchmark.records import EmbeddingKey, Engine, UInt8

SAMPLE_IMAGES = 32
# How long another run may take over one backbone before this one computes the same rows beside it.
_PATIENCE_SECONDS = 1800.0
Progress = Callable[[Stage, int], None]


class PixelRows(Protocol):
    """Decoded pixels of some images.

    Attributes:
        image_ids: N image ids.
    """

    image_ids: PackedStrings

    def rows(self, start: int, stop: int) -> UInt8:
        """uint8 (stop - start, S, S, 3), row i being image ``start + i``; waits until they are decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which vectors are wanted of an image.

    Attributes:
        engine: backbone, weights, size, engine, precision and cache; threads are the runner's.
        resize: how images get their size.
        decoder: how their files become pixels.
        turned: embed views of each image instead, and time nothing.
        images: of the whole job, which engine and precision are chosen for where they are open.
        remarks: takes what a reader must know of vectors, before they are kept.
        gpus: names of the GPUs that engines compute on, by who planned this on the same machine.
    """

    engine: EngineRequest
    resize: str
    decoder: str
    images: int
    remarks: EngineRemarks
    gpus: Mapping[Engine, str] = field(default_factory=dict)
    turned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedTask:
    """Embed the images of a buffer with one backbone.

    Attributes:
        wanted: which vectors.
        buffer: folder of the decoded images.
        progress: file of the progress table.
        row: this task's row in it.
        wait: wait for another run that computes the same, instead of coming back as busy.
    """

    wanted: Wanted
    buffer: Path
    progress: Path
    row: int
    wait: bool = False


def embed_task(task: EmbedTask, threads: int) -> dict[str, Any]:
    """Run one EmbedTask with some threads.

    Returns:
        ``key`` (EmbeddingKey), ``images``, ``notes``, and what it cost: ``prepare_seconds`` and
        ``inference_seconds`` of one core, and whether ``imported_tensorflow``; or ``busy``; or ``error`` and
        ``trace``.
    """
    quiet_environment(threads)
    table = ProgressTable(task.progress)
    table.update(task.row, Stage.PREPARING)
    try:
        pixels = PixelBuffer.attach(task.buffer)
        embedding = _EmbeddingWork(
            task.wanted, threads, pixels, _sample(pixels), lambda *told: table.update(task.row, *told)
        )
        return embedding.locked(wait=task.wait)
    except Exception as error:
        return failure(error)
    finally:
        table.update(task.row, Stage.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """Some images, by name.

    Attributes:
        root: folder that the paths start from.
        paths: N paths.
        image_ids: N image ids.
        bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.
        formats: what of ``optional_formats`` the images of the whole job have.
    """

    root: Path
    paths: tuple[str, ...]
    image_ids: tuple[str, ...]
    bit_depth: int
    formats: frozenset[str] = frozenset()

    def decoded(self, wanted: Wanted, threads: int) -> DecodedImages:
        """Their pixels."""
        return DecodedImages(
            self.paths,
            self.image_ids,
            wanted.engine.input_size,
            resize=wanted.resize,
            root=self.root,
            threads=threads,
            bit_depth=self.bit_depth,
        )

    def named(self, wanted: Wanted) -> Wanted:
        """The same vectors under the name of the decoders of this machine, which make them.

        Raises:
            DataError: those of optional formats are not the command's. Workers need not have them, so they
                may differ, and their vectors would be under several keys.
        """
        optional = decoder_name(formats=self.formats).removeprefix(decoder_name())
        if optional not in wanted.decoder:
            raise DataError(
                "are decoded otherwise by this worker than by the command",
                where=f"images of {' and '.join(sorted(self.formats))}",
                next_step="Install the same versions of Pillow and pillow-heif on both.",
            )
        own = decoder_name(self.bit_depth, formats=self.formats, resize=wanted.resize)
        return replace(wanted, decoder=own + (f"-{VIEWS}views" if wanted.turned else ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTask:
    """Embed a block of images with some backbones of one input size; the worker decodes for itself.

    Attributes:
        wanted: which vectors, of each backbone.
        images: the block; of none, single images of the sample are timed, if nobody has yet.
        sample: images that engines are checked and timed on, the same for every block.
        timed: measure how fast the backbones are.
    """

    wanted: tuple[Wanted, ...]
    images: ImageFiles
    sample: ImageFiles
    timed: bool = True


def block_task(task: BlockTask, threads: int) -> dict[str, Any]:
    """Run one BlockTask with some threads.

    Returns:
        ``each``: for every backbone what ``embed_task`` returns; ``elsewhere`` where a failure may be the
        worker's own.
    """
    quiet_environment(threads)
    try:
        first = task.wanted[0]
        with (
            closing(task.sample.decoded(first, threads)) as sample,
            closing(task.images.decoded(first, threads)) as pixels,
        ):
            each = [_embedded(task, wanted, threads, pixels, sample) for wanted in task.wanted]
    except Exception as error:
        each = [failure(error)] * len(task.wanted)
    return {"each": each, "elsewhere": any(one.get("elsewhere") for one in each)}


def _embedded(
    task: BlockTask, wanted: Wanted, threads: int, pixels: DecodedImages, sample: DecodedImages
) -> dict[str, Any]:
    try:
        named = task.images.named(wanted)
        embedding = _EmbeddingWork(named, threads, pixels, _sample(sample), timed=task.timed)
        return embedding.missing() if task.images.paths else embedding.measured()
    except Exception as error:
        return failure(error)


class _EmbeddingWork:
    """One backbone on some pixels.

    Args:
        wanted: which vectors.
        threads: for the engine.
        pixels: of the images.
        sample: uint8 (n, S, S, 3), images that the engine is checked and timed on.
        progress: told the stage and how many images are done.
        timed: measure how fast the backbone is.
    """

    def __init__(
        self,
        wanted: Wanted,
        threads: int,
        pixels: PixelRows,
        sample: UInt8,
        progress: Progress = lambda stage, done: None,
        *,
        timed: bool = True,
    ) -> None:
        believe_gpus(wanted.gpus)
        self._wanted = wanted
        self._engine = _resolved(replace(wanted.engine, threads=threads), wanted.images)
        self._pixels = pixels
        self._sample = sample
        self._progress = progress
        self._timed = timed and not wanted.turned
        self._store = EmbeddingStore(wanted.engine.cache)

    def locked(self, *, wait: bool) -> dict[str, Any]:
        """Embed what the cache lacks; ``busy`` while another run on this machine embeds the same."""

        def report(frozen: FrozenBackbone) -> ExtractReport | None:
            with self._store.lock(self._key(frozen), timeout=_PATIENCE_SECONDS if wait else 0.0) as mine:
                return self._extract_missing(frozen) if mine or wait else None

        return self._opened(report)

    def missing(self) -> dict[str, Any]:
        """Embed what the cache lacks of a block that nobody else has."""
        return self._opened(self._extract_missing)

    def measured(self) -> dict[str, Any]:
        """Time the backbone alone, where nobody has yet."""
        return self._opened(lambda frozen: ExtractReport(images=0, seconds=0.0))

    def _opened(self, work: Callable[[FrozenBackbone], ExtractReport | None]) -> dict[str, Any]:
        started, was_light, clock = time.perf_counter(), "tensorflow" not in sys.modules, _Clock()
        with closing(open_engine(self._engine, sample=self._sample)) as frozen:
            clock.lap("prepare_seconds")
            report = work(frozen)
            if report is None:
                return {"busy": True}
            clock.lap("inference_seconds")
            notes = (*frozen.notes, *report.notes)
            if self._timed:
                notes += self._measure(frozen, report, time.perf_counter() - started)
        clock.lap("prepare_seconds")
        if frozen.on_gpu:  # the processor waited for it
            clock.laps["inference_seconds"] = report.seconds
        return {
            "key": self._key(frozen),
            "images": report.images,
            "notes": notes,
            "imported_tensorflow": was_light and "tensorflow" in sys.modules,
            **clock.laps,
        }

    def _key(self, frozen: FrozenBackbone) -> EmbeddingKey:
        return embedding_key(
            self._engine.backbone,
            frozen.weights_sha256,
            input_size=self._engine.input_size,
            resize=self._wanted.resize,
            decoder=self._wanted.decoder,
            engine=frozen.engine,
            precision=frozen.precision,
        )

    def _extract_missing(self, frozen: FrozenBackbone) -> ExtractReport:
        """Embed what the cache still lacks; another run may have filled a part of it meanwhile."""
        key, turned = self._key(frozen), self._wanted.turned
        rows = np.flatnonzero(self._store.lacking(key, self._pixels.image_ids))
        if not len(rows):
            return ExtractReport(images=0, seconds=0.0)
        self._progress(Stage.WORKING, 0)
        self._wanted.remarks.add(key, frozen.notes)
        with self._store.writer(key, frozen.embedding_dim * (VIEWS if turned else 1)) as writer:
            return extract(
                TurnedEmbedder(frozen) if turned else frozen,
                self._pixels,
                self._pixels.image_ids.take(rows),
                writer,
                lambda done: self._progress(Stage.WORKING, done),
                positions=rows,
                reopen=lambda size: self._smaller(frozen, size),
            )

    def _smaller(self, frozen: FrozenBackbone, size: int) -> BatchEmbedder:
        """The same backbone in the same engine and arithmetic with smaller batches; closes the large one."""
        frozen.close()
        engine = replace(self._engine, engine=frozen.engine, precision=frozen.precision, batch_size=size)
        smaller = open_engine(engine, sample=self._sample)
        return TurnedEmbedder(smaller) if self._wanted.turned else smaller

    def _measure(self, frozen: FrozenBackbone, report: ExtractReport, seconds: float) -> tuple[str, ...]:
        """Remember what this cost, and how fast the backbone is where nobody has a steady figure for it yet.

        Not where memory ran out: the backbone is closed then, and what is short of memory is not timed.

        Returns:
            Remarks for the reader. Embeddings are not lost because they could not be timed.
        """
        key, cache = self._key(frozen), self._engine.cache
        known = load_measurement(cache, key)
        speed = Speed(known.latency_ms, known.latency_p95_ms, known.images_per_second, known.noisy)
        notes: tuple[str, ...] = ()
        if (math.isnan(speed.latency_ms) or speed.noisy) and not report.notes:
            speed, notes = _speed(frozen, self._sample)
        new = Measurement(
            images=report.images,
            seconds=seconds if report.images else 0.0,
            inference_seconds=report.seconds,
            agreement=frozen.agreement,
            **speed._asdict(),
        )
        add_measurement(cache, key, new)
        return notes


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


def _resolved(engine: EngineRequest, images: int) -> EngineRequest:
    """What is left open, as it suits this machine."""
    if engine.engine is not None and engine.precision is not None:
        return engine
    chosen, precision = plan_engine(engine, images)
    return replace(engine, engine=chosen, precision=precision)


def _sample(pixels: PixelRows) -> UInt8:
    return pixels.rows(0, min(SAMPLE_IMAGES, len(pixels.image_ids)))


def _speed(frozen: FrozenBackbone, sample: UInt8) -> tuple[Speed, tuple[str, ...]]:
    """The speed of a backbone; where it cannot be had, a remark that says why."""
    try:
        return frozen.speed(sample), ()
    except Exception as error:
        return Speed(), (f"its latency could not be measured: {error}",)
