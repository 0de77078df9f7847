"""Training a set of heads together, epoch by epoch, around the compiled loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmark.errors import TrainingError
from benchmark.records import Float32, HeadProtocol, Int64

if TYPE_CHECKING:
    from benchmark.ranking.heads_loop import Data, JobTable, Rule, State

# Kernels with their moments beyond this many bytes are trained in several calls.
_STATE_BYTES = 256 << 20
# Values gathered at once for predictions.
_GATHERED_VALUES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Heads that share training images: one per grid point.

    Attributes:
        label: names the job; seeds of initial weights and batches derive from it.
        train: int64 (n,) rows that train, in an order that does not depend on file names.
        rates: G learning rates.
        decays: G weight decays.
        epochs: epochs to train.
    """

    label: str
    train: Int64
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the jobs of one backbone train on.

    Attributes:
        data: features float32 (N, D) and targets float32 (N, C), as tensors.
        scale: float32 (F, D) per job.
        shift: float32 (F, D) per job: a job's input is ``features * scale + shift``.
        exclusive: softmax (True) or a sigmoid per column.
        protocol: dropout, batch size, class weights and seed.
    """

    data: Data
    scale: Float32
    shift: Float32
    exclusive: bool
    protocol: HeadProtocol

    @property
    def dim(self) -> int:
        """D."""
        return int(self.scale.shape[1])

    @property
    def outputs(self) -> int:
        """C."""
        return int(self.data.targets.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Trained heads of F jobs with G grid points each, standardisation folded in.

    Attributes:
        kernel: float32 (F, D, G * C).
        bias: float32 (F, G * C).
    """

    kernel: Float32
    bias: Float32


AfterEpoch = Callable[[int, Sequence[int], Heads], None]
"""Called with the number of finished epochs, the positions of the jobs still trained, and their heads."""


def derived_seed(*parts: object) -> int:
    """A 31-bit seed from a SHA-256 of the parts' texts."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def fit(material: Material, jobs: Sequence[Job], after_epoch: AfterEpoch) -> None:
    """Train all jobs' heads.

    Args:
        material: what to train on; its scale and shift have one row per job.
        jobs: the jobs, all with the same number of grid points.
        after_epoch: sees the heads after each epoch. A job takes part until its own last epoch.

    Raises:
        TrainingError: a head's weights are no longer finite.
    """
    heads_bytes = 12 * material.dim * material.outputs * len(jobs[0].rates)
    at_once = max(1, _STATE_BYTES // heads_bytes)
    for start in range(0, len(jobs), at_once):
        _fit_together(material, jobs, range(start, min(start + at_once, len(jobs))), after_epoch)


def _fit_together(
    material: Material, jobs: Sequence[Job], which: Sequence[int], after_epoch: AfterEpoch
) -> None:
    from benchmark.ranking import heads_loop

    alive = list(which)
    state = heads_loop.State(*_initial_state(material, [jobs[job] for job in alive]))
    generators = {job: _generator(material.protocol, jobs[job], "batches") for job in alive}
    for epoch in range(1, max(jobs[job].epochs for job in alive) + 1):
        keep = [place for place, job in enumerate(alive) if jobs[job].epochs >= epoch]
        if len(keep) < len(alive):
            state = heads_loop.State(*(np.asarray(array)[keep] for array in state))
            alive = [alive[place] for place in keep]
        batches = _batches(
            [(jobs[job].train, generators[job]) for job in alive], material.protocol.batch_size
        )
        table = _job_table(material, [(job, jobs[job]) for job in alive], batches)
        state = heads_loop.train_epoch(material.data, table, _rule(material, epoch), state)
        after_epoch(epoch, alive, _heads(material, alive, state))


def _generator(protocol: HeadProtocol, job: Job, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derived_seed(protocol.seed, job.label, purpose)))


def _initial_state(material: Material, jobs: Sequence[Job]) -> tuple[Float32, ...]:
    """Zero moments, zero biases and Glorot-uniform kernels, the same for all grid points of a job."""
    dim, outputs = material.dim, material.outputs
    grid = len(jobs[0].rates)
    kernel = np.empty((len(jobs), dim, grid * outputs), np.float32)
    for place, job in enumerate(jobs):
        kernel[place] = np.tile(initial_kernel(material.protocol, job, (dim, outputs)), grid)
    bias = np.zeros((len(jobs), grid * outputs), np.float32)
    zeros = np.zeros_like(kernel)
    return kernel, zeros, zeros, bias, bias, bias, np.zeros(len(jobs), np.float32)


def initial_kernel(protocol: HeadProtocol, job: Job, shape: tuple[int, int]) -> Float32:
    """Glorot-uniform kernel float32 (D, C) of a job (Glorot and Bengio, 2010)."""
    limit = float(np.sqrt(6 / sum(shape)))
    return _generator(protocol, job, "weights").uniform(-limit, limit, shape).astype(np.float32)


def batch_order(generator: np.random.Generator, train: Int64) -> Int64:
    """The training rows of one epoch in a new order; every call is the next epoch."""
    return generator.permutation(train)


def _batches(
    trains: Sequence[tuple[Int64, np.random.Generator]], size: int
) -> tuple[npt.NDArray[np.int32], Float32]:
    """Rows int32 (F, S, B) of one epoch and their mask; S follows the job with most images."""
    steps = max(-(-len(train) // size) for train, _ in trains)
    rows = np.zeros((len(trains), steps * size), np.int32)
    mask = np.zeros((len(trains), steps * size), np.float32)
    for place, (train, generator) in enumerate(trains):
        rows[place, : len(train)] = batch_order(generator, train)
        mask[place, : len(train)] = 1.0
    shape = (len(trains), steps, size)
    return rows.reshape(shape), mask.reshape(shape)


def _job_table(
    material: Material, jobs: Sequence[tuple[int, Job]], batches: tuple[npt.NDArray[np.int32], Float32]
) -> JobTable:
    from benchmark.ranking.heads_loop import JobTable

    numbers = [number for number, _ in jobs]
    kept = 1.0 - material.protocol.dropout
    weights = np.stack([_class_weights(material, job.train) for _, job in jobs])
    return JobTable(
        rows=batches[0],
        mask=batches[1],
        scale=(material.scale[numbers] / np.float32(kept))[:, None],
        shift=(material.shift[numbers] / np.float32(kept))[:, None],
        positive=weights[:, 0],
        negative=weights[:, 1],
        rates=np.asarray([job.rates for _, job in jobs], np.float32),
        decays=np.asarray([job.decays for _, job in jobs], np.float32),
    )


def _class_weights(material: Material, train: Int64) -> Float32:
    """Loss weights float32 (2, C) of targets 1 and 0: inverse frequency on the training rows, or all 1.

    A sigmoid's two sides get n / (2 n_side), a softmax's classes n / (C n_class), scikit-learn's "balanced".
    """
    targets = np.asarray(material.data.targets)[train]
    if not material.protocol.balanced:
        return np.ones((2, targets.shape[1]), np.float32)
    positives = targets.sum(0, dtype=np.float64)
    sides = targets.shape[1] if material.exclusive else 2
    both = np.stack([positives, len(targets) - positives])
    return np.asarray(len(targets) / (sides * np.maximum(both, 1.0)), np.float32)


def _rule(material: Material, epoch: int) -> Rule:
    from benchmark.ranking.heads_loop import Rule

    return Rule(
        exclusive=np.bool_(material.exclusive),
        drop_below=np.int32(round(material.protocol.dropout * 65536)),
        seed=np.int32(derived_seed(material.protocol.seed, "dropout", epoch)),
    )


def _heads(material: Material, jobs: Sequence[int], state: State) -> Heads:
    """Heads on the unscaled working copy, checked to be finite."""
    kernel, bias = np.asarray(state.kernel), np.asarray(state.bias)
    scale, shift = material.scale[list(jobs)], material.shift[list(jobs)]
    heads = Heads(
        kernel=kernel * scale[:, :, None],
        bias=bias + np.einsum("fd,fdh->fh", shift, kernel),
    )
    if not (np.isfinite(heads.kernel).all() and np.isfinite(heads.bias).all()):
        raise TrainingError(
            "a head's weights are not finite",
            expected="finite weights after each epoch",
            next_step="Lower the learning rates, or check the embeddings of this backbone.",
        )
    return heads


def predict(material: Material, heads: Heads, rows: Sequence[Int64]) -> Float32:
    """Probabilities of each job's heads on its own rows.

    Args:
        material: features and output type.
        heads: of F jobs with G grid points.
        rows: for each job the rows to predict; lengths V_f may differ.

    Returns:
        float32 (F, max V_f, G, C); what lies beyond a job's own rows means nothing.
    """
    from benchmark.ranking import heads_loop

    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for place, some in enumerate(rows):
        padded[place, : len(some)] = some
    at_once = max(1, _GATHERED_VALUES // (len(rows) * material.dim))
    outputs, exclusive = np.int32(material.outputs), np.bool_(material.exclusive)
    blocks = [
        np.asarray(
            heads_loop.predict(
                material.data.features,
                padded[:, start : start + at_once],
                heads.kernel,
                heads.bias,
                outputs,
                exclusive,
            )
        )
        for start in range(0, padded.shape[1], at_once)
    ]
    return np.concatenate(blocks, 1) if blocks else np.zeros((len(rows), 0, 1, outputs), np.float32)
