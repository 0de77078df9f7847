"""Machines that share nothing but a bucket rank as one process does, whatever becomes of them."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from s3_server import KEY_ID, SECRET, S3Server

from benchmark.cli import main

sys.path.append(str(Path(__file__).resolve().parents[1] / "execution"))
pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
from clusters import Cluster, cluster

SHARED = Path(__file__).resolve().parents[3] / "shared"
CLOCKED = ["images_per_second", "latency_ms", "latency_p95_ms", "noisy", "embed_seconds", "head_seconds"]

pytestmark = [
    pytest.mark.skipif(not SHARED.exists(), reason="needs the photographs and weights of ../shared"),
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
]


def rank(data: object, cache: object, results: Path, *more: str) -> pd.DataFrame:
    words = ["rank", str(data), "--weights", str(SHARED / "weights"), "--size", "64", "--groups", "none"]
    words += ["--backbones", "MobileNet_0.25,MobileNet_0.5", "--repeats", "1", "--epochs", "2", "--quiet"]
    assert main([*words, "--cache", str(cache), "--results", str(results), *more]) == 0
    (path,) = results.glob("*/leaderboard.csv")
    board = pd.read_csv(path)
    # Somebody timed them, and it is known here.
    assert board["latency_ms"].notna().all()
    return board.drop(columns=[*CLOCKED, "images_embedded", "agreement"])


@pytest.fixture
def bricks(s3: S3Server, tmp_path: Path) -> str:
    """100 photographs in the bucket."""
    url = f"s3://bench/{tmp_path.name}/bricks"
    for name in ("Positive", "Negative"):
        for path in sorted((SHARED / "data" / "brick_cracks" / name).iterdir())[:50]:
            fsspec.filesystem("s3").pipe_file(f"{url}/{name}/{path.name}", path.read_bytes())
    return url


def has_no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def own_machine(made: Cluster, number: int, limit: Callable[[], None] | None = None) -> None:
    """A worker whose home is its own."""
    made.add(limit=limit, XDG_CACHE_HOME=str(made.folder / f"machine{number}"))


def test_one_worker_killed_one_added_one_with_a_full_disk(s3: S3Server, bricks: str, tmp_path: Path) -> None:
    local = rank(bricks, tmp_path / "cache", tmp_path / "local", "--jobs", "1")
    url = f"s3://bench/{tmp_path.name}/cache"
    bucket = fsspec.filesystem("s3", use_listings_cache=False)

    def parts() -> list[str]:
        return [name for name in bucket.find(url) if "/part-" in name]

    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", 0) as made:
        for number in range(2):
            own_machine(made, number)
        own_machine(made, 2, limit=has_no_room)

        def disturb() -> None:
            while not parts():
                time.sleep(0.02)
            made.workers[0].kill()
            own_machine(made, 3)

        disturbing = threading.Thread(target=disturb, daemon=True)
        disturbing.start()
        there = rank(bricks, url, tmp_path / "there", "--cluster", made.address)
        disturbing.join(10)
        assert made.workers[0].poll() is not None
        pd.testing.assert_frame_equal(there, local)
        s3.requests()
        again = rank(bricks, url, tmp_path / "again", "--cluster", made.address)
        puts = [one for one in s3.requests() if one.startswith("PUT")]
        assert not [one for one in puts if "/part-" in one]
        pd.testing.assert_frame_equal(again, local)
    assert not [name for name in bucket.find(url) if ".tmp-" in name]
    machines = [path for path in (tmp_path / "cluster").glob("machine*/backbones/*") if path.is_dir()]
    assert {path.name for path in machines} == {"cache", "data"}
    for secret in (KEY_ID, SECRET):
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not [path for path in files if secret.encode() in path.read_bytes()]
