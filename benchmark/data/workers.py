"""Threads for work that releases the interpreter lock: reading, hashing, decoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from benchmark.machine import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Generator[Result]:
    """``map`` on threads, holding only a few items at a time, so that a million cost no memory.

    ``jobs`` threads; 0 means one a core.

    An error of ``function`` is raised where its result would have come; what has not begun is dropped then.
    Use it in ``with closing(...)``, so that a reader who stops early (Ctrl-C) stops the threads as well.
    """
    workers = jobs or cores()
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
