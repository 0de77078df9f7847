"""What happens to a file that is not what its name says: it is moved out of the way, never used."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from pathlib import Path

from benchmark.embeddings.files import check_folder
from benchmark.errors import CacheDamaged, CacheError
from benchmark.records import Observer

DAMAGED_FOLDER = "damaged"
_LOG = logging.getLogger("benchmark.embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A damaged file that was found.

    Attributes:
        path: where it lay.
        reason: what is wrong with it.
        moved_to: where it lies now; None when it could not be moved (a read-only cache).
    """

    path: Path
    reason: str
    moved_to: Path | None

    def __str__(self) -> str:
        """One line for the reader of a report."""
        where = f"moved to {self.moved_to}" if self.moved_to else "left where it is, and is not used"
        return f"{self.path}: {self.reason}; {where}"


class DamageLog:
    """Collects damages, moves the files aside, and tells an observer or, without one, the log."""

    def __init__(self, root: Path, observer: Observer | None = None) -> None:
        self._root = root
        self._observer = observer
        self._found: list[Damage] = []
        self._told: set[tuple[Path, int]] = set()

    @property
    def found(self) -> tuple[Damage, ...]:
        """Every damage so far, in the order of finding."""
        return tuple(self._found)

    def set_aside(self, path: Path, inode: int, error: CacheDamaged) -> None:
        """Move a damaged file to ``damaged/`` unless it was replaced since it was read.

        Args:
            path: of the file.
            inode: of the file that was read.
            error: what is wrong with it.
        """
        damage = Damage(path=path, reason=_reason(error), moved_to=self._move(path, inode))
        self._found.append(damage)
        if (path, inode) not in self._told:
            self._told.add((path, inode))
            self.tell(f"{damage}. What it held is computed again.")

    def tell(self, text: str) -> None:
        """Say something that a user should read."""
        if self._observer is not None:
            self._observer.message(text)
        else:
            _LOG.warning("%s", text)

    def _move(self, path: Path, inode: int) -> Path | None:
        """Rename, then look at what was renamed: a good file that took the place meanwhile goes back."""
        folder = self._root / DAMAGED_FOLDER
        target = folder / f"{path.parent.name}-{path.name}-{secrets.token_hex(4)}"
        try:
            folder.mkdir(exist_ok=True)
            check_folder(folder)
            if path.lstat().st_ino != inode:
                return None
            path.rename(target)
            if target.lstat().st_ino != inode:
                target.rename(path)
                return None
        except (OSError, CacheError):
            return None
        return target


def _reason(error: CacheDamaged) -> str:
    return f"{error.what} ({error.got})" if error.got else error.what
