from __future__ import annotations

import numpy as np
import pytest

from benchmark.deployment.parity import Parity, compare, on_the_bound, verdict
from benchmark.deployment.samples import SplitRow, stratified
from benchmark.deployment.targets import EXACT, ROUNDED, Tolerance
from benchmark.records import Task


def parity(**figures: float) -> Parity:
    fields = {
        "images": 100,
        "max_difference": 0.0,
        "mean_difference": 0.0,
        "label_agreement": 1.0,
        "f1_before": 0.9,
        "f1_after": 0.9,
    }
    return Parity(**{**fields, **figures})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"max_difference": 0.5}, "largest"),
        ({"mean_difference": 0.5}, "mean"),
        ({"label_agreement": 0.5}, "50.00% of 100 images keep their label"),
        ({"f1_after": 0.87}, "F1 falls from 0.9000 to 0.8700, by 0.0300; at most 0.0100"),
        ({"max_difference": float("nan")}, "largest"),
        ({"mean_difference": float("nan")}, "mean"),
        ({"f1_after": float("nan")}, "F1"),
    ],
)
def test_each_figure_can_fail_the_gate(figures: dict[str, float], reason: str) -> None:
    tolerance = Tolerance(max_difference=0.1, mean_difference=0.1, label_agreement=0.9, f1_loss=0.01)
    assert reason in verdict(parity(**figures), tolerance)


def test_a_better_f1_and_the_bounds_themselves_pass() -> None:
    assert not verdict(parity(f1_after=0.99, max_difference=1e-3, mean_difference=1e-4), EXACT)
    assert not verdict(parity(f1_before=0.95, f1_after=0.94), Tolerance(f1_loss=0.01))


def test_what_stands_exactly_on_the_tolerance_reads_so() -> None:
    bound = parity(label_agreement=np.mean([True] * 95 + [False] * 5), f1_before=0.95, f1_after=0.94)
    assert not verdict(bound, ROUNDED)
    assert on_the_bound(bound, ROUNDED) == (
        "label agreement stands exactly on the tolerance, 0.95, on 100 images",
        "F1 lost stands exactly on the tolerance, 0.01, on 100 images",
    )
    assert on_the_bound(parity(label_agreement=0.96), ROUNDED) == ()
    assert on_the_bound(parity(), EXACT) == (), "all of all is no bound that a figure could pass"


def test_compare_counts_naively() -> None:
    before = np.array([[0.9], [0.6], [0.4], [0.1]], np.float32)
    after = np.array([[0.8], [0.4], [0.4], [0.1]], np.float32)
    targets = np.array([[1], [1], [0], [0]], np.float32)
    figures = compare(before, after, targets, Task.BINARY, 0.5)
    assert figures.max_difference == pytest.approx(0.2, abs=1e-6)
    assert figures.mean_difference == pytest.approx(0.075, abs=1e-6)
    assert figures.label_agreement == 0.75
    assert (figures.f1_before, figures.f1_after) == (1.0, pytest.approx(2 / 3))


def test_samples_are_stratified_and_stable() -> None:
    rows = tuple(
        SplitRow(path=f"{n}", image_id=f"{n}", label="rare" if n % 10 == 0 else "common", part="train")
        for n in range(200)
    )
    chosen = stratified(rows, 50, 0)
    assert len(chosen) == len(set(chosen)) == 50
    assert sum(row.label == "rare" for row in chosen) == 5
    assert chosen == stratified(rows, 50, 0)
    assert chosen != stratified(rows, 50, 1)
    assert stratified(rows, 0, 0) == rows
    assert {row.label for row in stratified(rows, 2, 0)} == {"rare", "common"}
