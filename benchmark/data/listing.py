"""What a source says about its images before any of them is opened."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from benchmark.records import Rejected


class SplitPart(IntEnum):
    """The part of a split, in the order in which parts keep an image that stands in several."""

    TRAIN = 0
    VAL = 1
    TEST = 2


_PART_WORDS = {
    **dict.fromkeys(("train", "training", "trainset"), SplitPart.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset", "dev", "devset"), SplitPart.VAL),
    **dict.fromkeys(("test", "testing", "testset", "holdout"), SplitPart.TEST),
}
# Words that people put around the name of a part: seg_train, test_set, Training Images.
_BESIDE_PARTS = frozenset(
    {"", "set", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures", "seg", "split"}
)


def part_named(name: str) -> SplitPart | None:
    """The part that a folder or a cell names: ``Training``, ``test_set``, ``val2017``; None for others."""
    words = [word for word in re.split(r"[\W\d_]+", name.casefold()) if word not in _BESIDE_PARTS]
    return _PART_WORDS.get(words[0]) if len(words) == 1 else None


def near_part(name: str) -> str:
    """The name of a part that ``name`` looks like with a typing error; empty where it looks like none."""
    return next(iter(difflib.get_close_matches(name.casefold(), ("train", "val", "test"), 1, 0.7)), "")


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
    part: SplitPart | None = None
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
