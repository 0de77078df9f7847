"""The buffer: filled once, read meanwhile by others; a failing filler ends their wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data import PixelBuffer, load_images, load_pixels
from benchmark.errors import BenchmarkError, CacheError, DataError, JobError
from benchmark.records import ImageSet, Resize

Picture = Callable[[int], bytes]


@pytest.fixture
def images(folder: Path, cache: Path) -> ImageSet:
    return load_images(folder, cache=cache)


def paths_of(images: ImageSet) -> list[Path]:
    return [images.root / path for path in images.paths]


@pytest.mark.parametrize("resize", list(Resize))
def test_rows_are_what_load_pixels_gives(images: ImageSet, tmp_path: Path, resize: Resize) -> None:
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    buffer.fill(paths_of(images), resize, 2)
    rows = buffer.rows(0, len(images))
    assert rows.shape == (30, 6, 6, 3)
    assert not rows.flags.writeable
    for row, path in zip(rows, paths_of(images), strict=True):
        assert np.array_equal(row, load_pixels(path, 6, resize))
    assert (buffer.folder / "pixels.u8").stat().st_size == PixelBuffer.bytes_needed(30, 6)
    buffer.remove()
    assert not buffer.folder.exists()


def test_another_process_reads_while_rows_are_filled(images: ImageSet, tmp_path: Path) -> None:
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    code = (
        "import sys; from pathlib import Path; from benchmark.data import PixelBuffer\n"
        "s = PixelBuffer.attach(Path(sys.argv[1])); print('attached', flush=True)\n"
        "print(sum(int(s.rows(n, n + 5).sum(dtype='int64')) for n in range(0, 30, 5)), s.size)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(buffer.folder)], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "attached\n"
        buffer.fill(paths_of(images), Resize.BILINEAR, 1)
        assert reader.stdout.read().split() == [str(int(buffer.rows(0, 30).sum(dtype=np.int64))), "6"]


def test_a_reader_waits_for_its_own_rows_only(images: ImageSet, tmp_path: Path) -> None:
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    pipe = tmp_path / "never.png"
    paths = [*paths_of(images)[:29], pipe]
    with pytest.raises(DataError):
        buffer.fill(paths, Resize.BILINEAR, 1)
    assert buffer.rows(0, 20).shape == (20, 6, 6, 3)


def test_a_bad_image_reaches_every_reader(images: ImageSet, tmp_path: Path) -> None:
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            PixelBuffer.attach(buffer.folder).rows(0, 30)
        except BenchmarkError as error:
            caught.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    changed = paths_of(images)[7]
    changed.write_bytes(paths_of(images)[8].read_bytes())
    with pytest.raises(DataError, match="it changed during the run"):
        buffer.fill(paths_of(images), Resize.BILINEAR, 2)
    for reader in readers:
        reader.join(timeout=60)
    assert [type(error) for error in caught] == [DataError] * 3
    assert all(str(changed) in str(error) for error in caught)


def test_what_the_dead_left_is_removed(images: ImageSet, tmp_path: Path) -> None:
    """By whoever makes the next buffer; what lives, what is foreign and what another machine made stays."""
    code = (
        "import sys; from pathlib import Path; from benchmark.data import PixelBuffer\n"
        "print(PixelBuffer.create(Path(sys.argv[1]), sys.argv[2:], 6).folder)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *images.image_ids]
    dead = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    others = [dead.parent / "foreign", dead.parent / ("00000000" + dead.name[8:])]
    for folder in others:
        folder.mkdir()
    assert dead.exists()
    living = PixelBuffer.create(tmp_path, images.image_ids, 6)
    assert not dead.exists()
    assert PixelBuffer.remove_abandoned(tmp_path) == ()
    assert sorted(dead.parent.iterdir()) == sorted([living.folder, *others])


def test_a_younger_process_of_the_same_number_is_another(images: ImageSet, tmp_path: Path) -> None:
    """In a container, process numbers are the same in every run."""
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    host, pid, started, token = buffer.folder.name.split(".")
    older = buffer.folder.with_name(f"{host}.{pid}.{int(started) - 60}.{token}")
    buffer.folder.rename(older)
    assert PixelBuffer.remove_abandoned(tmp_path) == (older,)


def test_a_file_server_whose_clock_lags_takes_nothing_from_the_living(
    images: ImageSet, tmp_path: Path
) -> None:
    """Times of files are the server's."""
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    os.utime(buffer.folder, (1, 1))
    assert PixelBuffer.remove_abandoned(tmp_path) == ()
    buffer.fill(paths_of(images), Resize.BILINEAR, 1)
    assert buffer.rows(0, 30).shape == (30, 6, 6, 3)


@pytest.mark.parametrize(("days", "is_removed"), [(6, False), (8, True)])
def test_what_another_machine_left_goes_after_a_week(
    images: ImageSet, tmp_path: Path, days: int, is_removed: bool
) -> None:
    """A container that was killed has another name when it comes again."""
    own = PixelBuffer.create(tmp_path, images.image_ids, 6).folder
    left = own.rename(own.with_name("00000000" + own.name[8:]))
    then = time.time() - days * 24 * 3600
    for path in (*left.iterdir(), left):
        os.utime(path, (then, then))
    assert PixelBuffer.remove_abandoned(tmp_path) == ((left,) if is_removed else ())
    assert left.exists() != is_removed


@pytest.mark.parametrize("moment", ["benchmark.data.pixel_buffer._allocate", "os.unlink"])
def test_a_kill_at_any_moment_leaves_nothing_that_cannot_be_removed(
    images: ImageSet, tmp_path: Path, moment: str
) -> None:
    """While it is made, while it is deleted."""
    code = (
        "import os, sys; from pathlib import Path; from unittest import mock\n"
        "from benchmark.data import PixelBuffer\n"
        f"with mock.patch({moment!r}, lambda *_, **__: os.kill(os.getpid(), 9)):\n"
        "    PixelBuffer.create(Path(sys.argv[1]), sys.argv[2:], 6).remove()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *images.image_ids], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "scratch").iterdir()
    assert PixelBuffer.remove_abandoned(tmp_path) == (left,)
    assert not list((tmp_path / "scratch").iterdir())


def test_an_interrupted_filler_is_told(images: ImageSet, tmp_path: Path) -> None:
    class Interrupting:
        def started(self, task: str, total: int) -> None:
            raise KeyboardInterrupt

    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    with pytest.raises(KeyboardInterrupt):
        buffer.fill(paths_of(images), Resize.BILINEAR, 1, observer=Interrupting())  # type: ignore[arg-type]
    with pytest.raises(JobError, match="decoding stopped; got KeyboardInterrupt"):
        buffer.rows(0, 1)


def test_nothing_to_attach_to(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no decoded pixels here"):
        PixelBuffer.attach(tmp_path)


def test_a_full_disk_is_an_error_and_leaves_nothing(images: ImageSet, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from benchmark.data import PixelBuffer; from benchmark.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: PixelBuffer.create(Path(sys.argv[1]), ['00' * 32] * 100, 224)\n"
        "except StorageError as error: print('full', error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("full")
    assert "Free some space" in done.stdout
    assert not list((tmp_path / "scratch").iterdir())


def test_descriptors_and_threads_return(images: ImageSet, tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc here")
    counts = []
    for _ in range(4):
        buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
        buffer.fill(paths_of(images), Resize.BILINEAR, 2)
        buffer.rows(0, 30)
        buffer.remove()
        del buffer
        opened = [str(one.readlink()) for one in descriptors.iterdir() if one.is_symlink()]
        threads = [one for one in threading.enumerate() if one.name.startswith("images")]
        counts.append((sum(str(tmp_path) in one for one in opened), len(threads)))
    assert counts[-1] == counts[0]


def test_filling_overlaps_with_reading(images: ImageSet, tmp_path: Path) -> None:
    """Rows become readable in order while later ones are still being decoded."""
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    paths_of(images)[-1].unlink()
    seen: list[int] = []

    def read() -> None:
        for row in range(20):
            buffer.rows(row, row + 1)
            seen.append(row)

    reader = threading.Thread(target=read)
    reader.start()
    with pytest.raises(DataError, match="no such file"):
        buffer.fill(paths_of(images), Resize.BILINEAR, 1)
    reader.join(timeout=60)
    assert len(seen) == 20


def slow_decoder(
    monkeypatch: pytest.MonkeyPatch, seconds: float, gate: threading.Event | None = None
) -> list[float]:
    """Make every image take some time; the times at which one was begun.

    Those from the seventeenth on wait for the gate: two shares of rows can be read by then.
    """
    from benchmark.data import pixel_buffer

    begun: list[float] = []
    decode = pixel_buffer.decode

    def slowly(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        begun.append(time.monotonic())
        time.sleep(seconds)
        if gate is not None and len(begun) > 16:
            gate.wait(60)
        return decode(*arguments, **named)

    monkeypatch.setattr(pixel_buffer, "decode", slowly)
    return begun


def test_a_stopped_filler_ends_after_the_image_at_hand(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    begun = slow_decoder(monkeypatch, 0.1, gate)
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    caught: list[BaseException] = []

    def fill() -> None:
        try:
            buffer.fill(paths_of(images), Resize.BILINEAR, 2)
        except BenchmarkError as error:
            caught.append(error)

    filler = threading.Thread(target=fill)
    filler.start()
    buffer.rows(0, 1)
    buffer.stop()
    seen = len(begun)
    gate.set()
    filler.join(timeout=60)
    assert not filler.is_alive()
    assert len(begun) <= seen + 2, "at most the image that each thread was about to begin"
    assert [type(error) for error in caught] == [JobError]
    with pytest.raises(JobError, match="decoding was stopped"):
        PixelBuffer.attach(buffer.folder).rows(29, 30)


def test_a_failure_makes_no_folder_anew(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_decoder(monkeypatch, 0.1)
    buffer = PixelBuffer.create(tmp_path, images.image_ids, 6)
    paths_of(images)[9].unlink()
    removing = threading.Timer(0.15, buffer.remove)
    removing.start()
    with pytest.raises(DataError, match="no such file"):
        buffer.fill(paths_of(images), Resize.BILINEAR, 1)
    removing.join()
    assert not buffer.folder.exists()
