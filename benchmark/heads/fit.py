"""Training the heads of many jobs together, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.drawing import derived_seed
from benchmark.errors import TrainingError
from benchmark.heads.loop import HeadTrainer, JobData, dropout_masks, probabilities
from benchmark.records import Float32, HeadProtocol, Int64, ProtocolName

# Kernels with their moments beyond this many bytes are trained in several calls.
_STATE_BYTES = 256 << 20
# Dropout masks are made for this many values at a time, and shared by all jobs.
_MASK_VALUES = 1 << 20
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Heads that share training images, batches and dropout: one per grid point."""

    label: str  # seeds of initial weights and batches derive from it
    train: Int64  # (n,) rows that train, in an order that does not depend on file names
    rates: tuple[float, ...]  # G learning rates
    decays: tuple[float, ...]  # G L2 penalties, which weigh against the sum of the loss over the rows
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What the jobs of one backbone train on."""

    features: Float32  # (N, D), contiguous
    targets: Float32  # (N, C)
    scale: Float32  # (F, D), one row a job
    shift: Float32  # (F, D): a job's input is ``features * scale + shift``
    exclusive: bool  # softmax (True) or a sigmoid per column
    protocol: HeadProtocol  # dropout, batch size, class weights and seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Trained heads of F jobs with G grid points each, standardisation folded in."""

    kernel: Float32  # (F, D, G * C)
    bias: Float32  # (F, G * C)

    @classmethod
    def joined(cls, heads: Sequence[Heads]) -> Heads:
        """The heads of several jobs as one value."""
        return cls(
            kernel=np.concatenate([some.kernel for some in heads]),
            bias=np.concatenate([some.bias for some in heads]),
        )

    def one(self, job: int, point: int, outputs: int) -> Heads:
        """The head of one job at one grid point; ``outputs`` is C."""
        columns = slice(point * outputs, (point + 1) * outputs)
        return Heads(kernel=self.kernel[job : job + 1, :, columns], bias=self.bias[job : job + 1, columns])


AfterEpoch = Callable[[int, Sequence[int], Heads], None]
"""Called with the number of finished epochs, the positions of the jobs still trained, and their heads."""


def fit(data: TrainingData, jobs: Sequence[Job], after_epoch: AfterEpoch) -> None:
    """Train all jobs' heads, of the same number of grid points; what a job learns depends on no other.

    ``after_epoch`` sees the heads after each epoch; a job takes part until its own last epoch.

    Raises:
        TrainingError: a head's weights are no longer finite.
    """
    heads_bytes = 24 * data.features.shape[1] * data.targets.shape[1] * len(jobs[0].rates)
    at_once = max(1, _STATE_BYTES // heads_bytes)
    for start in range(0, len(jobs), at_once):
        _fit_together(data, jobs, range(start, min(start + at_once, len(jobs))), after_epoch)


def _fit_together(
    data: TrainingData, jobs: Sequence[Job], which: Sequence[int], after_epoch: AfterEpoch
) -> None:
    trainers = {number: _JobTrainer(data, number, jobs[number]) for number in which}
    for epoch in range(1, max(jobs[number].epochs for number in which) + 1):
        alive = [number for number in which if jobs[number].epochs >= epoch]
        # A weight that overflows is found, and named, after the epoch.
        with np.errstate(all="ignore"):
            _train_epoch(data, [trainers[number] for number in alive], epoch)
            heads = Heads.joined([trainers[number].heads() for number in alive])
        _check_finite(heads)
        after_epoch(epoch, alive, heads)


def _train_epoch(data: TrainingData, trainers: Sequence[_JobTrainer], epoch: int) -> None:
    """One epoch of every trainer, in blocks of steps that share their dropout masks."""
    protocol = data.protocol
    step_values = protocol.batch_size * data.features.shape[1]
    block = max(1, _MASK_VALUES // step_values)
    for start in range(0, max(trainer.steps for trainer in trainers), block):
        seed = derived_seed(f"{protocol.seed}|dropout|{epoch}|{start}")
        shape = (block, protocol.batch_size, data.features.shape[1])
        masks = dropout_masks(seed, shape, protocol.dropout)
        for trainer in trainers:
            trainer.learn(start, masks)


class _JobTrainer:
    """One job in training."""

    def __init__(self, data: TrainingData, number: int, job: Job) -> None:
        protocol = data.protocol
        kept = np.float32(1.0 - protocol.dropout)
        positive, negative = _class_weights(data, job.train)
        self._scale, self._shift = data.scale[number], data.shift[number]
        self._generator = batch_generator(protocol, job)
        self._train = job.train
        self._order = job.train
        self._size = protocol.batch_size
        batches = -(-len(job.train) // protocol.batch_size)
        # The reference system's heads keep their learning rate and see every image once an epoch.
        settles = protocol.name is not ProtocolName.REFERENCE
        passes = max(1, -(-protocol.updates // (job.epochs * batches))) if settles else 1
        self._batches = batches
        self.steps = batches * passes
        data_of_job = JobData(
            features=data.features,
            targets=data.targets,
            scale=self._scale / kept,
            shift=self._shift / kept,
            positive=positive,
            negative=negative,
            exclusive=data.exclusive,
            rates=np.asarray(job.rates, np.float32),
            decays=np.asarray(job.decays, np.float32) / np.float32(len(job.train)),
            batch_size=protocol.batch_size,
            updates=self.steps * job.epochs if settles else 0,
        )
        shape = (data.features.shape[1], data.targets.shape[1])
        self._trainer = HeadTrainer(data_of_job, initial_kernel(protocol, job, shape))

    def learn(self, start: int, masks: Float32) -> None:
        """Take the steps of an epoch from ``start`` on that there are masks for."""
        for step in range(start, min(start + len(masks), self.steps)):
            place = step % self._batches
            if place == 0:
                self._order = batch_order(self._generator, self._train)
            rows = self._order[place * self._size : (place + 1) * self._size]
            self._trainer.learn(rows, masks[step - start])

    def heads(self) -> Heads:
        """The heads on features that are not scaled yet."""
        kernel = self._trainer.kernel
        return Heads(
            kernel=(kernel * self._scale).T[None],
            bias=(self._trainer.bias + kernel @ self._shift)[None],
        )


def batch_generator(protocol: HeadProtocol, job: Job) -> np.random.Generator:
    """Draws the batches of a job, pass after pass."""
    return np.random.Generator(np.random.Philox(derived_seed(f"{protocol.seed}|{job.label}|batches")))


def batch_order(generator: np.random.Generator, train: Int64) -> Int64:
    """The training rows of one pass in a new order; every call is the next pass."""
    return generator.permutation(train)


def initial_kernel(protocol: HeadProtocol, job: Job, shape: tuple[int, int]) -> Float32:
    """Kernel float32 (D, C) to start from: zero; Glorot-uniform (2010) for the reference protocol.

    Few images leave most directions of an embedding untouched: what a head starts with there, it keeps.
    """
    if protocol.name is not ProtocolName.REFERENCE:
        return np.zeros(shape, np.float32)
    generator = np.random.Generator(np.random.Philox(derived_seed(f"{protocol.seed}|{job.label}|weights")))
    limit = float(np.sqrt(6 / sum(shape)))
    return generator.uniform(-limit, limit, shape).astype(np.float32)


def _class_weights(data: TrainingData, train: Int64) -> Float32:
    """Loss weights float32 (2, C) of targets 1 and 0: inverse frequency on the training rows, or all 1.

    A sigmoid's two sides get n / (2 n_side), a softmax's classes n / (C n_class), scikit-learn's "balanced".
    """
    targets = data.targets[train]
    if not data.protocol.balanced:
        return np.ones((2, targets.shape[1]), np.float32)
    positives = targets.sum(0, dtype=np.float64)
    sides = targets.shape[1] if data.exclusive else 2
    both = np.stack([positives, len(targets) - positives])
    return np.asarray(len(targets) / (sides * np.maximum(both, 1.0)), np.float32)


def _check_finite(heads: Heads) -> None:
    if not (np.isfinite(heads.kernel).all() and np.isfinite(heads.bias).all()):
        raise TrainingError(
            "a head's weights are not finite",
            expected="finite weights after each epoch",
            next_step="Lower the learning rates, or check the embeddings of this backbone.",
        )


def predict(data: TrainingData, heads: Heads, rows: Sequence[Int64]) -> list[Float32]:
    """Probabilities of each job's heads on its own V rows, for each job float32 (G, V, C)."""
    outputs = data.targets.shape[1]

    def logits(job: int, some: Int64) -> Float32:
        found = np.empty((len(some), heads.bias.shape[1]), np.float32)
        for start in range(0, len(some), _ROWS_AT_ONCE):
            part = some[start : start + _ROWS_AT_ONCE]
            found[start : start + len(part)] = data.features[part] @ heads.kernel[job]
        found += heads.bias[job]
        return np.moveaxis(found.reshape(len(some), -1, outputs), 1, 0)

    return [probabilities(logits(job, some), exclusive=data.exclusive) for job, some in enumerate(rows)]
