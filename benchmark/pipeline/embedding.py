"""Filling the cache: every missing embedding of every backbone, each image decoded once per input size."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmark.backbones import weights_file
from benchmark.data import Scratch, load_images
from benchmark.embeddings import EmbeddingStore, equal_matrices
from benchmark.errors import BenchmarkError, WeightsError
from benchmark.pipeline.display import EmbeddingDisplay
from benchmark.pipeline.planning import Plan, engine_request, make_plan, stopped_outcome
from benchmark.pipeline.progress import PROGRESS_FILE, OneAtATime, Poller, ProgressTable, Silent
from benchmark.pipeline.requests import EmbedRequest, cores, worker_count
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.pipeline.tasks import EmbedTask, embed_task
from benchmark.pipeline.workers import run_tasks
from benchmark.records import ImageSet, Observer, Outcome, Status, WeightsKind, WeightsSource

_DIED = "its process died each time that it was tried; it may need more memory than there is"
_GUARD_IMAGES = 64
SCRATCH_FOLDER = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What embedding left behind.

    Attributes:
        plans: one per backbone; those of embedded backbones have a key and miss nothing.
        images_embedded: images run through each backbone in this run, by name.
        notes: remarks by backbone name.
        request: the request as carried out (weights may have fallen back to random).
        banner: what a reader must know first; empty when nothing.
    """

    plans: tuple[Plan, ...]
    images_embedded: dict[str, int] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    request: EmbedRequest
    banner: str = ""

    @property
    def stopped(self) -> tuple[Outcome, ...]:
        """Outcomes of the backbones that were not embedded."""
        return tuple(plan.stopped for plan in self.plans if plan.stopped is not None)

    @property
    def embedded(self) -> tuple[Plan, ...]:
        """Plans of the backbones whose embeddings are complete."""
        return tuple(plan for plan in self.plans if plan.stopped is None)


def clean_scratch(cache: Path) -> tuple[Path, ...]:
    """Remove the decoded pixels that killed runs left in a cache; what was removed."""
    return Scratch.remove_abandoned(cache / SCRATCH_FOLDER)


def embed(request: EmbedRequest, observer: Observer | None = None) -> Embedded:
    """Load the images of a request and embed what is missing of them.

    Args:
        request: data, backbones, weights, engine, cache.
        observer: told of the progress.

    Raises:
        DataError: the images cannot be used.
        StorageFull: the cache cannot be written.
    """
    watch = OneAtATime(observer or Silent())
    images = load_images(request.data, cache=request.cache, options=request.options, observer=watch)
    run = Run(request.cache)
    try:
        return embed_images(request, images, LoggingObserver(run, watch))
    finally:
        run.close()


def embed_images(request: EmbedRequest, images: ImageSet, observer: Observer | None = None) -> Embedded:
    """Embed what is missing of some images under some backbones.

    Args:
        request: backbones, weights, sizes, engine, cache.
        images: the images; labels play no part.
        observer: told of the progress.

    Returns:
        The plans as carried out. One backbone's failure is its own.

    Raises:
        StorageFull: the scratch cannot be written.
    """
    watch = OneAtATime(observer or Silent())
    request, banner = with_fallback(request, watch)
    store = EmbeddingStore(request.cache, observer=watch)
    plans = [make_plan(request, backbone, images.image_ids, store) for backbone in request.backbones]
    work = _Work(request=request, images=images, store=store, plans=plans, observer=watch)
    work.run()
    _stop_equal_matrices(work)
    _keep_within_limit(request, store, work.plans)
    return Embedded(
        plans=tuple(work.plans),
        images_embedded=work.images_embedded,
        notes=work.notes,
        request=request,
        banner=banner,
    )


def with_fallback(request: EmbedRequest, observer: Observer) -> tuple[EmbedRequest, str]:
    """Random weights for all backbones or none, when ImageNet's cannot be had and the caller allows it.

    Returns:
        The request with its weights decided, and a banner for the reader where they became random.
    """
    if not request.fallback_random or request.weights.kind is not WeightsKind.IMAGENET:
        return request, ""
    decided = replace(request, fallback_random=False)
    try:
        for backbone in request.backbones:
            weights_file(backbone, request.weights)
    except WeightsError:
        banner = "ImageNet weights could not be downloaded: ALL backbones run with RANDOM weights instead."
        observer.message(banner)
        source = WeightsSource(kind=WeightsKind.RANDOM, seed=request.options.seed)
        return replace(decided, weights=source), banner
    return decided, ""


@dataclass(kw_only=True)
class _Work:
    """The state of one embedding job."""

    request: EmbedRequest
    images: ImageSet
    store: EmbeddingStore
    plans: list[Plan]
    observer: Observer
    images_embedded: dict[str, int] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self) -> None:
        waiting = [
            position for position, plan in enumerate(self.plans) if not plan.stopped and not plan.is_cached
        ]
        waiting.sort(
            key=lambda position: (self.plans[position].input_size, self.plans[position].backbone.flops)
        )
        for size, positions in groupby(waiting, key=lambda position: self.plans[position].input_size):
            self._run_size(size, list(positions))

    def _run_size(self, size: int, positions: list[int]) -> None:
        wanted: set[str] = set().union(*(self.plans[position].missing for position in positions))
        rows = [row for row, image_id in enumerate(self.images.image_ids) if image_id in wanted]
        window = max(1, self.request.scratch_bytes // max(1, Scratch.bytes_needed(1, size)))
        for start in range(0, len(rows), window):
            alive = [position for position in positions if not self.plans[position].stopped]
            self._run_window(size, rows[start : start + window], alive)

    def _run_window(self, size: int, rows: list[int], positions: list[int]) -> None:
        with _scratch(self.request, self.images, rows, size) as scratch:
            table = ProgressTable(scratch.folder / PROGRESS_FILE, len(positions))
            display = EmbeddingDisplay(self.observer, [self.plans[one] for one in positions], table)
            with Poller(display.poll):
                busy = self._run_tasks(scratch, positions, list(range(len(positions))), wait=False)
                self._run_tasks(scratch, positions, busy, wait=True)

    def _run_tasks(self, scratch: Scratch, positions: list[int], rows: list[int], *, wait: bool) -> list[int]:
        """Run the tasks of some rows; rows that another run is busy with come back."""
        workers = worker_count(self.request.jobs, len(rows))
        tasks = [replace(self._task(scratch, row, positions[row], workers), wait=wait) for row in rows]
        busy = []
        for number, result in run_tasks(embed_task, tasks, workers):
            if result and result.get("busy"):
                busy.append(rows[number])
            else:
                self._take(positions[rows[number]], {"error": _DIED} if result is None else result)
        return busy

    def _task(self, scratch: Scratch, row: int, position: int, workers: int) -> EmbedTask:
        return EmbedTask(
            engine=engine_request(self.request, self.plans[position], max(1, cores() // workers)),
            resize=self.request.resize,
            scratch=scratch.folder,
            progress=scratch.folder / PROGRESS_FILE,
            row=row,
        )

    def _take(self, position: int, result: dict[str, Any]) -> None:
        plan = self.plans[position]
        name = plan.backbone.name
        if "error" in result:
            self.observer.message(f"{name} failed: {result['error']}")
            self.plans[position] = replace(
                plan, stopped=stopped_outcome(plan, Status.FAILED, str(result["error"]))
            )
            return
        key = result["key"]
        self.plans[position] = replace(plan, key=key, engine=key.engine, precision=key.precision, missing=())
        self.images_embedded[name] = self.images_embedded.get(name, 0) + result["images"]
        self.notes[name] = tuple(result["notes"])


@contextmanager
def _scratch(request: EmbedRequest, images: ImageSet, rows: Sequence[int], size: int) -> Iterator[Scratch]:
    """Decoded pixels of some images, filled by threads of this process while workers already read."""
    folder = request.cache / SCRATCH_FOLDER / secrets.token_hex(8)
    Scratch.remove_abandoned(folder.parent)
    scratch = Scratch.create(folder, tuple(images.image_ids[row] for row in rows), size)
    paths = [images.root / images.paths[row] for row in rows]
    filler = threading.Thread(target=_fill, args=(scratch, paths, request), name="decode", daemon=True)
    filler.start()
    try:
        yield scratch
    finally:
        scratch.remove()


def _fill(scratch: Scratch, paths: Sequence[Path], request: EmbedRequest) -> None:
    """Decode into a scratch; what goes wrong reaches the readers of its rows."""
    with suppress(BenchmarkError, OSError):
        scratch.fill(paths, request.resize, request.options.jobs, max_pixels=request.options.max_pixels)


def _stop_equal_matrices(work: _Work) -> None:
    """Two backbones with different weights never yield the same matrix: where they do, both have failed."""
    keys = {plan.key: position for position, plan in enumerate(work.plans) if plan.key and not plan.stopped}
    sample = work.images.image_ids[:: max(1, len(work.images) // _GUARD_IMAGES)]
    for pair in equal_matrices(work.store, list(keys), sample):
        for key, other in (pair, pair[::-1]):
            plan = work.plans[keys[key]]
            twin = work.plans[keys[other]].backbone.name
            reason = (
                f"its embeddings equal those of {twin}, which has different weights: one of them did not run "
                "what its name says. Remove both from the cache ('backbones cache clean --backbones NAME') "
                "and check the weights."
            )
            work.plans[keys[key]] = replace(plan, stopped=stopped_outcome(plan, Status.FAILED, reason))


def _keep_within_limit(request: EmbedRequest, store: EmbeddingStore, plans: Sequence[Plan]) -> None:
    if request.cache_limit_bytes is not None:
        store.enforce_limit(request.cache_limit_bytes, keep=[plan.key for plan in plans if plan.key])
