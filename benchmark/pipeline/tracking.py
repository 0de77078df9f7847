"""Telling experiment trackers of a run: one that fails is a note, and never costs the run anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

from benchmark import __version__
from benchmark.cells import error_text, printable
from benchmark.data import dataset_name
from benchmark.options import FinetuneOptions, RankOptions
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.projector import projected
from benchmark.records import ImageSet, Observer, Outcome
from benchmark.tracking import TRACKERS, EmbeddingTracker, Tracker


def open_trackers(names: Sequence[str]) -> dict[str, Tracker]:
    """Make the trackers of these names, before any work.

    Raises:
        ArgumentError: an unknown tracker, or one whose packages are not installed.
    """
    return {name: cast(type[Tracker], TRACKERS.find(name))() for name in dict.fromkeys(names)}


class Tracking:
    """Hands what a run finds to its trackers; a tracker that raises is told nothing more."""

    def __init__(self, trackers: Mapping[str, Tracker], observer: Observer) -> None:
        self._trackers = dict(trackers)
        self._observer = observer

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in [*self._trackers.items()]:
            try:
                call(tracker)
            except Exception as error:
                del self._trackers[name]
                self._observer.message(f"Tracking by {name} stopped ({error_text(error)}); the run goes on.")

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        """An epoch of fine-tuning ended."""
        self._tell(lambda tracker: tracker.epoch(backbone, row))

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        """A backbone has its final figures."""
        self._tell(lambda tracker: tracker.score(backbone, scores))

    def file(self, path: Path) -> None:
        """A file or folder is written."""
        self._tell(lambda tracker: tracker.file(path))

    def ranked(self, ranked: Ranked, cache: Path) -> None:
        """A board is written: figures of its rows, its winner's embeddings, its tables, page and plots.

        Where no winner is named, the best score's embeddings.
        """
        frame = ranked.board.frame
        figures = frame.select_dtypes("number")
        for position in range(len(frame)):
            row = figures.iloc[position].dropna()
            self.score(str(frame["backbone"].iloc[position]), {str(k): float(v) for k, v in row.items()})
        named = [one for one in ranked.outcomes if one.backbone == ranked.board.winner]
        shown = named[0] if named else ranked.best
        if shown is not None:
            self._tell(partial(_show, shown, ranked, cache))
        for name in ("leaderboard.csv", "leaderboard.md", "leaderboard.html", "run.json", "plots"):
            if (ranked.folder / name).exists():
                self.file(ranked.folder / name)


def _show(winner: Outcome, ranked: Ranked, cache: Path, tracker: Tracker) -> None:
    if isinstance(tracker, EmbeddingTracker):
        seen = projected(ranked, winner, cache)
        tracker.embeddings(winner.backbone, seen.vectors, seen.facts, seen.pictures)


@contextmanager
def tracking(
    trackers: Mapping[str, Tracker],
    observer: Observer,
    command: str,
    options: RankOptions | FinetuneOptions,
    images: ImageSet,
) -> Iterator[Tracking]:
    """Trackers of one run, from its beginning to its end, whatever ends it."""
    told = Tracking(trackers, observer)
    asked = {name: str(value) for name, value in options if value is not None}
    read = {"images": len(images), "classes": ", ".join(map(printable, images.classes))}
    facts = {"command": command, "version": __version__, **read, **asked}
    told._tell(lambda tracker: tracker.begin(printable(dataset_name(options.data)), facts))
    failed = True
    try:
        yield told
        failed = False
    finally:
        told._tell(lambda tracker: tracker.end(failed=failed))
