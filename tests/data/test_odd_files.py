"""Files, links and names that no tidy data set has: each is used or left out with a reason."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.data import load_images, load_pixels
from benchmark.data.files import read_regular
from benchmark.errors import DataError
from benchmark.options import DataOptions

pytestmark = pytest.mark.faults("odd files, links and names")

Picture = Callable[[int], bytes]


def rejected(folder: Path, cache: Path, **options: bool) -> dict[str, str]:
    images = load_images(folder, cache=cache, options=DataOptions(**options))
    assert len(images) >= 30
    return {item.path: item.reason for item in images.rejected}


def test_a_pipe_does_not_hang(folder: Path, cache: Path) -> None:
    os.mkfifo(folder / "a" / "pipe.jpg")
    os.mkfifo(folder / "a" / "pipe_without_suffix")
    assert rejected(folder, cache) == {"a/pipe.jpg": "not a regular file"}
    with pytest.raises(DataError, match="not a regular file"):
        read_regular(folder / "a" / "pipe.jpg")


def test_devices_are_refused() -> None:
    with pytest.raises(DataError, match="not a regular file"):
        read_regular("/dev/zero")


def test_a_folder_called_like_an_image(folder: Path, cache: Path) -> None:
    (folder / "a" / "folder.jpg").mkdir()
    assert rejected(folder, cache) == {"a/folder.jpg": "a folder, not a file"}


def test_links_that_lead_nowhere_or_in_circles(folder: Path, cache: Path) -> None:
    (folder / "a" / "dangling.jpg").symlink_to("missing.jpg")
    (folder / "a" / "circle.jpg").symlink_to("circle.jpg")
    (folder / "loop").symlink_to("loop")
    assert rejected(folder, cache) == {
        "a/dangling.jpg": "a link that leads nowhere",
        "a/circle.jpg": "a link that leads in a circle",
        "loop": "a link that leads in a circle",
    }
    assert set(rejected(folder, cache, follow_links=True)) == {"a/dangling.jpg", "a/circle.jpg", "loop"}


def test_links_out_of_the_data_folder_are_refused_unless_asked_for(
    folder: Path, cache: Path, tmp_path: Path, picture: Picture
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(picture(80))
    (folder / "a" / "file.png").symlink_to(outside / "secret.png")
    (folder / "a" / "dir").symlink_to(outside)
    (folder / "c").symlink_to(outside)
    reason = "it leads outside of the data folder (`follow_links` accepts it)"
    assert rejected(folder, cache) == {"a/file.png": reason, "a/dir": reason, "c": reason}
    (folder / "c").unlink()
    images = load_images(folder, cache=cache, options=DataOptions(follow_links=True))
    assert len(images) == 31
    assert images.duplicates == (("a/dir/secret.png", "a/file.png"),)


def test_links_inside_the_data_folder(folder: Path, cache: Path) -> None:
    (folder / "a" / "again.png").symlink_to("00.png")
    (folder / "a" / "around").symlink_to("..")
    images = load_images(folder, cache=cache)
    assert images.duplicates == (("a/00.png", "a/again.png"),)
    assert rejected(folder, cache) == {
        "a/around": "it leads outside of the data folder (`follow_links` accepts it)"
    }


def test_followed_links_in_circles_end(folder: Path, cache: Path) -> None:
    (folder / "a" / "deep").mkdir()
    (folder / "a" / "deep" / "back").symlink_to("..")
    images = load_images(folder, cache=cache, options=DataOptions(follow_links=True))
    assert len(images) == 30
    assert images.duplicates == ()


@pytest.mark.parametrize(
    "name",
    [
        "emoji 🧱.png",
        "new\nline.png",
        "comma, and; semicolon.png",
        "=cmd|calc!A1.png",
        "ümlaut.PNG",
        " spaces .png",
        "-rf.png",
        "x" * 250 + ".png",
    ],
)
def test_odd_names_are_only_names(folder: Path, cache: Path, picture: Picture, name: str) -> None:
    (folder / "a" / name).write_bytes(picture(81))
    images = load_images(folder, cache=cache)
    assert f"a/{name}" in images.paths
    assert load_pixels(images.root / f"a/{name}", 4).shape == (4, 4, 3)


def test_names_that_are_not_utf8(folder: Path, cache: Path, picture: Picture) -> None:
    try:
        (folder / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(picture(82))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for _ in range(2):
        images = load_images(folder, cache=cache)
        assert "a/caf\udce9.png" in images.paths
        assert images.rejected == ()


def test_paths_longer_than_the_system_takes(folder: Path, cache: Path, picture: Picture) -> None:
    here = os.open(folder / "a", os.O_RDONLY)
    opened = [here]
    try:
        for _ in range(20):
            os.mkdir("d" * 240, dir_fd=here)
            here = os.open("d" * 240, os.O_RDONLY, dir_fd=here)
            opened.append(here)
        descriptor = os.open("deep.png", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(descriptor, picture(83))
        os.close(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    reasons = set(rejected(folder, cache).values())
    assert reasons == {"a folder that cannot be listed: the path is too long for this system"}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions do not stop the superuser: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65_534)
    except OSError:
        pytest.skip("there is nobody else to be here")
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_and_folders_without_permission(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as open_to_all:
        root = Path(open_to_all)
        root.chmod(0o777)
        shutil.copytree(folder, root / "data")
        (root / "data" / "a" / "00.png").chmod(0)
        (root / "data" / "a" / "closed").mkdir(mode=0)
        with unprivileged():
            images = load_images(root / "data", cache=root / "cache")
        assert len(images) == 29
        assert {item.path: item.reason for item in images.rejected} == {
            "a/00.png": "no permission to read it",
            "a/closed": "a folder that cannot be listed: no permission to read it",
        }


def test_a_huge_sparse_file_is_not_read(folder: Path, cache: Path) -> None:
    with (folder / "a" / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    assert rejected(folder, cache) == {"a/huge.jpg": "too large a file"}


def test_load_pixels_names_the_file(folder: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.png: no such file"):
        load_pixels(folder / "missing.png", 8)
