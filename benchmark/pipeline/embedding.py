"""Filling the cache: every missing embedding of every backbone, each image decoded once per input size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmark.backbones import engines_of, weights_file
from benchmark.data import PixelBuffer, load_images, tell_reading
from benchmark.embeddings import EmbeddingStore
from benchmark.engines import gpu_name, memory_bytes
from benchmark.errors import StorageError, WeightsError
from benchmark.execution import Call
from benchmark.memory import PackedStrings
from benchmark.pipeline.blocks import Block, blocks_of
from benchmark.pipeline.costs import (
    START_SECONDS,
    CostModel,
    EmbeddingCost,
    WorkKind,
    most_at_once,
    remember_ratio,
)
from benchmark.pipeline.display import TIMING, EmbeddingDisplay, JobProgress
from benchmark.pipeline.estimating import predict
from benchmark.pipeline.machines import describe_machine, runner_of
from benchmark.pipeline.measurements import Measurement, load_measurement
from benchmark.pipeline.pixels import buffer_bytes, decoded
from benchmark.pipeline.planning import Plan, engine_request, make_plans, plan_facts
from benchmark.pipeline.progress import PROGRESS_FILE, OneAtATime, Poller, ProgressTable, Stage
from benchmark.pipeline.remarks import EngineRemarks
from benchmark.pipeline.requests import AnyRequest, EmbedRequest
from benchmark.pipeline.runs import LoggingObserver, Run
from benchmark.pipeline.sanity_checks import unusable_embeddings
from benchmark.pipeline.tasks import (
    SAMPLE_IMAGES,
    BlockTask,
    EmbedTask,
    ImageFiles,
    Wanted,
    block_task,
    embed_task,
)
from benchmark.records import (
    EmbeddingKey,
    Engine,
    Failed,
    ImageSet,
    Int64,
    Observer,
    Silent,
    Skipped,
    WeightsKind,
)

_CHANGING = "its engine computed in another arithmetic each time, so that its embeddings are not complete"
# An engine may only find out while it is opened that it has to compute otherwise than planned.
_PASSES = 3
_TIMED_IMAGES = 16  # that backbones are checked and timed on alone


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCost:
    """What a task took, in seconds of one core.

    What inference was to take is asked for at the end: by then the backbone's own speed is known, and what
    is left is what the cores cost each other.

    Attributes:
        backbone: its name.
        images: that it embedded.
        expected_prepare: what preparing was to take, by the bare model.
        prepare: what it took.
        inference: what embedding took.
    """

    backbone: str
    images: int
    expected_prepare: float
    prepare: float
    inference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What embedding left behind.

    Attributes:
        plans: one per backbone; those of embedded backbones have a key and miss nothing.
        images_embedded: images run through each backbone in this run, by name.
        notes: remarks by backbone name.
        request: the request as carried out (weights may have fallen back to random).
        images: what was embedded.
        banner: what a reader must know first; empty when nothing.
        prediction: what this was expected to take and took, in one line; empty where nobody predicted.
        spent: what each task took.
    """

    plans: tuple[Plan, ...]
    images_embedded: dict[str, int] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    request: EmbedRequest
    images: ImageSet
    banner: str = ""
    prediction: str = ""
    spent: tuple[TaskCost, ...] = ()

    @property
    def stopped(self) -> tuple[Skipped | Failed, ...]:
        """Outcomes of the backbones that were not embedded."""
        return tuple(plan.stopped for plan in self.plans if plan.stopped is not None)

    @property
    def embedded(self) -> tuple[Plan, ...]:
        """Plans of the backbones whose embeddings are complete."""
        return tuple(plan for plan in self.plans if plan.stopped is None)


def embed(request: EmbedRequest, observer: Observer | None = None) -> Embedded:
    """Load the images of a request and embed what is missing of them.

    Args:
        request: data, backbones, weights, engine, cache.
        observer: told of the progress.

    Raises:
        DataError: the images cannot be used.
        StorageError: the cache cannot be written.
    """
    watch = observer or Silent()
    options = request.options
    images = load_images(options.data, cache=options.cache, options=options, observer=watch)
    with _run_log(options.cache, watch) as (logging, run):
        tell_reading(images, logging)
        request, banner = with_fallback(request.as_read(images), logging)
        with runner_of(options, logging.message) as runner:
            request = request.executed_by(runner)
            plans = make_plans(request, images, observer=logging)
            prediction = predict(request, images, plans, logging)
            done = embed_images(request, images, prediction, plans=plans)
            timings, said = prediction.timings(), prediction.over(options.cache)
        if run is not None:
            run.log(said)
            with suppress(StorageError):  # the embeddings are there
                tasks = [asdict(one) for one in done.spent]
                run.record({"options": options.model_dump(mode="json"), "timings": timings, "tasks": tasks})
    return replace(done, banner=banner, prediction=said)


@contextmanager
def _run_log(cache: Path, watch: Observer) -> Iterator[tuple[Observer, Run | None]]:
    """An observer that also keeps the log of a run; a cache that cannot be written to has no room for one."""
    try:
        run = Run(cache, cache)
    except StorageError as error:
        watch.message(f"This run keeps no log: {error.where} {error.what} ({error.got}).")
        yield watch, None
        return
    try:
        yield LoggingObserver(run, watch), run
    finally:
        run.close()


def embed_images(
    request: EmbedRequest,
    images: ImageSet,
    observer: Observer | None = None,
    *,
    planned_images: int | None = None,
    plans: Sequence[Plan] | None = None,
) -> Embedded:
    """Embed what is missing of some images under some backbones.

    Args:
        request: backbones, weights, sizes, engine, cache.
        images: the images; labels play no part.
        observer: told of the progress.
        planned_images: images of the whole job that this call is a step of: engines are chosen for so many,
            and the limit of the cache is left to the job's last call. None when this is the whole job.
        plans: as ``make_plans`` gives them for this request; None makes them.

    Returns:
        The plans as carried out. One backbone's failure is its own.

    Raises:
        StorageError: the buffer cannot be written.
    """
    watch = OneAtATime(observer or Silent())
    request, banner = with_fallback(request.as_read(images), watch)
    store = EmbeddingStore(request.options.cache, observer=watch)
    work = _Work(
        request=request,
        images=images,
        store=store,
        plans=list(plans or make_plans(request, images, planned_images, watch)),
        observer=watch,
        costs=CostModel.load(request.options.cache),
    )
    work.run()
    work.recall()
    work.measure()
    work.remember_costs()
    work.stop_equal_matrices()
    if planned_images is None:
        _keep_within_limit(request, store, work.plans, watch)
    return Embedded(
        plans=tuple(work.plans),
        images_embedded=work.images_embedded,
        notes=work.notes,
        request=request,
        images=images,
        banner=banner,
        spent=tuple(work.done),
    )


def with_fallback(request: AnyRequest, observer: Observer) -> tuple[AnyRequest, str]:
    """Random weights for all backbones or none, when ImageNet's cannot be had and the caller allows it.

    Returns:
        The request with its weights decided, and a banner for the reader where they became random.
    """
    if not request.options.fallback_random or request.weights.kind is not WeightsKind.IMAGENET:
        return request, ""
    decided = request.but(fallback_random=False)
    try:
        for backbone in request.backbones:
            if backbone.weights is None:
                weights_file(backbone, request.weights)
    except WeightsError:
        banner = "ImageNet weights could not be downloaded: ALL backbones run with RANDOM weights instead."
        observer.message(banner)
        return decided.but(weights=WeightsKind.RANDOM.value), banner
    return decided, ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Images that are decoded together, as many as the buffer holds.

    Attributes:
        size: side in pixels.
        resize: how images get it.
        rows: int64 (n,), which images.
        positions: of the plans of this size.
        cost: what all that is expected to cost, in seconds of one core.
    """

    size: int
    resize: str
    rows: Int64
    positions: tuple[int, ...]
    cost: float = 0.0


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
    told: set[str] = field(default_factory=set)
    costs: CostModel
    done: list[TaskCost] = field(default_factory=list)

    # Embedding ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Embed what is missing, and what turns out to be missing under the key that an engine really has."""
        for _ in range(_PASSES):
            unfinished = self._unfinished()
            if not unfinished:
                return
            if not self.request.executor.is_local:
                self._embed_blocks(unfinished)
                continue
            windows = self._windows(unfinished)
            portions = Counter(
                self.plans[one].backbone.name
                for window in windows
                for one in window.positions
                if self._count(one, window.rows)
            )
            job = JobProgress(self.observer, sum(window.cost for window in windows), portions)
            for window in windows:
                self._embed_window(window, job)
            job.finished()
        for position in self._unfinished():
            self._stop(position, _CHANGING)

    def _unfinished(self) -> list[int]:
        return [row for row, plan in enumerate(self.plans) if not plan.stopped and not plan.is_cached]

    def _windows(self, unfinished: Sequence[int]) -> list[_Window]:
        """What is missing, cheap backbones first, in portions that find room."""
        ordered = sorted(unfinished, key=lambda one: (self._shape(one), self.plans[one].backbone.flops))
        room = buffer_bytes(self.request)
        windows = []
        for (size, resize), group in groupby(ordered, key=self._shape):
            positions = tuple(group)
            rows = np.flatnonzero(np.logical_or.reduce([self.plans[one].lacking for one in positions]))
            step = max(1, room // max(1, PixelBuffer.bytes_needed(1, size)))
            windows += [
                self._window(size, resize, rows[at : at + step], positions)
                for at in range(0, len(rows), step)
            ]
        return windows

    def _window(self, size: int, resize: str, rows: Int64, positions: tuple[int, ...]) -> _Window:
        cost = sum(self._cost(one, rows).seconds() for one in positions)
        return _Window(size=size, resize=resize, rows=rows, positions=positions, cost=cost)

    def _cost(self, position: int, rows: Int64, costs: CostModel | None = None) -> EmbeddingCost:
        """What the images that a backbone lacks of some are expected to cost."""
        model = costs or self.costs
        return model.embedding(self.request, self.plans[position], self._count(position, rows))

    def _shape(self, position: int) -> tuple[int, str]:
        """What pixels a backbone sees: those of equal ones are decoded once."""
        plan = self.plans[position]
        return plan.input_size, self.request.resize_of(plan.backbone)

    def _count(self, position: int, rows: Int64) -> int:
        """How many of some images a backbone lacks."""
        return int(self.plans[position].lacking[rows].sum())

    def _embed_window(self, window: _Window, job: JobProgress) -> None:
        concerned = [
            position
            for position in window.positions
            if not self.plans[position].stopped and self._count(position, window.rows)
        ]
        if concerned:
            with decoded(self.request, self.images, window.rows, window.size, window.resize) as buffer:
                self._embed_from(buffer, window.rows, concerned, job)
        job.window_done(window.cost)

    def _embed_from(self, buffer: PixelBuffer, rows: Int64, positions: list[int], job: JobProgress) -> None:
        table = ProgressTable(buffer.folder / PROGRESS_FILE, len(positions))
        plans = [self.plans[position] for position in positions]
        images = [self._count(position, rows) for position in positions]
        costs = [self._cost(position, rows) for position in positions]
        with Poller(EmbeddingDisplay(self.observer, plans, images, costs, table, job).poll):
            places = list(range(len(positions)))
            for wait in (False, True):
                places = self._run_places(buffer, rows, positions, places, wait=wait)

    def _run_places(
        self, buffer: PixelBuffer, rows: Int64, positions: list[int], places: list[int], *, wait: bool
    ) -> list[int]:
        """Run the tasks of some places in the table; places that another run is busy with come back."""
        calls = [self._call(buffer, rows, place, positions[place], wait=wait) for place in places]
        at_once = most_at_once([self.plans[positions[place]] for place in places])
        bare = self.costs.bare
        expected = [self._cost(positions[place], rows, bare).prepare for place in places]
        busy = []
        with closing(self.request.executor.run(embed_task, calls, at_once=at_once)) as results:
            for number, result in results:
                if result.get("busy"):
                    busy.append(places[number])
                else:
                    self._take(positions[places[number]], rows, result)
                    self._note_cost(positions[places[number]], expected[number], result)
        return busy

    def _note_cost(self, position: int, expected: float, result: dict[str, Any]) -> None:
        if result.get("images"):
            start = START_SECONDS if result["imported_tensorflow"] else 0.0
            done = TaskCost(
                backbone=self.plans[position].backbone.name,
                images=result["images"],
                expected_prepare=expected + start,
                prepare=result["prepare_seconds"],
                inference=result["inference_seconds"],
            )
            self.done.append(done)

    def remember_costs(self) -> None:
        """Let the next prediction know how far this one was off."""
        cache = self.request.options.cache
        bare = CostModel.load(cache).bare
        plans = {plan.backbone.name: plan for plan in self.plans}
        expected = sum(
            bare.embedding(self.request, plans[one.backbone], one.images, again=True).inference
            for one in self.done
        )
        remember_ratio(cache, WorkKind.INFERENCE, expected, sum(one.inference for one in self.done))
        expected = sum(one.expected_prepare for one in self.done)
        remember_ratio(cache, WorkKind.PREPARE, expected, sum(one.prepare for one in self.done))

    def _call(self, buffer: PixelBuffer, rows: Int64, place: int, position: int, *, wait: bool) -> Call:
        plan = self.plans[position]
        return Call(
            name=f"embed-{plan.backbone.name}",
            argument=EmbedTask(
                wanted=self._wanted(position),
                buffer=buffer.folder,
                progress=buffer.folder / PROGRESS_FILE,
                row=place,
                wait=wait,
            ),
            cost=self._cost(position, rows).seconds(),
            memory=memory_bytes(plan.backbone, plan.input_size, plan.engine),
        )

    def _wanted(self, position: int) -> Wanted:
        engine, options = engine_request(self.request, self.plans[position], 1), self.request.options
        executor, gpus = self.request.executor, dict[Engine, str]()
        if executor.is_local:
            gpus = {one: gpu_name(one) for one in engines_of(engine.backbone)}
        elif not executor.computes_as(describe_machine()):  # workers choose for themselves
            engine = replace(engine, engine=options.engine, precision=options.precision)
        return Wanted(
            engine=engine,
            resize=self.request.resize_of(self.plans[position].backbone),
            decoder=self.request.decoder_of(self.plans[position].backbone),
            images=len(self.images),
            remarks=self._remarks,
            gpus=gpus,
            turned=self.request.turned,
        )

    # On a cluster ------------------------------------------------------------------------------------

    def _embed_blocks(self, unfinished: Sequence[int]) -> None:
        """Embed what is missing in blocks, each decoded by the worker that gets it."""
        blocks: list[Block] = []
        for _, group in groupby(sorted(unfinished, key=self._shape), key=self._shape):
            lacking = {one: self.plans[one].lacking for one in group}
            costs = {one: self.costs.embedding(self.request, self.plans[one], 1) for one in lacking}
            blocks += blocks_of(lacking, costs, self.request.executor.workers, first=len(blocks))
        again = self._run_blocks(blocks, self._progress_of(blocks))
        if again:
            self._run_blocks(again, self._progress_of(again))

    @contextmanager
    def _progress_of(self, blocks: Sequence[Block]) -> Iterator[Callable[[Block], None]]:
        """Shows how far blocks are; is told of each that is finished."""
        positions = sorted({one for block in blocks for one in block.positions})
        ahead = {one: sum(len(block.rows) for block in blocks if one in block.positions) for one in positions}
        images, plans = [ahead[one] for one in positions], [self.plans[one] for one in positions]
        costs = [
            self.costs.embedding(self.request, plan, count) for plan, count in zip(plans, images, strict=True)
        ]
        cost = sum(one.seconds() for one in costs)
        job = JobProgress(self.observer, cost, Counter(plan.backbone.name for plan in plans))
        with TemporaryDirectory() as folder:
            table = ProgressTable(Path(folder) / PROGRESS_FILE, len(positions))

            def finished(block: Block) -> None:
                for one in block.positions:
                    ahead[one] -= len(block.rows)
                    place = positions.index(one)
                    stage = Stage.WORKING if ahead[one] else Stage.DONE
                    table.update(place, stage, images[place] - ahead[one])

            with Poller(EmbeddingDisplay(self.observer, plans, images, costs, table, job).poll):
                yield finished
        job.window_done(cost)
        job.finished()

    def _run_blocks(
        self, blocks: Sequence[Block], progress: AbstractContextManager[Callable[[Block], None]]
    ) -> list[Block]:
        """Run blocks; those of several backbones that cost three workers come back one by one."""
        timed: set[int] = set()
        again: list[Block] = []
        calls = [self._block_call(block, timed) for block in blocks]
        with progress as finished, closing(self.request.executor.run(block_task, calls)) as results:
            for number, result in results:
                block = blocks[number]
                finished(block)
                if "dead" in result and len(block.positions) > 1:
                    again += [replace(block, positions=(one,), after=None) for one in block.positions]
                    continue
                each = _each(len(block.positions), result)
                for position, told in zip(block.positions, each, strict=True):
                    if not self.plans[position].stopped:
                        self._take(position, block.rows, told)
        return again

    def _block_call(self, block: Block, timed: set[int]) -> Call:
        """The call of a block; a backbone is timed in its first one."""
        plans = [self.plans[one] for one in block.positions]
        needs = [memory_bytes(plan.backbone, plan.input_size, plan.engine) for plan in plans]
        new = not timed.issuperset(block.positions)
        timed |= set(block.positions)
        return Call(
            name=f"embed-{'+'.join(plan.backbone.name for plan in plans)}",
            argument=BlockTask(
                wanted=tuple(self._wanted(one) for one in block.positions),
                images=self._files(block.rows),
                sample=self._files(self._sample_rows(self._shape(block.positions[0]))),
                timed=new,
            ),
            cost=block.cost,
            memory=max(needs),
            after=block.after,
        )

    def _sample_rows(self, shape: tuple[int, str]) -> Int64:
        """The first images that are missing of one kind of pixels, whichever block they are in."""
        masks = [self.plans[one].lacking for one in self._unfinished() if self._shape(one) == shape]
        return np.flatnonzero(np.logical_or.reduce(masks))[:SAMPLE_IMAGES].astype(np.int64)

    def _files(self, rows: Int64) -> ImageFiles:
        images = self.images
        return ImageFiles(
            root=images.root,
            paths=tuple(PackedStrings.of(images.paths).take(rows)),
            image_ids=tuple(PackedStrings.of(images.image_ids).take(rows)),
            bit_depth=self.request.bit_depth,
            formats=self.request.formats,
        )

    def _take(self, position: int, rows: Int64, result: dict[str, Any]) -> None:
        """Note what a task has done: these rows are there now, under the key that it came to."""
        if "error" in result:
            self._stop(position, str(result["error"]))
            return
        plan, key = self.plans[position], result["key"]
        if plan.key in {None, key}:
            lacking = plan.lacking.copy()
            lacking[rows] = False
        else:  # under another key than planned, other rows may be missing
            lacking = self.store.lacking(key, self.images.image_ids)
        self.plans[position] = replace(
            plan,
            key=key,
            engine=key.engine,
            precision=key.precision,
            lacking=lacking,
        )
        name = plan.backbone.name
        self.images_embedded[name] = self.images_embedded.get(name, 0) + result["images"]
        if result["images"]:
            self._remarks.add(key, result["notes"])
        self._note(position, result["notes"])

    def _stop(self, position: int, reason: str) -> None:
        plan = self.plans[position]
        told = "the same reason" if reason in self.told else reason
        self.told.add(reason)
        self.observer.message(f"{plan.backbone.name} failed: {told}")
        self.plans[position] = replace(plan, stopped=Failed(**plan_facts(plan), reason=reason))

    def _note(self, position: int, remarks: Sequence[str]) -> None:
        """Add remarks to those of earlier windows, each once."""
        name = self.plans[position].backbone.name
        self.notes[name] = tuple(dict.fromkeys((*self.notes.get(name, ()), *remarks)))

    @property
    def _remarks(self) -> EngineRemarks:
        options = self.request.options
        return EngineRemarks(cache=options.cache, engine=options.engine, precision=options.precision)

    def recall(self) -> None:
        """Say of embeddings that were there what was said when they were made."""
        for position, plan in enumerate(self.plans):
            if plan.key and not plan.stopped:
                self._note(position, self._remarks.load(plan.key))

    # Measuring ------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Time what has no steady figure yet, one backbone after the other while nothing else runs.

        That is what was just embedded, and where the request wants to know, everything.
        """
        unknown = self._unmeasured()
        if unknown:
            self.observer.started(TIMING, len(unknown))
            together = [[*group] for _, group in groupby(sorted(unknown, key=self._shape), key=self._shape)]
            again = self._time(together)
            if again:
                self._time([[one] for one in again])
            self.observer.finished(TIMING)
        if self.request.measure_latency:
            for position in self._unmeasured():
                self._note(position, [_unsteady(self._measured(self.plans[position]))])

    def _time(self, together: Sequence[Sequence[int]]) -> list[int]:
        """Time backbones; those that get the same pixels in one task, for which images are decoded once.

        Returns:
            Those whose process died, where it may have been for another one.
        """
        rows = np.arange(min(_TIMED_IMAGES, len(self.images)), dtype=np.int64)
        nothing, sample = self._files(rows[:0]), self._files(rows)
        calls = []
        for positions in together:
            wanted = tuple(self._wanted(one) for one in positions)
            task = BlockTask(wanted=wanted, images=nothing, sample=sample)
            calls.append(Call(name="measure", argument=task))
        again: list[int] = []
        with closing(self.request.executor.run(block_task, calls, alone=True)) as results:
            for place, result in results:
                positions = together[place]
                if "dead" in result and len(positions) > 1:
                    again += positions
                    continue
                each = _each(len(positions), result)
                for position, told in zip(positions, each, strict=True):
                    self._note(position, [str(told["error"])] if "error" in told else told["notes"])
        return again

    def _unmeasured(self) -> list[int]:
        """Backbones without a steady figure."""
        found = []
        for position, plan in enumerate(self.plans):
            wanted = self.request.measure_latency or self.images_embedded.get(plan.backbone.name)
            if wanted and plan.key and not plan.stopped:
                known = self._measured(plan)
                if known.noisy or (self.request.measure_latency and np.isnan(known.latency_ms)):
                    found.append(position)
        return found

    def _measured(self, plan: Plan) -> Measurement:
        if not plan.key:
            return Measurement()
        return load_measurement(self.store.root, plan.key, anywhere=not self.request.executor.is_local)

    # Sanity checks -------------------------------------------------------------------------------------

    def stop_equal_matrices(self) -> None:
        """Backbones with different weights never yield the same matrix: where they do, both have failed."""
        held: dict[EmbeddingKey, list[int]] = {}
        for position, plan in enumerate(self.plans):
            if plan.key and not plan.stopped:
                held.setdefault(plan.key, []).append(position)
        names = {key: self.plans[positions[0]].backbone.name for key, positions in held.items()}
        for key, reason in unusable_embeddings(self.store, names, self.images.image_ids):
            for position in held[key]:
                self._stop(position, reason)


def _each(count: int, result: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of each backbone of a block; the same error for all where the block as such failed."""
    return list(result.get("each") or [result] * count)


def _unsteady(known: Measurement) -> str:
    if np.isnan(known.latency_ms):
        return "the latency of a single image is not known"
    return (
        f"its latency is noisy here (median {known.latency_ms:.3g} ms, one in twenty above "
        f"{known.latency_p95_ms:.3g} ms), so no limit acts on it"
    )


def _keep_within_limit(
    request: EmbedRequest, store: EmbeddingStore, plans: Sequence[Plan], observer: Observer
) -> None:
    """Make room once a job is done; where that is not possible, its embeddings are still there."""
    limit = request.options.cache_limit_gb
    if limit is None:
        return
    try:
        store.enforce_limit(round(limit * 1e9), keep=[plan.key for plan in plans if plan.key])
    except StorageError as error:
        observer.message(f"The limit of the cache cannot be kept: {error}")
