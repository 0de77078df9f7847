"""Threads for work that releases the interpreter lock: reading, hashing, decoding."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(jobs: int) -> int:
    """Number of threads for ``--jobs``: 0 means every core that this process may use."""
    if jobs > 0:
        return jobs
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Generator[Result]:
    """``map`` on threads, holding only a few items at a time, so that a million cost no memory.

    An error of ``function`` is raised where its result would have come; what has not begun is dropped then.
    Use it in ``with closing(...)``, so that a reader who stops early (Ctrl-C) stops the threads as well.
    """
    workers = worker_count(jobs)
    pending: deque[Future[Result]] = deque()
    source = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
    try:
        for item in islice(source, 4 * workers):
            pending.append(pool.submit(function, item))
        while pending:
            result = pending.popleft().result()
            for item in islice(source, 1):
                pending.append(pool.submit(function, item))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
