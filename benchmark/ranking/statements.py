"""What the data can and cannot tell, in whole sentences, each following from numbers on the board."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.ranking.columns import Scores
from benchmark.records import Average, Outcome, Status, Targets, Task, WeightsKind
from benchmark.statistics import Assessment, Interval, LearningCurve, listed, sentences

# A class is rare below this part of the share that it would have if all classes were equally frequent.
_RARE_PART = 0.1
_UNGROUPED_DIFFERS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What sentences are made of."""

    targets: Targets
    found: Assessment | None  # the scored backbones, where there are any
    entries: Sequence[
        tuple[Outcome, Scores | None]
    ]  # in the order of the board, with scores if there are any

    @property
    def random(self) -> list[str]:
        """Scored backbones with random weights."""
        random = WeightsKind.RANDOM.value
        return sorted(one.backbone for one, own in self.entries if own and one.weights == random)

    def picked(self, *picks: str) -> list[tuple[str, Scores]]:
        """Names and scores of some fields of ``Picks``, in the order of the board; nothing without picks."""
        positions = [getattr(self.found and self.found.picks, pick, None) for pick in picks]
        return [(one.backbone, own) for one, own in self.entries if own and own.position in positions]


def statements_of(findings: Findings) -> tuple[str, ...]:
    """The sentences of a board, most important first."""
    found = findings.found
    if found is None:
        return ("No backbone was scored: there is nothing to rank.", *_not_scored(findings))
    grouped = findings.targets.groups is not None
    return (
        *_no_pick(findings, found),
        *sentences(found, grouped=grouped),
        *_new(findings),
        *_test(findings, found),
        *_leakage(findings),
        *_not_scored(findings),
    )


def notes_of(findings: Findings) -> tuple[str, ...]:
    """Warnings that a reader must see first."""
    found = findings.found
    if found is None:
        return ()
    notes = [*_few_notes(findings, found), *_absent_notes(findings, found), *_rare_notes(findings, found)]
    if found.is_at_chance:
        notes.append("Chance-level scores: do not choose a backbone from this board.")
    elif not any(found.beats_chance):
        notes.append("Too few images to show that any backbone beats guessing.")
    return (*notes, *_random_notes(findings, found))


def curve_statements(curves: Mapping[str, LearningCurve]) -> tuple[str, ...]:
    """What twice the images would bring each backbone; nothing where its curve does not tell."""
    return tuple(
        f"Twice the images: {name} F1 {_with_ends(curve.now)} -> about {_with_ends(curve.predicted)} "
        f"(heads trained on {max(curve.measured):,} and on {curve.images:,} images like these)."
        for name, curve in curves.items()
        if curve.is_telling
    )


def _with_ends(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _class_units(findings: Findings, found: Assessment) -> list[tuple[str, int]]:
    """(class name, images or groups that hold it) of every class."""
    names = findings.targets.classes
    if findings.targets.task is Task.BINARY:
        positive = findings.targets.positive or 0
        names = (names[positive], names[1 - positive])
    return list(zip(names, found.sample.class_units.tolist(), strict=True))


def _no_pick(findings: Findings, found: Assessment) -> list[str]:
    if found.is_at_chance:
        chance = f"{found.guessing.title} {found.chance.max():.3f}"
        # A network that was never trained says nothing of the labels.
        untrained = len(findings.random) == len(found.names)
        cause = "Random weights tell nothing" if untrained else "The labels look unrelated to the images"
        return [
            f"{cause}: no backbone is shown to be better than {_guess(findings, found)} ({chance}); the best "
            f"reaches {found.reached.max():.3f}. No winner is named."
        ]
    if found.is_too_few:
        grouped = findings.targets.groups is not None
        present = [pair for pair in _class_units(findings, found) if pair[1]]
        name, count = min(present, key=lambda pair: pair[1])
        unit = "group" if grouped else "image"
        return [
            f"Too few to know: of {found.units(grouped=grouped)} only {count} {unit}{'s' * (count != 1)} "
            f"of class {name} could be validated, and no interval is known to hold below "
            f"{found.FEWEST_PER_CLASS}. No winner is named; take the order as a guess."
        ]
    return []


def _few_notes(findings: Findings, found: Assessment) -> list[str]:
    unit = "images" if findings.targets.groups is None else "groups"
    few = sorted(
        (count, name) for name, count in _class_units(findings, found) if 0 < count < found.FEWEST_PER_CLASS
    )
    if not few:
        return []
    named, most = listed([f"{name} {count}" for count, name in few]), found.FEWEST_PER_CLASS
    return [f"Tiny sample: fewer than {most} validated {unit} of {_classes(len(few))}: {named}."]


def _absent_notes(findings: Findings, found: Assessment) -> list[str]:
    absent = [name for name, count in _class_units(findings, found) if not count]
    if not absent:
        return []
    return [f"No validated image of {listed(absent)}: such classes have no score and no part in the mean."]


def _rare_notes(findings: Findings, found: Assessment) -> list[str]:
    shares = found.sample.targets.mean(0).tolist()
    shares = [shares[0], 1 - shares[0]] if len(shares) == 1 else shares
    names = [name for name, _ in _class_units(findings, found)]
    limit = _RARE_PART / len(names)
    rare = sorted((share, name) for name, share in zip(names, shares, strict=True) if 0 < share < limit)
    if not rare:
        return []
    named = listed([f"{name} {share:.1%}" for share, name in rare])
    return [f"Imbalance: {_classes(len(rare))} with few of the images ({named}); such scores rest on few."]


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"


def _random_notes(findings: Findings, found: Assessment) -> list[str]:
    if not findings.random:
        return []
    if len(findings.random) == len(found.names):
        return ["All weights are random: the scores compare architectures, not pretraining."]
    return [f"Random weights: {listed(findings.random)}."]


def _guess(findings: Findings, found: Assessment) -> str:
    if findings.targets.task is Task.BINARY and found.sample.average is Average.BINARY:
        return f"calling every image {findings.targets.classes[findings.targets.positive or 0]}"
    return "guessing without looking"


def _test(findings: Findings, found: Assessment) -> list[str]:
    metric = found.sample.metric
    return [
        f"On the test part, scored once, {name} reaches {metric.title} {own.test[metric.name]:.3f} "
        f"[{own.test[f'{metric.name}_low']:.3f}, {own.test[f'{metric.name}_high']:.3f}]."
        for name, own in findings.picked("winner")
        if own.test
    ]


def _new(findings: Findings) -> list[str]:
    ends = [
        f"between {own.new[1]:.3f} and {own.new[2]:.3f} with {name}"
        for name, own in findings.picked("winner", "best", "value")
        if not math.isnan(own.new[1])
    ]
    if not ends:
        return []
    images = "new images" if findings.targets.groups is None else "images of new groups"
    return [
        f"The model you will get, its head trained on all of train and val: F1 {listed(ends)}, on {images} "
        "like these, in this class mix."
    ]


def _leakage(findings: Findings) -> list[str]:
    told = []
    for name, own in findings.picked("winner"):
        f1 = own.val["f1"][0]
        flattery = own.ungrouped_f1 - f1
        if abs(flattery) >= _UNGROUPED_DIFFERS:  # not where it is nan
            direction = "flatters" if flattery > 0 else "understates"
            told.append(
                f"Splitting related images at random {direction}: {name} would show F1 "
                f"{own.ungrouped_f1:.3f} instead of {f1:.3f}."
            )
    return told


def _not_scored(findings: Findings) -> list[str]:
    parts = []
    for status in (Status.PRUNED, Status.SKIPPED, Status.FAILED):
        names = [one.backbone for one, _ in findings.entries if one.status is status]
        if names:
            parts.append(f"{len(names)} {status.value} ({listed(names)})")
    return [f"Not scored: {', '.join(parts)}."] if parts else []
