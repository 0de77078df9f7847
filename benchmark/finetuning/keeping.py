"""Which checkpoint of a run is the model: NumPy only.

Recipes that start from a random head keep the best validation F1. Those that start from the board's head
already have a good model, and the best of many epochs looks better than it is: such a checkpoint is kept
only where the lower 95 % bound of its gain in F1 over the board's head, paired on the validation images, is
above 0. The bound is that of all epochs of the phase together (``statistics.gains``). Of two such phases the
one with the higher F1 is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmark.finetuning.progress import Progress
from benchmark.finetuning.scoring import beats
from benchmark.records import Bool
from benchmark.statistics import Assessment, ErrorCounts, Interval, Pairs, Sample, gains

_BOARD = "before"
_NAMES = {"phase1": "phase 1", "phase2": "phase 2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training left in the network."""

    kept: str  # ``phase1`` or ``phase2``, whose best checkpoint the network holds; ``before``: as it started
    threshold: float  # of its decisions
    note: str  # why that one
    gains: dict[str, object] = field(default_factory=dict)  # phase -> what ``metrics.json`` says


def choose(progress: Progress) -> Trained:
    """Which phase's best checkpoint is the model: phase 2's when it beats phase 1's on validation."""
    first, second = progress.best.get("phase1"), progress.best.get("phase2")
    if second is None or (first is not None and not beats(second, first)):
        assert first is not None, "a recipe trains in one phase at least"
        note = "Phase 2 was left out: phase 1's model is kept."
        if second is not None:
            note = (
                f"Phase 2 did not beat phase 1 on validation (F1 {second['f1']:.4f}, loss "
                f"{second['loss']:.4f} against F1 {first['f1']:.4f}, loss {first['loss']:.4f}): "
                "phase 1's model is kept."
            )
        return Trained(kept="phase1", threshold=first["threshold"], note=note)
    note = f"Phase 2's model is kept ({best_text(progress, 'phase2')}"
    if first:
        note += f"; phase 1: {best_text(progress, 'phase1')}"
        note += "; the lower loss decided" if first["f1"] == second["f1"] else ""
    note += ")."
    return Trained(kept="phase2", threshold=second["threshold"], note=note)


def best_text(progress: Progress, key: str) -> str:
    """The best checkpoint of a phase in words."""
    best = progress.best[key]
    return f"best validation F1 {best['f1']:.4f} in epoch {int(best['epoch'])}"


def too_few(sample: Sample) -> str:
    """Why nothing can be shown to be better on these validation images, before any training; else empty."""
    if sample.fewest_units >= Assessment.FEWEST_PER_CLASS:
        return ""
    fewest = f"{sample.fewest_units} validation images (or groups) of a class"
    return f"{fewest} are too few to show that anything is better"


def choose_against_board(progress: Progress, sample: Sample) -> Trained:
    """The model before training, unless a phase is shown to be better.

    Args:
        progress: a finished run, ``decided`` of every epoch.
        sample: the validation images.
    """
    threshold = progress.best[_BOARD]["threshold"]
    reason = too_few(sample)
    if reason:
        nothing: dict[str, object] = {**dict.fromkeys(_NAMES), "reason": reason}
        note = f"The board's head is kept: {reason}, so nothing was trained."
        return Trained(kept=_BOARD, threshold=threshold, note=note, gains=nothing)
    decided = [_unpacked(packed, sample) for packed in progress.decided]
    found = {}
    for number, key in enumerate(_NAMES, start=1):
        epochs = [row["epoch"] for row in progress.history if row["phase"] == number]
        if epochs:
            best = epochs.index(progress.best[key]["epoch"])
            of_phase = [decided[0], *(decided[int(epoch)] for epoch in epochs)]
            found[key] = _gain(sample, of_phase, 1 + best)
    better = [key for key, gain in found.items() if gain.low > 0]
    # Of equals the one that trained less: it comes first.
    kept = max(better, key=lambda key: found[key].value, default=_BOARD)
    if not found:
        return Trained(kept=_BOARD, threshold=threshold, note="The board's head is kept: no epoch ended.")
    told = ", ".join(
        f"{_NAMES[key]} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for key, gain in found.items()
    )
    who = f"{_NAMES[kept].capitalize()} is kept" if better else "The board's head is kept"
    why = "" if better else "; nothing is sure to be above 0"
    note = (
        f"{who}: gains in validation F1 over the board's head: {told} (95 % bounds, paired, "
        f"all epochs of a phase together{why})."
    )
    gains_of: dict[str, object] = {key: _record(gain) for key, gain in found.items()}
    return Trained(kept=kept, threshold=progress.best[kept]["threshold"], note=note, gains=gains_of)


def _record(gain: Interval) -> dict[str, object]:
    return {"f1": gain.value, "f1_low": gain.low, "f1_high": gain.high, "better": gain.low > 0}


def _gain(sample: Sample, decided: Sequence[Bool], which: int) -> Interval:
    """What one of several gains over the first."""
    pairs = Pairs.of(sample, [ErrorCounts.of(each[None], sample) for each in decided])
    value, low, high = gains(pairs)[which].tolist()
    return Interval(value=value, low=low, high=high)


def _unpacked(packed: np.ndarray, sample: Sample) -> Bool:
    shape = sample.targets.shape
    return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(bool)
