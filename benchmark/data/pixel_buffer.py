"""Decoded pixels on disk, written once and read by any number of threads and processes at the same time.

``pixels.u8`` holds uint8 (N, S, S, 3), ``images.ids`` the 64 hexadecimal digits of each image's id.
``state.i8`` holds how many rows are ready, and whether decoding failed. All are memory-mapped: they live in
the page cache, not in a process's own memory.

A reader waits for its rows; where the filler failed, it gets its error. That the filler's process died is no
case of its own: workers end with the process that started them.

The folder's name says which process of which machine made it, from the first moment to the last, so that what
a killed process left can be told from what is in use. Whether a process of another machine still runs cannot
be asked, and each container is a machine of its own: what one of those left is removed when it is a week old.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmark.data.decode import FULL_DEPTH, NO_LIMIT, decode
from benchmark.data.files import read_regular
from benchmark.data.resize import resize_pixels
from benchmark.data.workers import map_in_order
from benchmark.errors import BenchmarkError, CacheError, DataError, JobError
from benchmark.memory import PackedStrings
from benchmark.records import Observer, Resize, Silent, UInt8
from benchmark.storage import (
    fetch_copy,
    is_abandoned,
    read_json,
    sha256_bytes,
    storage_error,
    this_process,
)

TASK: Final = "decode"
_FOLDER = "scratch"
_PIXELS, _STATE, _IDS, _FAILURE = "pixels.u8", "state.i8", "images.ids", "failure.json"
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_READY, _FAILED = 0, 1  # places in the state
_LONGEST_NAP_SECONDS = 0.02
_BLOCK_BYTES = 1 << 20
_ROWS_PER_TASK = 8
_ID_BYTES = 64
_HERE: Final = Path()
_OWN_NAME = re.compile(r"(?P<process>[0-9a-f.]+)\.[0-9a-f]+")


class PixelBuffer:
    """Pixels of some images at one input size, in a folder of their own.

    Attributes:
        folder: the folder.
        image_ids: N image ids; row i of the pixels is ``image_ids[i]``.
        size: side S in pixels.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image_ids = PackedStrings.of_width(np.memmap(folder / _IDS, np.uint8, "r"), _ID_BYTES)
        count = len(self.image_ids)
        self.size = math.isqrt((folder / _PIXELS).stat().st_size // (3 * count))
        self._stop = threading.Event()
        # Taken around every access to the state: orders it against the pixels on any processor.
        self._order = threading.Lock()
        self._pixels = np.memmap(folder / _PIXELS, np.uint8, "r+", shape=(count, self.size, self.size, 3))
        self._state = np.memmap(folder / _STATE, np.int64, "r+", shape=(2,))

    @classmethod
    def create(cls, cache: Path, image_ids: Sequence[str], size: int) -> PixelBuffer:
        """Make an empty buffer with every byte allocated, so that a full disk is an error and not a crash.

        Args:
            cache: folder of the cache, in which the buffer gets a folder of its own.
            image_ids: N image ids, at least one.
            size: side S in pixels.

        Raises:
            StorageError: no room left, or no permission; nothing is left behind.
        """
        ids = PackedStrings.of(image_ids)
        if ids.as_bytes(_ID_BYTES) is None:
            raise ValueError(f"image ids of another length than {_ID_BYTES}")
        cls.remove_abandoned(cache)
        folder = cache / _FOLDER / f"{this_process()}.{secrets.token_hex(6)}"
        try:
            folder.mkdir(parents=True)
            _allocate(folder / _IDS, 0).write_bytes(ids.letters)
            _allocate(folder / _STATE, 2 * np.dtype(np.int64).itemsize)
            _allocate(folder / _PIXELS, cls.bytes_needed(len(image_ids), size))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise storage_error(error, folder) from error
        return cls(folder)

    @classmethod
    def attach(cls, folder: Path) -> PixelBuffer:
        """Open a buffer that this or another process made.

        Raises:
            CacheError: there is none.
        """
        try:
            return cls(folder)
        except (OSError, ValueError) as error:
            raise CacheError("no decoded pixels here", where=folder, got=error) from error

    @staticmethod
    def bytes_needed(count: int, size: int) -> int:
        """Size of ``pixels.u8`` for ``count`` images of side ``size``."""
        return count * size * size * 3

    @staticmethod
    def remove_abandoned(cache: Path) -> tuple[Path, ...]:
        """Delete the buffers in a cache whose processes are gone.

        Those of other machines are, when nothing wrote to them for a week.

        Returns:
            What was deleted.
        """
        dead = tuple(folder for folder in sorted((cache / _FOLDER).glob("*")) if _is_abandoned(folder))
        for folder in dead:
            shutil.rmtree(folder, ignore_errors=True)
        return dead

    def fill(
        self,
        paths: Sequence[Path | str],
        resize: str = Resize.BILINEAR,
        jobs: int = 0,
        *,
        root: Path = _HERE,
        bit_depth: int = FULL_DEPTH,
        observer: Observer | None = None,
    ) -> None:
        """Decode and resize every image into its row, in order, on threads.

        Args:
            paths: N paths; row i must still hold the bytes that ``image_ids[i]`` names.
            resize: how.
            jobs: threads; 0 uses all cores.
            root: folder that relative paths start from.
            bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.
            observer: told how many rows are ready.

        Raises:
            DataError: an image changed or cannot be decoded; waiting readers get the same error.
            JobError: ``stop`` was called meanwhile; waiting readers are told.
        """
        watch = observer or Silent()
        starts = range(0, len(paths), _ROWS_PER_TASK)
        chunks = (range(at, min(at + _ROWS_PER_TASK, len(paths))) for at in starts)

        def fill_rows(rows: range) -> int:
            for row in rows:
                if self._stop.is_set():
                    raise JobError("decoding was stopped", where=self.folder, next_step="Run again.")
                image = decode_verified(root / paths[row], self.image_ids[row], bit_depth)
                self._pixels[row] = resize_pixels(image, self.size, resize)
            return rows.stop

        with self._telling_readers(), closing(map_in_order(fill_rows, chunks, jobs)) as filled:
            watch.started(TASK, len(paths))
            for done in filled:
                self._set(_READY, done)
                watch.advanced(TASK, done)
            watch.finished(TASK)

    def rows(self, start: int, stop: int) -> UInt8:
        """Pixels of rows ``start`` to ``stop``, waiting until they are ready.

        Returns:
            uint8 (n, S, S, 3), a read-only view of the buffer.

        Raises:
            DataError: an image could not be decoded.
            JobError: decoding was stopped.
        """
        nap_seconds = 0.0005
        while self._get(_READY) < min(stop, len(self.image_ids)):
            if self._get(_FAILED):
                raise _failure(self.folder)
            time.sleep(nap_seconds)
            nap_seconds = min(2 * nap_seconds, _LONGEST_NAP_SECONDS)
        view = self._pixels[start:stop].view()
        view.flags.writeable = False
        return view

    def stop(self) -> None:
        """Ask ``fill``, which runs in another thread, to end after the images that are being decoded."""
        self._stop.set()

    def remove(self) -> None:
        """Delete the folder. Views of rows stay valid until they are dropped."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _get(self, place: int) -> int:
        with self._order:
            return int(self._state[place])

    def _set(self, place: int, value: int) -> None:
        with self._order:
            self._state[place] = value

    @contextmanager
    def _telling_readers(self) -> Iterator[None]:
        """Leave an error behind for the readers of rows."""
        try:
            yield
        except BaseException as error:
            # A plain write, which makes no folder: this one may have been removed. Readers are told where the
            # reason cannot be written, too, and nobody reads it before.
            with suppress(OSError):
                (self.folder / _FAILURE).write_text(json.dumps(_described(error)))
            self._set(_FAILED, 1)
            raise


def decode_verified(path: Path, image_id: str, bit_depth: int) -> UInt8:
    """Decoded pixels of a file that still holds the bytes it was identified, and found acceptable, by."""
    try:
        content = read_regular(path)
        if sha256_bytes(content) != image_id and fetch_copy(path):
            content = read_regular(path)
        if sha256_bytes(content) != image_id:
            raise DataError("it changed during the run", next_step="Run again when nothing writes to it.")
        return decode(content, max_pixels=NO_LIMIT, bit_depth=bit_depth)
    except DataError as error:
        raise DataError(error.what, where=path, got=error.got, next_step=error.next_step) from error


def _described(error: BaseException) -> dict[str, Any]:
    """An error as JSON: its kind and its parts."""
    if not isinstance(error, BenchmarkError):
        error = JobError("decoding stopped", got=repr(error), next_step="Run again.")
    parts = {name: getattr(error, name) for name in ("what", "where", "got", "next_step")}
    return {"is_data": isinstance(error, DataError), **parts}


def _failure(folder: Path) -> BenchmarkError:
    """The error that a filler left behind."""
    try:
        told = read_json(folder / _FAILURE)
        kind = DataError if told.pop("is_data") else JobError
        return kind(**{**told, "where": told["where"] or folder})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return JobError("decoding stopped for an unknown reason", where=folder, next_step="Run again.")


def _allocate(path: Path, size: int) -> Path:
    """Make a file of ``size`` zero bytes that really have room on the disk."""
    with path.open("xb") as file:
        if size and not _reserved(file.fileno(), size):
            for at in range(0, size, _BLOCK_BYTES):
                file.write(bytes(min(_BLOCK_BYTES, size - at)))
    return path


def _reserved(descriptor: int, size: int) -> bool:
    """Whether the file system could reserve the bytes by itself; raises OSError when the disk is full."""
    reserve: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    if reserve is None:
        return False
    try:
        reserve(descriptor, 0, size)
    except OSError as error:
        if error.errno in _CANNOT_RESERVE:
            return False
        raise
    return True


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody fills or reads a buffer any more; what is none is left alone."""
    found = _OWN_NAME.fullmatch(folder.name)
    return found is not None and is_abandoned(folder, found["process"])
