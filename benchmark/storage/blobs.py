"""What is stored with the SHA-256 of its content: arrays with fields, and JSON. Nothing of it is pickled.

A file that is not what it says is refused before anything in it is believed, and can be set aside.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from benchmark.errors import CacheError, StorageError
from benchmark.locations import url_of
from benchmark.storage.copies import hand_over, list_names, take_over
from benchmark.storage.files import path_part, write_whole
from benchmark.storage.reading import (
    MOST_MODEL_BYTES,
    MOST_SMALL_BYTES,
    adapter,
    open_regular,
    parse_json,
    read_arrays,
    read_json,
)

T = TypeVar("T")
DAMAGED_FOLDER = "damaged"
_FIELDS = "fields"
_DAMAGED = (OSError, ValueError, TypeError, KeyError)
_SEAL = b"outcome "


def write_arrays(
    path: Path, fields: object, arrays: Mapping[str, npt.NDArray[Any]], *, root: Path, compress: bool = False
) -> None:
    """Write arrays and JSON fields: a line with the SHA-256 of what follows, then an ``.npz`` archive.

    Raises:
        StorageError: see ``write_whole``.
    """
    buffer = io.BytesIO()
    save = np.savez_compressed if compress else np.savez
    save(buffer, allow_pickle=False, **{_FIELDS: np.array(json.dumps(fields)), **arrays})
    content = buffer.getbuffer()
    write_whole(path, _seal(hashlib.sha256(content).hexdigest()) + content, root=root)


def load_arrays(path: Path, *, most_bytes: int = MOST_MODEL_BYTES) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
    """The fields and arrays that ``write_arrays`` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what was written.
    """
    with open_regular(path, most_bytes=most_bytes) as file:
        head = file.readline(len(_seal("0" * 64)))
        if not head.startswith(_SEAL) or head != _seal(hashlib.file_digest(file, "sha256").hexdigest()):
            raise ValueError("its SHA-256 does not match")
        arrays = read_arrays(file)
    if _FIELDS not in arrays:
        raise ValueError("no fields")
    return parse_json(str(arrays.pop(_FIELDS))), arrays


def _seal(digest: str) -> bytes:
    return _SEAL + f"{digest}\n".encode()


def write_json(path: Path, value: object, *, root: Path) -> None:
    """Write a JSON value beside its SHA-256.

    Raises:
        StorageError: see ``write_whole``.
    """
    text = json.dumps({"sha256": json_digest(value), "meta": value}, indent=1)
    write_whole(path, text.encode(), root=root)


def load_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value that ``write_json`` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what was written.
    """
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.keys() != {"sha256", "meta"}:
        raise ValueError("not a value with its SHA-256")
    if stored["sha256"] != json_digest(stored["meta"]):
        raise ValueError("its SHA-256 does not match")
    return stored["meta"]


def json_digest(value: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo(Generic[T]):
    """Answers that were found before, each in a small file; what is gone or damaged is found out again.

    Attributes:
        folder: of the files; below its parent no link leads elsewhere.
        kind: type of the answers; pydantic turns them into JSON and back.
        suffix: of the files' names.
        shared: where the folder stands for a URL, what others remember there counts; all else that is
            remembered is of use to this machine alone.
    """

    folder: Path
    kind: type[T]
    suffix: str = ".json"
    shared: bool = False

    def recall(self, name: str, question: object) -> T | None:
        """The answer to a question; None where there is none that can be trusted.

        Args:
            name: of what is asked about, for the reader of the folder.
            question: as JSON: all that the answer depends on.
        """
        path = self._path(name, question)
        if self._is_elsewhere:
            self._take([path])
        with suppress(*_DAMAGED):
            stored = load_json(path)
            if stored["question"] == parse_json(json.dumps(question)):
                return adapter(self.kind).validate_python(stored["answer"])
        return None

    def remember(self, name: str, question: object, answer: T) -> None:
        """Keep the answer to a question as far as that is possible: a full disk remembers nothing."""
        with suppress(StorageError):
            self.keep(name, question, answer)

    def keep(self, name: str, question: object, answer: T) -> None:
        """Keep the answer to a question, in place of an earlier one.

        Raises:
            StorageError: see ``write_whole``.
        """
        plain = adapter(self.kind).dump_python(answer, mode="json")
        content = {"question": question, "answer": plain}
        path = self._path(name, question)
        write_json(path, content, root=self.folder.parent)
        if self._is_elsewhere:
            hand_over(path)

    def everything(self) -> Iterator[tuple[Any, T]]:
        """All questions, as JSON gives them back, and their answers, as far as they can be trusted."""
        if self._is_elsewhere:
            self._take(self.folder / name for name in list_names(self.folder))
        for path in sorted(self.folder.glob(f"*{self.suffix}")):
            with suppress(*_DAMAGED):
                stored = load_json(path)
                yield stored["question"], adapter(self.kind).validate_python(stored["answer"])

    @property
    def _is_elsewhere(self) -> bool:
        return self.shared and url_of(self.folder) is not None

    def _take(self, paths: Iterable[Path]) -> None:
        """Make what is remembered at the URL what is remembered here, as far as that can be had."""
        for path in paths:
            with suppress(CacheError, OSError):
                take_over(path, most_bytes=MOST_SMALL_BYTES, again=True)

    def _path(self, name: str, question: object) -> Path:
        return self.folder / f"{path_part(name)}-{json_digest(question)[:16]}{self.suffix}"


def set_aside(path: Path, root: Path, *, inode: int | None = None) -> Path | None:
    """Move a damaged file or folder to ``damaged/`` below a root, so that it is never used.

    Args:
        path: of the file or folder.
        root: of the cache.
        inode: of the file that was found damaged. Rename, then look at what was renamed: a good file that
            took the place meanwhile goes back.

    Returns:
        Where it lies now; None where it could not be moved (a read-only cache), or is gone already.
    """
    folder = root / DAMAGED_FOLDER
    target = folder / f"{path.parent.name}-{path.name}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(exist_ok=True)
        if folder.is_symlink() or inode not in {None, path.lstat().st_ino}:
            return None
        path.rename(target)
        if inode not in {None, target.lstat().st_ino}:
            target.rename(path)
            return None
    except OSError:
        return None
    return target
