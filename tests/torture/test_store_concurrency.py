"""Several processes on one cache: all finish, nothing is lost, doubled or wrong, with locks and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from store_processes import finish, start, total
from store_shelves import KEY, make_features, make_ids
from store_worker import DIM, KEYS

from benchmark.embeddings import EmbeddingStore

_ROWS = 200
_NO_LOCKING = {"HDF5_USE_FILE_LOCKING": "FALSE"}
_MORE = pytest.mark.torture


@pytest.mark.parametrize(
    ("writers", "environment"),
    [
        pytest.param(2, {}, id="2"),
        pytest.param(4, _NO_LOCKING, id="4, no locking"),
        pytest.param(2, _NO_LOCKING, id="2, no locking", marks=_MORE),
        pytest.param(4, {}, id="4", marks=_MORE),
    ],
)
def test_writers_at_once(
    tmp_path: Path, writers: int, environment: Mapping[str, str], torture_row: Callable[..., None]
) -> None:
    tasks = [start("fill", tmp_path, _ROWS, environment) for _ in range(writers)]
    lines = [finish(task) for task in tasks]
    store = EmbeddingStore(tmp_path)
    lost = len(store.missing(KEY, make_ids(_ROWS)))
    features = store.read(KEY, make_ids(_ROWS)).features
    wrong = int((features != make_features(make_ids(_ROWS), DIM)).any(axis=1).sum())
    torture_row(f"{writers} writers at once", injected=1, survived=1, rows_lost=lost, rows_wrong=wrong)
    assert (lost, wrong) == (0, 0)
    assert all(("done", "") in part for part in lines)
    (entry,) = store.entries(count_rows=True)
    assert entry.rows == _ROWS
    assert store.verify().damages == ()


@pytest.mark.parametrize(
    "environment", [_NO_LOCKING, pytest.param({}, marks=_MORE)], ids=["no locking", "locking"]
)
def test_readers_and_compactions_beside_writers(
    tmp_path: Path, environment: Mapping[str, str], torture_row: Callable[..., None]
) -> None:
    names = ("fill", "fill", "read", "compact", "compact")
    tasks = [start(name, tmp_path, _ROWS, environment) for name in names]
    lines = [line for task in tasks for line in finish(task)]
    lost, wrong = total(lines, "lost"), total(lines, "wrong")
    store = EmbeddingStore(tmp_path)
    lost += len(store.missing(KEY, make_ids(_ROWS)))
    torture_row(
        "readers and compactions beside writers", injected=1, survived=1, rows_lost=lost, rows_wrong=wrong
    )
    assert (lost, wrong) == (0, 0)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_two_runs_share_the_work(tmp_path: Path) -> None:
    lines = [line for task in [start("share", tmp_path, 40) for _ in range(2)] for line in finish(task)]
    assert total(lines, "computed") == len(KEYS) * 40


def test_a_claim_dies_with_its_process(tmp_path: Path, torture_row: Callable[..., None]) -> None:
    store = EmbeddingStore(tmp_path)
    holder = start("hold", tmp_path, 60)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "owned 1\n"
    with store.lock(KEY) as owned:
        assert not owned
    holder.kill()
    holder.communicate()
    with store.lock(KEY) as owned:
        assert owned
    torture_row("SIGKILL of a process that holds a lock", injected=1, survived=1)


def test_claims_do_not_nest_within_a_process(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    with store.lock(KEY) as first, store.lock(KEY) as second, store.lock(KEYS[1]) as other:
        assert (first, second, other) == (True, False, True)
    with store.lock(KEY) as again:
        assert again


def test_where_locks_do_not_work_everybody_owns(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file where the folder of locks belongs")
    store = EmbeddingStore(tmp_path)
    with store.lock(KEY) as first, store.lock(KEY) as second:
        assert first
        assert second
