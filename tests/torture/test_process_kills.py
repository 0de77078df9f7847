"""SIGKILL of real `embed`, `rank` and `finetune` processes at random moments, then the same command again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest
from process_runs import (
    NETWORKS,
    SMALL,
    Command,
    Target,
    Vectors,
    count,
    image_ids,
    kill_at_random,
    lost,
    run,
    vectors,
    wrong,
)
from process_runs import start as begin

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups as on POSIX")

IMAGES = 60
# Fewer kills, for a quick look.
KILLS = int(os.environ.get("TORTURE_KILLS", "0"))
CLOCKED = [
    "agreement",
    "images_per_second",
    "latency_ms",
    "latency_p95_ms",
    "noisy",
    "embed_seconds",
    "head_seconds",
    "images_embedded",
]


@dataclass
class Undisturbed:
    """What the commands leave when nobody disturbs them, and how long they take."""

    root: Path
    data: Path
    ids: tuple[str, ...]
    vectors: Vectors
    seconds: float

    @property
    def cache(self) -> Path:
        return self.root / "cache"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    root = tmp_path_factory.mktemp("undisturbed")
    data = root / "walls"
    run("demo", data, "--count", IMAGES, "--quiet", folder=root)
    began = time.monotonic()
    done = run("embed", data, *embedding(), "--cache", root / "cache", folder=root)
    assert done.wait() == 0, done.errors
    ids = image_ids(data)
    return Undisturbed(root, data, ids, vectors(root / "cache", ids), time.monotonic() - began)


def embedding(jobs: int = 2) -> tuple[object, ...]:
    return "--backbones", NETWORKS, *SMALL, "--jobs", jobs


@dataclass
class Toll:
    """What kills have cost so far."""

    injected: int = 0
    survived: int = 0
    lost: int = 0
    wrong: int = 0
    orphans: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def after_kill(self, before: Vectors, after: Vectors, reference: Vectors) -> None:
        gone, bad = lost(before, after), wrong(after, reference)
        self.injected += 1
        self.survived += not gone + bad
        self.lost, self.wrong = self.lost + gone, self.wrong + bad

    def settle(self, command: Command, target: Target) -> None:
        """Nobody of a killed command is left after a while."""
        for one in command.orphans():
            with contextlib.suppress(psutil.NoSuchProcess):
                said = f"after SIGKILL of the {target}: {' '.join(one.cmdline())[-160:]} ({one.status()})"
                one.kill()
                self.orphans.append(said)


def stale(*roots: Path) -> list[Path]:
    return [path for root in roots for path in root.rglob(".tmp-*")]


def check(toll: Toll, kills: int, torture_row: Callable[..., None], fault: str) -> None:
    torture_row(
        fault, injected=toll.injected, survived=toll.survived, rows_lost=toll.lost, rows_wrong=toll.wrong
    )
    assert (toll.lost, toll.wrong, toll.orphans, toll.problems) == (0, 0, [], [])
    assert toll.survived == toll.injected >= kills


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_killed_embeds(tmp_path: Path, undisturbed: Undisturbed, torture_row: Callable[..., None]) -> None:
    kills = KILLS or 50
    chance, toll, seconds = random.Random(kills), Toll(), undisturbed.seconds
    targets = list(Target)
    while toll.injected < kills:
        cache = tmp_path / f"cache-{toll.injected}"
        target = targets[toll.injected % len(targets)]
        words = ("embed", undisturbed.data, *embedding(), "--cache", cache)
        held = vectors(cache, undisturbed.ids)
        for _ in range(min(3, kills - toll.injected)):
            command = begin(*words, folder=tmp_path)
            killed = kill_at_random(command, target, seconds, chance)
            if target is Target.WORKER and command.wait() != 0:
                toll.problems.append(f"a killed worker ended the run: {command.errors[-300:]}")
            command.wait()
            toll.settle(command, target)
            if not killed:
                seconds = time.monotonic() - command.began
                break
            now = vectors(cache, undisturbed.ids)
            toll.after_kill(held, now, undisturbed.vectors)
            held = now
        finish_embedding(toll, words, tmp_path, held, undisturbed)
        shutil.rmtree(cache)
    check(toll, kills, torture_row, "SIGKILL of embed: group, parent, worker")


def finish_embedding(
    toll: Toll, words: tuple[object, ...], folder: Path, held: Vectors, undisturbed: Undisturbed
) -> None:
    """Run to the end: what was there is not computed again, and the bits are those of an undisturbed run."""
    cache = Path(str(words[-1]))
    held = vectors(cache, undisturbed.ids)
    done = run(*words, folder=folder)
    if done.wait() != 0:
        toll.problems.append(done.errors[-500:])
        return
    computed = sum(row["computed"] for row in done.rows)
    if computed != count(undisturbed.vectors) - count(held):
        toll.problems.append(f"{computed} rows computed, {count(held)} were there")
    now = vectors(cache, undisturbed.ids)
    toll.lost += lost(undisturbed.vectors, now)
    toll.wrong += wrong(now, undisturbed.vectors)
    tidy(toll, cache, folder)


def tidy(toll: Toll, cache: Path, folder: Path) -> None:
    """After `cache clean` no temporary file is left, and `cache verify` reads everything."""
    if run("cache", "clean", "--cache", cache, folder=folder).wait() != 0:
        toll.problems.append("cache clean failed")
    if left := stale(cache):
        toll.problems.append(f"left after cache clean: {left}")
    if (cache / "scratch").exists() and (left := list((cache / "scratch").iterdir())):
        toll.problems.append(f"left in scratch: {left}")
    verified = run("cache", "verify", "--cache", cache, folder=folder)
    if verified.wait() != 0:
        toll.problems.append(verified.errors[-300:])


def ranking(undisturbed: Undisturbed, place: Path) -> tuple[object, ...]:
    folders = ("--cache", place / "cache", "--results", place / "results")
    return "rank", undisturbed.data, *embedding(), "--repeats", 1, "--epochs", 3, *folders


def board(results: Path) -> pd.DataFrame:
    content = (results / "walls" / "leaderboard.csv").read_text()
    return pd.read_csv(io.StringIO(content)).drop(columns=CLOCKED, errors="ignore")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_killed_rankings(tmp_path: Path, undisturbed: Undisturbed, torture_row: Callable[..., None]) -> None:
    """Half of them with a full cache, so that kills also fall on heads, board and plots."""
    kills = KILLS or 40
    chance, toll = random.Random(kills), Toll()
    seconds = {False: 2 * undisturbed.seconds, True: undisturbed.seconds}
    reference = tmp_path / "reference"
    reference.mkdir()
    shutil.copytree(undisturbed.cache, reference / "cache")
    done = run(*ranking(undisturbed, reference), folder=tmp_path)
    assert done.wait() == 0, done.errors
    wanted, targets = board(reference / "results"), list(Target)
    while toll.injected < kills:
        place, target = tmp_path / f"place-{toll.injected}", targets[toll.injected % len(targets)]
        place.mkdir()
        full = chance.random() < 0.5
        if full:
            shutil.copytree(undisturbed.cache, place / "cache")
        held = vectors(place / "cache", undisturbed.ids)
        for _ in range(min(3, kills - toll.injected)):
            command = begin(*ranking(undisturbed, place), folder=tmp_path)
            killed = kill_at_random(command, target, seconds[full], chance)
            if target is Target.WORKER and command.wait() != 0:
                toll.problems.append(f"a killed worker ended the run: {command.errors[-300:]}")
            command.wait()
            toll.settle(command, target)
            if not killed:
                seconds[full] = time.monotonic() - command.began
                break
            now = vectors(place / "cache", undisturbed.ids)
            toll.after_kill(held, now, undisturbed.vectors)
            toll.problems += broken_results(place / "results" / "walls")
            held = now
        done = run(*ranking(undisturbed, place), folder=tmp_path)
        if done.wait() != 0:
            toll.problems.append(f"no board: {done.errors[-300:]}")
        elif not (found := board(place / "results")).equals(wanted):
            toll.problems.append(f"another board: {found.compare(wanted).to_dict()}")
        toll.wrong += wrong(vectors(place / "cache", undisturbed.ids), undisturbed.vectors)
        tidy(toll, place / "cache", tmp_path)
        if left := stale(place / "results"):
            toll.problems.append(f"left in the results: {left}")
        shutil.rmtree(place)
    check(toll, kills, torture_row, "SIGKILL of rank: group, parent, worker")


def broken_results(folder: Path) -> list[str]:
    """Files of the results that cannot be read: each is whole or absent at any moment."""
    broken = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.name == "leaderboard.csv":
                assert len(pd.read_csv(path)) == 2
        except (ValueError, AssertionError) as error:
            broken.append(f"{path}: {error}")
    return broken


def finetuning(undisturbed: Undisturbed, place: Path) -> tuple[object, ...]:
    recipe = ("--winner", "MobileNet_0.25", "--weights", "random", "--image-size", 32, "--epochs", "4,4")
    folders = ("--cache", place / "cache", "--results", place / "results")
    return "finetune", undisturbed.data, *recipe, *folders, "--quiet", "--format", "json"


def model_of(place: Path) -> tuple[object, ...]:
    """Everything that an undisturbed run decides: metrics, history, predictions."""
    folder = place / "results" / "walls" / "finetune" / "MobileNet_0.25" / "two-phase-f1"
    history = pd.read_csv(folder / "history.csv")
    kept = history.drop(columns=["finished_at", "seconds"])
    return (
        json.loads((folder / "metrics.json").read_text()),
        kept.to_csv(),
        (folder / "predictions.csv").read_text(),
    )


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_killed_finetunings(
    tmp_path: Path, undisturbed: Undisturbed, torture_row: Callable[..., None]
) -> None:
    """A killed fine-tuning continues, and ends with the numbers of one that nobody disturbed."""
    kills = KILLS or 20
    chance, toll = random.Random(kills), Toll()
    reference = tmp_path / "reference"
    reference.mkdir()
    done = run(*finetuning(undisturbed, reference), folder=tmp_path)
    assert done.wait() == 0, done.errors
    seconds, wanted = time.monotonic() - done.began, model_of(reference)
    while toll.injected < kills:
        place = tmp_path / f"place-{toll.injected}"
        place.mkdir()
        for _ in range(min(4, kills - toll.injected)):
            command = begin(*finetuning(undisturbed, place), folder=tmp_path)
            killed = kill_at_random(command, Target.GROUP, seconds, chance)
            command.wait()
            toll.settle(command, Target.GROUP)
            if not killed:
                break
            toll.after_kill({}, {}, {})
        done = run(*finetuning(undisturbed, place), folder=tmp_path)
        if done.wait() != 0:
            toll.problems.append(done.errors[-500:])
        elif model_of(place) != wanted:
            toll.problems.append("another model than that of an undisturbed run")
        tidy(toll, place / "cache", tmp_path)
        if left := stale(place / "results"):
            toll.problems.append(f"left in the results: {left}")
        shutil.rmtree(place)
    check(toll, kills, torture_row, "SIGKILL of finetune")
