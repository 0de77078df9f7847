"""What a caller may ask of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.data.decode import FULL_DEPTH, MAX_PIXELS, TWELVE_BITS
from benchmark.data.listing import Layout
from benchmark.errors import ArgumentError
from benchmark.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """How images are found, checked, grouped and split.

    Attributes:
        positive: name of the positive class of two; None applies the naming rule.
        seed: of the split and of ``limit``.
        groups: a CSV column, or a regular expression on relative paths (its capture groups, or the whole
            match, name the group); None uses a CSV column called ``group`` where there is one.
        strict: a rejected file is an error.
        follow_links: links (and CSV paths) may lead outside the data folder.
        max_pixels: images whose header declares more are left out.
        limit: use at most this many images, stratified over parts and classes.
        jobs: threads; 0 uses all cores.
        layout: of a folder: ``auto`` finds train, val and test and stops where folders could be parts or
            classes; ``classes`` takes every top-level folder for a class.
        bit_depth: 12 or 16: bits that the greys of 16-bit files use; None finds out from their values.
    """

    positive: str | None = None
    seed: int = 0
    groups: str | None = None
    strict: bool = False
    follow_links: bool = False
    max_pixels: int = MAX_PIXELS
    limit: int | None = None
    jobs: int = 0
    layout: Layout = Layout.AUTO
    bit_depth: int | None = None

    @property
    def known_bit_depth(self) -> int:
        """The bit depth where it is given or found out, else the usual one."""
        return self.bit_depth or FULL_DEPTH

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ArgumentError("must be at least 1", where="--limit", got=self.limit)
        if self.bit_depth not in (None, TWELVE_BITS, FULL_DEPTH):
            raise ArgumentError("must be 12, 16 or left out", where="bit_depth", got=self.bit_depth)
        if self.max_pixels < 1:
            raise ArgumentError("must be at least 1", where="max_pixels", got=self.max_pixels)
        if self.jobs < 0:
            raise ArgumentError("must be 0 (all cores) or more", where="--jobs", got=self.jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLabels:
    """What a finished model decides between; images are then labelled for it instead of split for training.

    Attributes:
        classes: class names in the model's order; images need not show every one.
        task: binary, multiclass or multilabel.
        positive: position of the positive class for BINARY, else None.
    """

    classes: tuple[str, ...]
    task: Task
    positive: int | None
