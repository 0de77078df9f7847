"""The parts of a cache, read and verified; what fails is moved to ``damaged/`` and counts as missing."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from pathlib import Path

from benchmark.embeddings.damage import Damage, DamageLog
from benchmark.embeddings.files import PartFile, check_folder, list_parts, read_file
from benchmark.embeddings.keys import folder_name
from benchmark.embeddings.parts import Ids, Part, open_part
from benchmark.errors import CacheDamaged
from benchmark.records import EmbeddingKey, Observer

_FOLDERS_REMEMBERED = 4  # ids of a million images are 64 MB a folder


class PartReader:
    """Parts by key.

    Args:
        root: folder of the cache.
        observer: told of damage; without one it goes to the log.
    """

    def __init__(self, root: Path, *, observer: Observer | None = None) -> None:
        self.root = root
        self._damage = DamageLog(root, observer)
        self._known: OrderedDict[Path, dict[PartFile, Ids]] = OrderedDict()

    @property
    def damages(self) -> tuple[Damage, ...]:
        """Damaged files found by this store object."""
        return self._damage.found

    def folder(self, key: EmbeddingKey) -> Path:
        """Where a key's parts lie."""
        return self.root / folder_name(key)

    def parts(self, key: EmbeddingKey) -> tuple[PartFile, ...]:
        """A key's part files, ascending by hash."""
        folder = self.folder(key)
        files = list_parts(folder) if check_folder(folder) else ()
        known = self._known.get(folder, {})
        for gone in known.keys() - set(files):
            del known[gone]
        return files

    def dim(self, key: EmbeddingKey) -> int | None:
        """Length of the vectors held under a key; None when there are none."""
        parts = (self.open(file, key) for file in self.parts(key))
        return next((part.features.shape[1] for part in parts if part is not None), None)

    def ids_of(self, file: PartFile, key: EmbeddingKey | None = None) -> Ids | None:
        """Image ids of a part, from memory when the file is still the one that was verified."""
        known = self._known.get(file.path.parent, {})
        if file in known:
            return known[file]
        part = self.open(file, key)
        return None if part is None else part.image_ids

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
            content = read_file(file.path)
            if content is None:
                return None
            part = open_part(content, name=file.path.name, where=file.path)
            _check_key(part, file, key)
        except CacheDamaged as error:
            self._damage.set_aside(file.path, file.inode, error)
            return None
        self._remember(file, part.image_ids)
        return part

    def set_aside(self, path: Path, error: CacheDamaged) -> None:
        """Move a damaged file out of the way and say so."""
        with contextlib.suppress(OSError):
            self._damage.set_aside(path, path.lstat().st_ino, error)

    def _remember(self, file: PartFile, ids: Ids) -> None:
        folder = file.path.parent
        known = self._known.setdefault(folder, {})
        known[file] = ids
        self._known.move_to_end(folder)
        while len(self._known) > _FOLDERS_REMEMBERED:
            self._known.popitem(last=False)


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
