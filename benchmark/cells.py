"""Text and numbers as they are shown: on a screen, in a CSV cell, on a page.

Names of files, folders and classes are foreign text. ``printable`` is the one place where what they may do to
a terminal, a table or a line of text is taken from them; a CSV cell gives the very name back.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark.locations import without_secrets

_LONGEST_ERROR = 200
_FORMULA_STARTS = ("=", "+", "-", "@")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt]))")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def printable(text: str) -> str:
    r"""Text on one line that shows what it is: ``\n``, ``\x1b``, ``\u202e`` for what is not printable.

    Control characters, marks that turn the writing direction, invisible characters and bytes that are not
    UTF-8 (surrogates) are escaped. What was escaped already stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def error_text(error: BaseException) -> str:
    """An error of foreign code on a line: its kind and what it says, without what may be a credential."""
    # Cut last: a part of a secret is not recognised as one.
    return printable(without_secrets(f"{type(error).__name__}: {error}")[:_LONGEST_ERROR])


def safe_cell(text: str) -> str:
    r"""Text as the cell of a CSV file: printable, and no spreadsheet runs it as a formula (OWASP's rule).

    What looks like a formula gets a leading apostrophe, which spreadsheets hide. A backslash that could be
    read as the beginning of an escape becomes ``\x5c``, so that ``cell_text`` finds every text again.
    """
    cell = printable(_ESCAPE.sub(lambda found: rf"\x5c{found[0][1:]}", text))
    return f"'{cell}" if _looks_like_formula(cell) else cell


def cell_text(cell: str) -> str:
    """The text that ``safe_cell`` was given."""
    plain = cell[1:] if cell[:1] == "'" and _looks_like_formula(cell[1:]) else cell
    return _ESCAPE.sub(_letter, plain)


def _letter(found: re.Match[str]) -> str:
    digits = found[1] or found[2] or found[3]
    return (
        chr(int(digits, 16)) if digits and int(digits, 16) <= 0x10FFFF else _LETTERS.get(found[4], found[0])
    )


def _looks_like_formula(cell: str) -> bool:
    # Apostrophes of the text itself do not count, so that one of ours is told from them.
    return cell.lstrip("'").startswith(_FORMULA_STARTS)


def figure(value: float, digits: int = 3) -> str:
    """A number as people write it: ``1,360``, ``12.5``, ``0.004``, never ``1.36e+03``; empty for nan.

    Args:
        value: any number.
        digits: significant ones that are kept; those before the point all stay.
    """
    if not math.isfinite(value):
        return "" if math.isnan(value) else str(value)
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    shown = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def columns_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """All keys in the order in which they first appear."""
    return tuple(dict.fromkeys(key for row in rows for key in row))


def csv_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> bytes:
    """Rows as UTF-8 CSV: numbers at full precision, missing values empty, text safe for spreadsheets."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_csv_cell, columns))
    for row in rows:
        cells = map(row.get, columns) if isinstance(row, Mapping) else row
        writer.writerow(map(_csv_cell, cells))
    return stream.getvalue().encode()


def _csv_cell(value: object) -> str:
    if missing(value):
        return ""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return repr(plain) if isinstance(plain, int | float) else safe_cell(str(plain))


def abridged(names: Sequence[str], most: int = 6) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
