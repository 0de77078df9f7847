"""SIGKILL of workers of a Dask cluster under `embed` and `rank`: the command ends as if nothing had been."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import psutil
import pytest
from process_runs import NETWORKS, SMALL, Command, Vectors, image_ids, lost, run, start, vectors, wrong

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

IMAGES = 60
KILLS = int(os.environ.get("TORTURE_KILLS", "0")) or 50  # fewer for a quick look
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


def _clusters() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "execution" / "clusters.py"
    spec = importlib.util.spec_from_file_location("clusters", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    __import__("sys").modules["clusters"] = module
    spec.loader.exec_module(module)
    return module


def command(kind: str, data: Path, place: Path, address: str = "") -> tuple[object, ...]:
    words: tuple[object, ...] = (kind, data, "--backbones", NETWORKS, *SMALL, "--cache", place / "cache")
    if kind == "rank":
        words += ("--repeats", 1, "--epochs", 2, "--groups", "none", "--results", place / "results")
    return (*words, "--cluster", address) if address else (*words, "--jobs", 1)


def board(place: Path) -> pd.DataFrame:
    path = place / "results" / "walls" / "leaderboard.csv"
    return pd.read_csv(path).drop(columns=[*CLOCKED, "images_embedded"])


def kill_a_worker(workers: list[psutil.Process], chance: random.Random) -> bool:
    """Kill the process under one nanny, whatever it is at."""
    below = [one for nanny in workers for one in nanny.children() if one.status() != psutil.STATUS_ZOMBIE]
    if below:
        chance.choice(below).kill()
    return bool(below)


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


@pytest.mark.torture
@pytest.mark.timeout(7200)
def test_killed_workers(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    clusters = _clusters()
    data, reference = tmp_path / "walls", tmp_path / "reference"
    run("demo", data, "--count", IMAGES, "--quiet", folder=tmp_path)
    reference.mkdir()
    done = run(*command("rank", data, reference), folder=tmp_path)
    assert done.wait() == 0, done.errors
    ids = image_ids(data)
    held: Vectors = vectors(reference / "cache", ids)
    wanted = board(reference)
    chance, problems = random.Random(KILLS), list[str]()
    killed = survived = rows_lost = rows_wrong = runs = 0
    (tmp_path / "cluster").mkdir()
    with clusters.cluster(tmp_path / "cluster", 0) as made:
        nannies = [psutil.Process(made.add(nanny=True).pid) for _ in range(2)]
        undisturbed: dict[str, float] = {}
        while killed < KILLS:
            kind, place = ("embed", "rank")[runs % 2], tmp_path / f"place-{runs}"
            place.mkdir()
            running = start(*command(kind, data, place, made.address), folder=tmp_path)
            now = 0
            if kind in undisturbed:
                most = min(KILLS_A_RUN, KILLS - killed)
                now = kill_while_it_runs(running, nannies, undisturbed[kind], most, chance)
            longest = undisturbed.get(kind, 600.0) * (1 + now) + LONGEST_HANG_SECONDS
            status = running.wait(seconds=longest)  # a run that hangs ends the test here
            undisturbed.setdefault(kind, time.monotonic() - running.began)
            found = vectors(place / "cache", ids)
            gone, bad = lost(held, found), wrong(found, held)
            if status or (kind == "rank" and not board(place).equals(wanted)):
                problems.append(f"{kind}, {now} kills: {status} {running.errors[-300:]}")
            killed, runs = killed + now, runs + 1
            survived += now if not (gone or bad or status) else 0
            rows_lost, rows_wrong = rows_lost + gone, rows_wrong + bad
            shutil.rmtree(place)
    torture_row(
        "SIGKILL of workers of a cluster: embed, rank",
        injected=killed,
        survived=survived,
        rows_lost=rows_lost,
        rows_wrong=rows_wrong,
    )
    assert (rows_lost, rows_wrong, problems) == (0, 0, [])
    assert survived == killed >= KILLS
