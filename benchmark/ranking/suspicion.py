"""Which labels look wrong, and which images are hard, from probabilities of heads that did not see them.

Confident learning (Northcutt, Jiang, Chuang. JAIR 70, 2021): a class's threshold is the mean probability that
a backbone gives it on the images labelled so; the class of highest probability at or above its threshold is
the one that the backbone is confident of. Where that is not the label, it denies the label. Listed is what
most backbones deny, and by score what else could be among the wrong labels (pruning by noise rate).

Denials alone prove nothing, as honest mistakes are denials, too. But honest mistakes fade the surer the
backbones are, and wrong labels do not: among the images that are seen most clearly, a share w of wrong labels
is denied with frequency w. With q the geometric mean of the backbones' probabilities, calibrated by one
temperature 1 / c, and h = 1 - max q^c / sum q^c the probability of an honest mistake,

    P(denied) = h + w (1 - h C / (C - 1))

for C classes, h never below one in all images. w is the estimate, its interval the profile likelihood's.
Labels stand out where w = 0 is rejected, the denials of one group counted as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import ArgumentError
from benchmark.records import Bool, Float64, Int64, Scored, Targets, Task
from benchmark.statistics import scored_class_names

# 99 % of chi-square with one degree of freedom halved at zero, since a share is not negative.
_STANDS_OUT = 5.41
_INTERVAL = 3.84
_SHARES = np.concatenate([[0.0], np.geomspace(0.0005, 0.49, 60)])
_SHARPNESS = np.geomspace(0.05, 20, 60)
_BINS_PER_UNIT = 20
_SMALLEST = 1e-6
_HARDEST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspiciousLabel:
    """A label that looks wrong."""

    row: int  # position of the image in the ImageSet
    label: str  # the class that it has; for multi-label one class or ``not`` that class
    suggested: str  # the class that most who deny it are confident of, else the most probable other one
    denied_by: tuple[str, ...]  # names of the backbones that deny the label confidently
    score: float  # -1 to 1: mean over the good backbones of the highest other probability less the label's


@dataclass(frozen=True, slots=True, kw_only=True)
class HardImage:
    """An image whose label gets little probability."""

    row: int  # position of the image in the ImageSet
    label: str  # the class that it has; for multi-label one class or ``not`` that class
    probability: float  # of the label, mean over the good backbones
    winner_probability: float  # of the label, by the winner
    winner_says: str  # the winner's most probable class
    confident_mistake: bool  # whether the winner denies the label confidently


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What out-of-fold probabilities say of the labels.

    Attributes:
        suspects: most suspicious first; empty where no more are denied than honest mistakes explain.
        hardest: lowest probability first: the hardest images and every confident mistake of the winner.
        denied: labels that most good backbones deny confidently, suspicious or not.
        labels: labels looked at: images, or for multi-label images times classes.
        share: estimated share of wrong labels.
        share_low: lower end of its 95 % interval.
        share_high: upper end.
        backbones: names of the good backbones.
        trained: whether any of them has pretrained weights.
    """

    suspects: tuple[SuspiciousLabel, ...]
    hardest: tuple[HardImage, ...]
    denied: int
    labels: int
    share: float
    share_low: float
    share_high: float
    backbones: tuple[str, ...]
    trained: bool = True

    @property
    def statement(self) -> str:
        """What to tell on the board."""
        if not self.trained:
            return "Wrong labels: backbones with random weights see too little to find any."
        if self.suspects:
            return (
                f"Wrong labels: about {self.share:.1%} of {self.labels:,} [{self.share_low:.1%}, "
                f"{self.share_high:.1%}], if honest mistakes fade as backbones grow surer; "
                f"suspicious_labels.csv lists {len(self.suspects)}, the most suspicious first."
            )
        alone = len(self.backbones) == 1
        who = self.backbones[0] if alone else f"most of the {len(self.backbones)} best backbones"
        denied = f"{who} confidently {'denies' if alone else 'deny'} {self.denied} of {self.labels:,}"
        return (
            f"Wrong labels: none stands out; {denied}, no more than honest mistakes explain, and up to "
            f"{self.share_high:.1%} may be wrong all the same (upper 95 % bound)."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """Labels as questions with O answers: an image's class, or for multi-label each class's yes or no."""

    rows: Int64  # (Q,) positions in the ImageSet
    kinds: Int64  # (Q,) which of G lists of answers is asked about
    answers: tuple[tuple[str, ...], ...]  # G lists of O names
    given: Int64  # (Q,) the labels
    units: Int64  # (Q,) images or groups that belong together

    def name(self, question: int, answer: int) -> str:
        return self.answers[int(self.kinds[question])][answer]


def judge_labels(judges: Sequence[Scored], winner: Scored, targets: Targets) -> Suspicion:
    """Find labels that look wrong, and the hardest images.

    Args:
        judges: the good backbones, at least one: those that cannot be told apart from the best.
        winner: whose confident mistakes are marked.
        targets: labels, classes and groups of all images.

    Returns:
        What was found; the order of ``judges`` does not matter.

    Raises:
        ArgumentError: no judges, or one without predictions.
    """
    ordered = sorted(judges, key=lambda outcome: outcome.backbone)
    if not ordered:
        raise ArgumentError("labels need a backbone to judge them", where="judges", expected="at least one")
    questions = _questions(ordered[0], targets)
    probabilities = np.stack([_answers(outcome, targets) for outcome in ordered])
    label = np.stack([_at(each, questions.given) for each in probabilities])
    others = probabilities.copy()
    np.put_along_axis(others, questions.given[None, :, None], -1.0, -1)
    score = (others.max(-1) - label).mean(0)
    sure = np.stack([_confident_of(each, questions) for each in probabilities])
    denies = (sure >= 0) & (sure != questions.given)
    denied = 2 * denies.sum(0) > len(ordered)
    share, low, high, stands_out = _wrong_share(probabilities, questions)
    names = tuple(outcome.backbone for outcome in ordered)
    by_score = np.lexsort((questions.rows, -score))
    wanted = math.ceil(high * len(by_score))
    listed = [
        one
        for place, one in enumerate(by_score.tolist())
        if denied[one] or (place < wanted and score[one] > 0)
    ]
    own = _answers(winner, targets)
    return Suspicion(
        suspects=tuple(
            SuspiciousLabel(
                row=int(questions.rows[one]),
                label=questions.name(one, questions.given[one]),
                suggested=questions.name(one, _suggested(sure[denies[:, one], one], others[:, one])),
                denied_by=tuple(name for name, no in zip(names, denies[:, one], strict=True) if no),
                score=float(score[one]),
            )
            for one in (listed if stands_out else ())
        ),
        hardest=_hardest(label.mean(0), own, questions),
        denied=int(denied.sum()),
        labels=len(questions.rows),
        share=share,
        share_low=low,
        share_high=high,
        backbones=names,
    )


def _questions(outcome: Scored, targets: Targets) -> _Questions:
    rows = outcome.predictions.val_rows
    wanted = targets.targets[rows] > 0.5
    units = rows if targets.groups is None else targets.groups[rows]
    classes = wanted.shape[1]
    if targets.task is Task.MULTILABEL:
        return _Questions(
            rows=np.repeat(rows, classes),
            kinds=np.tile(np.arange(classes), len(rows)),
            answers=tuple((f"not {name}", name) for name in targets.classes),
            given=wanted.ravel().astype(np.int64),
            units=np.repeat(units, classes),
        )
    given = wanted[:, 0].astype(np.int64) if targets.task is Task.BINARY else wanted.argmax(1)
    return _Questions(
        rows=rows,
        kinds=np.zeros(len(rows), np.int64),
        answers=(scored_class_names(targets),),
        given=given,
        units=units,
    )


def _answers(outcome: Scored, targets: Targets) -> Float64:
    """Probability of each answer, mean over repeats, float64 (Q, O)."""
    mean = outcome.predictions.val.mean(0, dtype=np.float64)
    if targets.task is Task.MULTICLASS:
        return np.asarray(mean)
    return np.stack([1 - mean.ravel(), mean.ravel()], -1)


def _at(probabilities: Float64, answers: Int64) -> Float64:
    """Probability of one answer to each question, float64 (Q,)."""
    return np.asarray(np.take_along_axis(probabilities, answers[:, None], -1)[:, 0])


def _confident_of(probabilities: Float64, questions: _Questions) -> Int64:
    """The answer that a backbone is confident of, int64 (Q,); -1 where of none."""
    thresholds = np.full((len(questions.answers), probabilities.shape[1]), np.inf)
    for kind in range(thresholds.shape[0]):
        for answer in range(thresholds.shape[1]):
            given = (questions.kinds == kind) & (questions.given == answer)
            if given.any():
                thresholds[kind, answer] = probabilities[given, answer].mean()
    reached = np.where(probabilities >= thresholds[questions.kinds], probabilities, -1.0)
    return np.asarray(np.where(reached.max(-1) >= 0, reached.argmax(-1), -1))


def _suggested(voted: Int64, others: Float64) -> int:
    """The answer with most votes of those who deny; of equals the more probable one, the label's being -1."""
    votes = np.bincount(voted, minlength=others.shape[1])
    return int(np.lexsort((others.mean(0), votes))[-1])


def _hardest(mean: Float64, own: Float64, questions: _Questions) -> tuple[HardImage, ...]:
    sure = _confident_of(own, questions)
    mistaken = (sure >= 0) & (sure != questions.given)
    order = np.lexsort((questions.rows, mean))
    chosen = [one for place, one in enumerate(order.tolist()) if place < _HARDEST or mistaken[one]]
    says, given = own.argmax(-1), _at(own, questions.given)
    return tuple(
        HardImage(
            row=int(questions.rows[one]),
            label=questions.name(one, questions.given[one]),
            probability=float(mean[one]),
            winner_probability=float(given[one]),
            winner_says=questions.name(one, says[one]),
            confident_mistake=bool(mistaken[one]),
        )
        for one in chosen
    )


def _wrong_share(probabilities: Float64, questions: _Questions) -> tuple[float, float, float, bool]:
    """Estimate, both ends of its interval, and whether honest mistakes do not explain the denials."""
    together = np.log(np.maximum(probabilities, _SMALLEST)).mean(0)
    together -= together.max(-1, keepdims=True)
    wrong = together.argmax(-1) != questions.given
    _, unit = np.unique(questions.units, return_inverse=True)
    each, once = wrong.astype(np.float64), wrong / np.maximum(np.bincount(unit, wrong), 1)[unit]
    honest = [_honest(together, sharpness) for sharpness in _SHARPNESS]
    likelihood = np.stack([_likelihoods(one, wrong, each, together.shape[1]) for one in honest])
    # How wide the interval is may be read off the denials themselves, but not whether there are wrong labels:
    # what one group has in common is one mistake, however many of its images show it.
    by_unit = np.stack([_likelihoods(one, wrong, once, together.shape[1]) for one in honest]).max(0)
    sharpness, best = np.unravel_index(likelihood.argmax(), likelihood.shape)
    scores = _scores(_SHARES[best], honest[sharpness], wrong, together.shape[1])
    profile = likelihood.max(0)
    inside = _SHARES[2 * (profile[best] - profile) / _clumping(scores, unit) <= _INTERVAL]
    stands_out = 2 * (by_unit.max() - by_unit[0]) > _STANDS_OUT
    return float(_SHARES[best]), float(inside[0]), float(inside[-1]), bool(stands_out)


def _honest(together: Float64, sharpness: float) -> Float64:
    """Probability of an honest mistake, float64 (Q,); the largest of ``together`` (Q, O) logarithms is 0."""
    # One freak among all images is honest, however sure the backbones are.
    return np.asarray(np.maximum(1 - 1 / np.exp(sharpness * together).sum(-1), 1 / len(together)))


def _denial(share: Float64 | np.float64, honest: Float64, answers: int) -> Float64:
    denied = honest + share * (1 - honest * answers / (answers - 1))
    return np.asarray(np.clip(denied, _SMALLEST, 1 - _SMALLEST))


def _likelihoods(honest: Float64, wrong: Bool, weights: Float64, answers: int) -> Float64:
    """Log-likelihood of each share of wrong labels, float64 (S,), denials (Q,) by ``weights``."""
    # Images alike in their odds count together: a million images then cost no more than a few hundred.
    odds = np.log(np.clip(honest, _SMALLEST, 1 - _SMALLEST) / np.clip(1 - honest, _SMALLEST, 1 - _SMALLEST))
    place = np.round(odds * _BINS_PER_UNIT).astype(np.int64)
    place -= place.min()
    counts = np.bincount(place)
    mean = np.bincount(place, honest) / np.maximum(counts, 1)
    denials, rest = np.bincount(place, weights), np.bincount(place, ~wrong)
    denied = _denial(_SHARES[:, None], mean, answers)
    return np.asarray((denials * np.log(denied) + rest * np.log(1 - denied)).sum(1))


def _scores(share: np.float64, honest: Float64, wrong: Bool, answers: int) -> Float64:
    """What each image says for a larger share: the slope of its log-likelihood, float64 (Q,)."""
    denied = _denial(share, honest, answers)
    return np.asarray((wrong - denied) / (denied * (1 - denied)) * (1 - honest * answers / (answers - 1)))


def _clumping(scores: Float64, unit: Int64) -> float:
    """By how much images of one group say the same: what the sandwich estimate divides a likelihood by."""
    return max(1.0, float((np.bincount(unit, scores) ** 2).sum() / (scores**2).sum()))
