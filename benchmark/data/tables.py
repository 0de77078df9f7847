"""A CSV of ``path,label[,split][,group]`` to a listing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmark.data.dialects import EXPECTED, is_set, labels_of, read_table
from benchmark.data.files import read_regular
from benchmark.data.folders import link_refusal
from benchmark.data.listing import Entry, Listing, SplitPart, part_named
from benchmark.errors import DataError
from benchmark.records import Rejected

GROUP_COLUMN: Final = "group"


def files_named(path: Path) -> list[str]:
    """The files that a table names, relative to its folder; those elsewhere are left out.

    Raises:
        DataError: see ``list_table``.
    """
    read = read_table(path, read_regular(path))
    column = read.columns.index("path")
    names = (_normal(row[column].strip().replace("\\", "/")) for _, row in read.rows if column < len(row))
    return [name for name in names if name and not name.startswith("/") and ".." not in name.split("/")]


def list_table(path: Path, *, group_column: str | None, follow_links: bool) -> Listing:
    """List a CSV of images; separator, encoding and names of columns are found (``dialects``).

    Several labels of one image are separated by ``;`` or ``|``, written as a list, or as columns of 0 and 1.
    Paths are relative to the CSV's folder or absolute.

    Args:
        path: absolute, resolved CSV file.
        group_column: column that names groups; None uses ``group`` where there is one.
        follow_links: whether links and ``..`` may lead outside the CSV's folder.

    Raises:
        DataError: unreadable, no such columns, no rows, or a row that cannot be read.
    """
    try:
        content = read_regular(path)
    except DataError as error:
        raise DataError(error.what, where=path, got=error.got) from error
    read = read_table(path, content)
    header = {name: position for position, name in enumerate(read.columns)}
    table = _LabelTable(path=path, group_column=group_column, follow_links=follow_links, one_hot=read.one_hot)
    entries = [entry for line, row in read.rows if (entry := table.entry(line, header, row))]
    if not entries and not table.rejected:
        raise DataError("no rows", where=path, expected="one row per image below the header")
    _check_parts(path, entries)
    return Listing(
        name=path.stem or "data",
        source=path,
        root=path.parent,
        entries=tuple(entries),
        rejected=tuple(table.rejected),
        columns=tuple(name for name in header if name not in {"path", "label", "split", *read.one_hot}),
        notes=read.notes,
    )


def _check_parts(path: Path, entries: list[Entry]) -> None:
    without = next((entry for entry in entries if entry.part is None), None)
    if without is not None and any(entry.part is not None for entry in entries):
        raise DataError(
            "a row without a part, where others have one",
            where=f"{path}, image {without.path}",
            expected="train, val or test in the split column of every row, or of none",
        )


@dataclass(slots=True)
class _LabelTable:
    path: Path
    group_column: str | None
    follow_links: bool
    one_hot: tuple[str, ...]
    rejected: list[Rejected] = field(default_factory=list)
    _plain_folders: set[str] = field(default_factory=set)

    def entry(self, line: int, header: Mapping[str, int], row: list[str]) -> Entry | None:
        """The entry of one row; None where its path is refused."""
        cell = {
            name: row[position].strip() if position < len(row) else "" for name, position in header.items()
        }
        name = cell["path"]
        if not name:
            raise DataError("a row without a path", where=f"{self.path}, line {line}", expected=EXPECTED)
        labels = tuple(sorted(one for one in self.one_hot if is_set(cell[one])))
        labels = labels if self.one_hot else labels_of(cell["label"])
        relative = self._found(name)
        reason = self._refusal(relative)
        if reason:
            self.rejected.append(Rejected(path=relative, reason=reason, labels=labels))
            return None
        group = cell.get((self.group_column or GROUP_COLUMN).lower()) or None
        return Entry(relative, labels, self._part(line, cell.get("split", "")), group)

    def _found(self, name: str) -> str:
        """The path as this system has it: backslashes of Windows, and names in bytes that are no UTF-8."""
        path = _normal(name)
        if path.isascii() and "\\" not in path:
            return path
        candidates = [path, _normal(name.replace("\\", "/"))]
        candidates += [_in_bytes(each) for each in candidates]
        here = (each for each in candidates if os.path.lexists(self.path.parent / each))
        return next(here, candidates[1] if "\\" in path else path)

    def _part(self, line: int, text: str) -> SplitPart | None:
        if not text:
            return None
        part = part_named(text)
        if part is None:
            where = f"{self.path}, line {line}, column split"
            raise DataError("an unknown part", where=where, expected="train, val or test", got=repr(text))
        return part

    def _refusal(self, relative: str) -> str:
        """Why this path is refused; folders are looked at once, files only where they are links."""
        root = str(self.path.parent)
        full = os.path.join(root, relative)  # noqa: PTH118 - pathlib is slow for a million names
        folder = os.path.dirname(full)  # noqa: PTH120
        try:
            if full == relative and ".." not in relative.split("/"):
                # Who writes an absolute path into a table means that folder, wherever it lies.
                root = os.path.realpath(folder)
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


def _in_bytes(path: str) -> str:
    """The file name whose bytes are this text in Windows-1252, as Python spells such names."""
    try:
        return path.encode("cp1252").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return path
