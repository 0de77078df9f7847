"""What travels with a task: plain pickle, without large arrays, which are put on shared storage once.

Plain pickle holds names of functions and classes, texts and numbers. A path that stands for a URL becomes the
one that stands for it on the machine that reads it. What only exists in the sending process
(a function of a script, a loaded network) cannot be sent.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import CacheDamaged
from benchmark.locations import received, to_send
from benchmark.storage import (
    MOST_LIST_BYTES,
    hand_over,
    read_small,
    sha256_bytes,
    take_over,
    write_whole,
)

_LEAST_BYTES = 1 << 18
_REMEMBERED = 16
_known: OrderedDict[tuple[str, str], npt.NDArray[Any]] = OrderedDict()  # of this worker, by digest and dtype
_handed: set[Path] = set()  # by this process, and seen there
_ArrayMark = tuple[str, str, str, tuple[int, ...]]


def pack(value: object, folder: Path) -> bytes:
    """The bytes of a value; its large arrays go to files of a folder that the reader sees, too.

    Raises:
        pickle.PicklingError: something in it is not known by a name.
        StorageError: an array cannot be written.
    """
    buffer = io.BytesIO()
    _Packer(buffer, folder).dump(value)
    return buffer.getvalue()


def unpack(content: bytes) -> Any:  # noqa: ANN401 - whatever was packed
    """The value that ``pack`` was given.

    Raises:
        OSError: a file of it is not there.
        CacheDamaged: a file of it changed.
    """
    return _Unpacker(io.BytesIO(content)).load()


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder

    def persistent_id(self, value: Any) -> _ArrayMark | str | None:  # noqa: ANN401 - pickle's signature
        if isinstance(value, Path):
            return to_send(value)
        if type(value) is not np.ndarray or value.nbytes < _LEAST_BYTES or value.dtype.hasobject:
            return None
        content = np.ascontiguousarray(value).tobytes()
        digest = sha256_bytes(content)
        path = self._folder / f"{digest}.array"
        if not path.exists():
            write_whole(path, content, root=self._folder.parent)
        if path not in _handed:  # it may lie here and not there, when the last try failed
            hand_over(path)
            _handed.add(path)
        return to_send(path) or str(path), digest, value.dtype.str, value.shape


class _Unpacker(pickle.Unpickler):
    def persistent_load(self, mark: _ArrayMark | str) -> npt.NDArray[Any] | Path:
        if isinstance(mark, str):
            return received(mark)
        name, digest, kind, shape = mark
        if (digest, kind) in _known:
            _known.move_to_end((digest, kind))
        else:
            path = Path(name) if Path(name).is_absolute() else received(name)
            take_over(path, most_bytes=MOST_LIST_BYTES)
            content = read_small(path, most_bytes=MOST_LIST_BYTES)
            if sha256_bytes(content) != digest:
                raise CacheDamaged("the bytes are not those that were written", where=path)
            _known[digest, kind] = np.frombuffer(content, np.dtype(kind))
            while len(_known) > _REMEMBERED:
                _known.popitem(last=False)
        return _known[digest, kind].reshape(shape)
