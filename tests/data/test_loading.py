"""Folders and CSVs to ImageSets: layouts, classes, duplicates, groups, errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmark.data import load_images, regroup
from benchmark.errors import ArgumentError, BenchmarkError, DataError
from benchmark.options import DataOptions
from benchmark.records import ImageSet, Task

Picture = Callable[[int], bytes]


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reasons(images: ImageSet) -> dict[str, str]:
    return {item.path: item.reason for item in images.rejected}


def table(root: Path, picture: Picture, lines: list[str], count: int = 12) -> Path:
    """``images.csv`` beside ``0.png`` to ``11.png``."""
    for number in range(count):
        write(root / f"{number}.png", picture(number))
    return write(root / "images.csv", "\n".join(lines) + "\n")


# --- folders ---


def test_class_folders(folder: Path, cache: Path) -> None:
    write(folder / "b" / "notes.txt", "not an image")
    write(folder / ".hidden" / "x.png", "not seen")
    images = load_images(folder, cache=cache)
    assert images.name == "data"
    assert images.classes == ("a", "b")
    assert images.task is Task.BINARY
    assert images.positive == 1
    assert images.groups is None
    assert images.rejected == ()
    assert len(images) == 30
    assert list(images.image_ids) == sorted(images.image_ids)
    assert all(
        (path[0] == "b") == bool(target) for path, target in zip(images.paths, images.targets, strict=True)
    )
    assert [len(part) for part in (images.split.train, images.split.val, images.split.test)] == [18, 6, 6]
    assert not images.split.given


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_part_folders(tmp_path: Path, cache: Path, picture: Picture, val: str) -> None:
    for number in range(24):
        part = ("train", val, "test")[number % 3]
        write(tmp_path / "d" / part / "ab"[number % 2] / f"{number}.png", picture(number))
    images = load_images(tmp_path / "d", cache=cache)
    assert images.split.given
    for rows, name in ((images.split.train, "train"), (images.split.val, val), (images.split.test, "test")):
        assert len(rows) == 8
        assert all(images.paths[row].startswith(name) for row in rows)


def test_a_class_called_train_is_a_class(tmp_path: Path, cache: Path, picture: Picture) -> None:
    for number in range(12):
        write(tmp_path / "d" / ("train", "car")[number % 2] / f"{number}.png", picture(number))
    assert load_images(tmp_path / "d", cache=cache).classes == ("car", "train")


def test_train_and_test_only(tmp_path: Path, cache: Path, picture: Picture) -> None:
    for number in range(40):
        part = "test" if number < 8 else "train"
        write(tmp_path / "d" / part / "ab"[number % 2] / f"{number}.png", picture(number))
    images = load_images(tmp_path / "d", cache=cache)
    assert [len(images.split.train), len(images.split.val), len(images.split.test)] == [24, 8, 8]
    regrouped = regroup(images, np.arange(40) // 2, seed=0)
    assert np.array_equal(regrouped.split.test, images.split.test)
    assert len(regrouped.split.val) > 0


def test_folders_beside_the_parts_are_listed(tmp_path: Path, cache: Path, picture: Picture) -> None:
    for number in range(24):
        part = ("train", "val")[number % 3 == 0]
        write(tmp_path / "d" / part / "ab"[number % 2] / f"{number}.png", picture(number))
    write(tmp_path / "d" / "unsorted" / "x.png", picture(99))
    images = load_images(tmp_path / "d", cache=cache)
    assert reasons(images) == {"unsorted/x.png": "outside of the train, val and test folders"}
    assert len(images.split.test) == 0


def test_what_is_not_in_a_class_folder_is_listed(folder: Path, cache: Path, picture: Picture) -> None:
    write(folder / "loose.png", picture(50))
    write(folder / "a" / "drawing.svg", b"<svg/>")
    write(folder / "a" / "scan.dcm", bytes(200))
    write(folder / "a" / "without_suffix", picture(51))
    write(folder / "a" / "deeper" / "still.png", picture(52))
    images = load_images(folder, cache=cache)
    assert reasons(images) == {
        "loose.png": "outside of any class folder",
        "a/drawing.svg": "not a supported format: .svg",
        "a/scan.dcm": "not supported, DICOM: export its frames as PNG",
    }
    assert {"a/without_suffix", "a/deeper/still.png"} <= set(images.paths)


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("good", "zebra"), "zebra"),
        (("Crack", "none"), "Crack"),
        (("defect", "ok"), "defect"),
        (("no", "yes"), "yes"),
        (("0", "1"), "1"),
        (("True", "false"), "True"),
        (("negative", "positive"), "positive"),
        (("cracked", "uncracked"), "cracked"),
    ],
)
def test_the_positive_class(
    tmp_path: Path, cache: Path, picture: Picture, names: tuple[str, str], positive: str
) -> None:
    for number in range(8):
        write(tmp_path / "d" / names[number % 2] / f"{number}.png", picture(number))
    images = load_images(tmp_path / "d", cache=cache)
    assert images.positive is not None
    assert images.classes[images.positive] == positive
    other = load_images(tmp_path / "d", cache=cache, options=DataOptions(positive=names[0]))
    assert other.positive is not None
    assert other.classes[other.positive] == names[0]


def test_an_unknown_positive_class_is_told_with_what_is_near(folder: Path, cache: Path) -> None:
    (folder / "a").rename(folder / "Cracked")
    with pytest.raises(
        ArgumentError, match=r"`positive`: no such class.*got cracked.*Did you mean Cracked\?"
    ):
        load_images(folder, cache=cache, options=DataOptions(positive="cracked"))


def test_three_classes(folder: Path, cache: Path, picture: Picture) -> None:
    for number in range(60, 64):
        write(folder / "c" / f"{number}.png", picture(number))
    images = load_images(folder, cache=cache)
    assert images.task is Task.MULTICLASS
    assert images.positive is None
    assert images.head_targets().shape == (34, 3)


def test_names_and_places_do_not_matter(folder: Path, cache: Path, tmp_path: Path) -> None:
    before = load_images(folder, cache=cache)
    moved = tmp_path / "elsewhere" / "data"
    for number, path in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        target = moved / path.parent.name / f"renamed {number:03d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    after = load_images(moved, cache=cache)
    assert after.fingerprint() == before.fingerprint()
    assert after.image_ids == before.image_ids


# --- duplicates ---


def test_identical_files_are_one_image(folder: Path, cache: Path) -> None:
    shutil.copyfile(folder / "a" / "00.png", folder / "a" / "copy.png")
    images = load_images(folder, cache=cache)
    assert len(images) == 30
    assert images.duplicates == (("a/00.png", "a/copy.png"),)
    assert images.crossings == ()


def test_identical_files_with_different_labels_are_left_out(folder: Path, cache: Path) -> None:
    shutil.copyfile(folder / "a" / "00.png", folder / "b" / "copy.png")
    images = load_images(folder, cache=cache)
    assert len(images) == 29
    reason = "byte-identical files carry different labels: a, b"
    assert reasons(images) == {"a/00.png": reason, "b/copy.png": reason}


def test_identical_files_in_two_parts_stay_visible(tmp_path: Path, cache: Path, picture: Picture) -> None:
    for number in range(24):
        part = ("train", "val", "test")[number % 3]
        write(tmp_path / "d" / part / "ab"[number % 2] / f"{number}.png", picture(number))
    write(tmp_path / "d" / "test" / "a" / "leak.png", picture(0))
    images = load_images(tmp_path / "d", cache=cache)
    assert len(images) == 24
    assert images.duplicates == (("train/a/0.png", "test/a/leak.png"),)
    assert images.crossings == (("train/a/0.png", "train", "test/a/leak.png", "test"),)
    assert images.paths.index("train/a/0.png") in images.split.train


# --- CSV ---


def test_a_csv(tmp_path: Path, cache: Path, picture: Picture) -> None:
    lines = ["\ufeffPath, Label", *(f"./{n}.png,{'ok' if n % 2 else 'bad'}" for n in range(12))]
    images = load_images(table(tmp_path / "d", picture, lines), cache=cache)
    assert images.name == "images"
    assert images.root == tmp_path / "d"
    assert images.classes == ("bad", "ok")
    assert len(images) == 12


def test_a_csv_with_parts_and_groups(tmp_path: Path, cache: Path, picture: Picture) -> None:
    parts = ["train", "train", "val", "test"]
    lines = [
        "group,split,label,path",
        *(f"wall {n // 4},{parts[n % 4]},{n // 4 % 2},{n}.png" for n in range(12)),
    ]
    images = load_images(table(tmp_path / "d", picture, lines), cache=cache)
    assert images.split.given
    assert [len(images.split.train), len(images.split.val), len(images.split.test)] == [6, 3, 3]
    assert images.groups is not None
    assert len(set(images.groups)) == 3


def test_a_group_column_of_any_name(tmp_path: Path, cache: Path, picture: Picture) -> None:
    lines = ["path,label,Wall", *(f"{n}.png,{n % 2},{n // 2}" for n in range(12))]
    images = load_images(
        table(tmp_path / "d", picture, lines), cache=cache, options=DataOptions(groups="wall")
    )
    assert images.groups is not None
    assert len(set(images.groups)) == 6
    assert images.groups[0] == 0


def test_several_labels(tmp_path: Path, cache: Path, picture: Picture) -> None:
    labels = ["crack;rust", "crack", "rust", "", "crack; spall", "spall"] * 2
    lines = ["path,label", *(f"{n}.png,{labels[n]}" for n in range(12))]
    images = load_images(table(tmp_path / "d", picture, lines), cache=cache)
    assert images.task is Task.MULTILABEL
    assert images.classes == ("crack", "rust", "spall")
    assert images.targets.shape == (12, 3)
    by_path = dict(zip(images.paths, images.targets.tolist(), strict=True))
    assert by_path["0.png"] == [1, 1, 0]
    assert by_path["3.png"] == [0, 0, 0]
    assert by_path["4.png"] == [1, 0, 1]


def test_rows_that_cannot_be_used_are_listed(tmp_path: Path, cache: Path, picture: Picture) -> None:
    write(tmp_path / "outside.png", picture(90))
    lines = ["path,label", *(f"{n}.png,{n % 2}" for n in range(11)), "11.png,"]
    lines += ["missing.png,1", "nowhere/x.png,1", "../outside.png,1", "a\0b.png,1"]
    lines += [f"{tmp_path}/d/../outside.png,1"]
    images = load_images(table(tmp_path / "d", picture, lines), cache=cache)
    leads_out = "it leads outside of the data folder (`follow_links` accepts it)"
    assert reasons(images) == {
        "11.png": "no label",
        "missing.png": "no such file",
        "nowhere/x.png": "no such file",
        "../outside.png": leads_out,
        f"{tmp_path}/d/../outside.png": leads_out,
        "a\0b.png": "not a possible file name",
    }
    source = tmp_path / "d" / "images.csv"
    followed = load_images(source, cache=cache, options=DataOptions(follow_links=True))
    assert "../outside.png" in followed.paths
    assert len(followed) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("pth,label\nx.png,1\n", "no column 'path'; expected columns path,label.*got pth,label.*'pth'"),
        ("path,lable\nx.png,1\n", "no column 'label'.*Rename column 'lable'"),
        ("file,image,label\nx.png,1\n", "several that could be it.*got file, image.*one to path"),
        ("path,label,label\n", "column 'label' stands twice"),
        ("path,label\n", "no rows"),
        ("path,label,split\nx.png,1,trian\n", "line 2, column split: an unknown part.*got 'trian'"),
        ("path,label,split\nx.png,1,train\ny.png,1,\n", "image y.png: a row without a part"),
        ("path,label\n,1\n", "line 2: a row without a path"),
        ('path,label\n"' + "x" * 200_000 + '",1\n', "not a readable CSV"),
    ],
)
def test_csv_errors(tmp_path: Path, cache: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_images(write(tmp_path / "images.csv", text), cache=cache)


@example(header="path,label", body=b"/\x00/\x00")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from(["path,label", "path,label,split,group", "label;path", ""]),
    body=st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='01ab,.;"/\n\r\t\0é', max_size=200).map(lambda text: text.encode()),
    ),
)
def test_any_csv_raises_only_our_errors(tmp_path: Path, header: str, body: bytes) -> None:
    source = write(tmp_path / "fuzz.csv", header.encode() + b"\n" + body)
    with pytest.raises(BenchmarkError):  # no row can name an image here
        load_images(source, cache=tmp_path / "cache")


# --- groups ---


def test_groups_by_expression(folder: Path, cache: Path) -> None:
    images = load_images(folder, cache=cache, options=DataOptions(groups=r"/\d(\d)\.png"))
    assert images.groups is not None
    assert len(set(images.groups)) == 10
    by_path = dict(zip(images.paths, images.groups.tolist(), strict=True))
    assert by_path["a/03.png"] == by_path["b/13.png"] == by_path["b/23.png"] != by_path["b/24.png"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [("(", "not a regular expression"), ("wal", "matches no path")],
)
def test_groups_that_name_nothing(folder: Path, cache: Path, groups: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load_images(folder, cache=cache, options=DataOptions(groups=groups))


def test_no_groups_means_none_of_the_csv_either(tmp_path: Path, cache: Path, picture: Picture) -> None:
    lines = ["path,label,group", *(f"{n}.png,{n % 2},g{n // 2}" for n in range(12)), "0.png,0,g5"]
    source = table(tmp_path / "d", picture, lines)
    assert load_images(source, cache=cache).groups is not None
    alone = load_images(source, cache=cache, options=DataOptions(groups="none"))
    assert alone.groups is None
    assert "1 line of the CSV says again what others say." in alone.notes


def test_an_image_in_two_groups_joins_them(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = tmp_path / "d"
    lines = ["path,label,group", *(f"{n}.png,{n % 2},g{n // 2}" for n in range(12)), "copy.png,0,g3"]
    source = table(root, picture, lines)
    write(root / "copy.png", picture(0))
    images = load_images(source, cache=cache)
    by_path = dict(zip(images.paths, np.asarray(images.groups).tolist(), strict=True))
    assert by_path["0.png"] == by_path["1.png"] == by_path["6.png"] == by_path["7.png"]
    assert len(set(by_path.values())) == 5


def test_regrouping_draws_anew_and_keeps_groups_whole(folder: Path, cache: Path) -> None:
    images = load_images(folder, cache=cache)
    groups = np.arange(30) // 2 + 1000
    regrouped = regroup(images, groups, seed=1)
    parts = np.zeros(30)
    parts[regrouped.split.val], parts[regrouped.split.test] = 1, 2
    assert all(len(set(parts[groups == group])) == 1 for group in groups)
    assert regrouped.groups is not None
    assert regrouped.groups.tolist() == (np.arange(30) // 2).tolist()
    with pytest.raises(DataError, match="too few groups"):
        regroup(images, images.targets, seed=0)


# --- options and errors ---


def test_a_limit_takes_its_share_of_every_class(folder: Path, cache: Path) -> None:
    images = load_images(folder, cache=cache, options=DataOptions(limit=15))
    assert np.bincount(images.targets).tolist() == [5, 10]
    fewer = load_images(folder, cache=cache, options=DataOptions(limit=12))
    assert set(fewer.image_ids) < set(images.image_ids)


def test_a_limit_takes_images_that_the_whole_set_trains_on(folder: Path, cache: Path) -> None:
    for seed in range(5):
        whole = load_images(folder, cache=cache, options=DataOptions(seed=seed))
        some = load_images(folder, cache=cache, options=DataOptions(seed=seed, limit=18))
        assert set(some.image_ids) == {whole.image_ids[row] for row in whole.split.train}
        more = load_images(folder, cache=cache, options=DataOptions(seed=seed, limit=24))
        assert not set(more.image_ids) & {whole.image_ids[row] for row in whole.split.test}


def test_strict_makes_a_rejected_file_fatal(folder: Path, cache: Path) -> None:
    write(folder / "a" / "bad.jpg", "<html>")
    assert len(load_images(folder, cache=cache)) == 30
    with pytest.raises(DataError, match=r"bad\.jpg: 1 rejected files, the first because: not a JPEG"):
        load_images(folder, cache=cache, options=DataOptions(strict=True))


def test_a_mistyped_folder_is_told_with_what_is_near(folder: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder or CSV.*Did you mean .*/data\?"):
        load_images(folder.with_name("dta"), cache=cache)


def test_a_file_that_is_no_csv(folder: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a CSV"):
        load_images(folder / "a" / "00.png", cache=cache)


def test_no_images(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="no images"):
        load_images(tmp_path / "d", cache=cache)
    write(tmp_path / "d" / "a" / "x.jpg", "<html>")
    with pytest.raises(DataError, match=r"no usable images; got 1 file left out \(1 \.jpg: not a JPEG"):
        load_images(tmp_path / "d", cache=cache)


def test_a_csv_whose_files_are_elsewhere_is_named(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "photos.csv", "path,label\nold/1.jpg,a\nold/2.jpg,b\n")
    with pytest.raises(DataError, match=r"photos.csv: no usable images; .* example old/1.jpg"):
        load_images(tmp_path / "photos.csv", cache=cache)


def test_images_without_class_folders(tmp_path: Path, cache: Path, picture: Picture) -> None:
    write(tmp_path / "d" / "x.png", picture(0))
    with pytest.raises(DataError, match=r"got 1 file left out \(1 \.png: outside of any class folder"):
        load_images(tmp_path / "d", cache=cache)


def test_one_class_only(tmp_path: Path, cache: Path, picture: Picture) -> None:
    for number in range(6):
        write(tmp_path / "d" / "wrapper" / "ab"[number % 2] / f"{number}.png", picture(number))
    with pytest.raises(DataError, match=r"only one class of images.*Did you mean .*/d/wrapper\?"):
        load_images(tmp_path / "d", cache=cache)


def test_a_class_that_is_too_small(folder: Path, cache: Path, picture: Picture) -> None:
    write(folder / "c" / "only.png", picture(70))
    with pytest.raises(
        DataError, match="class 'c': a class has too few images to split; expected at least 3; got 1"
    ):
        load_images(folder, cache=cache)


@pytest.mark.parametrize("options", [{"limit": 0}, {"jobs": -1}, {"max_pixels": 0}])
def test_impossible_options(options: dict[str, int]) -> None:
    with pytest.raises(ArgumentError):
        DataOptions.check(options)


def test_memory_of_the_index_may_be_read_only(folder: Path, cache: Path) -> None:
    write(cache, "a file where the cache folder should be")
    images = load_images(folder, cache=cache / "inside")
    assert len(images) == 30
