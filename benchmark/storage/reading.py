"""Reading what others may have written: regular files only, of a size and a depth that they can have."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from benchmark.errors import CacheError
from benchmark.storage.copies import fetch_copy

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_ADAPTERS: dict[Any, Any] = {}
MOST_SMALL_BYTES: Final = 64 * 2**20
MOST_LIST_BYTES: Final = 2**30
"""Of a list of all images, of which there may be millions."""
MOST_MODEL_BYTES: Final = 5 * 2**30
"""The largest network with the state of its optimizer takes 4.2 GB."""
_MOST_DEPTH = 100
_SHA256 = re.compile("[0-9a-f]{64}")
# Probabilities compress little, masks and thresholds much.
_MOST_EXPANSION, _SPARE_BYTES = 200, 16 * 2**20
# A string (with nothing behind it where it never ends, so that the search stays linear) or a bracket.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def sha256_bytes(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def is_sha256(text: str) -> bool:
    """Whether a text is a hexadecimal SHA-256 as this program writes it."""
    return _SHA256.fullmatch(text) is not None


def sha256_file(path: Path, *, most_bytes: int = MOST_MODEL_BYTES, follow_links: bool = True) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks.

    Raises:
        OSError: the file cannot be read; it is no regular file, a link where none may be, or too large.
    """
    with open_regular(path, most_bytes=most_bytes, follow_links=follow_links) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_regular(
    path: str | Path, *, most_bytes: int, follow_links: bool = True
) -> Iterator[io.BufferedReader]:
    """Open a file to read it, without waiting for a pipe, touching a device or beginning on an endless file.

    The copy of an image at a URL is fetched where it is missing.

    Raises:
        OSError: it cannot be opened; ``EISDIR`` a folder; ``EINVAL`` no regular file; ``EFBIG`` too large.
    """
    flags = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(_descriptor(path, os.O_RDONLY | flags), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, "a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, more than {most_bytes:,}")
        yield file


def _descriptor(path: str | Path, flags: int) -> int:
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        try:
            if not fetch_copy(Path(path)):
                raise
        except CacheError as error:
            raise OSError(errno.EIO, str(error)) from error
        return os.open(path, flags)


def read_small(path: Path, *, most_bytes: int = MOST_SMALL_BYTES) -> bytes:
    """All bytes of a file that this program keeps small: a record, a list, a note.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    with open_regular(path, most_bytes=most_bytes) as file:
        # No more than it holds is asked for: Python makes room for all of it first.
        content = file.read(os.fstat(file.fileno()).st_size + 1)
    if len(content) > most_bytes:  # it grew meanwhile
        raise OSError(errno.EFBIG, f"more than {most_bytes:,} bytes")
    return content


def read_json(path: Path, *, most_bytes: int = MOST_SMALL_BYTES) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value in a small JSON file.

    Raises:
        OSError: see ``read_small``.
        ValueError: it is no JSON in UTF-8, or nested deeper than anything that this program writes.
    """
    return parse_json(read_small(path, most_bytes=most_bytes))


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON in UTF-8, or nested deeper than anything that this program writes.
    """
    # Not the codec utf-8-sig: Python would look for its module where a process may have no file left.
    text = content if isinstance(content, str) else content.decode().removeprefix("\ufeff")
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > _MOST_DEPTH:
            raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
    return json.loads(text)


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """What makes values of a type from JSON, and JSON from them; made once."""
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    made: TypeAdapter[T] = _ADAPTERS[kind]
    return made


def parse_record(kind: type[T], content: bytes | str) -> T:
    """A dataclass from its JSON text: known keys alone, every value of its field's type, nothing converted.

    Raises:
        ValueError: another text; it names the first field that does not fit, and what it holds.
    """
    from pydantic import ValidationError

    stored = parse_json(content)
    if not isinstance(stored, dict):
        raise ValueError("not a JSON object")
    unknown = sorted(set(stored) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(unknown)[:200]}")
    try:
        return adapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = f"{place}: {first['msg']}" if place else first["msg"]
        if not isinstance(first["input"], dict | list):
            said += f"; got {first['input']!r:.100}"
        raise ValueError(said) from error


def read_arrays(file: io.BufferedReader | io.BytesIO) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` archive; what it declares is added up before any of it is read.

    Raises:
        ValueError: no such archive, damaged, pickled objects, or far more bytes than the file can hold.
    """
    room = _SPARE_BYTES + _MOST_EXPANSION * file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(one.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for one in members):
                raise ValueError("compressed in an unknown way")
            if sum(one.file_size for one in members) > room:
                raise ValueError("more bytes are declared than the file can hold")
            return {one.filename.removesuffix(".npy"): read_array(archive.read(one)) for one in members}
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise ValueError(f"not an archive of arrays: {error}") from error


def read_array(content: bytes) -> npt.NDArray[Any]:
    """The array of an ``.npy`` file in memory, which holds as many bytes as it declares.

    Raises:
        ValueError: no such file, pickled objects, or another number of bytes.
    """
    stream = io.BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except (KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an array: {error}") from error
    if dtype.hasobject or min(shape, default=1) < 0:
        raise ValueError("not an array of numbers or text")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("an array of another size than its bytes")
    stream.seek(0)
    array: npt.NDArray[Any] = np.load(stream, allow_pickle=False)
    return array
