"""How close an export stays to the Keras model: figures and a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmark.deployment.targets import Tolerance
from benchmark.records import Average, Float32, Task
from benchmark.statistics import decide, default_average, f1

_SAME = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """An export against the Keras model on the same validation images."""

    images: int  # number that was compared
    max_difference: float  # of a probability, absolute
    mean_difference: float
    label_agreement: float  # share of images with the same decision
    f1_before: float  # of the Keras model, averaged as in fine-tuning
    f1_after: float  # of the export


def compare(
    before: Float32,
    after: Float32,
    targets: Float32,
    task: Task,
    threshold: float,
    average: Average | None = None,
) -> Parity:
    """Compare the probabilities of the Keras model and of the export, (N, C), with targets of 0 and 1."""
    difference = np.abs(before.astype(np.float64) - after)
    decided_before, decided_after = (decide(p, threshold, task) for p in (before, after))
    average = default_average(task, average)
    return Parity(
        images=len(before),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        label_agreement=float((decided_before == decided_after).all(-1).mean()),
        f1_before=float(f1(decided_before, targets, average)),
        f1_after=float(f1(decided_after, targets, average)),
    )


def verdict(parity: Parity, tolerance: Tolerance) -> str:
    """Why an export is outside its tolerance, or an empty string when it is inside."""
    return "; ".join(_violations(parity, tolerance))


def on_the_bound(parity: Parity, tolerance: Tolerance) -> tuple[str, ...]:
    """What passes with nothing to spare: one image more, and it would not."""
    lost = parity.f1_before - parity.f1_after
    held = {
        "label agreement": (parity.label_agreement, tolerance.label_agreement, tolerance.label_agreement < 1),
        "F1 lost": (lost, tolerance.f1_loss, tolerance.f1_loss > 0),
    }
    return tuple(
        f"{name} stands exactly on the tolerance, {bound:g}, on {parity.images} images"
        for name, (found, bound, can) in held.items()
        if can and abs(found - bound) <= _SAME
    )


def _violations(parity: Parity, tolerance: Tolerance) -> Iterator[str]:
    # Written as "not (figure within bound)", so that NaN is a violation.
    if not parity.max_difference <= tolerance.max_difference:
        yield f"largest difference {parity.max_difference:.3g}, at most {tolerance.max_difference:g}"
    if not parity.mean_difference <= tolerance.mean_difference:
        yield f"mean difference {parity.mean_difference:.3g}, at most {tolerance.mean_difference:g}"
    if not parity.label_agreement >= tolerance.label_agreement:
        yield (
            f"{parity.label_agreement:.2%} of {parity.images} images keep their label, "
            f"{tolerance.label_agreement:.2%} must"
        )
    lost = parity.f1_before - parity.f1_after
    if not lost <= tolerance.f1_loss + _SAME:
        yield (
            f"F1 falls from {parity.f1_before:.4f} to {parity.f1_after:.4f}, by {lost:.4f}; "
            f"at most {tolerance.f1_loss:.4f} may be lost"
        )
