"""What is said of what was read: the summary, what was left out, parts and groups that do not hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.audit import Severity, audit
from benchmark.data import file_facts, load_images, reading_notes, reading_summary
from benchmark.data.file_facts import FACTS
from benchmark.errors import DataError
from benchmark.records import ImageSet

Picture = Callable[[int], bytes]


def draw(root: Path, picture: Picture, classes: dict[str, int], start: int = 0) -> Path:
    """``root/<class>/<number>.png``, every content its own."""
    number = start
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            (root / name / f"{number}.png").write_bytes(picture(number))
            number += 1
    return root


def notes(images: ImageSet) -> str:
    return "\n".join(reading_notes(images))


def test_the_summary_names_images_copies_classes_and_parts(folder: Path, cache: Path) -> None:
    (folder / "a" / "copy.png").write_bytes((folder / "a" / "00.png").read_bytes())
    (folder / "b" / "torn.jpg").write_bytes(b"\xff\xd8 torn")
    assert reading_summary(load_images(folder, cache=cache)) == (
        "31 images read (1 copy left out), 2 classes: a 10, b 20 (positive); train 18, val 6, test 6; "
        "1 file left out, see rejected.csv"
    )


def test_many_classes_are_abridged(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = draw(tmp_path / "d", picture, {f"class{number}": 5 + number for number in range(9)})
    assert "9 classes of 5 (class0) to 13 (class8) images" in reading_summary(load_images(root, cache=cache))


def test_files_left_out_are_counted_by_reason(folder: Path, cache: Path) -> None:
    for number in range(12):
        (folder / "b" / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "a" / "scan.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "a" / "array.npy").write_bytes(b"\x93NUMPY")
    Image.fromarray(np.ones((30, 30), np.float32)).save(folder / "a" / "depth.tiff")
    Image.fromarray(np.zeros((30, 30), np.int32)).save(folder / "b" / "counts.tiff")
    said = notes(load_images(folder, cache=cache))
    assert "16 of 46 files left out" in said
    assert "12 .heic" in said
    assert "2 .tiff: not supported, pixel values have no fixed range" in said
    assert ".dcm" in said
    assert ".npy" in said


def test_a_class_that_loses_most_of_its_files_is_a_loud_note(folder: Path, cache: Path) -> None:
    for number in range(15):
        (folder / "a" / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    images = load_images(folder, cache=cache)
    assert "A CLASS LOST MOST OF ITS FILES: a 15 of 25 (15 .heic" in notes(images)
    found = {finding.code: finding.severity for finding in audit(images, cache=cache).findings}
    assert found["lost-class"] is Severity.ERROR


def test_a_class_that_loses_all_files_is_an_error_with_its_reason(
    tmp_path: Path, cache: Path, picture: Picture
) -> None:
    root = draw(tmp_path / "d", picture, {"a": 10, "b": 10})
    (root / "c").mkdir()
    for number in range(4):
        (root / "c" / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match=r"every file of a class was left out.*class c.*4 files.*\.heic"):
        load_images(root, cache=cache)


def test_one_class_left_names_what_the_other_lost(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = draw(tmp_path / "d", picture, {"a": 10})
    (root / "loose.png").write_bytes(picture(99))
    with pytest.raises(DataError, match=r"only one class.*outside of any class folder"):
        load_images(root, cache=cache)


def test_a_file_listed_with_two_labels_is_one_file_listed_twice(
    tmp_path: Path, cache: Path, picture: Picture
) -> None:
    draw(tmp_path, picture, {"x": 20})
    rows = [f"x/{number}.png,{'ab'[number % 2]}" for number in range(20)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,label", *rows, "x/0.png,b", "x/1.png,b"]) + "\n")
    images = load_images(table, cache=cache)
    assert {file.path: file.reason for file in images.rejected} == {
        "x/0.png": "one file listed twice with different labels: a, b"
    }
    assert "1 line of the CSV says again what others say" in notes(images)
    assert "1 of 20 files left out" in notes(images)


# --- parts ---


def test_a_class_absent_from_test_is_said(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = tmp_path / "d"
    draw(root / "train", picture, {"a": 10, "b": 10, "c": 10})
    draw(root / "test", picture, {"a": 4, "b": 4}, start=100)
    said = notes(load_images(root, cache=cache))
    assert "Absent from test, so that test scores say nothing of it: c." in said


def test_a_class_only_in_test_is_an_error_in_those_words(
    tmp_path: Path, cache: Path, picture: Picture
) -> None:
    root = tmp_path / "d"
    draw(root / "train", picture, {"a": 10, "b": 10})
    draw(root / "test", picture, {"a": 4, "b": 4, "c": 4}, start=100)
    with pytest.raises(DataError, match="class 'c': a class stands only in test"):
        load_images(root, cache=cache)


def grouped_table(root: Path, picture: Picture, part_of: Callable[[int], str]) -> Path:
    """40 images of ten groups of four, two classes, with parts."""
    draw(root, picture, {"x": 40})
    rows = [f"x/{n}.png,{'ab'[n // 4 % 2]},{part_of(n)},wall{n // 4}" for n in range(40)]
    (root / "t.csv").write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    return root / "t.csv"


def test_groups_torn_by_given_parts_are_an_error_with_counts(
    tmp_path: Path, cache: Path, picture: Picture
) -> None:
    torn = grouped_table(tmp_path / "torn", picture, lambda n: "test" if n % 4 == 0 and n < 12 else "train")
    images = load_images(torn, cache=cache)
    found = next(f for f in audit(images, cache=cache).findings if f.code == "torn-groups")
    assert found.severity is Severity.ERROR
    assert "3 of 10 groups (12 of 40 images)" in found.text


def test_whole_groups_are_not_torn(tmp_path: Path, cache: Path, picture: Picture) -> None:
    """A val part that we draw from train never counts as one that the user gave."""
    whole = grouped_table(tmp_path / "whole", picture, lambda n: "test" if n < 8 else "train")
    images = load_images(whole, cache=cache)
    assert images.split.val_drawn
    assert "torn-groups" not in {f.code for f in audit(images, cache=cache).findings}


def test_forty_small_classes_are_one_finding(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = draw(tmp_path / "d", picture, {f"class{number:02d}": 4 for number in range(40)})
    small = [
        f for f in audit(load_images(root, cache=cache), cache=cache).findings if f.code == "small-class"
    ]
    assert [finding.count for finding in small] == [40]
    assert len(small[0].text) < 300


def test_part_numbers_follow_the_split(folder: Path, cache: Path) -> None:
    images = load_images(folder, cache=cache)
    numbers = images.split.part_numbers(len(images))
    assert np.array_equal(np.flatnonzero(numbers == 2), images.split.test)
    assert np.bincount(numbers).tolist() == [18, 6, 6]


def test_facts_of_files_are_those_of_the_header(tmp_path: Path, cache: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for number in range(10):
        for name, quality in (("coarse", 30), ("fine", 95)):
            path = tmp_path / "d" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(pixels, number, 0)).save(path, quality=quality)
    images = load_images(tmp_path / "d", cache=cache)
    facts = dict(zip(FACTS, file_facts(images, np.arange(len(images))).T, strict=True))
    fine = images.targets == images.classes.index("fine")
    assert np.allclose(np.exp(facts["width"]), 60)
    assert np.allclose(np.exp(facts["height"]), 40)
    assert facts["bytes"][fine].min() > facts["bytes"][~fine].max()
    assert facts["jpeg_quantisation"][fine].max() < facts["jpeg_quantisation"][~fine].min()
    (tmp_path / "d" / images.paths[0]).unlink()
    assert np.isnan(file_facts(images, np.array([0]))).all()
