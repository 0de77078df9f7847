"""What work costs on this machine: the model of ``engines``, with what runs on this machine have measured.

Progress, sharing out the cores and plans all ask this one model. Two things correct it: speeds that the cache
keeps of single backbones, and, for each kind of work, by how much the latest runs took longer than predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Self

from benchmark.embeddings import VIEWS
from benchmark.engines import has_gpu, image_seconds, is_converted, memory_bytes, prepare_seconds
from benchmark.execution import Shift, shifts
from benchmark.pipeline.measurements import Speeds, here, known_speeds
from benchmark.pipeline.planning import Plan, engine_request
from benchmark.pipeline.requests import EmbedRequest
from benchmark.records import Backbone, Engine, HeadProtocol, Precision, ProtocolName
from benchmark.storage import Memo

_RUNS_REMEMBERED = 5
_LEAST_SECONDS = 1.0  # a shorter piece of work says nothing about the machine
_SELF_TEST = "self-test: "

# Timing a backbone (``FrozenBackbone.speed``): fewest and most calls of one kind, warm-up included, and the
# seconds that are enough; two kinds of call, some of them again because they were noisy.
_TIMED, _TIMINGS = (7, 22, 1.5), 3.0
# What a worker process takes to start, with and without importing TensorFlow.
START_SECONDS, LIGHT_START_SECONDS = 4.0, 1.0
# Seconds of one core: an update of all grid points of a fold, and for each value of an embedding once and for
# each output; a pair of images and a value, for the nearest neighbours beside the heads.
_UPDATE_SECONDS, _VALUE_SECONDS, _OUTPUT_SECONDS = 65e-6, 63e-9, 57e-9
_PAIR_SECONDS = 0.23e-9
_HEAD_BYTES, _HEAD_COPIES = 150e6, 10
# Of one core: reading a file; the audit for an image, once where a backbone lends its eyes, and for an image
# where it looks for copies among what looks alike; the board once, for a backbone and for an image.
_READ_SECONDS = 4e-3
_AUDIT_SECONDS, _EYES_SECONDS, _COPIES_SECONDS = 0.5e-3, 1.0, 15e-3
_BOARD_SECONDS, _BOARD_BACKBONE_SECONDS, _BOARD_IMAGE_SECONDS = 1.7, 0.2, 8e-3
# Processes that prepare networks while one computes; all of them share the memory of the one GPU.
_ON_ONE_GPU = 4


class WorkKind(StrEnum):
    """Kinds of work whose cost is predicted and measured."""

    PREPARE = "prepare"
    INFERENCE = "inference"
    AUDIT = "audit"
    HEADS = "heads"
    BOARD = "board"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCost:
    """Seconds of one thread for embedding some images with one backbone.

    Attributes:
        prepare: once for every window of images; does not get shorter with more threads.
        inference: for all images.
    """

    prepare: float = 0.0
    inference: float = 0.0

    def seconds(self, threads: int = 1) -> float:
        """From start to end with some threads."""
        return self.prepare + self.inference / threads


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Predicts what work costs on this machine.

    Attributes:
        factors: by how much this machine takes longer than the model says, by kind of work.
        speeds: what the cache has measured here of single backbones.
        source: what corrected the model, for people; empty when nothing did.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    speeds: Speeds = field(default_factory=Speeds)
    source: str = ""

    @classmethod
    def load(cls, cache: Path, fresh: Mapping[str, float] | None = None) -> Self:
        """The model with what is known of this machine: its latest runs, or else a self-test.

        Args:
            cache: that knows it.
            fresh: what a self-test has just come to, which a cache that takes nothing does not know.
        """
        stored, speeds = _as_stored(fresh or {}) | _stored(cache), known_speeds(cache)
        factors, runs, tested = {}, 0, False
        for work in WorkKind:
            ratios, test = stored.get(work), stored.get(f"{_SELF_TEST}{work}")
            if ratios:
                factors[work.value], runs = median(ratios), max(runs, len(ratios))
            elif test and not (work is WorkKind.INFERENCE and speeds.of):  # those say more of arithmetic
                factors[work.value], tested = test[0], True
        known = (
            f"{runs} earlier run{'s' if runs > 1 else ''} here" if runs else "",
            f"the measured speed of {len(speeds.of)} backbones" if speeds.of else "",
            "a self-test" if tested else "",
        )
        return cls(factors=factors, speeds=speeds, source=", ".join(filter(None, known)))

    @property
    def bare(self) -> Self:
        """Without factors."""
        return replace(self, factors={})

    def embedding(
        self, request: EmbedRequest, plan: Plan, images: int, *, again: bool = False
    ) -> EmbeddingCost:
        """What a plan costs for some images; nothing for none.

        Args:
            request: that the plan is of.
            plan: backbone, engine and precision.
            images: to embed.
            again: after other images of the same job: it is converted and timed by then.
        """
        if not images:
            return EmbeddingCost()
        engine, precision = plan.engine or Engine.TENSORFLOW, plan.precision or Precision.FLOAT32
        each = self._image_seconds(plan.backbone, plan.input_size, engine, precision)
        is_open = engine is Engine.OPENVINO and is_converted(engine_request(request, plan, 1))
        prepare = prepare_seconds(plan.backbone, engine, converted=again or is_open)
        if not (again or request.turned or self.speeds.is_known(plan.key)):
            prepare += _timing_seconds(each)
        if request.turned:
            each *= VIEWS
        return EmbeddingCost(
            prepare=prepare * self.factor(WorkKind.PREPARE),
            inference=images * each * self.factor(WorkKind.INFERENCE),
        )

    def _image_seconds(self, backbone: Backbone, size: int, engine: Engine, precision: Precision) -> float:
        """Of one core: as measured here, else by the model, as far off as it is for those that were."""
        measured = self.speeds.of.get((backbone.architecture, size, engine, precision))
        modelled = image_seconds(backbone, size, engine, precision)
        return measured or modelled * self.speeds.correction(engine, precision)

    def factor(self, work: WorkKind) -> float:
        """By how much this machine takes longer for some work than the model says."""
        return self.factors.get(work, 1.0)

    def heads(self, protocol: HeadProtocol, images: int, dim: int, outputs: int) -> float:
        """Seconds of one core for the heads of one backbone."""
        folds = protocol.folds * protocol.repeats if protocol.name is ProtocolName.CV else 1
        # Without the test part, the fold that is scored, and the images that choose, half are left.
        updates = max(protocol.updates, protocol.epochs * 0.5 * images / protocol.batch_size)
        grid = len(protocol.learning_rates) * len(protocol.weight_decays)
        # Refitting trains one head where choosing trained the whole grid.
        each = _UPDATE_SECONDS + dim * (_VALUE_SECONDS + _OUTPUT_SECONDS * outputs) * (grid + 1) / 11
        seconds = (folds + 1) * updates * each + _PAIR_SECONDS * images**2 * dim
        return seconds * self.factor(WorkKind.HEADS)

    def audit(self, images: int, *, eyes: bool, copies: bool) -> float:
        """Seconds of one core for comparing images with each other.

        Args:
            images: how many.
            eyes: of a pretrained backbone, which sees what is related.
            copies: turned and cropped copies are looked for, through that backbone.
        """
        seconds = _EYES_SECONDS * eyes + images * (_AUDIT_SECONDS + _COPIES_SECONDS * copies)
        return seconds * self.factor(WorkKind.AUDIT)

    def board(self, backbones: int, images: int) -> float:
        """Seconds of one core for all that is computed and written beside a new board."""
        seconds = _BOARD_SECONDS + _BOARD_BACKBONE_SECONDS * backbones + _BOARD_IMAGE_SECONDS * images
        return seconds * self.factor(WorkKind.BOARD)

    def reading(self, images: int) -> float:
        """Seconds of one core for checking files that were never read before."""
        return _READ_SECONDS * images * self.factor(WorkKind.AUDIT)


def most_at_once(plans: Sequence[Plan]) -> int:
    """How many backbones may work at once where the user does not say; 0 for as many as there is room for."""
    on_gpu = any(has_gpu(engine) for engine in {plan.engine for plan in plans if plan.engine})
    return _ON_ONE_GPU if on_gpu else 0


def share_out(request: EmbedRequest, plans: Sequence[Plan], costs: Sequence[float]) -> tuple[Shift, ...]:
    """How backbones share the machine while they are embedded.

    Args:
        request: how many may work at once.
        plans: of the backbones.
        costs: of each, in seconds of one core.
    """
    needs = [memory_bytes(plan.backbone, plan.input_size, plan.engine) for plan in plans]
    return shifts(request.options.jobs or most_at_once(plans), needs, costs)


def head_memory_bytes(images: int, dim: int) -> float:
    """What training one backbone's heads takes at most, measured with up to 4,000 images."""
    return _HEAD_BYTES + _HEAD_COPIES * 4.0 * images * dim


def remember_ratio(cache: Path, work: WorkKind, predicted: float, seconds: float) -> None:
    """Note how far the bare model was off, for the next prediction; a cache that takes nothing forgets it.

    Args:
        cache: embedding cache.
        work: what kind of work it was.
        predicted: seconds, by a model without factors.
        seconds: that it took.
    """
    if min(predicted, seconds) >= _LEAST_SECONDS:
        stored = _stored(cache)
        ratios = [*stored.get(work, ()), seconds / predicted][-_RUNS_REMEMBERED:]
        _store(cache, {**stored, work: ratios})


def remember_self_test(cache: Path, factors: Mapping[str, float]) -> None:
    """Keep what a self-test came to, for as long as no run says better."""
    _store(cache, _stored(cache) | _as_stored(factors))


def _as_stored(factors: Mapping[str, float]) -> dict[str, list[float]]:
    return {f"{_SELF_TEST}{work}": [factor] for work, factor in factors.items()}


def _store(cache: Path, ratios: dict[str, list[float]]) -> None:
    _memo(cache).remember("costs", here(), ratios)


def _stored(cache: Path) -> dict[str, list[float]]:
    return _memo(cache).recall("costs", here()) or {}


def _memo(cache: Path) -> Memo[dict[str, list[float]]]:
    return Memo(folder=cache / "costs", kind=dict[str, list[float]])


def _timing_seconds(each: float) -> float:
    fewest, most, enough = _TIMED
    return _TIMINGS * each * min(most, max(fewest, enough / each))
