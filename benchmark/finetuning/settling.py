"""What is settled when training is over: a temperature, folded into the head, and when to say "unsure".

Both are found on probabilities of images that trained nothing (validation, or a board's out-of-fold ones) and
judged on the test part, which chose neither. The temperature divides the last layer's weights, so that the
saved model and every export have it without further work; decisions stay as they are. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmark.finetuning.scoring import Scoring, cross_entropy
from benchmark.finetuning.untyped import Layer
from benchmark.heads import FinalHead
from benchmark.records import (
    AbstentionKind,
    AbstentionRule,
    Bool,
    Float32,
    Float64,
    ImageSet,
    Int64,
    Task,
    ThresholdKind,
    ThresholdRule,
)
from benchmark.statistics import (
    Abstention,
    Calibration,
    Interval,
    abstention,
    calibration,
    cross_tempered,
    decide,
    fit_temperature,
    metric_intervals,
    selective,
    sureness,
    tempered,
    tempered_threshold,
)

_ROUNDING = 1e-5  # more than an exact export changes in a probability


def fold_temperature(last: Layer, temperature: float) -> None:
    """Divide a dense layer's kernel and bias, whose outputs are logits."""
    kernel, bias = last.get_weights()
    last.set_weights([kernel / temperature, bias / temperature])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempering:
    """A temperature, and what it does to probabilities and thresholds."""

    task: Task
    temperature: float

    @classmethod
    def found(cls, probabilities: Float32, targets: Float32, task: Task) -> Tempering:
        """The temperature that fits (..., N, C) probabilities to (N, C) targets."""
        return cls(task=task, temperature=fit_temperature(probabilities, targets, task))

    def probabilities(self, before: Float32) -> Float32:
        """What the model says after its head was divided, as far as probabilities before can tell."""
        return tempered(before, self.task, self.temperature)

    def threshold(self, before: float) -> float:
        """The threshold that decides as the one before did, but for rounding."""
        return before if self.task is Task.MULTICLASS else float(tempered_threshold(before, self.temperature))

    def head(self, before: FinalHead) -> FinalHead:
        """The head of a frozen backbone with the temperature."""
        return replace(
            before,
            kernel=before.kernel / np.float32(self.temperature),
            bias=before.bias / np.float32(self.temperature),
            threshold=self.threshold(before.threshold),
        )

    def exact_threshold(self, before: float, raw: Float32, final: Float32) -> float:
        """The same, moved as little as it takes to decide so on images (n, C), and off their probabilities.

        An exported model's rounding would otherwise decide an image that stands on the threshold.
        """
        after = self.threshold(before)
        if self.task is Task.MULTICLASS:
            return after
        yes = decide(raw, before, self.task)
        least = float(final[yes].min(initial=1.0))
        most = float(final[~yes].max(initial=0.0))
        if not yes.any():
            return after
        room = min(_ROUNDING, (least - most) / 2)
        moved = min(max(after, most + room), least - room)
        return moved if most < moved else least


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Temperature and abstention of a model, and what they are worth.

    Attributes:
        temperature: that the logits were divided by.
        wished: what the threshold is to reach.
        threshold: of the decisions.
        rule: what the abstention is to reach.
        chosen: the abstention, on validation images.
        judged: the same on the part that judges: test, or validation (which flatters) without one.
        part: that part.
        reached: metrics of the decisions there, with their intervals.
        before: calibration on it without the temperature.
        after: calibration with it; on validation each image with a temperature of others.
        losses: mean cross-entropy in nats, likewise without and with it.
    """

    temperature: float
    wished: ThresholdRule
    threshold: float
    rule: AbstentionRule
    chosen: Abstention
    judged: Abstention
    part: str
    reached: Mapping[str, Interval]
    before: Calibration
    after: Calibration
    losses: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """What ``metrics.json`` says of it."""
        return {
            "calibration": {
                "temperature": self.temperature,
                "part": self.part,
                "loss_before": self.losses[0],
                "loss_after": self.losses[1],
                "before": asdict(self.before),
                "after": asdict(self.after),
            },
            "abstention": {
                "rule": str(self.rule),
                "sure_from": self.chosen.sure_from,
                "promised": self.chosen.promised,
                "part": self.part,
                "answered": _known(self.judged.answered),
                "error": _known(self.judged.error),
            },
            "reached": {
                "part": self.part,
                **{name: _known(found) for name, found in self.reached.items()},
            },
        }

    def notes(self) -> tuple[str, ...]:
        """The same in words."""
        before, after = self.before, self.after
        calibrated = (
            f"Temperature {self.temperature:.2f}: calibration error {before.error:.3f} before, "
            f"{after.error:.3f} after on the {self.part} part; perfect probabilities stay below "
            f"{after.by_chance:.3f} there."
        )
        return *self._about_threshold(), calibrated, *self._about_abstention()

    def _about_threshold(self) -> tuple[str, ...]:
        """What a threshold that was to reach something on validation images reaches on others."""
        if self.wished.kind not in (ThresholdKind.RECALL, ThresholdKind.PRECISION):
            return ()
        precision, recall = self.reached["precision"], self.reached["recall"]
        return (
            f"Threshold {self.threshold:.4g}, chosen for a {self.wished.kind} of {self.wished.value:g} on "
            f"validation images, reaches recall {recall.value:.3f} [{recall.low:.3f}, {recall.high:.3f}] and "
            f"precision {precision.value:.3f} [{precision.low:.3f}, {precision.high:.3f}] on the {self.part} "
            "part.",
        )

    def _about_abstention(self) -> tuple[str, ...]:
        rule, cut, judged = self.rule, self.chosen.sure_from, self.judged
        if rule.kind is AbstentionKind.NONE:
            return ()
        wrong = judged.error
        reached = f"none of the {self.part} part is answered"
        if judged.answered.value:
            reached = (
                f"{judged.answered.value:.0%} of the {self.part} part is answered, {wrong.value:.1%} of the "
                f"answers are wrong [{wrong.low:.1%}, {wrong.high:.1%}]"
            )
        if not cut:
            return (f"Nothing needs to be called unsure: {reached}.",)
        told = f"Answers below a probability of {cut:.3f} are unsure: {reached}."
        if rule.kind is AbstentionKind.ERROR and not self.chosen.promised:
            told += (
                f" Nothing can promise at most {rule.value:.0%} wrong answers on so few images, or with so "
                "many mistakes: the limit is where the probabilities expect them."
            )
        return (told,)


def _known(share: Interval) -> dict[str, float | None]:
    """An interval for strict JSON, which has no nan."""
    return {name: None if np.isnan(value) else value for name, value in asdict(share).items()}


def settle(
    scoring: Scoring,
    images: ImageSet,
    rule: AbstentionRule,
    tempering: Tempering,
    threshold: float,
    raw: Mapping[str, Float32],
    final: Mapping[str, Float32],
    seed: int,
) -> Settled:
    """Find the abstention of a tempered model, and judge it and the temperature.

    Args:
        scoring: how probabilities become decisions.
        images: the data set.
        rule: what the abstention is to reach.
        tempering: already folded into the model.
        threshold: of the decisions, after that.
        raw: ``val``, and ``test`` where there is one -> probabilities (n, C) before the temperature.
        final: the same after it.
        seed: of the draws.
    """
    targets, task = images.head_targets(), images.task

    def groups(part: str) -> Int64 | None:
        return None if images.groups is None else images.groups[getattr(images.split, part)]

    def judged(part: str) -> tuple[Float64, Bool]:
        decided = scoring.decided(final[part], threshold)
        right = (decided == (targets[getattr(images.split, part)] > 0.5)).all(-1)
        return sureness(final[part], threshold, task), right

    chosen = abstention(*judged("val"), rule, groups("val"), seed=seed)
    part = "test" if "test" in final else "val"
    wanted, related = targets[getattr(images.split, part)], groups(part)
    after = final[part]
    if part == "val":
        after = cross_tempered(raw[part], wanted, task, related, seed=seed)
    decided = scoring.decided(final[part], threshold)
    return Settled(
        temperature=tempering.temperature,
        wished=ThresholdRule() if task is Task.MULTICLASS else scoring.rule,
        threshold=threshold,
        reached=metric_intervals(decided, wanted, scoring.average, related, seed=seed),
        rule=rule,
        chosen=chosen,
        judged=selective(*judged(part), chosen.sure_from, related, seed=seed),
        part=part,
        before=calibration(raw[part], wanted, task, related, seed=seed),
        after=calibration(after, wanted, task, related, seed=seed),
        losses=(cross_entropy(raw[part], wanted, task), cross_entropy(after, wanted, task)),
    )
