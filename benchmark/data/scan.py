"""Reading every file once: its image id, and whether it can be decoded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from benchmark.data.decode import check_decodable
from benchmark.data.files import Stamp, read_stamped, reason_of
from benchmark.data.index import FileCheck, Index
from benchmark.data.workers import map_in_order
from benchmark.errors import DataError, StorageError
from benchmark.records import Observer, Silent
from benchmark.storage import sha256_bytes

TASK: Final = "scan"
_SAVE_SECONDS = 60.0
_FILES_PER_TASK = 16
# A file can change again within one tick of the file system's clock and keep its stamp.
_SETTLED_NS = 50_000_000


@dataclass(slots=True, kw_only=True)
class Scanner:
    """Finds out about files, asking the index first.

    Attributes:
        root: absolute folder of the paths.
        index: the memo.
        max_pixels: images whose header declares more are left out.
        jobs: threads; 0 uses all cores.
        observer: told how far it is.
    """

    root: str
    index: Index
    max_pixels: int
    jobs: int = 0
    observer: Observer = Silent()  # noqa: RUF009 - it has no state

    def scan(self, paths: Sequence[str]) -> list[FileCheck]:
        """One finding per path, in their order. Progress is saved every minute and at the end."""
        findings: list[FileCheck] = []
        try:
            self.observer.started(TASK, len(paths))
            self._scan_into(findings, paths)
        finally:
            # Also after Ctrl-C: what was read need not be read again.
            self._save(paths)
            self.observer.finished(TASK)
        return findings

    def _scan_into(self, findings: list[FileCheck], paths: Sequence[str]) -> None:
        saved = time.monotonic()
        with closing(map_in_order(self._look_at, _chunks(paths), self.jobs)) as looks:
            for found in looks:
                self._take(found, findings)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._save(paths)
                    saved = time.monotonic()

    def _take(self, found: list[tuple[str, _Look]], findings: list[FileCheck]) -> None:
        for path, (stamp, finding) in found:
            findings.append(finding)
            if stamp is not None:
                self.index.add(path, stamp, finding)
        self.observer.advanced(TASK, len(findings))

    def _look_at(self, paths: Sequence[str]) -> list[tuple[str, _Look]]:
        return [(path, self._look(path)) for path in paths]

    def _look(self, path: str) -> _Look:
        full = f"{self.root}/{path}" if not path.startswith("/") else path
        try:
            known = self.index.find(path, Stamp.of(os.stat(full)))  # noqa: PTH116 - pathlib is slow here
        except (OSError, ValueError) as error:
            return None, FileCheck("", reason_of(error))
        return (None, known) if known else self._read(full)

    def _read(self, full: str) -> _Look:
        try:
            content, stamp = read_stamped(full)
        except DataError as error:
            return None, FileCheck("", error.what)
        image_id = sha256_bytes(content)
        known = self.index.verdict(image_id)
        finding = known or FileCheck(image_id, *check_decodable(content, max_pixels=self.max_pixels))
        settled = time.time_ns() - stamp.ctime_ns > _SETTLED_NS
        return (stamp if settled else None), finding

    def _save(self, paths: Sequence[str]) -> None:
        """Save the memo; where that fails the scan is still right, only the next one will be slow."""
        if not self.index.changed:
            return
        try:
            self.index.save(paths)
        except StorageError as error:
            self.observer.message(f"What the scan found cannot be remembered: {error}")


# (stamp to remember or None, finding)
_Look = tuple[Stamp | None, FileCheck]


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    return (paths[start : start + _FILES_PER_TASK] for start in range(0, len(paths), _FILES_PER_TASK))
