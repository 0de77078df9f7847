"""The training loop of heads: all grid points of a job at once, one small step after the other.

A step gathers one batch of embeddings, standardises it, drops features, multiplies it with the heads of all
grid points side by side, and updates them with Adam. Everything that a step touches fits into a core's cache,
and nothing is allocated: this is two to three times faster on a processor than the same batched step as a
TensorFlow graph, whose every operation streams the batches of all jobs through memory (measured: 0.45 against
1.0 to 1.4 processor seconds for 120 heads of 500 x 1280 embeddings over 20 epochs), and it spares the process
the import of TensorFlow.

Adam: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, with the form and the constants of
Keras. Weight decay is the classical L2 penalty on the kernel, inside the gradient: once the learning rate
has fallen to zero, a head stands at the optimum of a penalised logistic regression. (Decoupled decay, as in
AdamW, bounds the largest weight instead, which hides the few features that matter among many that do not.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.records import Float32, Int64

_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = np.float32(1e-7)
_LARGEST_LOGIT = np.float32(80.0)
# Weights with both moments and a scratch array stay in a core's second-level cache.
_CACHED_VALUES = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one job trains on.

    Attributes:
        features: float32 (N, D), contiguous; shared by all jobs.
        targets: float32 (N, C).
        scale: float32 (D,), with the dropout's 1 / (1 - rate) inside.
        shift: float32 (D,): the input of the dense layer is ``features * scale + shift``.
        positive: float32 (C,) loss weight of an output whose target is 1.
        negative: float32 (C,) loss weight of an output whose target is 0 (sigmoid only).
        exclusive: softmax over C (True), or a sigmoid for each of C.
        rates: float32 (G,) learning rates.
        decays: float32 (G,) L2 penalties: a half of each times the squared kernel joins the mean loss.
        batch_size: images per update.
        updates: number over which the learning rates fall to 0 in a straight line; 0 keeps them constant.
    """

    features: Float32
    targets: Float32
    scale: Float32
    shift: Float32
    positive: Float32
    negative: Float32
    exclusive: bool
    rates: Float32
    decays: Float32
    batch_size: int
    updates: int

    @property
    def outputs(self) -> int:
        """C."""
        return int(self.targets.shape[1])


class Trainee:
    """The heads of one job: weights, Adam's moments and work space.

    Attributes:
        kernel: float32 (D, G * C); the heads of the grid points stand side by side.
        bias: float32 (G * C,).
    """

    def __init__(self, course: Course, initial: Float32) -> None:
        """Start from one kernel (D, C) for all grid points and zero biases."""
        dim, outputs = initial.shape
        # The bias is the last row of the weights, so that Adam sees one array.
        self._weights = np.zeros((dim + 1, outputs * len(course.rates)), np.float32)
        self._weights[:dim] = np.tile(initial, len(course.rates))
        self.kernel, self.bias = self._weights[:dim], self._weights[dim]
        self._course = course
        self._moments = _Moments(self._weights.shape)
        self._gradient = np.empty_like(self._weights)
        self._inputs = np.empty((course.batch_size, dim), np.float32)
        self._rates = np.repeat(course.rates, outputs)
        self._decays = np.repeat(course.decays, outputs) if course.decays.any() else None
        self._updates = 0

    def learn(self, rows: Int64, kept: Float32) -> None:
        """Make one update.

        Args:
            rows: int64 (n,) rows of the batch, n at most the batch size.
            kept: float32 (batch size, D), 0 where a feature is dropped, else 1.
        """
        inputs = self._inputs[: len(rows)]
        np.take(self._course.features, rows, axis=0, out=inputs, mode="clip")
        inputs *= self._course.scale
        inputs += self._course.shift
        inputs *= kept[: len(rows)]
        slopes = self._slopes(inputs @ self.kernel + self.bias, rows)
        np.matmul(inputs.T, slopes, out=self._gradient[:-1])
        np.sum(slopes, axis=0, out=self._gradient[-1])
        self._update()

    def _slopes(self, logits: Float32, rows: Int64) -> Float32:
        """Derivative of the loss with respect to the logits, float32 (n, G * C).

        Keras averages a binary cross-entropy over outputs, then over images; a categorical one over images.
        """
        course = self._course
        targets = course.targets[rows]
        heads = logits.reshape(len(rows), -1, course.outputs)
        if course.exclusive:
            weights = (targets * course.positive).sum(1, keepdims=True)
        else:
            weights = targets * course.positive + (1 - targets) * course.negative
            weights /= np.float32(course.outputs)
        slopes = probabilities(heads, exclusive=course.exclusive)
        slopes -= targets[:, None]
        slopes *= (weights / np.float32(len(rows)))[:, None]
        return slopes.reshape(logits.shape)

    def _update(self) -> None:
        self._updates += 1
        factor = np.sqrt(1 - _BETA_2**self._updates) / (1 - _BETA_1**self._updates)
        if self._course.updates:
            factor *= 1 - (self._updates - 1) / self._course.updates
        self._moments.step(self._weights, self._gradient, self._rates * np.float32(factor), self._decays)


class _Moments:
    """Adam's two moments of one matrix."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._first = np.zeros(shape, np.float32)
        self._second = np.zeros(shape, np.float32)
        self._rows = max(1, _CACHED_VALUES // shape[1])
        self._scratch = np.empty((min(self._rows, shape[0]), shape[1]), np.float32)

    def step(self, weights: Float32, gradient: Float32, alphas: Float32, decays: Float32 | None) -> None:
        """Update weights in place, some rows at a time; the gradient is used up.

        The last row, the bias, is not penalised.
        """
        for start in range(0, len(weights), self._rows):
            part = slice(start, start + self._rows)
            first, second, slope = self._first[part], self._second[part], gradient[part]
            scratch = self._scratch[: len(first)]
            if decays is not None:
                kernel = weights[start : min(start + self._rows, len(weights) - 1)]
                slope[: len(kernel)] += np.multiply(kernel, decays, out=scratch[: len(kernel)])
            np.subtract(slope, first, out=scratch)
            scratch *= np.float32(1 - _BETA_1)
            first += scratch
            np.square(slope, out=slope)
            slope -= second
            slope *= np.float32(1 - _BETA_2)
            second += slope
            np.sqrt(second, out=slope)
            slope += _EPSILON
            np.divide(first, slope, out=scratch)
            scratch *= alphas
            weights[part] -= scratch


def probabilities(logits: Float32, *, exclusive: bool) -> Float32:
    """Softmax over the last axis, or a sigmoid of each, as a new float32 array of the same shape.

    Logits beyond ±80, where float32 has no other answer than 0 or 1, are cut there.
    """
    if exclusive:
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(exponents / exponents.sum(-1, keepdims=True), np.float32)
    exponents = np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    np.negative(exponents, out=exponents)
    np.exp(exponents, out=exponents)
    exponents += 1
    return np.asarray(np.reciprocal(exponents, out=exponents), np.float32)


def dropout_masks(seed: int, shape: tuple[int, int, int], rate: float) -> Float32:
    """Which features are kept, float32 of 0 and 1.

    Args:
        seed: of the random bits; the same seed and shape give the same masks everywhere.
        shape: (steps, batch size, D).
        rate: share that is dropped, resolved to 1/65536.
    """
    size = int(np.prod(shape))
    words = np.random.SFC64(seed).random_raw(-(-size // 4))
    bits: npt.NDArray[np.uint16] = np.asarray(words, "<u8").view("<u2")[:size]
    return (bits >= round(rate * 65536)).astype(np.float32).reshape(shape)
