"""What earlier scans found out about files: a memo that may vanish or be damaged at any time.

One file per source (``storage.write_arrays``): the reasons as JSON, and fixed-width rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.data.files import Stamp
from benchmark.storage import MOST_LIST_BYTES, load_arrays, write_arrays

_ROW = np.dtype(
    [
        ("path", "<u8"),
        ("size", "<i8"),
        ("mtime", "<i8"),
        ("ctime", "<i8"),
        ("inode", "<u8"),
        ("id", "S32"),
        ("reason", "<i4"),
        ("peak", "<i4"),
    ]
)


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What a scan found out about one file.

    Attributes:
        image_id: SHA-256 of its bytes, hexadecimal; empty when it could not be read.
        reason: why it is left out; empty when it is decodable.
        peak: its largest grey where these have 16 bits, else 0.
    """

    image_id: str
    reason: str
    peak: int = 0


class Index:
    """Findings by (path, stamp), and reasons by image id.

    What was loaded stays in arrays (84 bytes a file): a million Python tuples would be half a gigabyte.
    """

    def __init__(self, file: Path, reasons: list[str], rows: npt.NDArray[Any]) -> None:
        self.file = file
        self._reasons = reasons
        self._reason_numbers = {reason: number for number, reason in enumerate(reasons)}
        self._rows = rows[np.argsort(rows["path"], kind="stable")]
        # A copy of its own: searching a strided column would copy it at every search.
        self._keys = np.ascontiguousarray(self._rows["path"])
        self._by_id = np.argsort(self._rows["id"], kind="stable")
        self._ids = self._rows["id"][self._by_id]
        self._fresh = bytearray()  # rows, packed like those that were loaded; the last of a path counts

    @classmethod
    def load(cls, folder: Path, source: str, conditions: str) -> Index:
        """The index of a source; empty where there is none or it is damaged.

        Args:
            folder: of all indexes.
            source: absolute data folder or CSV.
            conditions: everything else that decides whether a file is decodable.
        """
        digest = hashlib.sha256(f"{conditions}|{source}".encode("utf-8", "surrogateescape")).hexdigest()
        file = folder / f"{digest[:32]}.npz"
        return cls(file, *_stored(file))

    @property
    def changed(self) -> bool:
        """Whether there is anything that was not loaded."""
        return bool(self._fresh)

    def find(self, path: str, stamp: Stamp) -> FileCheck | None:
        """What is known of a file that has not changed since."""
        key = _path_key(path)
        position = int(np.searchsorted(self._keys, np.uint64(key)))
        if position == len(self._rows):
            return None
        row = self._rows[position]
        if row.item()[:5] != (key, stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode):
            return None
        identity = self._rows["id"][position : position + 1].tobytes()  # a scalar would lose trailing zeros
        return FileCheck(identity.hex(), self._reasons[int(row["reason"])], int(row["peak"]))

    def verdict(self, image_id: str) -> FileCheck | None:
        """What is known of these bytes, or None."""
        wanted = np.frombuffer(bytes.fromhex(image_id), "S32")
        position = int(np.searchsorted(self._ids, wanted)[0])
        if position == len(self._ids) or self._ids[position] != wanted[0]:
            return None
        row = self._rows[self._by_id[position]]
        return FileCheck(image_id, self._reasons[int(row["reason"])], int(row["peak"]))

    def add(self, path: str, stamp: Stamp, finding: FileCheck) -> None:
        """Remember a finding."""
        number = self._reason_numbers.setdefault(finding.reason, len(self._reasons))
        if number == len(self._reasons):
            self._reasons.append(finding.reason)
        numbers = (stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode)
        row = (_path_key(path), *numbers, bytes.fromhex(finding.image_id), number, finding.peak)
        self._fresh += np.array(row, _ROW).tobytes()

    def save(self, paths: Iterable[str]) -> None:
        """Write the index whole, with the files among ``paths`` only, so that it forgets those that are gone.

        Raises:
            StorageError: it cannot be written.
        """
        latest = np.frombuffer(bytes(self._fresh), _ROW)[::-1]
        fresh = latest[np.unique(latest["path"], return_index=True)[1]]
        wanted = np.fromiter((_path_key(path) for path in paths), np.uint64)
        kept = self._rows[np.isin(self._keys, wanted) & ~np.isin(self._keys, fresh["path"])]
        rows = np.concatenate([kept, fresh])
        write_arrays(self.file, self._reasons, {"rows": rows}, root=self.file.parents[1])


def _stored(file: Path) -> tuple[list[str], npt.NDArray[Any]]:
    """Reasons and rows of an index file; those of an empty index where it cannot be used."""
    try:
        reasons, arrays = load_arrays(file, most_bytes=MOST_LIST_BYTES)
        rows = arrays["rows"]
        known = (rows["reason"] >= 0) & (rows["reason"] < len(reasons))
        if rows.dtype == _ROW and known.all() and all(type(reason) is str for reason in reasons):
            return reasons, rows
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        pass
    return [""], np.zeros(0, _ROW)


def _path_key(path: str) -> int:
    encoded = path.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")
