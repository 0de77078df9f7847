"""A small board with everything that real boards have: ties, failures, awkward text, missing numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.records import Leaderboard, Outcome, Predictions, Scored, Targets, Task
from benchmark.statistics import Interval, LearningCurve

sys.path.append(str(Path(__file__).resolve().parent))
IMAGES, VALIDATED, CLASSES = 60, 40, ("sound", "cracked")
Results = tuple[Leaderboard, tuple[Outcome, ...], Targets]


def scored_row(position: int, name: str) -> dict[str, object]:
    value = 0.97 - 0.004 * position
    return {
        "rank": position + 1,
        "backbone": name,
        "family": "mobilenet",
        "source": "keras",
        "status": "scored",
        "pick": "winner, best score" if position == 0 else "",
        "tie_group": 1 + position // 4,
        "val_f1": value + 1e-15,
        "val_f1_low": value - 0.03,
        "val_f1_high": value + 0.02,
        "test_f1": value - 0.01,
        "test_accuracy": value,
        "test_precision": value,
        "test_recall": value,
        "threshold": 0.5,
        "size_bytes": 1_000_000 * (position + 1) ** 2,
        "params": 250_000 * (position + 1) ** 2,
        "embedding_dim": 576,
        "input_size": 224,
        "images_per_second": 321.5,
        "latency_ms": math.nan,
        "embed_seconds": 1.5,
        "head_seconds": 0.25,
        "weights": "imagenet",
        "weights_sha256": "ab" * 32,
        "reason": "",
        "engine": "openvino",
        "fold_spread": 0.0125,
    }


def failed_row(name: str) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(scored_row(0, name), math.nan)
    whole = ("rank", "tie_group", "size_bytes", "params", "embedding_dim", "input_size")
    text = {
        "pick": "",
        "family": "vgg16",
        "source": "keras",
        "weights": "",
        "weights_sha256": "",
        "engine": "",
    }
    return (
        row
        | dict.fromkeys(whole)
        | text
        | {"family": "vgg16", "source": "keras"}
        | {"backbone": name, "status": "failed", "reason": "=1+1 | <b>no weights</b>"}
    )


def outcome(position: int, name: str) -> Scored:
    random = np.random.default_rng(position)
    return Scored(
        backbone=name,
        family="mobilenet",
        source="keras",
        predictions=Predictions(
            val_rows=np.arange(VALIDATED),
            val=random.random((3, VALIDATED, 1), np.float32),
            val_thresholds=np.full((3, VALIDATED), 0.5),
            test_rows=np.arange(VALIDATED, IMAGES),
            test=random.random((IMAGES - VALIDATED, 1), np.float32),
            test_threshold=0.5,
        ),
        val_history=np.linspace(0.5, 0.97, 20, dtype=np.float32),
    )


@pytest.fixture(scope="session")
def make_results() -> Callable[[int], Results]:
    def make(count: int) -> Results:
        names = [f"MobileNet_{position}" for position in range(count)]
        rows = [scored_row(position, name) for position, name in enumerate(names)] + [failed_row("VGG16")]
        board = Leaderboard(
            columns=tuple(rows[0]),
            rows=tuple(rows),
            winner="MobileNet_0",
            loss_bound=0.0213,
            statements=("Backbones | 1 to 4 cannot be told apart.",),
            notes=("Weights are <random>.",),
        )
        wanted = np.tile(np.array([[0.0], [1.0]], np.float32), (IMAGES // 2, 1))
        targets = Targets(targets=wanted, classes=CLASSES, task=Task.BINARY, positive=1)
        return board, tuple(outcome(position, name) for position, name in enumerate(names)), targets

    return make


@pytest.fixture
def results(make_results: Callable[[int], Results]) -> Results:
    return make_results(6)


@pytest.fixture(scope="session")
def learning() -> dict[str, LearningCurve]:
    """Learning curves of two backbones that tell."""

    def ends(value: float) -> Interval:
        return Interval(value=value, low=value - 0.03, high=min(value + 0.02, 1.0))

    return {
        name: LearningCurve(
            measured={images: ends(1 - error * (images / 320) ** -0.4) for images in (40, 80, 160, 320)},
            images=640,
            predicted=ends(1 - 0.8 * error),
            gain=Interval(value=0.2 * error, low=0.001, high=0.4 * error),
            is_telling=True,
        )
        for name, error in (("=MobileNet_0", 0.03), ("MobileNet_1", 0.05))
    }
