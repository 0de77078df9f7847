"""Training the heads of one backbone against one ``Model.fit`` per head."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np

from benchmark.heads import train_heads
from benchmark.records import Embeddings, Float32, HeadProtocol, Split, Targets, Task
from tests.perf.children import call_child
from tests.perf.figures import Figure, Target, Unit
from tests.perf.setting import Setting

_TARGET = Target(at_least=100.0)
# Of a fold's training part, the share that trains while the rest chooses; heads and ``fit`` see as many rows.
_OUTER, _INNER = 4 / 5, 4 / 5


def measure(setting: Setting) -> Iterator[Figure]:
    """Seconds per head, choosing and refitting on our side included."""
    argument = {
        "images": setting.pick(500, 500, 100),
        "dim": setting.pick(1280, 1280, 64),
        "pairs": setting.rounds(5, 3),
    }
    found = call_child(compare, argument, setting.log)
    note = (
        f"{found['heads']} heads in {found['seconds']:.2f} s, on one thread; epoch and F1 on held-out rows "
        "after every epoch, refitting and scoring included"
    )
    work = f"heads of a backbone, 15 folds x 10 grid points, N = {argument['images']}, D = {argument['dim']}"
    against = "Model.fit, 20 epochs, per head"
    yield Figure.of_pairs((f"{work}, per head", against), Unit.SECONDS, found["pairs"], _TARGET, note)
    names = (f"{work}, per head", "Model.fit with validation_data, per head")
    yield Figure.of_pairs(names, Unit.SECONDS, found["validated"], None, "the same work on both sides")


def compare(argument: dict[str, int]) -> dict[str, Any]:
    """Train all heads and one Keras head in turn.

    Args:
        argument: ``images`` N, ``dim`` D, ``pairs``.

    Returns:
        ``pairs`` and ``validated`` pairs of seconds per head, ``heads``, ``seconds`` for all of ours.
    """
    features, labels = drawn(argument["images"], argument["dim"])
    targets = Targets(targets=labels, classes=("no", "yes"), task=Task.BINARY, positive=1)
    ids = tuple(f"{row:064x}" for row in range(len(features)))
    nothing = np.zeros(0, np.int64)
    split = Split(train=np.arange(len(features)), val=nothing, test=nothing, given=False)
    protocol = HeadProtocol()
    heads = protocol.folds * protocol.repeats * len(protocol.learning_rates) * len(protocol.weight_decays)
    embeddings = Embeddings(image_ids=ids, features=features)
    rows = round(len(features) * _OUTER * _INNER)

    def ours() -> float:
        return seconds_of(lambda: train_heads(embeddings, targets, split, protocol))

    keras_seconds(features, labels, rows, protocol, validated=True)
    pairs, validated = [], []
    for _ in range(argument["pairs"]):
        per_head = ours() / heads
        pairs.append((per_head, keras_seconds(features, labels, rows, protocol, validated=False)))
        validated.append((per_head, keras_seconds(features, labels, rows, protocol, validated=True)))
    seconds = median(each for each, _ in pairs) * heads
    return {"pairs": pairs, "validated": validated, "heads": heads, "seconds": seconds}


def drawn(count: int, dim: int) -> tuple[Float32, Float32]:
    """Embeddings float32 (N, D) of two classes that overlap, and labels float32 (N, 1)."""
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.float32)[:, None]
    shift = rng.standard_normal(dim).astype(np.float32) * 0.1
    return rng.standard_normal((count, dim)).astype(np.float32) + labels * shift, labels


def keras_seconds(
    features: Float32, labels: Float32, rows: int, protocol: HeadProtocol, *, validated: bool
) -> float:
    """One head the straightforward way: ``fit`` on the first rows, a new model each time."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((features.shape[1],)),
            keras.layers.Dropout(protocol.dropout),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["accuracy"])
    held_out = (features[rows:], labels[rows:]) if validated else None
    return seconds_of(
        lambda: model.fit(
            features[:rows],
            labels[:rows],
            epochs=protocol.epochs,
            batch_size=protocol.batch_size,
            validation_data=held_out,
            verbose=0,
        )
    )


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
