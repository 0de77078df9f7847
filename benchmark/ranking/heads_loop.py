"""The compiled training loop of heads: many heads at once, one step per batch.

This module imports TensorFlow; import it where heads are trained, not before.

Shapes: F jobs (fold, repeat, final head), G grid points per job, C outputs, D features, S steps, B images per
batch. The grid points of a job share its batches and dropout masks, so the batch is gathered once per job and
multiplied with all its heads. Every dimension is dynamic: the loop is traced once per process, whatever the
backbone.

Adam as in Kingma and Ba, "Adam: a method for stochastic optimization", 2015, with the form and the constants
of Keras; weight decay is decoupled (Loshchilov and Hutter, 2019), of the kernel alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from benchmark.records import Float32

Tensor: TypeAlias = Any
"""A tf.Tensor; where the compiled functions are called, a NumPy array will do."""

_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-7


class Data(NamedTuple):
    """What all jobs share: features float32 (N, D), targets float32 (N, C)."""

    features: Tensor
    targets: Tensor


class JobTable(NamedTuple):
    """What one job has: constants of an epoch.

    Attributes:
        rows: int32 (F, S, B) rows of ``Data`` per step; padding is row 0.
        mask: float32 (F, S, B), 1 for an image, 0 for padding.
        scale: float32 (F, 1, D) standardisation, with the dropout's 1 / (1 - rate) inside.
        shift: float32 (F, 1, D), so that the input of the dense layer is ``features * scale + shift``.
        positive: float32 (F, C) loss weight of an output whose target is 1.
        negative: float32 (F, C) loss weight of an output whose target is 0 (sigmoid only).
        rates: float32 (F, G) learning rates.
        decays: float32 (F, G) weight decays.
    """

    rows: Tensor
    mask: Tensor
    scale: Tensor
    shift: Tensor
    positive: Tensor
    negative: Tensor
    rates: Tensor
    decays: Tensor


class Rule(NamedTuple):
    """What holds for every job of the call.

    Attributes:
        exclusive: bool scalar; True: softmax over C, False: a sigmoid for each of C.
        drop_below: int32 scalar; a feature is dropped where 16 random bits are below it.
        seed: int32 scalar of this epoch's dropout masks.
    """

    exclusive: Tensor
    drop_below: Tensor
    seed: Tensor


class State(NamedTuple):
    """Weights and Adam's moments; the heads of a job stand side by side in the last axis, G * C.

    Attributes:
        kernel: float32 (F, D, G * C), with its moments ``kernel_m`` and ``kernel_v``.
        bias: float32 (F, G * C), with its moments ``bias_m`` and ``bias_v``.
        updates: float32 (F,) updates made so far.
    """

    kernel: Tensor
    kernel_m: Tensor
    kernel_v: Tensor
    bias: Tensor
    bias_m: Tensor
    bias_v: Tensor
    updates: Tensor


def _floats(*shape: int | None) -> Tensor:
    return tf.TensorSpec(shape, tf.float32)


def _flag(kind: Tensor) -> Tensor:
    return tf.TensorSpec((), kind)


_ANY1, _ANY2, _ANY3 = (None,), (None, None), (None, None, None)
_DATA = Data(_floats(*_ANY2), _floats(*_ANY2))
_RULE = Rule(_flag(tf.bool), _flag(tf.int32), _flag(tf.int32))
_MANY, _FEW = _floats(*_ANY3), _floats(*_ANY2)
_STATE = State(_MANY, _MANY, _MANY, _FEW, _FEW, _FEW, _floats(*_ANY1))
_TABLE = JobTable(
    tf.TensorSpec(_ANY3, tf.int32),
    _floats(*_ANY3),
    _floats(None, 1, None),
    _floats(None, 1, None),
    *[_floats(*_ANY2)] * 4,
)


@tf.function(input_signature=[_DATA, _TABLE, _RULE, _STATE])  # type: ignore[untyped-decorator]
def train_epoch(data: Data, table: JobTable, rule: Rule, state: State) -> State:
    """Run the S steps of one epoch for every head and return the new state."""
    steps = tf.shape(table.rows)[1]

    def body(step: Tensor, current: State) -> tuple[Tensor, State]:
        return step + 1, _update(data, table, rule, current, step)

    _, trained = tf.while_loop(lambda step, _: step < steps, body, (0, state), parallel_iterations=1)
    return State(*trained)


def _update(data: Data, table: JobTable, rule: Rule, state: State, step: Tensor) -> State:
    """One Adam update of every job that still has a batch in this step."""
    rows, mask = table.rows[:, step], table.mask[:, step]
    inputs = tf.gather(data.features, rows) * table.scale + table.shift
    inputs = tf.where(_kept(tf.shape(inputs)[1:], rule, step), inputs, 0.0)
    targets = tf.gather(data.targets, rows)
    logits = tf.matmul(inputs, state.kernel) + state.bias[:, None]
    slopes = _slopes(logits, targets, _loss_weights(targets, mask, table, rule), rule)
    gradients = tf.matmul(inputs, slopes, transpose_a=True), tf.reduce_sum(slopes, 1)
    return _adam(state, gradients, table, tf.reduce_max(mask, 1))


def _kept(shape: Tensor, rule: Rule, step: Tensor) -> Tensor:
    """Dropout's mask of this step, bool (B, D), the same for every job: their images differ."""
    size = tf.reduce_prod(shape)
    seed = tf.stack([rule.seed, step])
    length = tf.expand_dims((size + 1) // 2, 0)
    # Without bounds, all bits of an integer are random; each gives two features 16 of them.
    words = tf.random.stateless_uniform(length, seed, None, None, tf.uint32)  # type: ignore[arg-type]
    bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    return tf.reshape(tf.cast(bits, tf.int32) >= rule.drop_below, shape)


def _loss_weights(targets: Tensor, mask: Tensor, table: JobTable, rule: Rule) -> Tensor:
    """Weight of each output's error, float32 (F, B, C): class weight over the size of the batch.

    Keras averages a binary cross-entropy over outputs, then over images; a categorical one over images.
    """
    images = tf.maximum(tf.reduce_sum(mask, 1), 1.0)[:, None, None]
    positive = targets * table.positive[:, None]
    both = (positive + (1.0 - targets) * table.negative[:, None]) / tf.cast(tf.shape(targets)[2], tf.float32)
    each = tf.where(rule.exclusive, tf.reduce_sum(positive, 2, keepdims=True), both)
    return each * mask[:, :, None] / images


def _slopes(logits: Tensor, targets: Tensor, weights: Tensor, rule: Rule) -> Tensor:
    """Derivative of the loss with respect to the logits, float32 (F, B, G * C)."""
    shape = tf.shape(targets)
    split = tf.reshape(logits, [shape[0], shape[1], -1, shape[2]])
    probabilities = tf.where(rule.exclusive, tf.nn.softmax(split), tf.nn.sigmoid(split))
    return tf.reshape((probabilities - targets[:, :, None]) * weights[:, :, None], tf.shape(logits))


def _adam(state: State, gradients: tuple[Tensor, Tensor], table: JobTable, active: Tensor) -> State:
    """Adam's update; a job without a batch in this step (``active`` 0) stays as it is."""
    updates = state.updates + active
    outputs = tf.shape(state.bias)[1] // tf.shape(table.rates)[1]
    counted = tf.maximum(updates, 1.0)
    correction = active * tf.sqrt(1.0 - _BETA_2**counted) / (1.0 - _BETA_1**counted)
    alpha = tf.repeat(table.rates * correction[:, None], outputs, axis=1)
    shrink = tf.repeat(1.0 - table.rates * table.decays * active[:, None], outputs, axis=1)
    share_1, share_2 = (1.0 - _BETA_1) * active[:, None], (1.0 - _BETA_2) * active[:, None]
    kernel_slope, bias_slope = gradients
    kernel_m = state.kernel_m + (kernel_slope - state.kernel_m) * share_1[:, None]
    kernel_v = state.kernel_v + (tf.square(kernel_slope) - state.kernel_v) * share_2[:, None]
    bias_m = state.bias_m + (bias_slope - state.bias_m) * share_1
    bias_v = state.bias_v + (tf.square(bias_slope) - state.bias_v) * share_2
    kernel = state.kernel * shrink[:, None] - kernel_m * alpha[:, None] / (tf.sqrt(kernel_v) + _EPSILON)
    bias = state.bias - bias_m * alpha / (tf.sqrt(bias_v) + _EPSILON)
    return State(kernel, kernel_m, kernel_v, bias, bias_m, bias_v, updates)


@tf.function(  # type: ignore[untyped-decorator]
    input_signature=[
        _floats(*_ANY2),
        tf.TensorSpec(_ANY2, tf.int32),
        _floats(*_ANY3),
        _floats(*_ANY2),
        tf.TensorSpec((), tf.int32),
        _flag(tf.bool),
    ]
)
def predict(
    features: Tensor, rows: Tensor, kernel: Tensor, bias: Tensor, outputs: Tensor, exclusive: Tensor
) -> Tensor:
    """Probabilities of every head on its job's rows, without dropout.

    Args:
        features: float32 (N, D).
        rows: int32 (F, V).
        kernel: float32 (F, D, G * C), with the job's standardisation folded in.
        bias: float32 (F, G * C), likewise.
        outputs: C.
        exclusive: softmax (True) or sigmoid.

    Returns:
        float32 (F, V, G, C).
    """
    logits = tf.matmul(tf.gather(features, rows), kernel) + bias[:, None]
    shape = tf.shape(rows)
    split = tf.reshape(logits, [shape[0], shape[1], -1, outputs])
    return tf.where(exclusive, tf.nn.softmax(split), tf.nn.sigmoid(split))


def as_data(features: Float32, targets: Float32) -> Data:
    """Arrays as tensors, converted once for all epochs.

    Args:
        features: float32 (N, D). Without a GPU an aligned array is shared, not copied: leave it unchanged.
        targets: float32 (N, C).
    """
    shared = not tf.config.list_physical_devices("GPU") and features.ctypes.data % 64 == 0
    if shared and features.flags.c_contiguous and features.flags.writeable:
        return Data(tf.experimental.dlpack.from_dlpack(features.__dlpack__()), tf.constant(targets))
    return Data(tf.constant(features), tf.constant(targets))
