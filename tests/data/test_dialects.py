"""CSVs as spreadsheets and annotation tools write them, and folders whose parts have names of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data import load_images, reading_notes
from benchmark.data.dialects import labels_of, read_table
from benchmark.data.listing import SplitPart, part_named
from benchmark.errors import DataError
from benchmark.options import DataOptions
from benchmark.records import ImageSet, Layout, Task

Picture = Callable[[int], bytes]


@pytest.fixture
def root(tmp_path: Path, picture: Picture) -> Path:
    """``data/{0..19}.png``, every content its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


def loaded(root: Path, cache: Path, header: str, row: str, *, encoding: str = "utf-8") -> ImageSet:
    """The images of a table with one row per picture; ``{n}`` and ``{label}`` are filled in."""
    lines = [header, *(row.format(n=number, label="ab"[number % 2]) for number in range(20))]
    (root / "t.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    return load_images(root / "t.csv", cache=cache)


def notes(images: ImageSet) -> str:
    return "\n".join(reading_notes(images))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_separators_and_encodings(root: Path, cache: Path, separator: str, encoding: str) -> None:
    images = loaded(
        root, cache, f"path{separator}label", f"{{n}}.png{separator}{{label}}é", encoding=encoding
    )
    assert images.classes == ("aé", "bé")
    assert images.rejected == ()
    assert ("Windows-1252" in notes(images)) == (encoding == "cp1252")
    assert ("UTF-16" in notes(images)) == encoding.startswith("utf-16")
    assert ("separated by" in notes(images)) == (separator != ",")


@pytest.mark.parametrize("head", ["", "sep=,\r\n"])
@pytest.mark.parametrize(
    "rest",
    [
        "c.png,a\r\nd.png,b\r\n",  # to the end
        'c.png,a\r\nd.png,"b, or not"\r\n',  # to the next quote
        "c.png,a\r\n" * 20_000,  # more than a cell holds
    ],
)
def test_a_quote_that_is_not_closed_takes_no_rows_along(head: str, rest: str) -> None:
    table = f'{head}path,label\r\n"a\r\n.png",a\r\nb.png,"b\r\n{rest}'
    line = 5 if head else 4
    with pytest.raises(DataError, match=f"t.csv, line {line}: a quote in it is not closed.*goes on to line"):
        read_table(Path("t.csv"), table.encode())


def test_odd_quotes_within_a_line_are_read_as_ever() -> None:
    rows = [
        ("a.png", "a", "two\r\nlines"),
        ("b.png ", "b", '5" nail'),
        ("c.png", 'c"', ""),
        ("d.png", "two\r\nlines ", "after a space"),
    ]
    table = (
        'path,label,remark\r\na.png,a,"two\r\nlines"\r\n"b.png" ,b,"5"" nail"\r\nc.png,c",\r\n'
        'd.png,"two\r\nlines" ,after a space\r\n'
    )
    found = read_table(Path("t.csv"), table.encode()).rows
    assert [(number, tuple(cells)) for number, cells in found] == list(zip((3, 4, 5, 7), rows, strict=True))


def test_the_line_that_names_the_separator_is_skipped(root: Path, cache: Path) -> None:
    images = loaded(root, cache, "sep=;\r\npath;label", "{n}.png;{label}")
    assert images.classes == ("a", "b")


@pytest.mark.parametrize("header", ["filename,class", "Image,Target", "File Name,CATEGORY", "img,labels"])
def test_other_names_of_columns_are_taken_and_said(root: Path, cache: Path, header: str) -> None:
    images = loaded(root, cache, header, "{n}.png,{label}")
    assert images.classes == ("a", "b")
    assert "was read as path" in notes(images)
    assert "was read as label" in notes(images)


def test_paths_with_backslashes(tmp_path: Path, cache: Path, picture: Picture) -> None:
    folder = tmp_path / "data"
    (folder / "walls").mkdir(parents=True)
    for number in range(20):
        (folder / "walls" / f"{number}.png").write_bytes(picture(number))
    images = loaded(folder, cache, "path,label", ".\\walls\\{n}.png,{label}")
    assert images.rejected == ()
    assert "walls/0.png" in images.paths


def test_absolute_paths_of_the_users_own_table(root: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    images = loaded(tmp_path / "tables", cache, "path,label", f"{root}/{{n}}.png,{{label}}")
    assert images.rejected == ()
    assert f"{root}/0.png" in images.paths


def test_an_absolute_path_to_a_link_that_leads_out_needs_the_option(
    root: Path, cache: Path, tmp_path: Path, picture: Picture
) -> None:
    (tmp_path / "elsewhere.png").write_bytes(picture(77))
    (root / "19.png").unlink()
    (root / "19.png").symlink_to(tmp_path / "elsewhere.png")
    images = loaded(root, cache, "path,label", f"{root}/{{n}}.png,{{label}}")
    assert [file.path for file in images.rejected] == [f"{root}/19.png"]


@pytest.mark.skipif(os.name == "nt", reason="file names there are text")
def test_names_in_bytes_that_are_no_utf8_are_found(root: Path, cache: Path, picture: Picture) -> None:
    raw = os.fsdecode(os.fsencode(root) + b"/caf\xe9.png")
    Path(raw).write_bytes(picture(50))
    rows = b"path,label\n" + b"".join(b"%d.png,%c\n" % (n, b"ab"[n % 2]) for n in range(20))
    (root / "t.csv").write_bytes(rows + b"caf\xe9.png,a\n")
    images = load_images(root / "t.csv", cache=cache)
    assert images.rejected == ()
    assert len(images) == 21


@pytest.mark.parametrize("written", ["a|b", "['a', 'b']", '["a", "b"]', "a;b", "[a, b]"])
def test_cells_with_several_labels(written: str) -> None:
    assert labels_of(written) == ("a", "b")


def test_columns_of_0_and_1_are_labels(root: Path, cache: Path) -> None:
    lines = ["path,crack,sound", *(f"{n}.png,{n % 2},{1 - n % 2}" for n in range(20))]
    (root / "t.csv").write_text("\n".join(lines))
    assert load_images(root / "t.csv", cache=cache).task is Task.BINARY
    lines = ["filename,crack,rust", *(f"{n}.png,{n % 2},{int(n % 3 == 0)}" for n in range(20))]
    (root / "t.csv").write_text("\n".join(lines))
    images = load_images(root / "t.csv", cache=cache)
    assert images.task is Task.MULTILABEL
    assert images.classes == ("crack", "rust")
    assert images.targets.sum(0).tolist() == [10, 7]
    assert "2 columns of 0 and 1 were read as labels: crack, rust" in notes(images)


def test_missing_values_and_near_equal_classes_are_named(root: Path, cache: Path) -> None:
    names = ["crack", "Crack", "nan", "0", "0.0"]
    lines = ["path,label", *(f"{n}.png,{names[n % 5]}" for n in range(20))]
    (root / "t.csv").write_text("\n".join(lines))
    said = notes(load_images(root / "t.csv", cache=cache))
    assert "Classes named like missing values: nan" in said
    assert "'0' / '0.0'" in said
    assert "'Crack' / 'crack'" in said


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    """Whatever the bytes: a table whose text can be shown, or an error."""
    try:
        table = read_table(Path("t.csv"), b"path,label\n" + content)
    except DataError as error:
        str(error).encode()
    else:
        for _, cells in table.rows:
            "".join(cells).encode()


# --- names of parts ---


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Training", SplitPart.TRAIN),
        ("training_set", SplitPart.TRAIN),
        ("seg_train", SplitPart.TRAIN),
        ("train2017", SplitPart.TRAIN),
        ("Train Images", SplitPart.TRAIN),
        ("validation_data", SplitPart.VAL),
        ("valid", SplitPart.VAL),
        ("VAL", SplitPart.VAL),
        ("Testing", SplitPart.TEST),
        ("test_set", SplitPart.TEST),
        ("testset", SplitPart.TEST),
        ("train_station", None),
        ("invalid", None),
        ("contest", None),
        ("set", None),
        ("crack", None),
        ("", None),
    ],
)
def test_names_of_parts(name: str, part: SplitPart | None) -> None:
    assert part_named(name) is part


def draw(root: Path, picture: Picture, folders: list[str], count: int = 6) -> Path:
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number}.png").write_bytes(picture(1000 * place + number))
    return root


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("training_set", "test_set"), ("seg_train", "seg_test"), ("Train", "Test")],
)
def test_parts_of_other_names_are_parts(
    tmp_path: Path, cache: Path, picture: Picture, train: str, test: str
) -> None:
    root = draw(tmp_path / "d", picture, [f"{part}/{name}" for part in (train, test) for name in "ab"])
    images = load_images(root, cache=cache)
    assert images.classes == ("a", "b")
    assert images.split.given
    assert len(images.split.test) == 12


@pytest.mark.parametrize(
    ("folders", "asked"),
    [
        (
            ["one/a", "one/b", "two/a", "two/b"],
            "are one, two classes, or parts.*the same folders in each",
        ),
        (["trian/a", "trian/b", "test/a", "test/b"], "trian looks like train|test beside trian"),
        (["train/a", "train/b", "c", "e"], "train beside c, e"),
        (["a", "b", "test"], "test beside a, b"),
        (["a", "b", "val/a", "val/b"], "val beside a, b"),
    ],
)
def test_parts_that_look_like_classes_are_asked_about(
    tmp_path: Path, cache: Path, picture: Picture, folders: list[str], asked: str
) -> None:
    root = draw(tmp_path / "d", picture, folders)
    with pytest.raises(DataError, match=asked):
        load_images(root, cache=cache)
    images = load_images(root, cache=cache, options=DataOptions(layout=Layout.CLASSES))
    assert images.classes == tuple(sorted({folder.split("/")[0] for folder in folders}))


@pytest.mark.parametrize("classes", [["train", "bus", "car"], ["valid", "invalid"], ["test", "control"]])
def test_classes_that_are_called_like_parts_stay_classes(
    tmp_path: Path, cache: Path, picture: Picture, classes: list[str]
) -> None:
    root = draw(tmp_path / "d", picture, classes)
    assert load_images(root, cache=cache).classes == tuple(sorted(classes))


def test_a_misspelt_part_is_named(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = draw(tmp_path / "d", picture, ["train/a", "train/b", "val/a", "val/b", "tset/a"])
    reasons = {file.reason for file in load_images(root, cache=cache).rejected}
    assert reasons == {"outside of the train, val and test folders; test?"}


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_class_names_that_cannot_be_shown_are_escaped(tmp_path: Path, cache: Path, picture: Picture) -> None:
    root = draw(tmp_path / "d", picture, ["a\x1b[31m", "b\n", os.fsdecode(b"caf\xe9")])
    images = load_images(root, cache=cache)
    assert all(name.isprintable() for name in images.classes)
    assert len(images) == 18


def test_a_class_named_like_a_part_is_a_note_unless_somebody_said_so(
    tmp_path: Path, cache: Path, picture: Picture
) -> None:
    root = draw(tmp_path / "d", picture, ["bus", "car", "train"])
    images = load_images(root, cache=cache)
    assert images.classes == ("bus", "car", "train")
    assert "train is read as a class, and named like a part" in " ".join(images.notes)
    assert load_images(root, cache=cache, options=DataOptions(layout=Layout.CLASSES)).notes == ()
