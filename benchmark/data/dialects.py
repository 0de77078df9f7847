"""How a table of images is written: encoding, separator, names of columns, cells with several labels.

Spreadsheets, annotation tools and dataset pages each write CSVs of their own; what is read other than as
``path,label[,split][,group]`` in UTF-8 is said in a note.
"""

from __future__ import annotations

import ast
import csv
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark.cells import abridged, printable
from benchmark.errors import DataError

LABEL_SEPARATOR: Final = ";"
EXPECTED: Final = "columns path,label and, if wanted, split and group"
_SEPARATORS = (",", ";", "\t", "|")
_NAMED_SEPARATOR = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
_SYNONYMS = {
    "path": "filepath file_path filename file_name file files image images image_path image_file image_name "
    "image_id imagepath img img_path img_name photo",
    "label": "labels class classes class_name classname class_label category target label_name tag tags y",
    "split": "part subset partition set dataset_split",
}
_ROLES = frozenset({*_SYNONYMS, "group", *(name for names in _SYNONYMS.values() for name in names.split())})
_NOT_UTF8 = "The table is not UTF-8: it was read as Windows-1252; check letters with accents."
_SPELLED = {";": "semicolons", "\t": "tabs", "|": "bars"}
_ONE_HOT = {"0": False, "0.0": False, "": False, "1": True, "1.0": True}


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a table with the columns that have a meaning.

    Attributes:
        columns: names of all columns, lower case; ``path``, ``label``, ``split`` under these names.
        rows: (line number, cells) of every row that is not empty.
        one_hot: names of the columns that stand for one label each; empty where there is a label column.
        notes: what was read other than as agreed, one line per kind.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    one_hot: tuple[str, ...]
    notes: tuple[str, ...]


def read_table(path: Path, content: bytes) -> Table:
    """Read a table whose dialect is found from its bytes and its header.

    Args:
        path: for errors.
        content: of the file.

    Raises:
        DataError: no text, no columns that name images and labels, or a row that cannot be read.
    """
    text, encoding = _decoded(path, content)
    notes = [encoding] if encoding else []
    separator = None
    if named := _NAMED_SEPARATOR.match(text):
        separator, text = named[1], text[named.end() :]
    first = 2 if named else 1
    separator = separator or _separator(text)
    if separator != "," and not (separator == "\t" and path.suffix.lower() == ".tsv"):
        notes.append(f"Cells are separated by {_SPELLED.get(separator, repr(separator))}.")
    rows = _rows(path, text, separator, first)
    header = next(rows, (first, []))[1]
    cells = tuple(rows)
    columns, renamed = _columns(path, header)
    one_hot = () if "label" in columns else _one_hot(path, columns, cells)
    notes += [f"Column {old!r} was read as {new}." for new, old in renamed]
    if one_hot:
        notes.append(f"{len(one_hot)} columns of 0 and 1 were read as labels: {abridged(one_hot)}.")
    return Table(columns=columns, rows=cells, one_hot=one_hot, notes=tuple(map(printable, notes)))


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    """The text, and a note where it was not UTF-8."""
    head = content[:4096]
    # Every other byte of latin letters is zero in UTF-16; a single zero is a damaged name.
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 3:
        little = head[:1] == b"\xff" or (head[:1] != b"\xfe" and head[1:2] == b"\0")
        codec, note = ("utf-16-le" if little else "utf-16-be"), "The table is UTF-16."
    else:
        codec, note = "utf-8", ""
    try:
        return content.decode(codec).removeprefix("\ufeff"), note
    except UnicodeDecodeError as error:
        if not note:
            try:
                return content.decode("cp1252"), _NOT_UTF8
            except UnicodeDecodeError:
                pass
        raise DataError(
            "not a table of text",
            where=path,
            expected="UTF-8, UTF-16 or Windows-1252",
            got=f"bytes that are none of them, the first at {error.start:,}",
            next_step="Save it as a CSV in UTF-8.",
        ) from error


def _separator(text: str) -> str:
    """The separator that finds most known columns in the header, then most columns."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def found(separator: str) -> tuple[int, int]:
        names = [_name(cell) for cell in next(csv.reader([header], delimiter=separator), [])]
        return len(_ROLES.intersection(names)), len(names)

    try:
        return max(_SEPARATORS, key=found)
    except csv.Error:
        return ","


def _rows(path: Path, text: str, separator: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not empty."""
    taken: list[str] = []  # the lines of the current row

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=separator)
    begins = first
    try:
        for row in reader:
            # A quote that nothing closes takes the rows behind it into its cell without a word. Quotes that
            # stay in their line do no harm, however odd they are: hand-made tables have them.
            if len(taken) > 1 and any("\n" in cell and separator in cell for cell in row):
                list(csv.reader(taken, delimiter=separator, strict=True))
            if any(cell.strip() for cell in row):
                yield reader.line_num + first - 1, row
            begins, taken[:] = reader.line_num + first, []
    except csv.Error as error:
        swallowed = len(taken) > 1
        raise DataError(
            "a quote in it is not closed" if swallowed else "not a readable CSV",
            where=f"{path}, line {begins}",
            got=f"a cell that goes on to line {begins + len(taken) - 1}" if swallowed else error,
            next_step='Take the quote away; one that belongs to a cell is written "" in a cell in quotes.'
            if swallowed
            else "",
        ) from error


def _name(cell: str) -> str:
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def _columns(path: Path, header: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Names of the columns, with (name, as written) of those that were written otherwise."""
    names = [cell.strip().lower() for cell in header]
    renamed = []
    for role, synonyms in _SYNONYMS.items():
        if role in names:
            continue
        places = [place for place, cell in enumerate(header) if _name(cell) in synonyms.split()]
        if len(places) > 1 and role != "split":
            raise DataError(
                f"no column {role!r}, and several that could be it",
                where=path,
                expected=EXPECTED,
                got=printable(", ".join(header[place] for place in places)),
                next_step=f"Rename the right one to {role}.",
            )
        if len(places) == 1:
            renamed.append((role, header[places[0]].strip()))
            names[places[0]] = role
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"column {printable(doubled)!r} stands twice", where=path, expected=EXPECTED)
    if "path" not in names:
        raise _no_column(path, "path", names)
    return tuple(names), renamed


def _no_column(path: Path, name: str, names: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(name, names, 1)
    return DataError(
        f"no column {name!r}",
        where=path,
        expected=EXPECTED,
        got=printable(",".join(names)[:200]) or "an empty file",
        next_step=f"Rename column {near[0]!r}." if near else "Name the columns in the first line.",
    )


def _one_hot(path: Path, columns: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> tuple[str, ...]:
    """Columns that stand for one label each: two or more, that hold nothing but 0 and 1."""
    found = []
    for place, name in enumerate(columns):
        cells = {row[place].strip() if place < len(row) else "" for _, row in rows}
        if name and name not in {"path", "split", "group"} and cells <= _ONE_HOT.keys() and cells != {""}:
            found.append(name)
    if len(found) < 2:
        raise _no_column(path, "label", columns)
    return tuple(found)


def labels_of(cell: str) -> tuple[str, ...]:
    """The labels in one cell, sorted: ``a``, ``a;b``, ``a|b`` or ``['a', 'b']``; empty for none."""
    listed = _listed(cell)
    parts = re.split(rf"[{LABEL_SEPARATOR}|]", cell) if listed is None else listed
    return tuple(sorted({printable(part.strip()) for part in parts} - {""}))


def _listed(cell: str) -> list[str] | None:
    """The elements of a cell that is written as a list of Python or JSON."""
    if not (cell.startswith("[") and cell.endswith("]")) or len(cell) > 10_000:
        return None
    try:
        found = ast.literal_eval(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return [part.strip(" '\"") for part in cell[1:-1].split(",")]
    return [str(part) for part in found]


def is_set(cell: str) -> bool:
    """Whether a cell of 0 and 1 says yes."""
    return _ONE_HOT[cell.strip()]
