"""Decoded pixels on disk, written once and read by any number of threads and processes at the same time.

``pixels.u8`` holds uint8 (N, S, S, 3), ``images.ids`` the 64 hexadecimal digits of each image's id.
``state.u1`` holds one byte per row (0 not yet, 1 ready), then the filler's pulse and phase. All are
memory-mapped: they live in the page cache, not in a process's own memory.

A reader waits for its rows; where the filler failed or died, it gets an error instead of waiting for ever.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmark.data.decode import FULL_DEPTH, decode
from benchmark.data.files import read_regular
from benchmark.data.resize import resize_pixels
from benchmark.data.workers import map_in_order
from benchmark.errors import BenchmarkError, CacheError, DataError, JobError
from benchmark.memory import PackedStrings
from benchmark.records import MAX_PIXELS, Observer, Resize, UInt8
from benchmark.storage import fetch_copy, read_json, sha256_bytes, storage_error, write_whole

TASK: Final = "decode"
_PIXELS, _STATE, _IDS, _OWNER, _FAILURE = "pixels.u8", "state.u1", "images.ids", "owner.json", "failure.json"
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_READY = 1
_FILLING, _FILLED, _FAILED = 1, 2, 3
_PULSE_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0
_OWNER_CHECK_SECONDS = 0.5
_MAKING_SECONDS = 60.0
_LONGEST_NAP_SECONDS = 0.02
_BLOCK_BYTES = 1 << 20
_ROWS_PER_TASK = 8
_ID_BYTES = 64
_HERE: Final = Path()


class PixelBuffer:
    """Pixels of some images at one input size, in a folder of their own.

    Attributes:
        folder: the folder.
        image_ids: N image ids; row i of the pixels is ``image_ids[i]``.
        size: side S in pixels.
        patience_seconds: how long a reader waits for a filler that shows no pulse.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.image_ids = PackedStrings.of_width(np.memmap(folder / _IDS, np.uint8, "r"), _ID_BYTES)
        self.size = size
        self.patience_seconds = _PATIENCE_SECONDS
        self._stop = threading.Event()
        # Taken around every access to a row's state: orders it against the row's pixels on any processor.
        self._order = threading.Lock()
        self._pixels = _mapped(folder / _PIXELS, (len(self.image_ids), size, size, 3))
        self._state = _mapped(folder / _STATE, (len(self.image_ids) + 2,))

    @classmethod
    def create(cls, folder: Path, image_ids: Sequence[str], size: int) -> PixelBuffer:
        """Make an empty scratch with every byte allocated, so that a full disk is an error and not a crash.

        Args:
            folder: of this scratch alone; what a dead process left there is removed.
            image_ids: N image ids, at least one.
            size: side S in pixels.

        Raises:
            StorageError: no room left, or no permission; nothing is left behind.
            CacheError: another living process uses this folder.
        """
        ids = PackedStrings.of(image_ids)
        if ids.as_bytes(_ID_BYTES) is None:
            raise ValueError(f"image ids of another length than {_ID_BYTES}")
        if _exists(folder):
            _remove_abandoned(folder)
        making = _name_of_the_making(folder)
        try:
            making.mkdir(parents=True)
            _own(making, size)
            making.rename(folder)
            _allocate(folder / _IDS, 0).write_bytes(ids.letters)
            _allocate(folder / _STATE, len(image_ids) + 2)
            _allocate(folder / _PIXELS, cls.bytes_needed(len(image_ids), size))
        except OSError as error:
            _delete(making)
            _delete(folder)
            raise storage_error(error, folder) from error
        return cls(folder, size)

    @classmethod
    def attach(cls, folder: Path) -> PixelBuffer:
        """Open a scratch that this or another process made.

        Raises:
            CacheError: there is none.
        """
        try:
            return cls(folder, int(_owner(folder)["size"]))
        except (OSError, ValueError, KeyError) as error:
            raise CacheError("no decoded pixels here", where=folder, got=error) from error

    @staticmethod
    def bytes_needed(count: int, size: int) -> int:
        """Size of ``pixels.u8`` for ``count`` images of side ``size``."""
        return count * size * size * 3

    @staticmethod
    def remove_abandoned(parent: Path) -> tuple[Path, ...]:
        """Delete the scratches directly below a folder whose processes are gone.

        One without an owner was being made or deleted when its process was killed; its name tells which
        process that was. Folders of other people have neither an owner nor such a name.

        Returns:
            What was deleted.
        """
        made = sorted(path for path in parent.glob("*") if path.is_dir())
        dead = tuple(folder for folder in made if _is_ours(folder) and not _alive(folder))
        for folder in dead:
            _delete(folder)
        return dead

    def fill(
        self,
        paths: Sequence[Path | str],
        resize: str = Resize.BILINEAR,
        jobs: int = 0,
        *,
        root: Path = _HERE,
        max_pixels: int = MAX_PIXELS,
        bit_depth: int = FULL_DEPTH,
        observer: Observer | None = None,
    ) -> None:
        """Decode and resize every image into its row, in order, on threads.

        Args:
            paths: N paths; row i must still hold the bytes that ``image_ids[i]`` names.
            resize: how.
            jobs: threads; 0 uses all cores.
            root: folder that relative paths start from.
            max_pixels: images whose header declares more are refused before decoding.
            bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.
            observer: told how many rows are ready.

        Raises:
            DataError: an image changed or cannot be decoded; waiting readers get the same error.
            JobError: ``stop`` was called meanwhile; waiting readers are told.
        """
        chunks = (
            range(at, min(at + _ROWS_PER_TASK, len(paths))) for at in range(0, len(paths), _ROWS_PER_TASK)
        )

        def fill_rows(rows: range) -> int:
            for row in rows:
                if self._stop.is_set():
                    raise JobError("decoding was stopped", where=self.folder, next_step="Run again.")
                self._put(
                    row,
                    decode_verified(root / paths[row], self.image_ids[row], max_pixels, bit_depth),
                    resize,
                )
            return rows.stop

        with self._filling(), closing(map_in_order(fill_rows, chunks, jobs)) as filled:
            _tell(observer, "started", len(paths))
            for done in filled:
                _tell(observer, "advanced", done)
            if observer:
                observer.finished(TASK)

    def rows(self, start: int, stop: int) -> UInt8:
        """Pixels of rows ``start`` to ``stop``, waiting until they are ready.

        Returns:
            uint8 (n, S, S, 3), a read-only view of the scratch.

        Raises:
            DataError: an image could not be decoded.
            JobError: the filler died, or shows no pulse.
        """
        watch = _Watch(self)
        while not self._are_ready(start, stop):
            watch.wait()
        view = self._pixels[start:stop].view()
        view.flags.writeable = False
        return view

    def stop(self) -> None:
        """Ask ``fill``, which runs in another thread, to end after the images that are being decoded."""
        self._stop.set()

    def remove(self) -> None:
        """Delete the folder. Views of rows stay valid until they are dropped."""
        _delete(self.folder)

    def _put(self, row: int, image: UInt8, resize: str) -> None:
        self._pixels[row] = resize_pixels(image, self.size, resize)
        with self._order:
            self._state[row] = _READY

    def _are_ready(self, start: int, stop: int) -> bool:
        with self._order:
            return bool(np.all(self._state[: len(self.image_ids)][start:stop] == _READY))

    @property
    def _pulse(self) -> int:
        return int(self._state[-2])

    @property
    def _phase(self) -> int:
        return int(self._state[-1])

    @contextmanager
    def _filling(self) -> Iterator[None]:
        """Show a pulse while rows are filled, and leave the error behind where that fails."""
        _own(self.folder, self.size)
        self._state[-1] = _FILLING
        stopped = threading.Event()
        heart = threading.Thread(target=self._beat, args=(stopped,), name="scratch-pulse", daemon=True)
        heart.start()
        try:
            yield
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            stopped.set()
            heart.join()
        self._state[-1] = _FILLED

    def _beat(self, stopped: threading.Event) -> None:
        while not stopped.wait(_PULSE_SECONDS):
            self._state[-2] = (self._pulse + 1) % 256

    def _fail(self, error: BaseException) -> None:
        # Readers see the phase even where the reason cannot be written. A plain write, which makes no folder:
        # this one may have been removed. Nobody reads the reason before the phase says that there is one.
        with suppress(OSError):
            (self.folder / _FAILURE).write_text(json.dumps(_described(error)))
        self._state[-1] = _FAILED


def _tell(observer: Observer | None, event: str, count: int) -> None:
    if observer:
        getattr(observer, event)(TASK, count)


def decode_verified(path: Path, image_id: str, max_pixels: int, bit_depth: int) -> UInt8:
    """Decoded pixels of a file that still holds the bytes it was identified by."""
    try:
        content = read_regular(path)
        if sha256_bytes(content) != image_id and fetch_copy(path):
            content = read_regular(path)
        if sha256_bytes(content) != image_id:
            raise DataError("it changed during the run", next_step="Run again when nothing writes to it.")
        return decode(content, max_pixels=max_pixels, bit_depth=bit_depth)
    except DataError as error:
        raise DataError(error.what, where=path, got=error.got, next_step=error.next_step) from error


class _Watch:
    """Waiting for a filler, for as long as it lives."""

    def __init__(self, scratch: PixelBuffer) -> None:
        self.scratch = scratch
        self.nap_seconds = 0.0005
        self.pulse = -1
        self.felt = self.checked = time.monotonic()

    def wait(self) -> None:
        """Sleep a little, or raise when nothing is left to wait for."""
        if self.scratch._phase == _FAILED:
            raise _failure(self.scratch.folder)
        now = time.monotonic()
        if self.scratch._pulse != self.pulse:
            self.pulse, self.felt = self.scratch._pulse, now
        if now - self.felt > self.scratch.patience_seconds:
            raise _abandoned(self.scratch.folder, f"no pulse for {self.scratch.patience_seconds:.0f} s")
        if now - self.checked > _OWNER_CHECK_SECONDS:
            self.checked = now
            if not _alive(self.scratch.folder):
                raise _abandoned(self.scratch.folder, "its process is gone")
        time.sleep(self.nap_seconds)
        self.nap_seconds = min(2 * self.nap_seconds, _LONGEST_NAP_SECONDS)


def _described(error: BaseException) -> dict[str, str]:
    if isinstance(error, BenchmarkError):
        return {
            "kind": "data" if isinstance(error, DataError) else "job",
            "what": error.what,
            "where": error.where,
            "got": error.got,
            "next_step": error.next_step,
        }
    return {
        "kind": "job",
        "what": "decoding stopped",
        "where": "",
        "got": repr(error),
        "next_step": "Run again.",
    }


def _failure(folder: Path) -> BenchmarkError:
    """The error that a filler left behind."""
    try:
        told: dict[str, str] = read_json(folder / _FAILURE)
        kind = DataError if told["kind"] == "data" else JobError
        return kind(told["what"], where=told["where"] or folder, got=told["got"], next_step=told["next_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return JobError("decoding stopped for an unknown reason", where=folder, next_step="Run again.")


def _abandoned(folder: Path, got: str) -> JobError:
    return JobError(
        "decoding stopped before these images were ready", where=folder, got=got, next_step="Run again."
    )


def _mapped(path: Path, shape: tuple[int, ...]) -> UInt8:
    mapped: UInt8 = np.memmap(path, np.uint8, "r+", shape=shape)
    return mapped


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


def _own(folder: Path, size: int) -> None:
    import psutil

    started = psutil.Process().create_time()
    owner = {"size": size, "pid": os.getpid(), "started": started, "host": socket.gethostname()}
    write_whole(folder / _OWNER, json.dumps(owner).encode(), root=folder)


def _owner(folder: Path) -> dict[str, Any]:
    owner: dict[str, Any] = read_json(folder / _OWNER)
    return owner


def _is_ours(folder: Path) -> bool:
    return (folder / _OWNER).exists() or _maker(folder) is not None


def _maker(folder: Path) -> tuple[str, int] | None:
    """Host and process that a folder's name tells, None where it tells none."""
    _, _, maker = folder.name.partition(".")
    host, _, number = maker.partition(".")
    return (host, int(number)) if number.isdecimal() else None


def _alive(folder: Path) -> bool:
    """Whether the process that owns, makes or deletes a scratch lives.

    Taken for granted where it runs on another machine, of a maker for a while.
    """
    import psutil

    maker = _maker(folder)
    if maker is not None:
        return bool(psutil.pid_exists(maker[1])) if maker[0] == _this_host() else _is_new(folder)
    try:
        owner = _owner(folder)
        if owner["host"] != socket.gethostname():
            return True
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["started"]) < 1.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return False


def _name_of_the_making(folder: Path) -> Path:
    """Where a scratch is made and deleted: while it has no owner, the name tells who is at it."""
    name = folder.name.partition(".")[0]
    return folder.with_name(f"{name}.{_this_host()}.{os.getpid()}")


def _delete(folder: Path) -> None:
    going = _name_of_the_making(folder)
    with contextlib.suppress(OSError):
        folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _this_host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_new(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime < _MAKING_SECONDS
    except OSError:
        return True


def _exists(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _remove_abandoned(folder: Path) -> None:
    if not (folder / _OWNER).exists() or _alive(folder):
        raise CacheError(
            "a folder that is in use", where=folder, expected="a new folder", next_step="Choose another one."
        )
    _delete(folder)
