"""What every benchmark is told: how large, how often, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmark.data import write_demo

_Size = TypeVar("_Size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How to measure.

    Attributes:
        folder: working files: images, caches, boards.
        log: file that takes what child processes say.
        quick: small sizes.
        pairs: measured pairs, None for each benchmark's own number.
        tiny: sizes that only show that everything runs.
    """

    folder: Path
    log: Path
    quick: bool = False
    tiny: bool = False
    pairs: int | None = None

    def pick(self, usual: _Size, quick: _Size, tiny: _Size | None = None) -> _Size:
        """One of three sizes."""
        if self.tiny:
            return quick if tiny is None else tiny
        return quick if self.quick else usual

    def rounds(self, usual: int, quick: int = 1) -> int:
        """How many pairs to measure."""
        return self.pairs or (quick if self.quick or self.tiny else usual)

    def images(self, count: int, seed: int = 0) -> Path:
        """A folder of generated photographs; different seeds give different images."""
        return write_demo(self.folder / f"images-{count}-{seed}", count=count, seed=seed)
