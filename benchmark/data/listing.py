"""What a source says about its images before any of them is opened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from benchmark.records import Rejected


class Part(IntEnum):
    """The part of a split, in the order in which parts keep an image that stands in several."""

    TRAIN = 0
    VAL = 1
    TEST = 2


PART_NAMES = {
    "train": Part.TRAIN,
    "val": Part.VAL,
    "valid": Part.VAL,
    "validation": Part.VAL,
    "test": Part.TEST,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled file.

    Attributes:
        path: relative to the listing's root, POSIX, surrogate-escaped.
        labels: class names, sorted; several or none only in a multi-label CSV.
        part: the part that the user gave, or None.
        group: name of its group, or None when it stands alone.
    """

    path: str
    labels: tuple[str, ...]
    part: Part | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All labelled files of a source.

    Attributes:
        name: of the data set.
        source: the folder or CSV.
        root: absolute folder of the entries' paths.
        entries: in the order found, which decides nothing.
        rejected: files that were left out without opening them.
        columns: CSV column names beyond path and label; empty for folders.
        notes: facts about how the source was read, one line per kind.
    """

    name: str
    source: Path
    root: Path
    entries: tuple[Entry, ...]
    rejected: tuple[Rejected, ...]
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
