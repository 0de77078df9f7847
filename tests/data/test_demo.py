"""The demo data set: the same from the same seed, balanced, and never over somebody's files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import load_images, load_pixels, write_demo
from benchmark.errors import ArgumentError
from benchmark.options import DataOptions
from benchmark.records import Task


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.jpg")
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "concrete", count=24)


def test_it_is_a_data_set(demo: Path, tmp_path: Path) -> None:
    images = load_images(demo, cache=tmp_path, options=DataOptions(groups=r"surface-(\d+)"))
    assert len(images) == 24
    assert images.task is Task.BINARY
    assert images.classes == ("Negative", "Positive")
    assert images.positive == 1
    assert np.bincount(images.targets).tolist() == [12, 12]
    assert images.groups is not None
    assert np.bincount(images.groups).tolist() == [4] * 6
    assert images.rejected == ()
    assert load_pixels(images.root / images.paths[0], 227).std() > 2


def test_no_single_number_of_a_file_tells_the_classes_apart(tmp_path: Path) -> None:
    folder = write_demo(tmp_path / "d", count=120)
    facts = []
    for path in sorted(folder.rglob("*.jpg")):
        pixels = load_pixels(path, 227)
        facts.append((path.stat().st_size, pixels.mean(), pixels.std(), np.percentile(pixels, 1)))
    cracked = np.repeat([False, True], 60)
    for fact in np.array(facts).T:
        right = [np.mean((fact > limit) == cracked) for limit in fact]
        assert min(right) > 0.25, "a limit on one number"
        assert max(right) < 0.75, "a limit on one number"


def test_a_seed_draws_the_same_files(demo: Path, tmp_path: Path) -> None:
    assert digests(write_demo(tmp_path / "again", count=24)) == digests(demo)
    other = digests(write_demo(tmp_path / "other", count=24, seed=1))
    assert not set(other.values()) & set(digests(demo).values())


def test_more_images_are_another_draw_of_labels_but_balanced(tmp_path: Path) -> None:
    folder = write_demo(tmp_path / "d", count=13)
    assert len(list((folder / "Positive").iterdir())) == 6
    assert len(list((folder / "Negative").iterdir())) == 7


def test_what_is_there_already_is_not_drawn_again(demo: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*.jpg")}
    write_demo(demo, count=24)
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*.jpg")} == before


def test_an_earlier_or_broken_demo_is_replaced(tmp_path: Path) -> None:
    folder = write_demo(tmp_path / "d", count=16, seed=3)
    whole = digests(folder)
    next(iter((folder / "Positive").iterdir())).unlink()
    assert digests(write_demo(folder, count=16, seed=3)) == whole
    (folder / "Positive" / "mine.jpg").write_bytes(b"kept")
    smaller = digests(write_demo(folder, count=12, seed=3))
    assert len(smaller) == 13
    assert (folder / "Positive" / "mine.jpg").read_bytes() == b"kept"


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArgumentError, match="holds something else"):
        write_demo(tmp_path, count=12)
    with pytest.raises(ArgumentError, match="not a folder"):
        write_demo(tmp_path / "thesis.txt", count=12)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="too few images; expected at least 12; got 3"):
        write_demo(tmp_path / "d", count=3)
