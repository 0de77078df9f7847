"""SIGKILL of workers of a Dask cluster under `embed` and `rank`: the command ends as if nothing had been.

Once with the cache on a disk that all share, once in a bucket, with a home of its own for every machine.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pandas as pd
import psutil
import pytest
from process_runs import NETWORKS, SMALL, Command, Vectors, image_ids, lost, run, start, vectors, wrong

from benchmark.locations import Kind, folder_of

sys.path += [str(Path(__file__).resolve().parents[1] / name) for name in ("execution", "cloud")]
pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
from clusters import cluster
from s3_server import reached, s3_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

IMAGES = 60
KILLS = int(os.environ.get("TORTURE_KILLS", "0")) or 50  # fewer for a quick look
A_FEW = 2
# A call that lost three workers is given up: two kills are what any call must survive.
KILLS_A_RUN = 2
LONGEST_HANG_SECONDS = 60
CLOCKED = [
    "agreement",
    "images_per_second",
    "latency_ms",
    "latency_p95_ms",
    "noisy",
    "embed_seconds",
    "head_seconds",
]


def command(
    kind: str, data: Path, place: Path, address: str = "", cache: object = None
) -> tuple[object, ...]:
    where = cache or place / "cache"
    words: tuple[object, ...] = (kind, data, "--backbones", NETWORKS, *SMALL, "--cache", where)
    if kind == "rank":
        words += ("--repeats", 1, "--epochs", 2, "--groups", "none", "--results", place / "results")
    return (*words, "--cluster", address) if address else (*words, "--jobs", 1)


def board(place: Path) -> pd.DataFrame:
    path = place / "results" / "walls" / "leaderboard.csv"
    return pd.read_csv(path).drop(columns=[*CLOCKED, "images_embedded"])


def kill_a_worker(workers: list[psutil.Process], chance: random.Random) -> bool:
    """Kill the process under one nanny, whatever it is at."""
    below = [one for nanny in workers for one in nanny.children() if is_worker(one)]
    if below:
        with suppress(psutil.NoSuchProcess):
            chance.choice(below).kill()
            return True
    return False


def is_worker(process: psutil.Process) -> bool:
    """Whether a process under a nanny is its worker, and alive."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(process.cmdline())
    return False


def kill_while_it_runs(
    running: Command, workers: list[psutil.Process], seconds: float, most: int, chance: random.Random
) -> int:
    """Kill workers at random moments of a command; how many were."""
    killed = 0
    for at in sorted(chance.uniform(0, seconds) for _ in range(most)):
        while running.process.poll() is None and time.monotonic() - running.began < at:
            time.sleep(0.02)
        if running.process.poll() is not None:
            break
        killed += kill_a_worker(workers, chance)
    return killed


@dataclass
class Place:
    """Where commands and workers keep what they make, and what workers are told of it.

    Attributes:
        url: of a bucket that takes the caches; empty: they lie in folders that all share.
        machines: folder of the homes of the workers, each of which is a machine of its own.
    """

    url: str = ""
    machines: Path | None = None
    workers: int = field(default=0, init=False)

    def cache(self, folder: Path) -> object:
        return f"{self.url}/{folder.name}" if self.url else folder / "cache"

    def held(self, folder: Path, ids: tuple[str, ...]) -> Vectors:
        """What a cache holds, to somebody who has no copy of it."""
        if not self.url:
            return vectors(folder / "cache", ids)
        home = folder / "reader"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(home))
            return vectors(folder_of(str(self.cache(folder)), Kind.CACHE), ids)

    def machine(self) -> dict[str, str]:
        """The environment of the next worker."""
        self.workers += 1
        return {"XDG_CACHE_HOME": str(self.machines / str(self.workers))} if self.machines else {}


@contextmanager
def on_a_disk(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield Place()


@contextmanager
def in_a_bucket(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Place]:
    for package in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    with s3_server(folder) as server, reached(server, folder / "here", patch):
        yield Place("s3://bench/torture", folder / "machines")


WHERE = {"disk": on_a_disk, "bucket": in_a_bucket}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A folder of images beside what one process makes of them."""
    run("demo", tmp_path / "walls", "--count", IMAGES, "--quiet", folder=tmp_path)
    place = tmp_path / "reference"
    place.mkdir()
    done = run(*command("rank", tmp_path / "walls", place), folder=tmp_path)
    assert done.wait() == 0, done.errors
    return place


@pytest.mark.timeout(1200)
def test_a_few_killed_workers_with_the_cache_in_a_bucket(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies as soon as somebody has put embeddings there, one more a little later."""
    data, place, chance = tmp_path / "walls", tmp_path / "place", random.Random(1)
    ids = image_ids(data)
    place.mkdir()
    (tmp_path / "cluster").mkdir()
    with in_a_bucket(tmp_path, monkeypatch) as where, cluster(tmp_path / "cluster", 0) as made:
        nannies = [psutil.Process(made.add(nanny=True, **where.machine()).pid) for _ in range(2)]
        running = start(*command("rank", data, place, made.address, where.cache(place)), folder=tmp_path)
        bucket = fsspec.filesystem("s3", use_listings_cache=False)
        deadline, killed = time.monotonic() + 600, 0
        while running.process.poll() is None and killed < A_FEW:
            assert time.monotonic() < deadline
            if killed or any("/part-" in name for name in bucket.find(where.cache(place))):
                killed += kill_a_worker(nannies, chance)
                time.sleep(2 * chance.random())
            time.sleep(0.05)
        assert running.wait(seconds=600) == 0, running.errors
        held, wanted = where.held(place, ids), vectors(reference / "cache", ids)
    assert killed == A_FEW
    assert (lost(wanted, held), wrong(held, wanted)) == (0, 0)
    pd.testing.assert_frame_equal(board(place), board(reference))


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("where", WHERE)
def test_killed_workers(
    where: str,
    tmp_path: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    torture_row: Callable[..., None],
) -> None:
    data = tmp_path / "walls"
    ids = image_ids(data)
    held: Vectors = vectors(reference / "cache", ids)
    wanted = board(reference)
    chance, problems = random.Random(KILLS), list[str]()
    killed = survived = rows_lost = rows_wrong = runs = 0
    (tmp_path / "cluster").mkdir()
    with WHERE[where](tmp_path, monkeypatch) as there, cluster(tmp_path / "cluster", 0) as made:
        nannies = [psutil.Process(made.add(nanny=True, **there.machine()).pid) for _ in range(2)]
        undisturbed: dict[str, float] = {}
        while killed < KILLS:
            kind, place = ("embed", "rank")[runs % 2], tmp_path / f"place-{runs}"
            place.mkdir()
            running = start(*command(kind, data, place, made.address, there.cache(place)), folder=tmp_path)
            now = 0
            if kind in undisturbed:
                most = min(KILLS_A_RUN, KILLS - killed)
                now = kill_while_it_runs(running, nannies, undisturbed[kind], most, chance)
            longest = undisturbed.get(kind, 600.0) * (1 + now) + LONGEST_HANG_SECONDS
            status = running.wait(seconds=longest)  # a run that hangs ends the test here
            undisturbed.setdefault(kind, time.monotonic() - running.began)
            found = there.held(place, ids)
            gone, bad = lost(held, found), wrong(found, held)
            if status or (kind == "rank" and not board(place).equals(wanted)):
                problems.append(f"{kind}, {now} kills: {status} {running.errors[-300:]}")
            killed, runs = killed + now, runs + 1
            survived += now if not (gone or bad or status) else 0
            rows_lost, rows_wrong = rows_lost + gone, rows_wrong + bad
            shutil.rmtree(place)
    torture_row(
        f"SIGKILL of workers of a cluster, cache {'in a' if where == 'bucket' else 'on a'} {where}",
        injected=killed,
        survived=survived,
        rows_lost=rows_lost,
        rows_wrong=rows_wrong,
    )
    assert (rows_lost, rows_wrong, problems) == (0, 0, [])
    assert survived == killed >= KILLS
