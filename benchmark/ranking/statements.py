"""What the data can and cannot tell, in whole sentences, each following from numbers on the board."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmark.ranking.resampling import Sample
from benchmark.ranking.ties import images_needed
from benchmark.records import Average, Float64, Status, Task, Truth, WeightsKind

FEWEST_PER_CLASS = 20
# A class is rare below this part of the share that it would have if all classes were equally frequent.
_RARE_PART = 0.1
_MOST_NAMES = 5
_MOST_TIMES = 100
_UNGROUPED_DIFFERS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The numbers that sentences are made of; scored backbones in rank order.

    Attributes:
        truth: labels and classes.
        unscored: (name, status) of backbones that were not scored.
        sample: the validated images; None when nothing was scored.
        names: K scored backbones.
        weights: text of their weights sources.
        f1: float64 (K,) validation F1.
        statistics: float64 (K, K) of the pairwise comparisons, positive where the row is better.
        first_group: members of the first tie group.
        tied: members before ``max_loss`` narrowed it.
        critical: what a statistic must exceed inside the first tie group.
        loss_bound: what the winner may give away.
        max_loss: the tolerated loss, or None.
        chance: F1 that needs no look at the images.
        any_better_than_chance: some backbone is shown to be above it.
        test_f1: of the winner; nan without a test part.
        ungrouped_f1: of the winner when related images stand on both sides; nan when not known.
    """

    truth: Truth
    unscored: tuple[tuple[str, Status], ...] = ()
    sample: Sample | None = None
    names: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    f1: Float64 = field(default_factory=lambda: np.zeros(0))
    statistics: Float64 = field(default_factory=lambda: np.zeros((0, 0)))
    first_group: int = 0
    tied: int = 0
    critical: float = 0.0
    loss_bound: float = math.nan
    max_loss: float | None = None
    chance: float = math.nan
    any_better_than_chance: bool = False
    test_f1: float = math.nan
    ungrouped_f1: float = math.nan

    @property
    def units(self) -> str:
        """``398 images``, or with groups ``398 images in 41 groups``."""
        assert self.sample is not None
        images, units = len(self.sample.targets), self.sample.unit_count
        return f"{images} images" if self.truth.groups is None else f"{images} images in {units} groups"


def statements_of(findings: Findings) -> tuple[str, ...]:
    """The sentences of a board, most important first."""
    if findings.sample is None:
        return ("No backbone was scored: there is nothing to rank.", *_not_scored(findings))
    if _too_few(findings):
        first = _too_few_statement(findings)
    elif at_chance(findings):
        first = [_chance_statement(findings), _equal_statement(findings)]
    else:
        first = [_tie_statement(findings), *_separation(findings), *_clearly_behind(findings)]
    if at_chance(findings):
        return (*first, *_not_scored(findings))
    return (
        *first,
        *_price(findings),
        *_test(findings),
        *_leakage(findings),
        *_not_scored(findings),
    )


def notes_of(findings: Findings) -> tuple[str, ...]:
    """Warnings that a reader must see first."""
    if findings.sample is None:
        return ()
    notes = [*_few_notes(findings), *_absent_notes(findings), *_rare_notes(findings)]
    if at_chance(findings):
        notes.append("Chance-level scores: do not choose a backbone from this board.")
    elif not findings.any_better_than_chance:
        notes.append("Too few images to show that any backbone beats guessing.")
    return (*notes, *_random_notes(findings))


def at_chance(findings: Findings) -> bool:
    """Whether the scores are those of guessing, rather than too few to show that they are not."""
    if findings.sample is None or findings.any_better_than_chance:
        return False
    return not _too_few(findings) or float(findings.f1.max()) <= findings.chance


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES + 1:
        return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _class_units(findings: Findings) -> list[tuple[str, int]]:
    """(class name, images or groups that hold it) of every class."""
    assert findings.sample is not None
    true, units = findings.sample.targets, findings.sample.units
    names = list(findings.truth.classes)
    if findings.truth.task is Task.BINARY:
        positive = findings.truth.positive or 0
        names = [names[positive], names[1 - positive]]
        true = np.hstack([true, ~true])
    return [(name, len(np.unique(units[true[:, column]]))) for column, name in enumerate(names)]


def _too_few(findings: Findings) -> bool:
    return min(count for _, count in _class_units(findings)) < FEWEST_PER_CLASS


def _too_few_statement(findings: Findings) -> list[str]:
    name, count = min(_class_units(findings), key=lambda pair: pair[1])
    unit = "image" if findings.truth.groups is None else "group"
    return [
        f"Too few to tell backbones apart: of {findings.units} only {_plural(count, unit)} of class {name} "
        f"could be validated, and at least {FEWEST_PER_CLASS} are needed. Take the order as a guess."
    ]


def _few_notes(findings: Findings) -> list[str]:
    unit = "images" if findings.truth.groups is None else "groups"
    few = sorted((count, name) for name, count in _class_units(findings) if count < FEWEST_PER_CLASS)
    if not few:
        return []
    named = _listed([f"{name} {count}" for count, name in few])
    return [f"Tiny sample: fewer than {FEWEST_PER_CLASS} validated {unit} of {_classes(len(few))}: {named}."]


def _absent_notes(findings: Findings) -> list[str]:
    absent = [name for name, count in _class_units(findings) if not count]
    if not absent:
        return []
    return [f"No validated image of {_listed(absent)}: such classes have no score and no part in the mean."]


def _rare_notes(findings: Findings) -> list[str]:
    assert findings.sample is not None
    shares = findings.sample.targets.mean(0)
    names = list(findings.truth.classes)
    if findings.truth.task is Task.BINARY:
        positive = findings.truth.positive or 0
        names, shares = [names[positive], names[1 - positive]], np.append(shares, 1 - shares)
    limit = _RARE_PART / len(names)
    rare = sorted((share, name) for name, share in zip(names, shares.tolist(), strict=True) if share < limit)
    if not rare:
        return []
    named = _listed([f"{name} {share:.1%}" for share, name in rare])
    return [f"Imbalance: {_classes(len(rare))} with few of the images ({named}); such scores rest on few."]


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"


def _random_notes(findings: Findings) -> list[str]:
    drawn = [
        name
        for name, weights in zip(findings.names, findings.weights, strict=True)
        if weights == WeightsKind.RANDOM.value
    ]
    if not drawn:
        return []
    if len(drawn) == len(findings.names):
        return ["All weights are random: the scores compare architectures, not pretraining."]
    return [f"{_plural(len(drawn), 'backbone')} with random weights: {_listed(drawn)}."]


def _chance_statement(findings: Findings) -> str:
    return (
        f"The labels look unrelated to the images: no backbone is shown to be better than {_guess(findings)} "
        f"(F1 {findings.chance:.3f}); the best reaches {findings.f1.max():.3f}."
    )


def _equal_statement(findings: Findings) -> str:
    return f"No winner is named: {_plural(findings.first_group, 'backbone')} of the first group guess alike."


def _guess(findings: Findings) -> str:
    assert findings.sample is not None
    if findings.truth.task is Task.BINARY and findings.sample.average is Average.BINARY:
        return f"calling every image {findings.truth.classes[findings.truth.positive or 0]}"
    return "guessing without looking"


def _tie_statement(findings: Findings) -> str:
    winner, count = findings.names[0], findings.first_group
    if len(findings.names) == 1:
        return f"{winner} is the only backbone that was scored: nothing was compared."
    if findings.max_loss is not None and count < findings.tied:
        return (
            f"{_plural(findings.tied, 'backbone')} cannot be told apart on {findings.units}; {count} of them "
            f"{_meets(findings)}: {_listed(findings.names[:count])}. The smallest of these is {winner}."
        )
    if count == 1:
        return f"{winner} is better than every other backbone on {findings.units}, all comparisons together."
    members = _listed(findings.names[:count])
    return f"{count} backbones cannot be told apart on {findings.units}: {members}. The smallest is {winner}."


def _meets(findings: Findings) -> str:
    if findings.max_loss is not None and findings.loss_bound <= findings.max_loss:
        return f"{_verb(findings.first_group, 'gives', 'give')} away at most {findings.max_loss:g} F1"
    return f"comes closest to giving away at most {findings.max_loss:g} F1, which none is sure to meet"


def _verb(count: int, one: str, several: str) -> str:
    return one if count == 1 else several


def _separation(findings: Findings) -> list[str]:
    if findings.first_group < 2:
        return []
    statistic = float(findings.statistics[0, 1])
    first, second = findings.names[:2]
    if statistic == 0:
        return [f"{first} and {second} have the same F1: more images may never separate them."]
    times = images_needed(statistic, findings.critical)
    if times > _MOST_TIMES:
        return [f"More than {_MOST_TIMES} x as many images would be needed to separate {first} and {second}."]
    amount = f"{times:.0f}" if times >= 3 else f"{times:.1f}"
    return [
        f"About {amount} x as many images would separate the first two, {first} and {second}, "
        "with 80 % chance."
    ]


def _clearly_behind(findings: Findings) -> list[str]:
    behind = list(range(findings.first_group, len(findings.names)))
    if findings.max_loss is not None and findings.first_group < findings.tied:
        best = int(np.argmax(findings.f1))
        behind = [k for k in behind if findings.statistics[best, k] > findings.critical]
    if not behind:
        return []
    closest = max(behind, key=lambda k: float(findings.f1[k]))
    gap = float(findings.f1.max() - findings.f1[closest])
    names = _listed([findings.names[k] for k in behind])
    return [
        f"{_plural(len(behind), 'backbone')} {_verb(len(behind), 'is', 'are')} clearly behind: {names}; "
        f"the best of them, {findings.names[closest]}, by {gap:.3f} F1."
    ]


def _price(findings: Findings) -> list[str]:
    if len(findings.names) < 2 or _too_few(findings):
        return []
    winner = findings.names[0]
    if findings.loss_bound == 0:
        return [f"Choosing {winner} gives away no F1: every other backbone is clearly behind."]
    return [
        f"Choosing {winner} may give away up to {findings.loss_bound:.3f} F1 to the best (upper 95 % bound)."
    ]


def _test(findings: Findings) -> list[str]:
    if math.isnan(findings.test_f1):
        return []
    return [f"On the test part, scored once, {findings.names[0]} reaches F1 {findings.test_f1:.3f}."]


def _leakage(findings: Findings) -> list[str]:
    flattery = findings.ungrouped_f1 - float(findings.f1[0])
    if math.isnan(flattery) or abs(flattery) < _UNGROUPED_DIFFERS:
        return []
    direction = "flatters" if flattery > 0 else "understates"
    return [
        f"Splitting related images at random {direction}: {findings.names[0]} would show F1 "
        f"{findings.ungrouped_f1:.3f} instead of {float(findings.f1[0]):.3f}."
    ]


def _not_scored(findings: Findings) -> list[str]:
    parts = []
    for status in (Status.PRUNED, Status.SKIPPED, Status.FAILED):
        names = [name for name, own in findings.unscored if own is status]
        if names:
            parts.append(f"{len(names)} {status.value} ({_listed(names)})")
    return [f"Not scored: {', '.join(parts)}."] if parts else []
