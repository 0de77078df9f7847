"""Images at a URL are those that lie there, read as safely as any others."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import fsspec
import pytest
from fsspec import AbstractFileSystem
from s3_server import S3Server

from benchmark.cli import main
from benchmark.data import load_images
from benchmark.data.mirror import Mirror, hold_place, list_place
from benchmark.errors import CacheError, DataError
from benchmark.locations import Kind, folder_of, home
from benchmark.options import DataOptions, RankOptions
from benchmark.records import ImageSet, Silent, WeightsKind
from benchmark.storage import RemoteFile
from benchmark.storage.copies import make_room, notes_of

if TYPE_CHECKING:
    from benchmark.pipeline.requests import RankRequest

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


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AbstractFileSystem]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def mirror_of(url: str) -> Mirror:
    place = folder_of(url, Kind.DATA)
    return Mirror(root=place, place=place)


def update(mirror: Mirror, there: dict[str, RemoteFile] | None = None) -> dict[str, RemoteFile]:
    there = there or list_place(mirror.place)[0]
    mirror.update(there, lambda _: None)
    return there


@pytest.mark.parametrize("folder", ["b/t", "b"])
def test_a_table_beside_its_images(
    memory: AbstractFileSystem, photos: Path, tmp_path: Path, folder: str
) -> None:
    found = [path for path in sorted(photos.rglob("*.jpg")) if path.name not in {"broken.jpg", ".hidden.jpg"}]
    rows = []
    for path in found:
        memory.pipe_file(f"{folder}/{path.name}", path.read_bytes())
        rows.append(f"{path.name},{path.parent.name}")
    memory.pipe_file(f"{folder}/labels.csv", "\n".join(["path,label", *rows]).encode())
    images = load(f"memory://{folder}/labels.csv", tmp_path)
    assert images.files == len(found)
    assert not images.rejected


def test_copies_that_a_run_counts_on_make_no_room_for_others(
    memory: AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        memory.pipe_file(f"b/set/{number}.jpg", b"x" * 1000)
    mirror = mirror_of("memory://b/set")
    update(mirror)
    for path in mirror.root.iterdir():
        os.utime(path, (1, 1))
    stranger = folder_of("memory://b/other", Kind.DATA) / "old.jpg"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"y" * 1000)
    os.utime(stranger, (2, 2))
    os.utime(notes_of(mirror.place), (1, 1))
    update(mirror)
    monkeypatch.setenv("BACKBONES_LOCAL_GB", "0.000004")
    make_room()
    assert not stranger.exists()
    assert len(list(mirror.root.iterdir())) == 4


def test_copies_that_are_lost_while_others_are_fetched_are_fetched_again_or_told(
    memory: AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.data import mirror as module

    for number in range(4):
        memory.pipe_file(f"b/set/{number}.jpg", b"x" * 1000)
    mirror = mirror_of("memory://b/set")
    keep, losses = module.keep_copy, iter([1])

    def lose(path: Path, content: bytes) -> None:
        keep(path, content)
        if path.name == "3.jpg" and next(losses, None):
            (mirror.root / "0.jpg").unlink(missing_ok=True)

    monkeypatch.setattr(module, "_AT_ONCE", 1)
    monkeypatch.setattr(module, "keep_copy", lose)
    update(mirror)
    assert len(list(mirror.root.iterdir())) == 4
    monkeypatch.setattr(module, "keep_copy", lambda *_: None)
    shutil.rmtree(mirror.root)
    with pytest.raises(DataError, match=r"4 copies made room.*BACKBONES_LOCAL_GB="):
        update(mirror)


def test_what_another_run_writes_is_left_alone(memory: AbstractFileSystem) -> None:
    memory.pipe_file("b/set/a.jpg", b"x")
    mirror = mirror_of("memory://b/set")
    there = update(mirror)
    writing = mirror.root / f".tmp-{os.getpid()}-0a1b2c"
    writing.write_bytes(b"half")
    (mirror.root / "gone.jpg").write_bytes(b"x")
    mirror.forget_others(there)
    assert sorted(path.name for path in mirror.root.iterdir()) == [writing.name, "a.jpg"]


def test_one_run_at_a_time_changes_a_place(memory: AbstractFileSystem) -> None:
    place = folder_of("memory://b/set", Kind.DATA)
    order: list[str] = []

    def second() -> None:
        with hold_place(place, lambda: order.append("waits")):
            order.append("second")

    with ThreadPoolExecutor(1) as pool, hold_place(place, lambda: None):
        pool.submit(second)
        while not order:
            time.sleep(0.01)
        order.append("first")
    assert order == ["waits", "first", "second"]


@pytest.mark.parametrize("tag", ["0" * 32, "not-md5"])
def test_without_a_digest_two_answers_are_compared(
    memory: AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    """Each for itself: one object whose tag is no MD5 says nothing of the others."""
    contents = {"a.jpg": b"right", "b.jpg": b"right"}
    for name, content in contents.items():
        memory.pipe_file(f"b/set/{name}", content)
    answers = {name: iter([b"wrong", content, content]) for name, content in contents.items()}
    monkeypatch.setattr(memory, "cat_file", lambda key, **_: next(answers[key.rpartition("/")[2]]))
    mirror = mirror_of("memory://b/set")
    digest = hashlib.md5(b"right", usedforsecurity=False).hexdigest()
    update(
        mirror,
        {
            "a.jpg": RemoteFile(size=5, tag=tag, changed=0.0),
            "b.jpg": RemoteFile(size=5, tag=digest, changed=0.0),
        },
    )
    assert {path.name: path.read_bytes() for path in mirror.root.iterdir()} == contents


def test_an_image_above_the_limit_is_left_out_and_told(
    memory: AbstractFileSystem, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.data import fetching

    folders = [path for path in sorted(photos.iterdir()) if path.is_dir()]
    for path in [path for folder in folders for path in folder.glob("[a-z]*.jpg")]:
        memory.pipe_file(f"b/set/{path.relative_to(photos).as_posix()}", path.read_bytes())
    memory.pipe_file(f"b/set/{folders[0].name}/huge.jpg", b"x" * 3_000_000)
    monkeypatch.setattr(fetching, "MOST_FETCHED_BYTES", 2_000_000)
    told = Told()
    images = load_images(
        folder_of("memory://b/set", Kind.DATA), cache=tmp_path / "notes", options=OPTIONS, observer=told
    )
    assert not [file for file in images.rejected if "huge" in file.path]
    assert any("huge.jpg (3,000,000 bytes)" in text and "2,000,000" in text for text in told.texts)


class Told(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def test_names_that_cannot_be_here_together_are_left_out(memory: AbstractFileSystem) -> None:
    long = "x" * 300 + ".jpg"
    for name in ("cats/1.jpg", "dogs/1.jpg", long):
        memory.pipe_file(f"b/set/{name}", b"x")
    memory.store["/b/set/cats"] = memory.store["/b/set/dogs/1.jpg"]
    there, odd = list_place(folder_of("memory://b/set", Kind.DATA))
    assert sorted(there) == ["cats/1.jpg", "dogs/1.jpg"]
    assert odd == ["cats", long]
    mirror = mirror_of("memory://b/set")
    mirror.root.mkdir(parents=True)
    (mirror.root / "cats").write_bytes(b"was a file")
    (mirror.root / "dogs" / "1.jpg" / "was").mkdir(parents=True)
    update(mirror, there)
    assert (mirror.root / "cats" / "1.jpg").is_file()
    assert (mirror.root / "dogs" / "1.jpg").is_file()


def test_an_object_put_anew_after_the_listing_is_read_as_it_is(memory: AbstractFileSystem) -> None:
    memory.pipe_file("b/set/a.jpg", b"short")
    mirror = mirror_of("memory://b/set")
    there = list_place(mirror.place)[0]
    memory.pipe_file("b/set/a.jpg", b"much longer")
    update(mirror, there)
    assert (mirror.root / "a.jpg").read_bytes() == b"much longer"


def test_a_record_names_the_url_wherever_links_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.pipeline.stored import portable_options

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "disk").mkdir()
    home().mkdir()
    (home() / "data").symlink_to(tmp_path / "disk")
    request = SimpleNamespace(
        options=RankOptions.check({"data": "s3://b/photos"}), weights=SimpleNamespace(kind=WeightsKind.RANDOM)
    )
    assert portable_options(cast("RankRequest", request))["data"] == "s3://b/photos"
