"""Who is computing what: advisory locks that let two runs share work. Safety never rests on them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = "locks"
_LOG = logging.getLogger("benchmark.storage")


@contextmanager
def lock_folder(root: Path, name: str, *, timeout: float = 0.0) -> Iterator[bool]:
    """Try to be the one process that computes a key.

    The operating system lets go of the lock when its process ends, however it ends, so no lock is ever stale.

    Args:
        root: of the cache.
        name: of the key's folder.
        timeout: seconds to wait for another process; 0 only asks.

    Yields:
        False while another living process has the lock; True otherwise, and also where locks do not work
        (then two runs may compute the same rows, and both keep theirs).
    """
    from filelock import FileLock, Timeout

    # A file that says who has it would stand in for the lock, and stay when he is killed on another machine.
    lock = FileLock(root / _FOLDER / f"{name}.lock", timeout=timeout, fallback_to_soft=False)
    owned = True
    try:
        (root / _FOLDER).mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        owned = False
    except OSError as error:
        _LOG.info("locks do not work in %s (%s): work may be repeated, never lost", root, error)
    try:
        yield owned
    finally:
        if lock.is_locked:
            lock.release()
