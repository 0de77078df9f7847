"""The images of a model's split are found again: whatever they are called, and wherever they lie now."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import load_images
from benchmark.deployment.samples import SplitFiles, read_split, some_photos, targets_of, write_images
from benchmark.errors import DataError, ExportError
from benchmark.finetuning import SPLIT_FILE
from benchmark.finetuning.tables import split_csv
from benchmark.records import ImageSet, Targets
from tests.manifests import a_manifest

SIDE = 8
NAMES = (
    "Screenshot 2026-11-30 at 9.41.00\u202fAM.png",
    "no\u00a0break.png",
    "family \U0001f468\u200d\U0001f469.png",
    "line\nbreak\u2028.png",
    "back\\slash \\u202f \\x41.png",
    "=sum(1).png",
    "'-quoted.png",
    os.fsdecode(b"latin-\xe9.png"),
)
FOLDERS = ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "-x \u200b", os.fsdecode(b"\xff"))


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def photos(root: Path, folders: tuple[str, str] = ("crack", "sound"), count: int = 20) -> Path:
    for number in range(count):
        write(root / folders[number % 2] / f"{number:02}.png", number)
    return root


def kept(images: ImageSet, folder: Path) -> Path:
    folder.mkdir()
    (folder / SPLIT_FILE).write_bytes(split_csv(images))
    return folder


def read_all(images: ImageSet, model_dir: Path, files: SplitFiles) -> list[Path]:
    """The files of all images, after each was read and found to be the one that it was."""
    rows = read_split(model_dir)
    manifest = a_manifest(classes=images.classes, positive=images.positive, input_size=SIDE)
    np.testing.assert_array_equal(targets_of(rows, manifest), Targets.of(images).targets)
    write_images(rows, files, manifest, model_dir / "images.npy")
    return [path for row in rows for path in some_photos((row,), files, 1)]


def test_names_with_what_nobody_sees_are_found_again(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    for number, name in enumerate(NAMES):
        write(data / ("crack", "sound")[number % 2] / name, 100 + number)
    images = load_images(data, cache=tmp_path / "cache")
    found = read_all(images, kept(images, tmp_path / "model"), SplitFiles(None, data))
    assert set(found) == {path for path in data.rglob("*") if path.is_file()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_classes_with_what_nobody_sees_are_known_again(tmp_path: Path, folder: str) -> None:
    data = photos(tmp_path / "data", ("sound", folder))
    images = load_images(data, cache=tmp_path / "cache")
    assert len(read_all(images, kept(images, tmp_path / "model"), SplitFiles(None, data))) == len(images)


def test_where_absolute_paths_lead_nowhere_the_named_data_are_looked_through(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    paths = sorted(path for path in data.rglob("*.png"))
    write(data / "sound" / "deeper" / "00.png", 7)  # of one name with another, and other content
    table = tmp_path / "old" / "table.csv"
    table.parent.mkdir()
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    images = load_images(table, cache=tmp_path / "cache")
    model_dir = kept(images, tmp_path / "model")
    assert set(read_all(images, model_dir, SplitFiles(table, table.parent))) == set(paths)
    moved = data.rename(tmp_path / "moved")
    new = tmp_path / "new.csv"
    new.write_text(table.read_text().replace(str(data), str(moved)))
    there = {moved / path.relative_to(data) for path in paths}
    for named in (new, moved, tmp_path):
        assert set(read_all(images, model_dir, SplitFiles(named, table.parent))) == there
    with pytest.raises(ExportError, match=r"`data`, a folder or CSV with a file of this name"):
        read_all(images, model_dir, SplitFiles(None, table.parent))
    with pytest.raises(ExportError, match="no such folder or CSV"):
        read_all(images, model_dir, SplitFiles(tmp_path / "nowhere", table.parent))


def test_where_an_absolute_path_leads_to_another_image_the_named_data_are_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "data")
    paths = sorted(data.rglob("*.png"))
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    images = load_images(table, cache=tmp_path / "cache")
    model_dir = kept(images, tmp_path / "model")
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    shutil.copytree(data, tmp_path / "again")  # and a namesake of each
    write(paths[0], 99)
    with pytest.raises(ExportError, match="other bytes than it was trained with"):
        read_all(images, model_dir, SplitFiles(None, tmp_path))
    there = {copy / paths[0].relative_to(data), *paths[1:]}
    assert set(read_all(images, model_dir, SplitFiles(copy, tmp_path))) == there
    read: list[Path] = []
    monkeypatch.setattr("benchmark.deployment.samples.read_regular", lambda path: read.append(path) or b"")
    rows, files = read_split(model_dir), SplitFiles(tmp_path, tmp_path)
    for row in (*rows, *rows):
        files.path_of(row)
    assert len(read) == 3 * len(rows), "each file once"
    read.clear()
    for row in rows:
        SplitFiles(table, tmp_path).path_of(row)
    assert not read, "nothing is compared where there is nothing to choose from"


def test_data_are_where_reading_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = photos(tmp_path / "data")
    names = [path.relative_to(data) for path in data.rglob("*.png")]
    (data / "list.csv").write_text("path,label\n" + "".join(f"{name},{name.parts[0]}\n" for name in names))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "photos.csv").symlink_to(data / "list.csv")
    (tmp_path / "plain").symlink_to(data / "list.csv")
    sources = ("data", "linked/photos.csv", "plain", data / "list.csv")
    for number, given in enumerate(sources):
        images = load_images(Path(given), cache=tmp_path / "cache")
        model_dir = kept(images, tmp_path / f"model-{number}")
        found = read_all(images, model_dir, SplitFiles(Path(given), Path("elsewhere")))
        assert set(found) == {images.root / path for path in images.paths}
    with pytest.raises(ExportError, match="no such file"):
        read_all(images, model_dir, SplitFiles(Path("nowhere/x"), Path("elsewhere")))


def test_an_unreadable_table_is_told_where_it_is_needed(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    images = load_images(data, cache=tmp_path / "cache")
    images = replace(images, paths=tuple(f"/nowhere/{path}" for path in images.paths))
    model_dir = kept(images, tmp_path / "model")
    (tmp_path / "table.csv").write_text("nothing\n")
    with pytest.raises(ExportError, match="cannot be used") as found:
        read_all(images, model_dir, SplitFiles(tmp_path / "table.csv", data))
    assert isinstance(found.value.__cause__, DataError)
