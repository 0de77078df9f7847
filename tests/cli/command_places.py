"""Running a command, and the folders that it works in."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cli import main

# The smallest network, at the smallest input that it takes, in this process, with few epochs.
SMALL = ("--weights", "random", "--backbones", "MobileNet_0.25", "--size", "32", "--jobs", "1")
QUICK = ("--repeats", "1", "--epochs", "3")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of ``--format json``."""
        found: list[dict[str, Any]] = json.loads(self.out)
        return found

    @property
    def said(self) -> str:
        """The error message: the last line on stderr."""
        return self.err.strip().splitlines()[-1]


Run = Callable[..., Answer]


def run_here(*words: object) -> Answer:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main([str(word) for word in words])
            except SystemExit as left:  # --help and --version
                status = int(left.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    return Answer(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Place:
    """A data set with folders of its own for everything that a command writes."""

    root: Path
    data: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def folders(self) -> tuple[object, ...]:
        return "--cache", self.cache, "--results", self.results

    @property
    def board(self) -> Path:
        return self.results / self.data.name
