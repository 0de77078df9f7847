"""The parts of a cache, read and verified.

A file that is not what its name says is moved to ``damaged/``, never used, and counts as missing.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from benchmark.embeddings.files import PartFile
from benchmark.embeddings.keys import folder_name
from benchmark.embeddings.lookup import Numbers, fold
from benchmark.embeddings.parts import Part, open_part
from benchmark.embeddings.places import place_at
from benchmark.errors import CacheDamaged
from benchmark.locations import url_of
from benchmark.records import EmbeddingKey, Observer
from benchmark.storage import mark_used

_LOG = logging.getLogger("benchmark.embeddings")
_FOLDERS_REMEMBERED = 4  # ten million images are 80 MB a folder


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
        moved = self.moved_to
        where = f"moved to {url_of(moved) or moved}" if moved else "left where it is, and is not used"
        return f"{url_of(self.path) or self.path}: {self.reason}; {where}"


class PartReader:
    """Parts by key.

    Args:
        root: folder of the cache.
        observer: told of damage; without one it goes to the log.
    """

    def __init__(self, root: Path, *, observer: Observer | None = None) -> None:
        self.root = root
        self.place = place_at(root)
        self._observer = observer
        self._damages: list[Damage] = []
        self._known: OrderedDict[Path, dict[PartFile, Numbers]] = OrderedDict()
        self._used: set[str] = set()

    @property
    def damages(self) -> tuple[Damage, ...]:
        """Damaged files found by this store object."""
        return tuple(self._damages)

    def folder(self, key: EmbeddingKey) -> Path:
        """Where a key's parts lie."""
        return self.root / folder_name(key)

    def parts(self, key: EmbeddingKey) -> tuple[PartFile, ...]:
        """A key's part files, ascending by hash."""
        folder = self.folder(key)
        files = self.place.parts(folder)
        known = self._known.get(folder, {})
        for gone in known.keys() - set(files):
            del known[gone]
        return files

    def dim(self, key: EmbeddingKey) -> int | None:
        """Length of the vectors held under a key; None when there are none."""
        parts = (self.open(file, key) for file in self.parts(key))
        return next((part.features.shape[1] for part in parts if part is not None), None)

    def numbers_of(self, file: PartFile, key: EmbeddingKey | None = None) -> Numbers | None:
        """``fold`` of a part's image ids, from memory when the file is still the one that was verified."""
        known = self._known.get(file.path.parent, {})
        if file not in known and self.open(file, key) is None:
            return None
        return self._known[file.path.parent][file]

    def open(self, file: PartFile, key: EmbeddingKey | None = None) -> Part | None:
        """Read and verify a part; a damaged one is moved aside.

        Args:
            file: as listed.
            key: whose it must be; None takes the key that the part names, if the folder is that key's.

        Returns:
            None when the file went away or was damaged.

        Raises:
            CacheError: the file cannot be read by this process.
        """
        try:
            content = self.place.read(file.path)
            if content is None:
                return None
            part = open_part(content, name=file.path.name, where=file.path)
            _check_key(part, file, key)
        except CacheDamaged as error:
            self.set_aside(file.path, error, file.inode)
            return None
        self._remember(file, fold(part.image_ids))
        return part

    def set_aside(self, path: Path, error: CacheDamaged, inode: int | None = None) -> None:
        """Move a damaged file out of the way and say so, unless it was replaced since it was read.

        Args:
            path: of the file.
            error: what is wrong with it.
            inode: of the file that was read.
        """
        reason = f"{error.what} ({error.got})" if error.got else error.what
        damage = Damage(path=path, reason=reason, moved_to=self.place.set_aside(path, inode))
        if damage not in self._damages:  # told once, where it had to stay
            text = f"{damage}. What it held is computed again."
            if self._observer is not None:
                self._observer.message(text)
            else:
                _LOG.warning("%s", text)
        self._damages.append(damage)

    def _remember(self, file: PartFile, numbers: Numbers) -> None:
        folder = file.path.parent
        known = self._known.setdefault(folder, {})
        known[file] = numbers
        self._known.move_to_end(folder)
        while len(self._known) > _FOLDERS_REMEMBERED:
            self._known.popitem(last=False)

    def mark_used(self, key: EmbeddingKey) -> None:
        """Note that a key is in use, here and for the size limit."""
        self._used.add(folder_name(key))
        mark_used(self.folder(key))


def _check_key(part: Part, file: PartFile, key: EmbeddingKey | None) -> None:
    """The folder's name holds 64 bits of the key's digest; the part holds the key itself.

    Raises:
        CacheDamaged: the part is another key's.
    """
    belongs = part.key == key if key is not None else folder_name(part.key) == file.path.parent.name
    if not belongs:
        raise CacheDamaged(
            "holds the vectors of another key",
            where=file.path,
            expected=folder_name(key) if key is not None else file.path.parent.name,
            got=folder_name(part.key),
        )
