"""One run's folder: its log and its record.

``results/<dataset>/runs/<id>/`` is written while the run goes on; the top level of ``results/<dataset>/``
is a copy of the latest finished run.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.pipeline.progress import OneAtATime
from benchmark.records import Observer
from benchmark.reporting import RUN_FILE
from benchmark.storage import MOST_LIST_BYTES, check_inside, read_small, storage_error, write_whole


class _Log(logging.FileHandler):
    """A log that costs the run nothing where there is no room for it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave the line out; ``logging`` would print a traceback for each."""


class Run:
    """A run's folder and log.

    Args:
        folder: ``results/<dataset>`` or the cache folder.
        root: ``results`` or the cache folder, which no link may lead out of.

    Attributes:
        folder: ``results/<dataset>``.
        identifier: sorts by time and is unique.
        path: ``<folder>/runs/<identifier>``.

    Raises:
        StorageError: the folder cannot be made, or a link leads it out of its root.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.identifier = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self.path = folder / "runs" / self.identifier
        self._logger = logging.getLogger(f"benchmark.run.{self.identifier}")
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)
        check_inside(self.path, root)
        try:
            self.path.mkdir(parents=True)
            handler = _Log(self.path / "run.log", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise storage_error(error, self.path) from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._logger.addHandler(handler)

    def log(self, text: str) -> None:
        """Add a line to the run's log."""
        self._logger.info(text)

    def record(self, facts: Mapping[str, Any]) -> None:
        """Write facts to ``run.json``.

        Raises:
            StorageError: no room, or no permission.
        """
        write_whole(self.path / RUN_FILE, json.dumps(facts, indent=1).encode(), root=self.folder)

    def publish(self) -> None:
        """Make this run the latest: copy its files to the top level, each whole or not at all.

        Raises:
            StorageError: no room, or no permission.
        """
        for source in sorted(self.path.rglob("*")):
            if source.is_file() and source.name != "run.log":
                _copy(source, self.folder / source.relative_to(self.path), self.folder)

    def close(self) -> None:
        """Close the log."""
        for handler in [*self._logger.handlers]:
            with suppress(OSError):  # what it holds back finds no room, and must not hide what ends the run
                handler.close()
            self._logger.removeHandler(handler)


def _copy(source: Path, target: Path, root: Path) -> None:
    content = read_small(source, most_bytes=MOST_LIST_BYTES)
    if not _holds(target, content):
        write_whole(target, content, root=root)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_small(path, most_bytes=len(content)) == content
    except OSError:
        return False


class LoggingObserver(OneAtATime):
    """Writes what it is told to a run's log and hands it on; progress is not logged."""

    def __init__(self, run: Run, inner: Observer) -> None:
        super().__init__(inner)
        self._run = run

    def started(self, task: str, total: int) -> None:
        """Log and hand on."""
        self._run.log(f"started {task} ({total})")
        super().started(task, total)

    def finished(self, task: str, note: str = "") -> None:
        """Log and hand on."""
        self._run.log(f"finished {task} {note}".rstrip())
        super().finished(task, note)

    def message(self, text: str) -> None:
        """Log and hand on."""
        self._run.log(text)
        super().message(text)


def free_bytes(folder: Path) -> int:
    """Free space on the file system that will hold a folder, which need not exist yet.

    Raises:
        OSError: the file system does not say.
    """
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    return shutil.disk_usage(existing).free
