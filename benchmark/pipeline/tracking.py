"""Telling experiment trackers of a run: one that fails is a note, and never costs the run anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from benchmark import __version__
from benchmark.cells import printable
from benchmark.data import dataset_name
from benchmark.options import FinetuneOptions, RankOptions
from benchmark.pipeline.boards import Ranked
from benchmark.records import ImageSet, Observer
from benchmark.tracking import TRACKERS, Tracker


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
                why = printable(f"{type(error).__name__}: {error}"[:200])
                self._observer.message(f"Tracking by {name} stopped ({why}); the run goes on.")

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        """An epoch of fine-tuning ended."""
        self._tell(lambda tracker: tracker.epoch(backbone, row))

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        """A backbone has its final figures."""
        self._tell(lambda tracker: tracker.score(backbone, scores))

    def file(self, path: Path) -> None:
        """A file or folder is written."""
        self._tell(lambda tracker: tracker.file(path))

    def ranked(self, ranked: Ranked) -> None:
        """A board is written: the figures of its rows, its tables, its page and its plots."""
        frame = ranked.board.frame
        figures = frame.select_dtypes("number")
        for position in range(len(frame)):
            row = figures.iloc[position].dropna()
            self.score(str(frame["backbone"].iloc[position]), {str(k): float(v) for k, v in row.items()})
        for name in ("leaderboard.csv", "leaderboard.md", "leaderboard.html", "run.json", "plots"):
            if (ranked.folder / name).exists():
                self.file(ranked.folder / name)


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
