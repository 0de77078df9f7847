"""Images at a URL are those that lie there, read as safely as any others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fsspec
import pytest
from s3_server import S3Server

from benchmark.cli import main
from benchmark.data import load_images
from benchmark.errors import CacheError, DataError
from benchmark.locations import Kind, folder_of, home
from benchmark.options import DataOptions
from benchmark.records import ImageSet

OPTIONS = DataOptions(groups="none")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images, one that is none, and what a walk reports by its name alone."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    assert main(["demo", str(folder), "--count", "40", "--quiet"]) == 0
    one = min(path for path in folder.iterdir() if path.is_dir())
    (one / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (one / "raw.psd").write_bytes(b"8BPS")
    (one / "notes.txt").write_text("words")
    (one / ".hidden.jpg").write_bytes(b"x")
    return folder


@pytest.fixture
def there(s3: S3Server, photos: Path, tmp_path: Path) -> str:
    """The URL of the same files."""
    url = f"s3://bench/{tmp_path.name}/photos"
    for path in photos.rglob("*"):
        if path.is_file():
            put(f"{url}/{path.relative_to(photos).as_posix()}", path.read_bytes())
    s3.requests()
    return url


def put(url: str, content: bytes) -> None:
    fsspec.filesystem("s3").pipe_file(url, content)


def load(url: str, tmp_path: Path) -> ImageSet:
    return load_images(folder_of(url, Kind.DATA), cache=tmp_path / "notes", options=OPTIONS)


def same(one: ImageSet, other: ImageSet) -> bool:
    facts = [(each.name, each.paths, each.image_ids, each.rejected, each.notes) for each in (one, other)]
    return facts[0] == facts[1] and one.fingerprint() == other.fingerprint()


def gets(s3: S3Server) -> list[str]:
    return [one for one in s3.requests() if one.startswith("GET") and "list-type" not in one]


def test_they_are_those_of_the_folder(s3: S3Server, photos: Path, there: str, tmp_path: Path) -> None:
    local = load_images(photos, cache=tmp_path / "local", options=OPTIONS)
    assert local.rejected
    assert same(load(there, tmp_path), local)
    assert not [one for one in gets(s3) if "psd" in one or "notes.txt" in one or "hidden" in one]
    assert same(load(there, tmp_path), local)
    assert gets(s3) == []


def test_changed_new_and_removed_ones_are_noticed(s3: S3Server, there: str, tmp_path: Path) -> None:
    before = load(there, tmp_path)
    gone, changed, *_ = before.paths
    fsspec.filesystem("s3").rm_file(f"{there}/{gone}")
    content = (before.root / before.paths[2]).read_bytes()
    put(f"{there}/{changed}", content + b"\0")
    folder = changed.rpartition("/")[0]
    put(f"{there}/{folder}/new.jpg", content + b"\0\0")
    s3.requests()
    after = load(there, tmp_path)
    assert len(gets(s3)) == 2
    assert set(before.paths) - set(after.paths) == {gone}
    assert set(after.paths) - set(before.paths) == {f"{folder}/new.jpg"}
    assert len(set(after.image_ids) - set(before.image_ids)) == 2


def test_a_copy_that_is_gone_is_fetched_when_it_is_read(s3: S3Server, there: str, tmp_path: Path) -> None:
    from benchmark.data import read_regular

    images = load(there, tmp_path)
    path = images.root / images.paths[0]
    content = path.read_bytes()
    shutil.rmtree(home())
    assert read_regular(path) == content
    with pytest.raises(DataError, match="no such file"):
        read_regular(images.root / "Nothing" / "here.jpg")


@pytest.mark.parametrize("what", ["500", "503", "cut", "flip"])
@pytest.mark.faults("answers of a server")
def test_fetching_survives_what_passes(
    s3: S3Server, photos: Path, there: str, tmp_path: Path, what: str
) -> None:
    s3.fault(what, method="GET", match=".jpg", times=5)
    assert same(load(there, tmp_path), load_images(photos, cache=tmp_path / "local", options=OPTIONS))


def test_an_interrupted_fetch_goes_on(s3: S3Server, there: str, tmp_path: Path) -> None:
    s3.fault("403", method="GET", match="surface-003", times=1000)
    with pytest.raises(CacheError, match="access is refused"):
        load(there, tmp_path)
    s3.heal()
    done = len([path for path in home().rglob("*.jpg") if path.stat().st_size])
    assert done
    s3.requests()
    images = load(there, tmp_path)
    assert len(gets(s3)) <= images.files - done + 1


def test_a_table_and_what_it_names(s3: S3Server, photos: Path, there: str, tmp_path: Path) -> None:
    rows = [
        f"photos/{path.relative_to(photos).as_posix()},{path.parent.name}" for path in photos.rglob("*.jpg")
    ]
    rows = [row for row in rows if "hidden" not in row]
    text = "\n".join(["path,label", *rows, "photos/gone.jpg,Negative", "../../../etc/passwd,Negative"])
    table = photos.parent / "labels.csv"
    table.write_text(text)
    url = f"{there.rpartition('/')[0]}/labels.csv"
    put(url, text.encode())
    local = load_images(table, cache=tmp_path / "local", options=OPTIONS)
    assert same(load(url, tmp_path), local)
    assert "no such file" in {file.reason for file in local.rejected}


def test_names_lead_nowhere_else(s3: S3Server, there: str, tmp_path: Path) -> None:
    client = __import__("boto3").client("s3")
    base = there.removeprefix("s3://bench/")
    for name in ("../../../../escaped.jpg", "a//b.jpg", "Crack/../../x.jpg", "./y.jpg", "Crack/\u0007.jpg"):
        client.put_object(Bucket="bench", Key=f"{base}/{name}", Body=b"x")
    before = {path for path in tmp_path.rglob("*") if "machine" not in path.parts}
    load(there, tmp_path)
    after = {
        path for path in tmp_path.rglob("*") if "machine" not in path.parts and "notes" not in path.parts
    }
    assert after <= before
    assert not [path for path in home().rglob("*") if path.name in {"escaped.jpg", "x.jpg", "y.jpg", "b.jpg"}]


def test_more_than_copies_may_take_is_refused(
    s3: S3Server, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBONES_LOCAL_GB", "0.00001")
    with pytest.raises(DataError, match=r"more than copies on this machine may take.*BACKBONES_LOCAL_GB="):
        load(there, tmp_path)
    monkeypatch.setenv("BACKBONES_LOCAL_GB", "much")
    assert main(["embed", there, "--cache", str(tmp_path / "cache"), "--jobs", "1"]) == 2


def test_nothing_there_is_said(s3: S3Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "s3://bench/nothing/here", "--cache", str(tmp_path / "c"), "--results", "r"]) == 2
    assert "s3://bench/nothing/here: nothing there" in capfd.readouterr().err
    assert main(["audit", "s3://nowhere/x.csv", "--cache", str(tmp_path / "c"), "--results", "r"]) in {1, 2}


def test_old_copies_make_room_for_new_ones(
    s3: S3Server, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load(there, tmp_path)
    size = sum((images.root / path).stat().st_size for path in images.paths)
    other = home() / "data" / "s3" / "bench" / "@" / "other" / "old.jpg"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x" * size)
    os.utime(other, (1, 1))
    shutil.rmtree(images.root)
    monkeypatch.setenv("BACKBONES_LOCAL_GB", str(1.5 * size / 1e9))
    load(there, tmp_path)
    assert not other.exists()
