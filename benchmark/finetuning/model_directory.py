"""Where a run works, and how what it made becomes the latest model.

A run writes everything into a hidden folder beside the model directory. Only when all of it is there do
directories change their names: whoever is interrupted, at whatever moment, leaves every finished model whole.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from benchmark.errors import TrainingError
from benchmark.storage import (
    TEMPORARY_PREFIX,
    check_inside,
    is_sha256,
    parse_record,
    read_json,
    read_small,
    storage_error,
    sync_folder,
)

RUN_FILE = "run.json"
_MOMENTS = {"before", "phase1", "phase2"}
_SHORT, _LONG = 8, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What ``run.json`` says of a finished run."""

    digest: str  # of everything that decides the result
    comparable_digest: str  # of the same without the split: runs that share it can be compared
    grouped: bool  # whether its split keeps groups of related images together
    kept: str  # moment of training (before, phase1, phase2) whose model was kept
    # Moment -> part -> metric -> value, or None for a phase left out.
    phases: dict[str, dict[str, dict[str, float] | None] | None]
    notes: list[str]  # what a reader must know
    recipe: dict[str, Any]
    cached_views: int  # embedded views of an image that phase 1 was trained on
    train_seconds: float  # of all epochs


class ModelDirectory:
    """The hidden folder ``.<name>`` beside a model directory ``<name>``.

    Attributes:
        out: the model directory; the latest model stands there.
        folder: the hidden folder.
        new: what the run in progress has written of its model directory.
    """

    def __init__(self, out: Path, states: Path | None = None) -> None:
        """Name the places; nothing is made.

        Args:
            out: the model directory.
            states: folder of the states of runs, which its owner removes; None: the hidden one.
        """
        self.out = out
        self.folder = out.with_name(f".{out.name}")
        self.new = self.folder / "new"
        self._states = states or self.folder
        self._old = self.folder / "old"
        self._waste = self.folder / "waste"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out for as long as this one works here.

        Raises:
            TrainingError: another process is here.
            StorageError: the folder cannot be written.
        """
        check_inside(self.folder / "lock", self.out.parent)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / "lock", timeout=0)
            lock.acquire()
        except filelock.Timeout as error:
            raise TrainingError(
                "another process is fine-tuning into this folder",
                where=self.out,
                next_step="Wait for it, or choose another results folder.",
            ) from error
        except OSError as error:
            raise storage_error(error, self.folder) from error
        try:
            self._recover()
            yield
        finally:
            lock.release()

    def _recover(self) -> None:
        """Put a model back that was about to be replaced when its process was killed."""
        if self._old.exists() and not self.out.exists():
            self._rename(self._old, self.out)

    def state(self, digest: str) -> Path:
        """The file that keeps the progress of a run."""
        return self._states / _state_name(digest)

    def begin(self) -> None:
        """Forget what a killed run wrote of its model directory; its state stays."""
        shutil.rmtree(self.new, ignore_errors=True)
        check_inside(self.new / RUN_FILE, self.folder)

    def finish(self, digest: str) -> None:
        """Forget how a run got to its model, but for states whose owner removes them."""
        killed = self.folder.glob(f"{TEMPORARY_PREFIX}*")
        for path in (self.folder / _state_name(digest), *killed):
            path.unlink(missing_ok=True)

    def kept_beside(self, digest: str) -> Path:
        """Where the model of a run stands, or would stand, when another one is the latest."""
        short = self._beside(digest[:_SHORT])
        taken = short.exists() and digest_of(short) != digest
        return self._beside(digest[:_LONG]) if taken else short

    def relatives(self) -> list[Path]:
        """The latest model and those that stand beside it."""
        beside = self.out.parent.iterdir()
        return [self.out, *sorted(path for path in beside if path.name.startswith(f"{self.out.name}."))]

    def publish(self, source: Path, digest: str) -> Path | None:
        """Make a finished directory the latest model.

        A model of the same run is replaced. Any other directory, with all that is in it, is moved aside:
        nothing of it, such as an export, shall stand beside a model that it was not made from.

        Args:
            source: ``new``, or a directory beside the latest.
            digest: of the run that made it.

        Returns:
            Where an earlier model of another run stands now; None where there was none.

        Raises:
            StorageError: a folder cannot be renamed.
        """
        shutil.rmtree(self._old, ignore_errors=True)
        moved = self._make_room(digest)
        self._rename(source, self.out)
        shutil.rmtree(self._old, ignore_errors=True)
        self._discard(self.kept_beside(digest))
        return moved

    def _make_room(self, digest: str) -> Path | None:
        if not self.out.exists():
            return None
        there = digest_of(self.out)
        if there == digest:
            self._rename(self.out, self._old)
            return None
        aside = self._free_name() if there is None else self.kept_beside(there)
        self._discard(aside)
        self._rename(self.out, aside)
        return aside

    def _discard(self, superseded: Path) -> None:
        """Delete an earlier model of a run that has made a newer one; in one step for whoever looks."""
        shutil.rmtree(self._waste, ignore_errors=True)
        if superseded.exists():
            self._rename(superseded, self._waste)
            shutil.rmtree(self._waste, ignore_errors=True)

    def _free_name(self) -> Path:
        """A name for a directory that does not say which run made it."""
        count = 1
        while (path := self._beside(f"earlier-{count}")).exists():
            count += 1
        return path

    def _beside(self, ending: str) -> Path:
        return self.out.with_name(f"{self.out.name}.{ending}")

    def _rename(self, source: Path, target: Path) -> None:
        try:
            source.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise storage_error(error, target) from error


def _state_name(digest: str) -> str:
    return f"state-{digest[:16]}.npz"


def digest_of(model_dir: Path) -> str | None:
    """The digest of the run that made a model directory; None when it does not say."""
    try:
        digest = read_json(model_dir / RUN_FILE)["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) and digest.isalnum() else None


def trained_backbone(model_dir: Path) -> bool:
    """Whether the kept model's backbone is another one than before: its last phase changes it.

    Raises:
        OSError, ValueError: as ``read_run``.
    """
    return read_run(model_dir).kept == "phase2"


def read_run(model_dir: Path) -> StoredRun:
    """The content of ``run.json``.

    Raises:
        OSError: there is none.
        ValueError: it cannot be understood.
    """
    run = parse_record(StoredRun, read_small(model_dir / RUN_FILE))
    wrong = {
        "digest, comparable_digest: not a SHA-256": not (
            is_sha256(run.digest) and is_sha256(run.comparable_digest)
        ),
        "phases: other moments than before, phase1, phase2": not set(run.phases) <= _MOMENTS,
        "kept: a moment without scores": run.phases.get(run.kept) is None,
        "cached_views: below 0": run.cached_views < 0,
        "train_seconds: not a number from 0 up": not 0 <= run.train_seconds < math.inf,
    }
    for complaint, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(complaint)
    return run
