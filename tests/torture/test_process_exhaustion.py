"""No room, no handles, no home, no permission: commands say so, lose nothing, go on when there is room."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_runs import Command, Vectors, image_ids, lost, run, vectors, wrong

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.name != "posix", reason="limits and permissions as on POSIX"),
]

IMAGES = 40
ONE = ("--backbones", "MobileNet_0.25", "--weights", "random", "--size", "32")
PRINTED = ("--quiet", "--format", "json")


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    run("demo", root / "walls", "--count", IMAGES, "--quiet", folder=root)
    return root / "walls"


@pytest.fixture(scope="module")
def full(walls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vectors]:
    """A finished ranking's folder, and its vectors; read only."""
    root = tmp_path_factory.mktemp("full")
    done = run(*ranking(walls, root), folder=root)
    assert done.wait() == 0, done.errors
    return root, vectors(root / "cache", image_ids(walls))


def ranking(walls: Path, place: Path, jobs: int = 1) -> tuple[object, ...]:
    folders = ("--cache", place / "cache", "--results", place / "results")
    return "rank", walls, *ONE, "--jobs", jobs, "--repeats", 1, "--epochs", 3, *folders, *PRINTED


def said(command: Command) -> str:
    """The message of a failed command: a line, no traceback."""
    assert "Traceback" not in command.errors, command.errors
    lines = command.errors.strip().splitlines()
    assert lines, "it says nothing"
    return lines[-1]


def limited(kind: int, value: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(kind, (value, value))

    return limit


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("size", [2_000, 30_000, 200_000])
def test_a_limit_on_the_size_of_files(
    tmp_path: Path,
    walls: Path,
    full: tuple[Path, Vectors],
    size: int,
    jobs: int,
    torture_row: Callable[..., None],
) -> None:
    """The scratch, a part, a plot: whatever does not fit is named."""
    words = ranking(walls, tmp_path, jobs)
    stopped = run(*words, folder=tmp_path, limit=limited(resource.RLIMIT_FSIZE, size))
    if stopped.wait() != 0:
        assert stopped.wait() == 1, stopped.errors
        assert "cannot be written" in said(stopped)
        assert "File too large" in said(stopped)
    ids = image_ids(walls)
    held = vectors(tmp_path / "cache", ids)
    again = run(*words, folder=tmp_path)
    assert again.wait() == 0, again.errors
    now = vectors(tmp_path / "cache", ids)
    gone, bad = lost(held, now), wrong(now, full[1])
    torture_row("file-size limit on rank", injected=1, survived=1, rows_lost=gone, rows_wrong=bad)
    assert (gone, bad) == (0, 0)
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(
    small_disk: Path,
    tmp_path: Path,
    walls: Path,
    full: tuple[Path, Vectors],
    torture_row: Callable[..., None],
) -> None:
    """The plots of the board do not fit; embeddings and outcomes that did stay and are used later."""
    words = ranking(walls, small_disk)
    stopped = run(*words, folder=tmp_path)
    assert stopped.wait() == 1, stopped.errors
    assert "No space left on device. Free some space" in said(stopped)
    ids = image_ids(walls)
    held = vectors(small_disk / "cache", ids)
    assert run("cache", "verify", "--cache", small_disk / "cache", folder=tmp_path).wait() == 0
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = run(*words, folder=tmp_path)
    assert again.wait() == 0, again.errors
    now = vectors(small_disk / "cache", ids)
    gone, bad = lost(held, now), wrong(now, full[1])
    torture_row("full disk under rank", injected=1, survived=1, rows_lost=gone, rows_wrong=bad)
    assert (gone, bad) == (0, 0)
    assert not list(small_disk.rglob(".tmp-*"))


@pytest.mark.parametrize("files", [16, 24, 32, 48, 64])
def test_too_many_open_files(
    tmp_path: Path, walls: Path, full: tuple[Path, Vectors], files: int, torture_row: Callable[..., None]
) -> None:
    words = ("embed", walls, *ONE, "--jobs", 1, "--cache", tmp_path / "cache", *PRINTED)
    stopped = run(*words, folder=tmp_path, limit=limited(resource.RLIMIT_NOFILE, files))
    if stopped.wait() != 0:
        assert stopped.wait() == 1, stopped.errors
        assert "Too many open files" in stopped.errors + stopped.out.read_text()
        assert "Traceback" not in stopped.errors
    again = run(*words, folder=tmp_path)
    assert again.wait() == 0, again.errors
    bad = wrong(vectors(tmp_path / "cache", image_ids(walls)), full[1])
    torture_row("too many open files under embed", injected=1, survived=1, rows_wrong=bad)
    assert bad == 0


def test_no_home(
    tmp_path: Path, walls: Path, full: tuple[Path, Vectors], torture_row: Callable[..., None]
) -> None:
    for number, variables in enumerate(({"HOME": ""}, {"HOME": "/nonexistent"})):
        place = tmp_path / str(number)
        place.mkdir()
        done = run(*ranking(walls, place), folder=place, **variables)
        assert done.wait() == 0, done.errors
        assert wrong(vectors(place / "cache", image_ids(walls)), full[1]) == 0
    torture_row("no home directory", injected=2, survived=2)


@pytest.fixture
def sealed(tmp_path: Path, full: tuple[Path, Vectors]) -> Iterator[Path]:
    """A copy of a finished ranking on a file system that cannot be written."""
    disk = tmp_path / "sealed"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    for name in ("cache", "results"):
        shutil.copytree(full[0] / name, disk / name)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_read_only_folders(
    sealed: Path, tmp_path: Path, walls: Path, full: tuple[Path, Vectors], torture_row: Callable[..., None]
) -> None:
    """A full cache can be used as it is; results that cannot be written are an error that says so."""
    words = ranking(walls, sealed)
    refused = run(*words, folder=tmp_path)
    assert refused.wait() == 1
    assert "cannot be written" in said(refused)
    elsewhere = run(*words, "--results", tmp_path / "results", folder=tmp_path)
    assert elsewhere.wait() == 0, elsewhere.errors
    bad = wrong(vectors(sealed / "cache", image_ids(walls)), full[1])
    torture_row("read-only cache and results under rank", injected=2, survived=2, rows_wrong=bad)
    assert bad == 0
