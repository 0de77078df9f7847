"""Where the numbers of a run go besides its folder: experiment trackers, one file each.

A file ``some_tracker.py`` of this folder makes ``--track some-tracker`` with its ``TRACKER``; other packages
name such a class under the entry point group ``backbone_benchmark.trackers`` (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from benchmark.plugins import Registry
from benchmark.records import Float32, UInt8

__all__ = ["TRACKERS", "EmbeddingTracker", "Tracker"]


@runtime_checkable
class Tracker(Protocol):
    """Is told what a run finds. Made without arguments; settings come from the environment.

    Calls come from one thread, in this order: ``begin``, any number of ``epoch``, ``score`` and ``file``,
    ``end``. An exception ends the tracking of this run, with a note, and never the run.
    """

    def begin(self, dataset: str, facts: Mapping[str, str | int | float]) -> None:
        """A run begins.

        Args:
            dataset: name of the data set.
            facts: what was asked for and read: command, images, classes, seed, weights, ...
        """

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        """An epoch of fine-tuning ended; ``row`` has ``epoch``, counted over both phases, and its figures."""

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        """A backbone has its final figures, named as the columns of the board; nan is left out."""

    def file(self, path: Path) -> None:
        """A file or folder that belongs to the run is written."""

    def end(self, *, failed: bool) -> None:
        """The run ended."""


@runtime_checkable
class EmbeddingTracker(Protocol):
    """A tracker that shows vectors, too."""

    def embeddings(
        self, backbone: str, vectors: Float32, facts: Mapping[str, Sequence[str]], pictures: UInt8
    ) -> None:
        """A ranking has a winner; called once, between ``score`` and ``file``.

        Args:
            backbone: the winner.
            vectors: float32 (N, D), its embeddings of some of the images.
            facts: what is known of each of the N: ``label``, ``part``, ``path``.
            pictures: uint8 (N, S, S, 3), the images.
        """


TRACKERS = Registry(
    kind="tracker",
    package="benchmark.tracking",
    attribute="TRACKER",
    group="backbone_benchmark.trackers",
    protocol=Tracker,
)
