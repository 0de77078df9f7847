"""What a job will take before anything of it is computed, and afterwards how far off that was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmark.data import PixelBuffer, load_images, load_pixels
from benchmark.embeddings import VIEWS, EmbeddingStore
from benchmark.engines import is_converted, memory_bytes
from benchmark.errors import ArgumentError, BenchmarkError, DataError
from benchmark.machine import all_processors, cores, processor_seconds
from benchmark.options import PlanOptions
from benchmark.pipeline.blocks import count_blocks
from benchmark.pipeline.copies import known_copies
from benchmark.pipeline.costs import (
    LIGHT_START_SECONDS,
    START_SECONDS,
    CostModel,
    EmbeddingCost,
    WorkKind,
    head_memory_bytes,
    remember_ratio,
    share_out,
)
from benchmark.pipeline.display import BOARD, TIMING, spoken
from benchmark.pipeline.heads import HEADS
from benchmark.pipeline.pixels import buffer_bytes
from benchmark.pipeline.places import results_folder
from benchmark.pipeline.planning import Plan, engine_request, make_plans, plan_unseen
from benchmark.pipeline.progress import OneAtATime
from benchmark.pipeline.requests import (
    MOST_TURNED,
    EmbedRequest,
    RankRequest,
    cheapest_pretrained,
)
from benchmark.pipeline.self_test import self_test
from benchmark.records import Engine, ImageSet, Observer, ProtocolName, Resize, Search, Silent
from benchmark.reporting import RunRecord

ALL, AUDIT = "all", "audit"
_ESTIMATE, _SELF_TEST = "estimate", "timing this machine"
_AGAIN_SECONDS = 0.3  # everything was there already
_BUSY = 0.15  # share of the processors that others use: less is not worth a word
# Tasks that observers are told of, and what their time is counted as; all other time is that of the board.
_PHASES = {BOARD: "embedding", TIMING: "timing", AUDIT: "audit", HEADS: "heads"}
_SAMPLE = 16  # images that are decoded to see how long it takes
_DECODE_SECONDS = 2e-3  # where there is none to decode
_ID_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneEstimate:
    """What one backbone's part of a job will take.

    Attributes:
        backbone: its name.
        status: ``cached`` (every embedding is there), ``to embed``, ``skipped`` or ``failed``.
        images: to embed.
        embed_seconds: of one core, building and converting included.
        head_seconds: of one core.
        memory_bytes: of its largest process.
        storage_bytes: embeddings, those of views for the audit among them, and a converted model that are
            written.
        reason: why it will not run.
    """

    backbone: str
    status: str
    images: int = 0
    embed_seconds: float = 0.0
    head_seconds: float = 0.0
    memory_bytes: float = 0.0
    storage_bytes: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job will take.

    Attributes:
        backbones: one by one.
        images: of the job.
        embed_seconds: from the first backbone to the last embedding, all cores together.
        head_seconds: the same of the heads.
        audit_seconds: reading where it is still to do, and comparing images with each other.
        board_seconds: all that is computed and written beside the board.
        core_seconds: of all cores together, waiting apart.
        workers: machines like this one.
        price_per_hour: of a machine; None where nobody asked for money.
        source: what corrected the model; empty when nothing did.
        at_most: a search will leave some of it out.
    """

    backbones: tuple[BackboneEstimate, ...]
    images: int
    embed_seconds: float
    head_seconds: float = 0.0
    audit_seconds: float = 0.0
    board_seconds: float = 0.0
    core_seconds: float = 0.0
    workers: int = 1
    price_per_hour: float | None = None
    source: str = ""
    at_most: bool = False

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.embed_seconds + self.head_seconds + self.audit_seconds + self.board_seconds

    @property
    def is_new(self) -> bool:
        """Whether anything is left to compute."""
        return any(one.images or one.head_seconds for one in self.backbones)

    @property
    def memory_bytes(self) -> float:
        """Of the largest process."""
        return max((one.memory_bytes for one in self.backbones), default=0.0)

    @property
    def storage_bytes(self) -> float:
        """Written to the cache, decoded pixels aside."""
        return sum(one.storage_bytes for one in self.backbones)

    def rows(self) -> list[dict[str, Any]]:
        """One a backbone, then one of all; ``seconds`` and ``cost`` of a backbone are its share of them."""
        spent = [one.embed_seconds + one.head_seconds for one in self.backbones]
        whole = sum(spent) or 1.0
        rows = [
            {
                "backbone": one.backbone,
                "status": one.status,
                "images": one.images,
                **self._figures(share / whole * self.seconds, one.memory_bytes, one.storage_bytes),
                "reason": one.reason,
            }
            for one, share in zip(self.backbones, spent, strict=True)
        ]
        total = {"backbone": ALL, "status": "", "images": sum(one.images for one in self.backbones)}
        figures = self._figures(self.seconds, self.memory_bytes, self.storage_bytes)
        return [*rows, {**total, **figures, "reason": ""}]

    def _figures(self, seconds: float, memory: float, storage: float) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "seconds": round(seconds, 1),
            "memory_bytes": round(memory),
            "storage_bytes": round(storage),
        }
        if self.price_per_hour is not None:
            figures["cost"] = round(seconds / 3600 * self.workers * self.price_per_hour, 4)
        return figures

    def sentence(self) -> str:
        """The whole in one line."""
        cached = sum(one.status == "cached" for one in self.backbones)
        waiting = sum(one.status == "to embed" for one in self.backbones)
        parts = [f"{waiting} backbones to embed, {cached} in the cache", f"{self.images:,} images"]
        if self.workers > 1:
            parts.append(f"{self.workers} machines like this one")
        if self.price_per_hour is not None:
            parts.append(f"cost {self.rows()[-1]['cost']:,.2f}")
        parts.append(f"up to {_size(self.memory_bytes)} of memory a process")
        if self.storage_bytes:
            parts.append(f"{_size(self.storage_bytes)} on the disk")
        basis = f"judged by {self.source}" if self.source else "nothing has been measured here yet"
        most = "at most " if self.at_most else "about "
        return f"{most}{spoken(self.seconds)}: {', '.join(parts)}; {basis}"


def _size(size: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.0f} kB"


class Forecast(OneAtATime):
    """An estimate beside a watch that sees what its job really takes: it hands on what an observer is told.

    Args:
        estimate: of the job, which begins now.
        costs: that the estimate was made with.
        observer: is told everything.
        is_local: whether this machine does the job, so that what it takes corrects the model.
    """

    def __init__(
        self, estimate: Estimate, costs: CostModel, observer: Observer, *, is_local: bool = True
    ) -> None:
        super().__init__(observer)
        self._is_local = is_local
        self.estimate = estimate
        self._costs = costs
        self._start = self._since = _Moment.now()
        self._running: list[str] = []
        self._spent = dict.fromkeys(_PHASES.values(), _Moment())
        observer.started(_ESTIMATE, 0)
        observer.finished(_ESTIMATE, estimate.sentence())

    def started(self, task: str, total: int) -> None:
        """Note when, and hand on."""
        if task in _PHASES:
            self._count()
            self._running.append(_PHASES[task])
        super().started(task, total)

    def finished(self, task: str, note: str = "") -> None:
        """Add up, and hand on."""
        if task in _PHASES and self._running:
            self._count()
            self._running.pop()
        super().finished(task, note)

    def _count(self) -> None:
        """Count the time since the last call for the innermost task that is going on."""
        now = _Moment.now()
        if self._running:
            self._spent[self._running[-1]] += now - self._since
        self._since = now

    def timings(self) -> dict[str, float]:
        """What was predicted and what it took so far, for a record: on the clock, and of all cores."""
        estimate, took = self.estimate, self._took()
        found = {
            "predicted_seconds": estimate.seconds,
            "predicted_embedding_seconds": estimate.embed_seconds,
            "predicted_heads_seconds": estimate.head_seconds,
            "predicted_audit_seconds": estimate.audit_seconds,
            "predicted_board_seconds": estimate.board_seconds,
            "predicted_core_seconds": estimate.core_seconds,
            **{f"{name}_seconds": spent.clock for name, spent in took.items()},
            **{f"{name}_core_seconds": spent.own for name, spent in took.items()},
            "others_share": took["all"].others_share,
        }
        return {name: round(value, 3) for name, value in found.items()}

    def over(self, cache: Path) -> str:
        """The job is done: remember how far off this was, and say so in one line."""
        estimate, took = self.estimate, self._took()
        if self._is_local and not estimate.at_most:
            heads = sum(one.head_seconds for one in estimate.backbones)
            board = estimate.board_seconds if estimate.is_new else 0.0
            for work, expected, spent in (
                (WorkKind.AUDIT, estimate.audit_seconds, took["audit"]),
                (WorkKind.HEADS, heads, took["heads"]),
                (WorkKind.BOARD, board, took["board"]),
            ):
                remember_ratio(cache, work, expected / self._costs.factor(work), spent.own)
        most = "at most " if estimate.at_most else ""
        others = took["all"].others_share
        busy = f", while other programs used {others:.0%} of the processors" if others >= _BUSY else ""
        return f"Predicted {most}{spoken(estimate.seconds)}, took {spoken(took['all'].clock)}{busy}."

    def _took(self) -> dict[str, _Moment]:
        everything = _Moment.now() - self._start
        board = everything
        for spent in self._spent.values():
            board -= spent
        return {"all": everything, **self._spent, "board": board}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """A moment, or the time between two: seconds on the clock, of all processors, and of our own use."""

    clock: float = 0.0
    everybody: float = 0.0
    own: float = 0.0

    @classmethod
    def now(cls) -> Self:
        everybody, own = processor_seconds()
        return cls(clock=time.perf_counter(), everybody=everybody, own=own)

    def __add__(self, other: _Moment) -> _Moment:
        clock, everybody = self.clock + other.clock, self.everybody + other.everybody
        return _Moment(clock=clock, everybody=everybody, own=self.own + other.own)

    def __sub__(self, other: _Moment) -> _Moment:
        clock, everybody = self.clock - other.clock, self.everybody - other.everybody
        return _Moment(clock=clock, everybody=everybody, own=self.own - other.own)

    @property
    def others_share(self) -> float:
        """The share of the processors that other programs have used."""
        share = (self.everybody - self.own) / max(self.clock, 1e-9) / all_processors()
        return min(1.0, max(0.0, share))


def estimate_costs(options: PlanOptions, observer: Observer | None = None) -> Estimate:
    """What ranking would take: time, memory, storage, money; nothing is computed.

    Where the cache knows nothing of this machine, that is timed first, for ten seconds.

    Args:
        options: data or a number of images, backbones, workers, price.
        observer: told of the reading of the images.

    Raises:
        ArgumentError: neither data nor a number of images.
        DataError: the images cannot be used.
    """
    if options.data is None and options.images is None:
        raise ArgumentError(
            "there is nothing to plan for", expected="`data` or `images`", next_step="Give one of them."
        )
    watch = observer or Silent()
    costs = CostModel.load(options.cache)
    if not costs.source:
        watch.started(_SELF_TEST, 0)
        costs = CostModel.load(options.cache, self_test(options.cache))
        watch.finished(_SELF_TEST)
    request = RankRequest.of(options.for_ranking())
    job = _PlannedJob(
        request=request, costs=costs, workers=options.workers, price_per_hour=options.price_per_hour
    )
    if options.data is None:
        return job.of_unseen(options.images or 0)
    images = load_images(options.data, cache=options.cache, options=request.options, observer=watch)
    job = replace(job, request=request.as_read(images))
    total = max(options.images or 0, len(images))
    return job.of_images(images, make_plans(job.request, images, total), total=total)


def predict(request: EmbedRequest, images: ImageSet, plans: Sequence[Plan], observer: Observer) -> Forecast:
    """What a job will take on this machine, to be compared with what it takes.

    Args:
        request: of a ranking, or only of embedding.
        images: that have been read.
        plans: one per backbone.
        observer: told of the estimate at once, and of all that is to come.
    """
    costs, runner = CostModel.load(request.options.cache), request.executor
    # A cluster counts as so many machines like this one; what it takes says nothing of this one.
    workers = 1 if runner.is_local else max(1, round(runner.threads / cores()))
    job = _PlannedJob(request=request, costs=costs, workers=workers)
    return Forecast(job.of_images(images, plans), costs, observer, is_local=runner.is_local)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedJob:
    """A job whose cost is asked for.

    Attributes:
        request: of a ranking, or only of embedding.
        costs: the model.
        workers: machines like this one; 1 is this one.
        price_per_hour: of a machine.
    """

    request: EmbedRequest
    costs: CostModel
    workers: int = 1
    price_per_hour: float | None = None

    @property
    def slots(self) -> int:
        """Cores of all machines."""
        return self.workers * cores()

    def of_unseen(self, images: int) -> Estimate:
        """The estimate for so many images that nobody has read."""
        plans = [plan_unseen(self.request, backbone, images) for backbone in self.request.backbones]
        lacking = [0 if plan.stopped else images for plan in plans]
        reading = self.costs.reading(images) / self.slots
        views = self._unseen_views(images)
        return self._estimate(plans, lacking, images, _DECODE_SECONDS, reading=reading, views=views)

    def of_images(self, images: ImageSet, plans: Sequence[Plan], total: int = 0) -> Estimate:
        """The estimate for images that have been read.

        Args:
            images: those.
            plans: one per backbone.
            total: images of the job that they are a part of; nothing is known of the others.
        """
        unseen = max(0, total - len(images))
        lacking = [0 if plan.stopped else int(plan.lacking.sum()) + unseen for plan in plans]
        decode = _decode_seconds(self.request, images) if any(lacking) else 0.0
        views = self._views(images, plans)
        if unseen and images.groups is None:
            views = self._unseen_views(len(images) + unseen)
        return self._estimate(
            plans,
            lacking,
            len(images) + unseen,
            decode,
            reading=self.costs.reading(unseen) / self.slots,
            known=frozenset() if unseen else self._with_heads(images, plans),
            views=views,
            outputs=images.head_targets()[:1].shape[1],
            parts_given=images.split.given,
        )

    def _estimate(
        self,
        plans: Sequence[Plan],
        lacking: Sequence[int],
        images: int,
        decode: float,
        *,
        reading: float,
        known: frozenset[str] = frozenset(),
        views: tuple[Plan | None, bool],
        outputs: int = 1,
        parts_given: bool = False,
    ) -> Estimate:
        heads = [
            0.0
            if plan.stopped or plan.backbone.name in known
            else self._head_seconds(plan, images, outputs, parts_given=parts_given)
            for plan in plans
        ]
        costs = [
            self.costs.embedding(self.request, plan, count)
            for plan, count in zip(plans, lacking, strict=True)
        ]
        embed = self._embed_seconds(plans, lacking, decode)
        waiting = [plan for plan, count in zip(plans, lacking, strict=True) if count]
        starting = START_SECONDS * any(map(self._imports_tensorflow, waiting))
        core = sum(heads) + sum(cost.seconds() for cost in costs) + decode * max(lacking, default=0)
        core += starting * min(len(waiting), cores())
        turned, copies_known = views
        if turned is not None:
            wanted = self.request.views_under(turned.backbone)
            cost = self.costs.embedding(wanted, turned, images)
            embed, core = embed + cost.seconds(cores()), core + cost.seconds()
        audit = board = 0.0
        if isinstance(self.request, RankRequest):
            looks = self._looks_for_copies(images)
            audit = self.costs.audit(images, eyes=looks, copies=looks and not copies_known)
            board = self.costs.board(len(plans), images) if any(lacking) or any(heads) else _AGAIN_SECONDS
        return Estimate(
            backbones=tuple(
                self._one(*each, images, turned) for each in zip(plans, lacking, costs, heads, strict=True)
            ),
            images=images,
            embed_seconds=embed,
            head_seconds=_makespan(sorted(heads, reverse=True), self.slots),
            audit_seconds=reading + audit,
            board_seconds=board,
            core_seconds=core + audit + board,
            workers=self.workers,
            price_per_hour=self.price_per_hour,
            source=self.costs.source,
            at_most=isinstance(self.request, RankRequest) and self.request.options.search is Search.HALVING,
        )

    def _one(
        self, plan: Plan, lacking: int, cost: EmbeddingCost, heads: float, images: int, turned: Plan | None
    ) -> BackboneEstimate:
        backbone = plan.backbone
        if plan.stopped:
            return BackboneEstimate(
                backbone=backbone.name, status=plan.stopped.status.value, reason=plan.stopped.reason
            )
        memory, storage = 0.0, 0.0
        if lacking:
            memory = memory_bytes(backbone, plan.input_size, plan.engine)[0]
            storage = lacking * (4.0 * backbone.embedding_dim + _ID_BYTES)
            if plan.engine is Engine.OPENVINO and not is_converted(engine_request(self.request, plan, 1)):
                storage += backbone.float32_bytes
        if turned is not None and turned.backbone == backbone:
            memory = max(memory, memory_bytes(backbone, turned.input_size, turned.engine)[0])
            storage += images * (4.0 * backbone.embedding_dim * VIEWS + _ID_BYTES)
        if heads:
            memory = max(memory, head_memory_bytes(images, backbone.embedding_dim))
        return BackboneEstimate(
            backbone=backbone.name,
            status="to embed" if lacking else "cached",
            images=lacking,
            embed_seconds=cost.seconds(),
            head_seconds=heads,
            memory_bytes=memory,
            storage_bytes=storage,
        )

    # Embedding ------------------------------------------------------------------------------------

    def _embed_seconds(self, plans: Sequence[Plan], lacking: Sequence[int], decode: float) -> float:
        """From the first backbone to the last embedding."""
        waiting = [(plan, count) for plan, count in zip(plans, lacking, strict=True) if count]
        if not waiting:
            return 0.0
        if self.workers > 1:
            return self._on_many(waiting, decode)
        seconds = max(
            START_SECONDS if self._imports_tensorflow(plan) else LIGHT_START_SECONDS for plan, _ in waiting
        )
        ordered = sorted(waiting, key=lambda one: (one[0].input_size, one[0].backbone.flops))
        for size, group in groupby(ordered, key=lambda one: one[0].input_size):
            seconds += self._of_size(size, list(group), decode)
        return seconds

    def _of_size(self, size: int, waiting: Sequence[tuple[Plan, int]], decode: float) -> float:
        """Backbones of one input size, in as many windows of images as the buffer makes of them."""
        rows = max(count for _, count in waiting)
        step = max(1, buffer_bytes(self.request) // max(1, PixelBuffer.bytes_needed(1, size)))
        windows = -(-rows // step)
        plans = [plan for plan, _ in waiting]
        seconds = 0.0
        for times, again in ((1, False), (windows - 1, True)):
            costs = [
                self.costs.embedding(self.request, plan, -(-count // windows), again=again)
                for plan, count in waiting
            ]
            seconds += times * self._window(plans, costs, decode * rows / windows) if times else 0.0
        return seconds

    def _window(self, plans: Sequence[Plan], costs: Sequence[EmbeddingCost], decode: float) -> float:
        """One window: shifts one after the other, on cores that decode its images meanwhile."""
        seconds = 0.0
        for shift in share_out(self.request, plans, [cost.seconds() for cost in costs]):
            each = [costs[position].seconds(shift.threads) for position in shift.positions]
            seconds += _makespan(each, max(1, shift.workers))
        together = sum(cost.seconds() for cost in costs) + decode
        return max(seconds, together / cores())

    def _on_many(self, waiting: Sequence[tuple[Plan, int]], decode: float) -> float:
        """On several machines: blocks of images, each opened and decoded where it is embedded."""
        work, longest = 0.0, 0.0
        for plan, count in waiting:
            cost = self.costs.embedding(self.request, plan, count)
            again = self.costs.embedding(self.request, plan, count, again=True)
            blocks = count_blocks(cost.inference + count * decode, count)
            work += cost.seconds() + (blocks - 1) * again.prepare + count * decode
            longest = max(longest, cost.prepare + (cost.inference + count * decode) / blocks)
        # Whoever takes blocks as they come is at most one block behind a perfect division.
        return START_SECONDS + work / self.slots + longest * (1 - 1 / self.slots)

    def _imports_tensorflow(self, plan: Plan) -> bool:
        in_openvino = plan.engine is Engine.OPENVINO
        return not (in_openvino and is_converted(engine_request(self.request, plan, 1)))

    def _views(self, images: ImageSet, plans: Sequence[Plan]) -> tuple[Plan | None, bool]:
        """The plan of the views through which the audit looks for copies, where they are to be embedded.

        Returns:
            That plan, and whether it is known already which images are copies.
        """
        request = self.request
        seeing = cheapest_pretrained(request)
        if not self._looks_for_copies(len(images)) or seeing is None or images.groups is not None:
            return None, True
        wanted = request.views_under(seeing)
        cache = request.options.cache
        store = EmbeddingStore(cache)
        # Not which rows there are: the parts of views are large, and reading them is most of using them.
        keys = store.keys_of(seeing.architecture, input_size=request.size_of(seeing))
        weights = {one.key.weights_sha256 for one in plans if one.backbone == seeing and one.key is not None}
        held = [
            key
            for key in keys
            if key.decoder == wanted.decoder_of(seeing)
            and (not weights or key.weights_sha256 in weights)
            and store.parts(key)
        ]
        if held:
            return None, any(known_copies(cache, key, images) is not None for key in held)
        return self._unseen_views(len(images))

    def _unseen_views(self, images: int) -> tuple[Plan | None, bool]:
        """The same for so many images of which the cache holds no view."""
        seeing = cheapest_pretrained(self.request)
        if not self._looks_for_copies(images) or seeing is None:
            return None, False
        plan = plan_unseen(self.request.views_under(seeing), seeing, images)
        return (None if plan.stopped else plan), False

    def _looks_for_copies(self, images: int) -> bool:
        """Whether the audit looks for turned and cropped copies, where the images have no groups."""
        request = self.request
        wanted = isinstance(request, RankRequest) and request.options.auto_groups and images <= MOST_TURNED
        return wanted and cheapest_pretrained(request) is not None

    # Heads ----------------------------------------------------------------------------------------

    def _head_seconds(self, plan: Plan, images: int, outputs: int, *, parts_given: bool) -> float:
        if not isinstance(self.request, RankRequest):
            return 0.0
        name = self.request.protocol_name(parts_given=parts_given)
        protocol = replace(self.request.protocol, name=name)
        # Where folds keep related images together, heads are trained again on others that do not.
        passes = 2 if name is ProtocolName.CV and self.request.options.groups != "none" else 1
        return passes * self.costs.heads(protocol, images, plan.backbone.embedding_dim, outputs)

    def _with_heads(self, images: ImageSet, plans: Sequence[Plan]) -> frozenset[str]:
        """Backbones whose heads the latest board has, as far as its record tells."""
        if not isinstance(self.request, RankRequest):
            return frozenset()
        options = self.request.options
        assert options.data is not None
        try:
            record = RunRecord.read(results_folder(options.results, images, options.data).path)
        except (DataError, OSError):
            return frozenset()
        name = self.request.protocol_name(parts_given=images.split.given)
        if record.protocol != replace(self.request.protocol, name=name) or record.data.images != len(images):
            return frozenset()
        trained = {one.key_digest for one in record.backbones.values() if one.status == "scored"}
        return frozenset(
            plan.backbone.name
            for plan in plans
            if plan.is_cached and plan.key is not None and plan.key.digest() in trained
        )


def _decode_seconds(request: EmbedRequest, images: ImageSet) -> float:
    """What one core takes to decode an image, timed on some of them."""
    options = request.options
    size = max(request.size_of(one) for one in request.backbones)
    rows = np.unique(np.linspace(0, len(images) - 1, _SAMPLE).astype(int)).tolist()
    begun = time.perf_counter()
    try:
        for row in rows:
            load_pixels(
                images.root / images.paths[row],
                size,
                Resize.BILINEAR if options.resize is Resize.NATIVE else options.resize,
                max_pixels=options.max_pixels,
                bit_depth=request.bit_depth,
            )
    except BenchmarkError:  # gone since it was read: whoever embeds it will say so
        return _DECODE_SECONDS
    return (time.perf_counter() - begun) / len(rows)


def _makespan(seconds: Sequence[float], slots: int) -> float:
    """When the last of some tasks is done, each going in turn to whoever is free first."""
    free = [0.0] * min(slots, max(1, len(seconds)))
    heapify(free)
    for each in seconds:
        heapreplace(free, free[0] + each)
    return max(free)
