"""Images and tables at a URL: listed and copied to this machine before they are read as all others are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmark.cells import abridged, printable
from benchmark.data.folders import is_hidden, is_never_read
from benchmark.data.mirror import Mirror, hold_place, list_folders, list_place
from benchmark.data.tables import files_named
from benchmark.errors import DataError
from benchmark.locations import place_of, spelled
from benchmark.records import Observer, Silent
from benchmark.storage import MOST_FETCHED_BYTES, fetch_copy

TASK: Final = "fetch"


@contextmanager
def fetched(source: Path, *, is_table: bool, observer: Observer | None = None) -> Iterator[None]:
    """Make the copies of a data set those of what lies at its URL now; inside, nobody else changes them.

    Args:
        source: what stands for the URL on this machine.
        is_table: whether it is a table: then the files that it names are fetched.
        observer: told how far it is.

    Raises:
        DataError: there is nothing, or more than copies may take.
        CacheError: it cannot be listed or fetched.
    """
    watch = observer or Silent()
    place = place_of(source)
    with hold_place(
        place, lambda: watch.message(f"Another run is fetching {spelled(place)}; waiting for it to finish.")
    ):
        _fetch(place, is_table=is_table, watch=watch)
        yield


def _fetch(place: Path, *, is_table: bool, watch: Observer) -> None:
    if is_table:
        if not fetch_copy(place):
            raise _nothing_at(place)
        root = place.parent
        there, odd = list_folders(root, files_named(place))
    else:
        root = place
        there, odd = list_place(place)
        there = {name: file for name, file in there.items() if not is_hidden(name)}
        if not there:
            raise _nothing_at(place)
    if odd:
        shown = abridged([printable(name) for name in odd])
        watch.message(f"{len(odd):,} names at {spelled(place)} are none that a file can have: {shown}.")
    large = [name for name, file in there.items() if _is_too_large(name, file.size)]
    if large:
        shown = abridged([f"{printable(name)} ({there[name].size:,} bytes)" for name in large])
        watch.message(
            f"Left out, since files at a URL may have {MOST_FETCHED_BYTES:,} bytes at most: {shown}."
        )
        there = {name: file for name, file in there.items() if name not in set(large)}
    watch.started(TASK, len(there))
    mirror = Mirror(root=root, place=place)
    if not is_table:
        mirror.forget_others(there)
    mirror.update(there, lambda done: watch.advanced(TASK, done))
    watch.finished(TASK)


def _is_too_large(name: str, size: int) -> bool:
    return size > MOST_FETCHED_BYTES and not is_never_read(name)


def _nothing_at(place: Path) -> DataError:
    return DataError(
        "nothing there",
        where=spelled(place),
        expected="a folder of labelled images or a CSV",
        next_step="Check the URL.",
    )
