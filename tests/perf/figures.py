"""The arithmetic of a benchmark: pairs of measurements, their ratios, and whether a target is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

_MILLISECONDS_BELOW = 0.5


class Unit(StrEnum):
    """What is measured; ``is_rate`` tells which way is better."""

    SECONDS = "s"
    MINUTES = "min"
    HOURS = "h"
    IMAGES_PER_SECOND = "images/s"
    GFLOPS = "GFLOP/s"
    MEGABYTES = "MB"
    SHARE = "of images x FLOPs"
    F1 = "F1"

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self in {Unit.IMAGES_PER_SECOND, Unit.GFLOPS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure should reach.

    Attributes:
        at_least: lower bound, None without one.
        at_most: upper bound, None without one.
        of_ours: whether the bounds are about our own measurement instead of the ratio.
    """

    at_least: float | None = None
    at_most: float | None = None
    of_ours: bool = False

    def is_met(self, ours: float, ratio: float) -> bool:
        value = ours if self.of_ours else ratio
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def text(self, unit: Unit) -> str:
        bounds = [
            f"{sign} {quantity(bound, unit) if self.of_ours else f'{bound:g}'}"
            for sign, bound in ((">=", self.at_least), ("<=", self.at_most))
            if bound is not None
        ]
        return " and ".join(bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table.

    Attributes:
        work: what was done.
        against: what it was compared with; empty when with nothing.
        unit: of ``ours`` and ``theirs``.
        ours: median.
        theirs: median; nan when compared with nothing.
        ratios: one per pair, how many times as good ours is; for memory and shares, ours over theirs.
        target: None where none was set.
        note: what a reader should know.
    """

    work: str
    against: str = ""
    unit: Unit = Unit.SECONDS
    ours: float
    theirs: float = math.nan
    ratios: tuple[float, ...] = ()
    target: Target | None = None
    note: str = ""

    @classmethod
    def of_pairs(
        cls,
        names: tuple[str, str],
        unit: Unit,
        pairs: Sequence[tuple[float, float]],
        target: Target | None = None,
        note: str = "",
    ) -> Figure:
        """The figure of (ours, theirs) measurements; ``names`` are the work and what it is compared with."""
        return cls(
            work=names[0],
            against=names[1],
            unit=unit,
            ours=median(ours for ours, _ in pairs),
            theirs=median(theirs for _, theirs in pairs),
            ratios=tuple(times_as_good(unit, ours, theirs) for ours, theirs in pairs),
            target=target,
            note=note,
        )

    @property
    def ratio(self) -> float:
        """Median of the ratios; nan without any."""
        return median(self.ratios) if self.ratios else math.nan

    @property
    def met(self) -> str:
        """``yes``, ``no``, or empty where there is no target."""
        if self.target is None:
            return ""
        return "yes" if self.target.is_met(self.ours, self.ratio) else "no"

    def row(self) -> dict[str, str]:
        """The cells of the table, by column."""
        return {
            "work": self.work,
            "against": self.against,
            "ours": quantity(self.ours, self.unit),
            "theirs": quantity(self.theirs, self.unit),
            "ratio [min, max]": spread(self.ratios),
            "target": self.target.text(self.unit) if self.target else "",
            "met": self.met,
            "note": self.note,
        }


def times_as_good(unit: Unit, ours: float, theirs: float) -> float:
    """How many times as fast ours is; where nothing is timed, ours over theirs."""
    if unit is Unit.SECONDS:
        return theirs / ours
    return ours / theirs


def geometric_mean(values: Iterable[float]) -> float:
    """exp of the mean logarithm of positive numbers."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def mean_of_figures(names: tuple[str, str], figures: Sequence[Figure], target: Target | None) -> Figure:
    """The geometric mean over figures: of ours, of theirs, and of the medians, least and largest ratios."""
    sides = (min, median, max)
    return Figure(
        work=names[0],
        against=names[1],
        unit=figures[0].unit,
        ours=geometric_mean(figure.ours for figure in figures),
        theirs=geometric_mean(figure.theirs for figure in figures),
        ratios=tuple(geometric_mean(side(figure.ratios) for figure in figures) for side in sides),
        target=target,
        note=f"geometric mean over {len(figures)}",
    )


def alternate(
    ours: Callable[[], float], theirs: Callable[[], float], pairs: int
) -> tuple[tuple[float, float], ...]:
    """Measure ours, theirs, ours, theirs: what else the machine does then hits both alike."""
    return tuple((ours(), theirs()) for _ in range(pairs))


def quantity(value: float, unit: Unit) -> str:
    """Three significant digits and the unit; empty for nan."""
    if math.isnan(value):
        return ""
    if unit is Unit.SHARE:
        return f"{value:.1%}"
    if unit is Unit.F1:
        return f"{value:.3f}"
    if unit is Unit.SECONDS and 0 < value < _MILLISECONDS_BELOW:
        return f"{number(1000 * value)} ms"
    return f"{number(value)} {unit}"


def spread(ratios: Sequence[float]) -> str:
    """Median with the range, which a single ratio does not have."""
    if not ratios:
        return ""
    middle = number(median(ratios))
    return middle if len(ratios) == 1 else f"{middle} [{number(min(ratios))}, {number(max(ratios))}]"


def number(value: float) -> str:
    """Three significant digits, without an exponent for what people meet here."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
