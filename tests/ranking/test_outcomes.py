"""Outcomes survive the disk bit for bit, or are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import CacheDamaged
from benchmark.ranking import load_outcome, outcome_path, save_outcome
from benchmark.records import Engine, Precision, Predictions, Scored


def an_outcome() -> Scored:
    random = np.random.default_rng(0)
    predictions = Predictions(
        val_rows=np.arange(7),
        val=random.random((3, 7, 2), np.float32),
        val_thresholds=np.full((3, 7), 0.5),
        test_rows=np.arange(7, 9),
        test=random.random((2, 2), np.float32),
        test_threshold=0.25,
        val_smaller=random.random((3, 7, 2), np.float32),
        train_sizes=(4.5, 5.5, 7.0),
    )
    return Scored(
        backbone="ResNet50@random",
        family="resnet",
        source="keras",
        engine=Engine.OPENVINO,
        precision=Precision.BFLOAT16,
        predictions=predictions,
        val_history=random.random(5).astype(np.float32),
        chosen={"epoch": [1, 2], "median": {"epoch": 1.5}},
        notes=("a note",),
        baselines={"knn_f1": 0.5, "logme": math.nan},
    )


def test_an_outcome_comes_back_as_it_was(tmp_path: Path) -> None:
    outcome, path = an_outcome(), outcome_path(tmp_path, "ResNet50@../x", "0" * 64)
    assert path.parent == tmp_path, "a name cannot lead elsewhere"
    save_outcome(path, outcome)
    again = load_outcome(path)
    for name in ("val_rows", "val", "val_thresholds", "test_rows", "test", "val_smaller", "train_sizes"):
        np.testing.assert_array_equal(getattr(again.predictions, name), getattr(outcome.predictions, name))
    assert again.predictions.test_threshold == 0.25
    assert (again.engine, again.precision) == (Engine.OPENVINO, Precision.BFLOAT16)
    assert math.isnan(again.latency_ms)
    assert math.isnan(again.baselines["logme"])
    assert again.chosen == outcome.chosen
    assert again.notes == ("a note",)


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "x"
    save_outcome(path, an_outcome())
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(bytes(content))
    with pytest.raises(CacheDamaged, match="Delete it"):
        load_outcome(path)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_foreign_files_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("foreign") / "x"
    path.write_bytes(content)
    with pytest.raises(CacheDamaged):
        load_outcome(path)
