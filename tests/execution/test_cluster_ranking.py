"""A ranking on a cluster gives the board of one process to the last digit, whatever its workers do."""

from __future__ import annotations

import json
import os
import re
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from benchmark.cli import main

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
from clusters import cluster

SHARED = Path(__file__).resolve().parents[3] / "shared"
BACKBONES = "MobileNet_0.25,MobileNet_0.5"
CLOCKED = [
    "agreement",
    *("images_per_second", "latency_ms", "latency_p95_ms", "noisy", "embed_seconds", "head_seconds"),
    "images_embedded",
]

pytestmark = [
    pytest.mark.skipif(not SHARED.exists(), reason="needs the photographs and weights of ../shared"),
    pytest.mark.skipif(os.name != "posix", reason="limits and signals as on POSIX"),
]


def ranking(place: Path, *more: str) -> int:
    words = ["rank", str(SHARED / "data" / "brick_cracks"), "--weights", str(SHARED / "weights")]
    words += ["--backbones", BACKBONES, "--size", "64", "--limit", "100", "--repeats", "1", "--epochs", "2"]
    words += [
        "--cache",
        str(place / "cache"),
        "--results",
        str(place / "results"),
        "--groups",
        "none",
        "--quiet",
    ]
    return main([*words, *more])


def board(place: Path) -> pd.DataFrame:
    (path,) = (place / "results").glob("*/leaderboard.csv")
    return pd.read_csv(path).drop(columns=CLOCKED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The board of one process."""
    place = tmp_path_factory.mktemp("alone")
    assert ranking(place, "--jobs", "1") == 0
    return board(place)


def parts(place: Path) -> int:
    return len(list((place / "cache").glob("*/part-*.h5")))


def ids_of(part: Path) -> np.ndarray:
    with h5py.File(part) as file:
        return np.asarray(file["image_ids"][()])


def has_no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def when(condition: Callable[[], bool], action: Callable[[], object]) -> threading.Thread:
    def wait() -> None:
        while not condition():
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_one_worker_killed_one_added_one_with_a_full_disk(tmp_path: Path, alone: pd.DataFrame) -> None:
    place = tmp_path / "place"
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", 2) as made:
        made.add(limit=has_no_room)

        def disturb() -> None:
            made.workers[0].kill()
            made.add()

        disturbing = when(lambda: parts(place) > 0, disturb)
        assert ranking(place, "--cluster", made.address) == 0
        disturbing.join(10)
        assert made.workers[0].poll() is not None
    pd.testing.assert_frame_equal(board(place), alone)


def test_where_no_worker_has_room_each_row_names_the_last_one_and_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(SHARED / "data" / "brick_cracks"), "--weights", str(SHARED / "weights")]
    words += ["--backbones", BACKBONES, "--size", "64", "--limit", "60", "--quiet", "--format", "json"]
    words += ["--cache", str(tmp_path / "cache")]
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", 0) as made:
        made.add(limit=has_no_room)
        assert main([*words, "--cluster", made.address]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["backbone"] for row in rows] == BACKBONES.split(",")
    for row in rows:
        assert row["status"] == "failed"
        assert re.match(r"on worker tcp://127\.0\.0\.1:\d+: .*File too large", row["reason"]), row


def test_no_row_is_computed_twice_but_those_in_flight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, images = tmp_path / "place", 400
    words = ["embed", str(SHARED / "data" / "brick_cracks"), "--weights", str(SHARED / "weights")]
    words += ["--backbones", BACKBONES, "--size", "64", "--limit", str(images), "--quiet"]
    words += ["--cache", str(place / "cache"), "--format", "json"]
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", 3) as made:
        disturbing = when(lambda: parts(place) > 0, lambda: made.workers[0].kill())
        assert main([*words, "--cluster", made.address]) == 0
        disturbing.join(10)
        assert made.workers[0].poll() is not None
    for row in json.loads(capsys.readouterr().out):
        # What a killed worker kept is not among those that tasks came back with, and not computed again.
        assert row["computed"] <= images
        keys = (place / "cache").glob(f"{row['backbone']}-*")
        kept = [ids_of(path) for key in keys for path in key.glob("part-*.h5")]
        assert sum(map(len, kept)) == len(set(np.concatenate(kept).tolist())) == images


def test_a_cluster_of_this_machine(tmp_path: Path, alone: pd.DataFrame) -> None:
    assert ranking(tmp_path, "--cluster", "local:2") == 0
    pd.testing.assert_frame_equal(board(tmp_path), alone)
    assert not list((tmp_path / "cache" / "outcomes").glob("*"))
