"""Two and four commands on one cache at once, with and without locks that work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from process_runs import Vectors, image_ids, run, start, vectors, wrong

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.name != "posix", reason="process groups as on POSIX"),
]

IMAGES = 40
EMBEDDING = (
    "--backbones",
    "MobileNet_0.25,MobileNet_0.5",
    "--weights",
    "random",
    "--size",
    "32",
    "--jobs",
    "1",
)
PRINTED = ("--quiet", "--format", "json")


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    run("demo", root / "walls", "--count", IMAGES, "--quiet", folder=root)
    return root / "walls"


@pytest.fixture(scope="module")
def reference(walls: Path, tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    root = tmp_path_factory.mktemp("reference")
    done = run("embed", walls, *EMBEDDING, *PRINTED, "--cache", root / "cache", folder=root)
    assert done.wait() == 0, done.errors
    return vectors(root / "cache", image_ids(walls))


@pytest.mark.parametrize(
    ("commands", "variables"),
    [(2, {}), (4, {}), (2, {"HDF5_USE_FILE_LOCKING": "FALSE"})],
    ids=["two", "four", "without HDF5 locks"],
)
def test_embeds_at_once(
    tmp_path: Path,
    walls: Path,
    reference: Vectors,
    commands: int,
    variables: dict[str, str],
    torture_row: Callable[..., None],
) -> None:
    cache = tmp_path / "cache"
    words = ("embed", walls, *EMBEDDING, *PRINTED, "--cache", cache)
    running = [start(*words, folder=tmp_path, **variables) for _ in range(commands)]
    finished = [one for one in running if one.wait() == 0]
    assert len(finished) == commands, [one.errors for one in running]
    computed = sum(row["computed"] for one in finished for row in one.rows)
    assert computed == 2 * IMAGES, "no row is computed twice"
    now = vectors(cache, image_ids(walls))
    bad = wrong(now, reference)
    absent = 2 * IMAGES - sum(len(rows) for rows in now.values())
    torture_row(f"{commands} embeds at once", injected=1, survived=1, rows_lost=absent, rows_wrong=bad)
    assert (absent, bad) == (0, 0)
    (verified,) = run("cache", "verify", "--cache", cache, *PRINTED, folder=tmp_path).rows
    assert (verified["rows"], verified["damaged"]) == (2 * IMAGES, 0), "nothing is doubled"
    assert not list(cache.rglob(".tmp-*"))
    assert not list((cache / "scratch").iterdir())


def test_rankings_at_once(tmp_path: Path, walls: Path, torture_row: Callable[..., None]) -> None:
    """Into one results folder: both boards are whole and equal, the top level is one of them."""
    folders = ("--cache", tmp_path / "cache", "--results", tmp_path / "results")
    words = ("rank", walls, *EMBEDDING, "--repeats", 1, "--epochs", 3, *folders, *PRINTED)
    running = [start(*words, folder=tmp_path) for _ in range(2)]
    assert [one.wait() for one in running] == [0, 0], [one.errors for one in running]
    scores = [[(row["backbone"], row["val_f1"], row["test_f1"]) for row in one.rows] for one in running]
    assert scores[0] == scores[1]
    board = tmp_path / "results" / "walls"
    assert len(pd.read_csv(board / "leaderboard.csv")) == 2
    latest = json.loads((board / "run.json").read_text())["identifier"]
    assert (board / "runs" / latest / "leaderboard.csv").exists()
    assert not list((tmp_path / "results").rglob(".tmp-*"))
    torture_row("2 rankings at once", injected=1, survived=1)
