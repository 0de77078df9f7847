"""A process that works on a cache until somebody kills it: ``python store_worker.py TASK ROOT [ROWS]``.

Tasks: ``fill`` computes what is missing, ``share`` does so one key after the other under locks, ``compact``
joins parts, ``read`` reads all that is there and compares, ``hold`` keeps a lock, ``overfill`` writes until
the disk is full, ``look`` reads once. A worker prints one line per event: ``ready`` before the work,
``part N`` when N rows are durable, ``computed N`` when N rows were computed, ``lost N`` and ``wrong N`` rows,
``error``, ``done``.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import filelock  # noqa: F401 - before the limits: modules are files too
import h5py  # noqa: F401
import numpy as np
import psutil  # noqa: F401
from store_shelves import KEY, make_features, make_ids

from benchmark.embeddings import EmbeddingStore
from benchmark.embeddings.writer import PartSize
from benchmark.errors import CacheError
from benchmark.records import EmbeddingKey

DIM = 16
ROWS_PER_PART = 8
KEYS = tuple(replace(KEY, input_size=32 + number) for number in range(4))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def compute(store: EmbeddingStore, key: EmbeddingKey, rows: int) -> None:
    """Compute what is missing in small steps, as an engine does."""
    waiting = store.missing(key, make_ids(rows))
    with store.writer(key, DIM, size=PartSize(rows=ROWS_PER_PART)) as writer:
        for start in range(0, len(waiting), 4):
            ids = waiting[start : start + 4]
            say(f"computed {len(ids)}")
            writer.add(ids, make_features(ids, DIM))
            say(f"part {writer.rows_written}")


def fill(store: EmbeddingStore, rows: int) -> None:
    compute(store, KEY, rows)


def share(store: EmbeddingStore, rows: int) -> None:
    """One pass takes the keys that nobody works on, the next waits for the others."""
    for timeout in (0.0, 30.0):
        for key in KEYS:
            with store.lock(key, timeout=timeout) as owned:
                if owned:
                    compute(store, key, rows)


def compact(store: EmbeddingStore, rows: int) -> None:
    while True:
        store.compact(KEY)
        say(f"part {len(store.parts(KEY))}")
        if len(store.parts(KEY)) == 1 and not store.missing(KEY, make_ids(rows)):
            return


def read(store: EmbeddingStore, rows: int) -> None:
    """Read again and again while others write and compact: what is there stays there, and is right."""
    ids = make_ids(rows)
    present: set[str] = set()
    for _ in range(40):
        absent = set(store.missing(KEY, ids))
        say(f"lost {len(present & absent)}")
        present = set(ids) - absent
        rows_read = tuple(image_id for image_id in ids if image_id in present)
        if rows_read:
            features = store.read(KEY, rows_read).features
            say(f"wrong {int((features != make_features(rows_read, DIM)).any(axis=1).sum())}")


def hold(store: EmbeddingStore, rows: int) -> None:
    with store.lock(KEY) as owned:
        say(f"owned {int(owned)}")
        time.sleep(rows)


def overfill(store: EmbeddingStore, rows: int) -> None:
    """Write until the disk is full; say what the user would see."""
    ids = make_ids(rows)
    try:
        with store.writer(KEY, 4096, size=PartSize(rows=16)) as writer:
            for start in range(0, rows, 16):
                writer.add(ids[start : start + 16], np.ones((16, 4096), np.float32))
                say(f"part {writer.rows_written}")
    except CacheError as error:
        say(f"error {type(error).__name__} {error}")


def look(store: EmbeddingStore, rows: int) -> None:
    """Read what is there; say what the user would see."""
    try:
        say(f"part {rows - len(store.missing(KEY, make_ids(rows)))}")
        with store.lock(KEY) as owned:
            say(f"owned {int(owned)}")
        read = store.read(KEY, make_ids(rows)).features
        say(f"wrong {int((read != make_features(make_ids(rows), DIM)).any(axis=1).sum())}")
    except CacheError as error:
        say(f"error {type(error).__name__} {error}")


def restrict() -> None:
    """Limits and user that the driver asked for: WORKER_FSIZE bytes, WORKER_NOFILE files, WORKER_USER id."""
    for name in ("FSIZE", "NOFILE"):
        if wanted := os.environ.get(f"WORKER_{name}"):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(wanted), int(wanted)))
    if user := os.environ.get("WORKER_USER"):
        os.setgid(int(user))
        os.setuid(int(user))


TASKS: dict[str, Callable[[EmbeddingStore, int], None]] = {
    task.__name__: task for task in (fill, share, compact, read, hold, overfill, look)
}

if __name__ == "__main__":
    restrict()
    say("ready")
    TASKS[sys.argv[1]](EmbeddingStore(Path(sys.argv[2])), int(sys.argv[3]))
    say("done")
