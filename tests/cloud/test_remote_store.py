"""A cache at a URL keeps the promises of one on a disk, whatever the server and the network do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from s3_server import S3Server
from store_shelves import KEY, Shelf, fill, make_features, make_ids

from benchmark.embeddings import EmbeddingStore
from benchmark.errors import CacheError, StorageError
from benchmark.locations import Kind, folder_of, home

HERE = Path(__file__).resolve().parent


@pytest.fixture(params=["s3://bench/{}/cache", "gs://bench/{}/cache", "memory://bench/{}/cache"])
def root(request: pytest.FixtureRequest, s3: S3Server, tmp_path: Path) -> Iterator[Path]:
    import fsspec

    if request.param.startswith("gs:"):
        request.getfixturevalue("gcs")
    yield folder_of(request.param.format(tmp_path.name), Kind.CACHE)
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def s3_root(s3: S3Server, tmp_path: Path) -> Path:
    return folder_of(f"s3://bench/{tmp_path.name}/cache", Kind.CACHE)


def forget_copies() -> None:
    """As on another machine, which has none."""
    shutil.rmtree(home(), ignore_errors=True)


def objects(root: Path) -> dict[str, bytes]:
    """What lies there, by name."""
    place = EmbeddingStore(root).place
    remote = place._remote  # type: ignore[attr-defined]
    return {name: remote.read(root / name, most_bytes=2**30) for name in remote.below(root)}


def test_rows_come_back_on_a_machine_without_copies(root: Path) -> None:
    shelf = fill(root, rows=60, per_part=20)
    shelf.check()
    assert EmbeddingStore(root).missing(KEY, shelf.ids) == ()
    forget_copies()
    assert EmbeddingStore(root).missing(KEY, (*shelf.ids, *make_ids(1, "new"))) == make_ids(1, "new")
    shelf.check()
    assert {Path(name).name for name in objects(root)} == {"key.json", *(part.name for part in shelf.parts)}


def test_the_url_counts_not_the_copies(root: Path) -> None:
    shelf = fill(root, rows=20, per_part=20)
    EmbeddingStore(root).clean([KEY])
    assert not objects(root)
    shelf_here = fill(root, rows=20, per_part=20)
    (copy,) = shelf_here.parts
    EmbeddingStore(root).place._remote.remove(copy)  # type: ignore[attr-defined]
    assert copy.exists()
    assert len(EmbeddingStore(root).missing(KEY, shelf.ids)) == 20


def test_a_copied_key_file_is_not_one_at_the_url(root: Path) -> None:
    shelf = fill(root, rows=20, per_part=20)
    copy = shelf.parts[0].with_name("key.json")
    assert copy.exists()
    for name in objects(root):
        EmbeddingStore(root).place._remote.remove(root / name)  # type: ignore[attr-defined]
    assert copy.exists()
    fill(root, rows=20, per_part=20)
    assert {Path(name).name for name in objects(root)} == {"key.json", shelf.parts[0].name}


def test_a_damaged_copy_is_fetched_again(root: Path) -> None:
    shelf = fill(root, rows=20, per_part=20)
    (copy,) = shelf.parts
    content = copy.read_bytes()
    copy.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    store = EmbeddingStore(root)
    np.testing.assert_array_equal(store.read(KEY, shelf.ids).features, shelf.features)
    assert not store.damages
    assert copy.read_bytes() == content


@pytest.mark.faults("damage at a URL")
def test_what_is_damaged_there_is_named_moved_aside_and_missing(root: Path) -> None:
    shelf = fill(root, rows=40, per_part=20)
    one, other = shelf.parts
    content = one.read_bytes()
    EmbeddingStore(root).place._remote.write(one, content[:-7] + b"garbage")  # type: ignore[attr-defined]
    forget_copies()
    store = EmbeddingStore(root)
    assert len(store.missing(KEY, shelf.ids)) == 20
    (damage,) = store.damages
    assert f"{one.parent.name}/{one.name}" in str(damage)
    assert "://bench/" in str(damage)
    names = objects(root)
    assert sum(name.startswith("damaged/") for name in names) == 1
    assert f"{one.parent.name}/{one.name}" not in names
    assert f"{other.parent.name}/{other.name}" in names
    with store.writer(KEY, 5) as writer:
        writer.add(shelf.ids, shelf.features)
    shelf.check()
    EmbeddingStore(root).clean()
    assert not any(name.startswith("damaged/") for name in objects(root))


def test_looking_after_it(root: Path) -> None:
    shelf = fill(root, rows=60, per_part=7)
    forget_copies()
    store = EmbeddingStore(root)
    (entry,) = store.entries(count_rows=True)
    assert (entry.key, entry.parts, entry.rows) == (KEY, 9, 60)
    assert entry.size_bytes == sum(map(len, objects(root).values()))
    assert EmbeddingStore(root).keys_of(KEY.backbone) == (KEY,)
    assert store.compact(KEY) == 8
    report = EmbeddingStore(root).verify()
    assert (report.keys, report.parts, report.rows, report.damages) == (1, 1, 60, ())
    forget_copies()
    shelf.check()


def test_verify_reads_what_is_there_not_the_copy(root: Path) -> None:
    shelf = fill(root, rows=20, per_part=20)
    (copy,) = shelf.parts
    EmbeddingStore(root).place._remote.write(copy, b"x" * copy.stat().st_size)  # type: ignore[attr-defined]
    assert len(EmbeddingStore(root).verify().damages) == 1


@pytest.mark.parametrize("what", ["500", "503", "cut", "slow", "flip"])
@pytest.mark.faults("answers of a server")
def test_reading_survives_what_passes(s3: S3Server, s3_root: Path, what: str) -> None:
    shelf = fill(s3_root, rows=40, per_part=20)
    forget_copies()
    s3.fault(what, method="GET", match="part-", times=2)
    s3.fault("500", method="GET", match="list-type", times=2)
    store = EmbeddingStore(s3_root)
    np.testing.assert_array_equal(store.read(KEY, shelf.ids).features, shelf.features)
    assert not store.damages


@pytest.mark.parametrize("what", ["500", "503", "slow"])
@pytest.mark.faults("answers of a server")
def test_writing_survives_what_passes(s3: S3Server, s3_root: Path, what: str) -> None:
    s3.fault(what, method="PUT", times=3)
    shelf = fill(s3_root, rows=40, per_part=20)
    forget_copies()
    shelf.check()
    assert EmbeddingStore(s3_root).missing(KEY, shelf.ids) == ()


@pytest.mark.faults("a server that is gone")
def test_what_does_not_pass_is_told_and_leaves_the_cache_as_it_was(s3: S3Server, s3_root: Path) -> None:
    shelf = fill(s3_root, rows=20, per_part=20)
    before = objects(s3_root)
    s3.fault("500", method="PUT", times=1000)
    more = make_ids(20, "more")
    with (
        pytest.raises(StorageError, match=r"cannot be written.*InternalError.*Run the same command again"),
        EmbeddingStore(s3_root).writer(KEY, 5) as writer,
    ):
        writer.add(more, make_features(more, 5))
    s3.heal()
    assert objects(s3_root) == before
    assert EmbeddingStore(s3_root).missing(KEY, (*shelf.ids, *more)) == more
    shelf.check()


@pytest.mark.slow
@pytest.mark.faults("answers of a server")
def test_an_answer_that_never_comes_is_not_waited_for(s3: S3Server, s3_root: Path) -> None:
    s3.fault("hang", method="PUT", match="part-", times=1)
    begun = time.monotonic()
    shelf = fill(s3_root, rows=20, per_part=20)
    assert 50 < time.monotonic() - begun < 120
    forget_copies()
    shelf.check()


def test_refused_access_is_told_at_once(s3: S3Server, s3_root: Path) -> None:
    fill(s3_root, rows=20, per_part=20)
    s3.fault("403", times=1000)
    begun = time.monotonic()
    with pytest.raises(CacheError, match=r"access is refused.*AWS_ACCESS_KEY_ID"):
        EmbeddingStore(s3_root).missing(KEY, make_ids(20))
    assert time.monotonic() - begun < 30


def test_a_bucket_that_is_not_there_is_named(s3: S3Server) -> None:
    with pytest.raises(CacheError, match="s3://nowhere: no such bucket"):
        EmbeddingStore(folder_of("s3://nowhere/cache", Kind.CACHE)).entries()


WRITER = """
import sys
from pathlib import Path
from store_shelves import KEY, make_features, make_ids
from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize
ids = make_ids(2000)
with EmbeddingStore(Path(sys.argv[1])).writer(KEY, 5, size=PartSize(rows=20)) as writer:
    for at in range(0, 2000, 20):
        writer.add(ids[at:at + 20], make_features(ids[at:at + 20], 5))
        print(at, flush=True)
"""


def writing(root: Path) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent / "torture")])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
    )


@pytest.mark.faults("SIGKILL while putting")
@pytest.mark.parametrize("what", ["slow", "500", ""])
def test_a_kill_in_the_middle_of_a_put_costs_what_was_in_flight(
    s3: S3Server, s3_root: Path, what: str
) -> None:
    process = writing(s3_root)
    assert process.stdout is not None
    for _ in range(5):
        done = int(process.stdout.readline())
    if what:
        s3.fault(what, method="PUT", times=1000)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    done = max([done, *map(int, process.stdout.read().split())])
    process.wait()
    process.stdout.close()
    s3.heal()
    forget_copies()
    ids = make_ids(2000)
    shelf = Shelf(s3_root, KEY, ids, make_features(ids, 5))
    shelf.check()
    absent = set(EmbeddingStore(s3_root).missing(KEY, ids))
    # The last batch that was added was written, as was each before it; of others nothing is known.
    assert not absent.intersection(ids[: done + 20])
    assert not EmbeddingStore(s3_root).verify().damages


@pytest.mark.faults("two runs on one URL")
def test_two_at_once_lose_and_double_nothing(s3_root: Path, s3: S3Server) -> None:
    first, second = writing(s3_root), writing(s3_root)
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    forget_copies()
    ids = make_ids(2000)
    store = EmbeddingStore(s3_root)
    np.testing.assert_array_equal(store.read(KEY, ids).features, make_features(ids, 5))
    assert len(store.parts(KEY)) == 100
    (entry,) = store.entries(count_rows=True)
    assert entry.rows == 2000


def test_a_folder_is_listed_once_and_hot_parts_are_read_here(s3: S3Server, s3_root: Path) -> None:
    shelf = fill(s3_root, rows=100, per_part=20)
    store = EmbeddingStore(s3_root)
    store.missing(KEY, shelf.ids)
    s3.requests()
    for _ in range(5):
        store.read(KEY, shelf.ids)
    assert s3.requests() == []


def test_copies_are_bounded(s3_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBONES_LOCAL_GB", "0.000040")
    shelf = fill(s3_root, rows=400, per_part=20, dim=50)
    copies = shelf.parts
    for path in copies:  # not of the last minutes
        os.utime(path, (1, 1))
    from benchmark.storage.copies import make_room

    make_room()
    assert sum(path.stat().st_size for path in shelf.parts) <= 40_000
    shelf.check()


def test_an_array_that_was_not_handed_over_is_handed_over_by_the_next(
    s3: S3Server, s3_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.execution import payload

    def refused(path: Path) -> None:
        raise StorageError("cannot be written", where=path)

    array = np.arange(100_000)
    with monkeypatch.context() as patch:
        patch.setattr(payload, "hand_over", refused)
        with pytest.raises(StorageError):
            payload.pack(array, s3_root / "handed")
    content = payload.pack(array, s3_root / "handed")
    forget_copies()
    np.testing.assert_array_equal(payload.unpack(content), array)


def test_a_reason_is_cut_after_secrets_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.storage.remote import _reason

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-planted")
    for before in range(150, 260):
        assert "wJalr" not in _reason(RuntimeError("x" * before + "wJalrXUtnFEMI-planted"))


def test_what_a_worker_took_over_counts_among_its_copies(
    s3: S3Server, s3_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.execution import payload
    from benchmark.storage.copies import make_room

    content = payload.pack(np.arange(100_001), s3_root / ".tmp-1-0a")
    forget_copies()
    payload.unpack(content)
    (copy,) = home().rglob("*.array")
    os.utime(copy, (1, 1))
    monkeypatch.setenv("BACKBONES_LOCAL_GB", "0.000040")
    make_room()
    assert not copy.exists()
    payload._known.clear()
    assert payload.unpack(content).size == 100_001


def test_scores_that_were_taken_do_not_pile_up_there(root: Path) -> None:
    from benchmark.storage import hand_over, take_back

    one, other = (root / ".tmp-1-0a" / name for name in ("one.outcome", "other.outcome"))
    one.parent.mkdir(parents=True)
    for path in (one, other):
        path.write_bytes(b"scores")
        hand_over(path)
    take_back(one)
    assert not one.exists()
    assert set(objects(root)) == {".tmp-1-0a/other.outcome"}
    take_back(one.parent)
    assert not objects(root)
