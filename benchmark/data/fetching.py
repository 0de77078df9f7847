"""Images and tables at a URL: listed and copied to this machine before they are read as all others are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmark.cells import abridged, printable
from benchmark.data.folders import is_hidden, is_never_read
from benchmark.data.tables import files_named
from benchmark.errors import DataError
from benchmark.locations import place_of, spelled
from benchmark.records import Observer, Silent
from benchmark.storage import Mirror, fetch_copy, list_folders, list_place

TASK: Final = "fetch"


def fetch_images(source: Path, *, is_table: bool, observer: Observer | None = None) -> None:
    """Make the copies of a data set those of what lies at its URL now.

    Args:
        source: what stands for the URL on this machine.
        is_table: whether it is a table: then the files that it names are fetched.
        observer: told how far it is.

    Raises:
        DataError: there is nothing, or more than copies may take.
        CacheError: it cannot be listed or fetched.
    """
    watch = observer or Silent()
    place, odd = place_of(source), list[str]()
    if is_table:
        if not fetch_copy(place):
            raise _nothing_at(place)
        root = place.parent
        there = list_folders(root, files_named(place))
    else:
        root = place
        there, odd = list_place(place)
        there = {name: file for name, file in there.items() if not is_hidden(name)}
        if not there:
            raise _nothing_at(place)
    if odd:
        shown = abridged([printable(name) for name in odd])
        watch.message(f"{len(odd):,} names at {spelled(place)} are none that a file can have: {shown}.")
    watch.started(TASK, len(there))
    mirror = Mirror(root=root, notes=place.with_name(f".{place.name}.fetched.json"))
    mirror.update(there, is_never_read, lambda done: watch.advanced(TASK, done))
    if not is_table:
        mirror.forget_others(there)
    watch.finished(TASK)


def _nothing_at(place: Path) -> DataError:
    return DataError(
        "nothing there",
        where=spelled(place),
        expected="a folder of labelled images or a CSV",
        next_step="Check the URL.",
    )
