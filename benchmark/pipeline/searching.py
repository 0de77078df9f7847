"""Which backbones get a full score: all of them, or those that successive halving keeps."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.pipeline.embedding import Embedded
from benchmark.records import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search left.

    Attributes:
        embedded: the backbones that are fully embedded, or stopped.
        pruned: outcomes of the backbones that were dropped on the way.
        statements: what was spent, in whole sentences.
    """

    embedded: Embedded
    pruned: tuple[Outcome, ...] = ()
    statements: tuple[str, ...] = ()
