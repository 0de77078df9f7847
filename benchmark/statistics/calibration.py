"""Probabilities that mean something: temperature, calibration error, and when to say "unsure".

One number T divides all logits (temperature scaling: Guo, Pleiss, Sun and Weinberger, "On calibration of
modern neural networks", ICML 2017). It leaves every decision as it was, provided that thresholds move along.

The calibration error is the expected one (ECE) over bins of equally many images. It is never 0 on a finite
sample, however good the probabilities: beside it stands what perfect ones show on as many images (consistency
resampling: Bröcker and Smith, "Increasing the reliability of reliability diagrams", 2007).

Whoever may say "unsure" is right more often where an answer is given (selective classification: El-Yaniv
and Wiener, 2010). The least sureness with which an answer is given is found by tests in a fixed order ("Learn
then test": Angelopoulos, Bates, Candès, Jordan and Lei, 2021), so that the wanted error holds with 95 %
although the same images chose it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmark.records import AbstentionKind, AbstentionRule, Average, Bool, Float32, Float64, Int64, Task
from benchmark.statistics.calls import Interval
from benchmark.statistics.metrics import METRICS, decide
from benchmark.statistics.resampling import ErrorCounts, Sample, estimates

_SMALLEST, _LEAST = 1e-7, 1e-37  # what float32 can tell from 1, and from 0
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.05, 20.0
_BINS, _IMAGES_A_BIN = 10, 20
_DRAWS = 400
_COVERAGES = np.arange(0.5, 1.0001, 0.05)
_PARTS = 5


def logits(probabilities: npt.ArrayLike, task: Task) -> Float64:
    """What a sigmoid (MULTICLASS: a softmax) makes these probabilities (..., C) of, float64.

    Those of a sigmoid are at most 16: float32 cannot tell what is nearer to 1.
    """
    values = np.asarray(probabilities, np.float64)
    if task is Task.MULTICLASS:
        return np.log(np.maximum(values, _LEAST))
    inner = np.clip(values, _SMALLEST, 1 - _SMALLEST)
    return np.log(inner) - np.log1p(-inner)


def tempered(probabilities: npt.ArrayLike, task: Task, temperature: float) -> Float32:
    """The probabilities float32 (..., C) of logits that are divided by a temperature."""
    scaled = logits(probabilities, task) / temperature
    return _probabilities(scaled, task).astype(np.float32)


def tempered_threshold(threshold: npt.ArrayLike, temperature: float) -> Float64:
    """The threshold that decides on tempered probabilities as ``threshold`` did on those before."""
    before = np.asarray(threshold, np.float64)
    inner = (before > 0) & (before < 1)
    odds = logits(np.where(inner, before, 0.5), Task.BINARY) / temperature
    return np.where(inner, 1 / (1 + np.exp(-odds)), before)


def _probabilities(scaled: Float64, task: Task) -> Float64:
    if task is Task.MULTICLASS:
        shifted = np.exp(scaled - scaled.max(-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(-1, keepdims=True))
    return np.exp(-np.logaddexp(0, -scaled))


def fit_temperature(probabilities: npt.ArrayLike, targets: npt.ArrayLike, task: Task) -> float:
    """The temperature whose probabilities are nearest to the labels, 0.05 to 20.

    Nearest by squares (Brier's score, 1950), which is bounded: by likelihood, as Guo et al. do it, a single
    wrong label or hard image among a hundred can decide.

    One image more is taken as wrong (Laplace's rule; of two classes Platt's, 1999), of several classes as its
    likeliest other one: otherwise images that are all decided rightly would ask for certainty.

    Args:
        probabilities: (N, C), C = 1 for BINARY, of images that trained nothing; (R, N, C) for repeats.
        targets: (N, C) of 0 and 1.
        task: what is decided.
    """
    from scipy.optimize import minimize_scalar

    odds, true = logits(probabilities, task), np.asarray(targets, np.float64)
    if not len(true):
        return 1.0
    doubt = 1 / (len(true) + 2)
    other = 1 - true
    if task is Task.MULTICLASS:
        likeliest = np.where(true > 0.5, -np.inf, odds).argmax(-1)
        other = likeliest[..., None] == np.arange(true.shape[1])
    wanted = true * (1 - doubt) + other * doubt

    def loss(log_temperature: float) -> float:
        return float(((_probabilities(odds / np.exp(log_temperature), task) - wanted) ** 2).sum())

    ends = np.log([_LEAST_TEMPERATURE, _MOST_TEMPERATURE])
    return float(np.exp(minimize_scalar(loss, bounds=tuple(ends), method="bounded").x))


def cross_tempered(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    task: Task,
    groups: Int64 | None = None,
    *,
    seed: int = 0,
) -> Float32:
    """Probabilities (N, C), each with a temperature of other images: what a temperature does to new ones."""
    values, true = np.asarray(probabilities, np.float32), np.asarray(targets)
    units = np.arange(len(true)) if groups is None else np.unique(groups, return_inverse=True)[1]
    part = np.random.default_rng([seed, 3]).permutation(units.max(initial=-1) + 1)[units] % _PARTS
    found = np.array(values)
    for number in np.unique(part):
        own, rest = part == number, part != number
        found[own] = tempered(values[own], task, fit_temperature(values[rest], true[rest], task))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Some images with similar probabilities.

    Attributes:
        stated: mean probability.
        found: share of images that have it so, with its 95 % interval.
        images: their number.
    """

    stated: float
    found: Interval
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far probabilities are from what is found.

    Attributes:
        error: expected calibration error, 0 to 1.
        by_chance: error that perfect probabilities stay below on as many images, 19 times in 20.
        bins: of equally many images, by probability.
    """

    error: float
    by_chance: float
    bins: tuple[CalibrationBin, ...]


def calibration(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    task: Task,
    groups: Int64 | None = None,
    *,
    seed: int = 0,
) -> Calibration:
    """The expected calibration error, and the bins of its diagram.

    BINARY compares the probability of the positive class with the share of positives, MULTICLASS that of the
    most probable class with the share of right answers, MULTILABEL that of each label with its share.

    Args:
        probabilities: (N, C), C = 1 for BINARY.
        targets: (N, C) of 0 and 1.
        task: what is decided.
        groups: int (N,) which images belong together: perfect probabilities are then wrong together, too.
        seed: of the draws.
    """
    stated, found, units, drawn_with = _points(
        np.asarray(probabilities, np.float64), np.asarray(targets) > 0.5, task, groups
    )
    order = np.argsort(stated, kind="stable")
    count = min(_BINS, max(1, len(stated) // _IMAGES_A_BIN))
    parts = [part for part in np.array_split(order, count) if len(part)]
    place = np.empty(len(stated), np.int64)
    for number, part in enumerate(parts):
        place[part] = number
    generator = np.random.default_rng([seed, 4])
    drawn = [
        generator.random(drawn_with.max(initial=-1) + 1)[drawn_with] < stated
        for _ in range(_DRAWS if parts else 0)
    ]
    by_chance = [_calibration_error(stated, each, place) for each in drawn]
    return Calibration(
        error=_calibration_error(stated, found, place),
        by_chance=float(np.quantile(by_chance, 0.95)) if by_chance else float("nan"),
        bins=tuple(
            CalibrationBin(
                stated=float(stated[part].mean()),
                found=share(found[part], None if groups is None else units[part], seed=seed),
                images=len(part),
            )
            for part in parts
        ),
    )


def _points(
    probabilities: Float64, true: Bool, task: Task, groups: Int64 | None
) -> tuple[Float64, Bool, Int64, Int64]:
    """Probabilities (P,), whether it is so, which points belong together, and which are right together."""
    units = np.arange(len(true)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if task is Task.MULTICLASS:
        said = probabilities.argmax(-1)
        rows = np.arange(len(true))
        return probabilities[rows, said], true[rows, said], units, units
    columns = true.shape[1]
    # A draw for each label: labels of an image need not be right together.
    each = (units[:, None] * columns + np.arange(columns)).ravel()
    return probabilities.ravel(), true.ravel(), np.repeat(units, columns), each


def _calibration_error(stated: Float64, found: Bool, place: Int64) -> float:
    gaps = np.bincount(place, weights=stated - found)
    return float(np.abs(gaps).sum() / max(len(stated), 1))


def share(
    flags: npt.ArrayLike, groups: Int64 | None = None, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """A share of images with its interval; of no images it is unknown: nan, 0 to 1.

    It is the interval of ``resampling``, which has a closed form where no images belong together.
    """
    from scipy.stats import beta

    found = np.asarray(flags, bool)
    count, yes = len(found), int(found.sum())
    if not count:
        return Interval(value=float("nan"), low=0.0, high=1.0)
    if groups is None:
        tail = (1 - level) / 2
        low = beta.ppf(tail, yes + 0.25, count - yes + 0.75)
        high = beta.ppf(1 - tail, yes + 0.75, count - yes + 0.25)
        return Interval(
            value=yes / count, low=min(float(low), yes / count), high=max(float(high), yes / count)
        )
    # A share of flags is the recall of a class that every image has.
    sample = Sample.of(np.ones((count, 1)), Average.BINARY, groups, METRICS["recall"])
    errors = ErrorCounts.of(found[None, :, None], sample)
    value, low, high = estimates(sample, [errors], level=level, seed=seed)[0].tolist()
    return Interval(value=value, low=low, high=high)


def sureness(probabilities: npt.ArrayLike, threshold: float, task: Task) -> Float64:
    """Probability of the answer that is given, float64 (N,); for MULTILABEL that of the least sure label."""
    values = np.asarray(probabilities, np.float64)
    if task is Task.MULTICLASS:
        return np.asarray(values.max(-1))
    return np.asarray(np.where(decide(values, threshold, task), values, 1 - values).min(-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstention:
    """When an answer is given, and what that is worth.

    Attributes:
        sure_from: an answer of at least this probability is given; 0 answers always.
        promised: whether the wanted error holds with 95 % on new images like these; else (too few images, or
            too many mistakes) the answers reach it on average if probabilities mean what they say.
        answered: share of images with an answer, on the images that chose, or that ``selective`` was given.
        error: share of wrong answers among them.
    """

    sure_from: float
    promised: bool
    answered: Interval
    error: Interval


def abstention(
    sure: npt.ArrayLike,
    right: npt.ArrayLike,
    rule: AbstentionRule,
    groups: Int64 | None = None,
    *,
    seed: int = 0,
) -> Abstention:
    """The least sureness with which an answer is given, found on images that trained nothing.

    Args:
        sure: (N,) probability of each answer.
        right: bool (N,) whether it is right.
        rule: what is wanted.
        groups: int (N,) which images belong together.
        seed: of the draws.
    """
    values, correct = np.asarray(sure, np.float64), np.asarray(right, bool)
    if rule.kind is AbstentionKind.NONE or not len(values):
        return selective(values, correct, 0.0, groups, seed=seed)
    if rule.kind is AbstentionKind.COVERAGE:
        return selective(values, correct, _answering(values, rule.value), groups, seed=seed)
    chosen = None
    for cut in dict.fromkeys(_answering(values, part) for part in _COVERAGES):
        inside = values >= cut
        related = None if groups is None else groups[inside]
        # Where to begin may depend on how many images there are, not on which are right.
        if chosen is None and not _holds(np.ones(inside.sum(), bool), rule.value, related, seed):
            continue
        if not _holds(correct[inside], rule.value, related, seed):
            break
        chosen = cut
    if chosen is None:
        return selective(values, correct, _expecting(values, rule.value), groups, seed=seed)
    everything = chosen <= values.min()
    found = selective(values, correct, 0.0 if everything else chosen, groups, seed=seed)
    return replace(found, promised=True)


def _answering(values: Float64, part: float) -> float:
    """The largest cut that leaves at least a part of the values at or above it."""
    ordered = np.sort(values)[::-1]
    return float(ordered[max(int(np.ceil(part * len(values) - 1e-9)), 1) - 1])


def _expecting(values: Float64, error: float) -> float:
    """The lowest cut above which wrong answers are expected to be at most ``error``, by their probability."""
    ordered = np.sort(values)[::-1]
    expected = np.cumsum(1 - ordered) / np.arange(1, len(ordered) + 1)
    enough = np.flatnonzero(expected <= error)
    return float(ordered[enough[-1]]) if len(enough) else 1 - error


def _holds(correct: Bool, error: float, groups: Int64 | None, seed: int) -> bool:
    """Whether the share of wrong answers is at most ``error``, with 95 % confidence."""
    from scipy.stats import beta

    wrong, count = int((~correct).sum()), len(correct)
    if wrong == count:
        return False
    if groups is None:  # Clopper and Pearson's bound, exact
        return bool(beta.ppf(0.95, wrong + 1, count - wrong) <= error)
    return share(~correct, groups, level=0.9, seed=seed).high <= error


def selective(
    sure: npt.ArrayLike,
    right: npt.ArrayLike,
    sure_from: float,
    groups: Int64 | None = None,
    *,
    seed: int = 0,
) -> Abstention:
    """What an abstention is worth on some images: the share answered and the share of wrong answers."""
    inside = np.asarray(sure, np.float64) >= sure_from
    wrong = ~np.asarray(right, bool)[inside]
    related = None if groups is None else groups[inside]
    return Abstention(
        sure_from=sure_from,
        promised=False,
        answered=share(inside, groups, seed=seed),
        error=share(wrong, related, seed=seed),
    )
