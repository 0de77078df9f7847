"""SIGKILL at any moment: no row is wrong, finished rows stay, at most one part is computed again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_processes import finish, kill_at_random, kill_when, last, start, total
from store_shelves import KEY, make_features, make_ids
from store_worker import DIM, ROWS_PER_PART

from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize
from benchmark.records import Float32

# An undisturbed worker needs about this long for its rows, so that kills fall on all of its stages.
_SECONDS = 0.4
_KILLS = [10, pytest.param(120, marks=pytest.mark.torture)]


def counts(root: Path, rows: int) -> tuple[set[str], int]:
    """Ids that the cache has, and how many of their vectors are wrong."""
    store = EmbeddingStore(root)
    ids = make_ids(rows)
    present = set(ids) - set(store.missing(KEY, ids))
    held = tuple(image_id for image_id in ids if image_id in present)
    if not held:
        return present, 0
    features = store.read(KEY, held).features
    return present, int((features != make_features(held, DIM)).any(axis=1).sum())


@pytest.mark.parametrize("kills", _KILLS)
def test_killed_writers(tmp_path: Path, kills: int, torture_row: Callable[..., None]) -> None:
    chance = random.Random(kills)
    lost = wrong = computed = survived = injected = 0
    present: set[str] = set()
    seconds = _SECONDS
    while injected < kills:
        rows = len(present) + 2000  # more than a worker gets done
        lines, killed = kill_at_random(start("fill", tmp_path, rows), seconds, chance)
        seconds = _SECONDS if present else 2 * seconds  # where none gets as far as its first part
        computed += total(lines, "computed")
        now, bad = counts(tmp_path, rows)
        # What the worker had reported as durable must be there as well as all that was there before.
        missed = max(0, len(present) + last(lines, "part") - len(now)) + len(present - now)
        survived += killed and not missed and not bad
        lost, wrong, present, injected = lost + missed, wrong + bad, now, injected + killed
    assert present, "the kills came too early to test anything"
    rows = len(present) + 40
    computed += total(finish(start("fill", tmp_path, rows)), "computed")
    now, bad = counts(tmp_path, rows)
    lost, wrong = lost + rows - len(now), wrong + bad
    torture_row("SIGKILL of a writer", injected=kills, survived=survived, rows_lost=lost, rows_wrong=wrong)
    assert (survived, lost, wrong) == (kills, 0, 0)
    assert computed <= rows + kills * (ROWS_PER_PART + 4)
    store = EmbeddingStore(tmp_path)
    store.clean()
    assert not list(tmp_path.rglob(".tmp-*"))
    assert store.verify().damages == ()


@pytest.mark.parametrize("kills", [4, pytest.param(120, marks=pytest.mark.torture)])
def test_killed_compactions(tmp_path: Path, kills: int, torture_row: Callable[..., None]) -> None:
    """Parts disagree about most rows; whoever won a row before the kill wins it afterwards."""
    chance = random.Random(kills)
    ids = make_ids(120)
    lost = wrong = survived = injected = 0
    seconds = 1.0
    while injected < kills:
        spread(tmp_path, tuple(chance.sample(ids, 60)) if injected else ids, float(injected))
        before = EmbeddingStore(tmp_path).read(KEY, ids).features
        began = time.monotonic()
        killed = kill_compaction(tmp_path, seconds, chance)
        if not killed:  # it was done: later ones are killed within the time that this one took
            seconds = time.monotonic() - began
        absent, bad = changed(tmp_path, ids, before)
        if killed and injected % 4 == 3:  # so that old parts do not pile up
            finish(start("compact", tmp_path, len(ids)))
            absent, bad = map(sum, zip((absent, bad), changed(tmp_path, ids, before), strict=True))
            assert len(EmbeddingStore(tmp_path).parts(KEY)) == 1
        lost, wrong, injected = lost + absent, wrong + bad, injected + killed
        survived += killed and not absent + bad
    torture_row(
        "SIGKILL of a compaction", injected=injected, survived=survived, rows_lost=lost, rows_wrong=wrong
    )
    assert (survived, lost, wrong) == (kills, 0, 0)


def kill_compaction(root: Path, seconds: float, chance: random.Random) -> bool:
    """Kill one at a random time or, three times in four, while it removes old parts."""
    old = [file.path for file in EmbeddingStore(root).parts(KEY)]
    worker = start("compact", root, 120)
    if chance.random() < 0.25:
        return kill_at_random(worker, seconds, chance)[1]
    # The largest names go first, so the one that is watched tells how many are gone.
    watched = chance.choice(old)
    return kill_when(worker, lambda: not watched.exists())


def spread(root: Path, ids: tuple[str, ...], shift: float) -> None:
    """Many small parts, their vectors moved by a shift, so that they disagree with those of another shift."""
    with EmbeddingStore(root).writer(KEY, DIM, size=PartSize(rows=4)) as writer:
        writer.add(ids, make_features(ids, DIM) + np.float32(shift))


def changed(root: Path, ids: tuple[str, ...], before: Float32) -> tuple[int, int]:
    """How many rows are missing, and how many of the others have other bits than before."""
    store = EmbeddingStore(root)
    absent = set(store.missing(KEY, ids))
    held = [row for row, image_id in enumerate(ids) if image_id not in absent]
    now = store.read(KEY, [ids[row] for row in held]).features
    return len(absent), int((now != before[held]).any(axis=1).sum())


def test_every_moment_of_a_compaction_gives_the_same_bits(
    tmp_path: Path, torture_row: Callable[..., None]
) -> None:
    """Stop after each removal, with parts that disagree about every row: the winner never changes."""
    ids = make_ids(6)
    for value in range(12):
        with EmbeddingStore(tmp_path).writer(KEY, 1) as writer:
            writer.add(ids[value % 3 :], np.full((6 - value % 3, 1), value, np.float32))
    before = EmbeddingStore(tmp_path).read(KEY, ids).features
    old = {path: path.read_bytes() for path in EmbeddingStore(tmp_path).folder(KEY).glob("part-*")}
    assert EmbeddingStore(tmp_path).compact(KEY) == 11
    wrong = 0
    for path in sorted(old):  # the removals undone one by one, the last first
        path.write_bytes(old[path])
        read = EmbeddingStore(tmp_path).read(KEY, ids).features
        wrong += int((read != before).sum())
    torture_row("stop inside a compaction", injected=12, survived=12 - bool(wrong), rows_wrong=wrong)
    assert not wrong


def test_power_loss_before_the_rename(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    """A temporary file of any length beside the parts is never read, and cleaned away."""
    with EmbeddingStore(tmp_path).writer(KEY, DIM) as writer:
        writer.add(make_ids(8), make_features(make_ids(8), DIM))
    store = EmbeddingStore(tmp_path)
    folder, content = store.folder(KEY), store.parts(KEY)[0].path.read_bytes()
    cuts = [0, 1, len(content) // 2, len(content) - 1, len(content)]
    for cut in cuts:
        (folder / f".tmp-{2**22 + cut}-{cut:012x}").write_bytes(content[:cut])
    assert counts(tmp_path, 8) == (set(make_ids(8)), 0)
    assert len(store.clean().paths) == len(cuts)
    assert store.verify().strangers == ()
    torture_row("temporary file left by power loss", injected=len(cuts), survived=len(cuts))
