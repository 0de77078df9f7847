"""A CSV of ``path,label[,split][,group]`` to a listing."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmark.data.files import read_regular
from benchmark.data.folders import link_refusal
from benchmark.data.listing import PART_NAMES, Entry, Listing, Part
from benchmark.errors import DataError
from benchmark.records import Rejected

LABEL_SEPARATOR: Final = ";"
GROUP_COLUMN: Final = "group"
_EXPECTED = "columns path,label and, if wanted, split and group"


def list_table(path: Path, *, group_column: str | None, follow_links: bool) -> Listing:
    """List a CSV (or a tab-separated ``.tsv``) of images.

    Several labels of one image are separated by ``;``. Paths are relative to the CSV's folder.

    Args:
        path: absolute, resolved CSV file; UTF-8, other bytes in paths are kept as they are.
        group_column: column that names groups; None uses ``group`` where there is one.
        follow_links: whether paths and links may lead outside the CSV's folder.

    Raises:
        DataError: unreadable, no such columns, no rows, or a row that cannot be read.
    """
    table = _Table(path=path, group_column=group_column, follow_links=follow_links)
    rows = _rows(path)
    header = _header(path, next(rows, (1, []))[1])
    entries = [entry for line, row in rows if (entry := table.entry(line, header, row))]
    if not entries and not table.rejected:
        raise DataError("no rows", where=path, expected="one row per image below the header")
    _check_parts(path, entries)
    return Listing(
        name=path.stem or "data",
        source=path,
        root=path.parent,
        entries=tuple(entries),
        rejected=tuple(table.rejected),
        columns=tuple(name for name in header if name not in {"path", "label", "split"}),
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not empty."""
    try:
        text = read_regular(path).decode("utf-8-sig", "surrogateescape")
    except DataError as error:
        raise DataError(error.what, where=path, got=error.got) from error
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError("not a readable CSV", where=f"{path}, line {reader.line_num}", got=error) from error


def _header(path: Path, cells: list[str]) -> dict[str, int]:
    """Column name, lower case, to position."""
    names = [cell.strip().lower() for cell in cells]
    missing = [name for name in ("path", "label") if name not in names]
    if missing:
        near = [match for name in missing for match in difflib.get_close_matches(name, names, 1)]
        hint = f"Rename column {near[0]!r}." if near else "Name the columns in the first line."
        got = ",".join(names)[:200] or "an empty file"
        raise DataError(f"no column {missing[0]!r}", where=path, expected=_EXPECTED, got=got, next_step=hint)
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"column {doubled!r} stands twice", where=path, expected=_EXPECTED)
    return {name: position for position, name in enumerate(names)}


def _check_parts(path: Path, entries: list[Entry]) -> None:
    without = next((entry for entry in entries if entry.part is None), None)
    if without is not None and any(entry.part is not None for entry in entries):
        raise DataError(
            "a row without a part, where others have one",
            where=f"{path}, image {without.path}",
            expected="train, val or test in the split column of every row, or of none",
        )


@dataclass(slots=True)
class _Table:
    path: Path
    group_column: str | None
    follow_links: bool
    rejected: list[Rejected] = field(default_factory=list)
    _plain_folders: set[str] = field(default_factory=set)

    def entry(self, line: int, header: Mapping[str, int], row: list[str]) -> Entry | None:
        """The entry of one row; None where its path is refused."""
        cell = {
            name: row[position].strip() if position < len(row) else "" for name, position in header.items()
        }
        name = cell["path"]
        if not name:
            raise DataError("a row without a path", where=f"{self.path}, line {line}", expected=_EXPECTED)
        labels = tuple(sorted({label.strip() for label in cell["label"].split(LABEL_SEPARATOR)} - {""}))
        relative = _normal(name)
        reason = self._refusal(relative)
        if reason:
            self.rejected.append(Rejected(path=relative, reason=reason, labels=labels))
            return None
        group = cell.get((self.group_column or GROUP_COLUMN).lower()) or None
        return Entry(relative, labels, self._part(line, cell.get("split", "")), group)

    def _part(self, line: int, text: str) -> Part | None:
        if not text:
            return None
        if text.lower() not in PART_NAMES:
            where = f"{self.path}, line {line}, column split"
            raise DataError("an unknown part", where=where, expected="train, val or test", got=repr(text))
        return PART_NAMES[text.lower()]

    def _refusal(self, relative: str) -> str:
        """Why this path is refused; folders are looked at once, files only where they are links."""
        root = str(self.path.parent)
        full = os.path.join(root, relative)  # noqa: PTH118 - pathlib is slow for a million names
        folder = os.path.dirname(full)  # noqa: PTH120
        try:
            if folder not in self._plain_folders:
                reason = link_refusal(root, folder + os.sep, follow_links=self.follow_links)
                if reason and os.path.realpath(folder) != root:
                    return "no such file" if reason == "a link that leads nowhere" else reason
                self._plain_folders.add(folder)
            if not os.path.islink(full):  # noqa: PTH114
                return ""
        except ValueError:
            return "not a possible file name"
        return link_refusal(root, full, follow_links=self.follow_links)


def _normal(path: str) -> str:
    """POSIX, without ``.`` and empty segments; ``..`` stays, because links may stand before it."""
    absolute = "/" if path.startswith("/") else ""
    text = path if os.sep == "/" else path.replace(os.sep, "/")
    return absolute + "/".join(step for step in text.split("/") if step not in {"", "."})
