"""Text cells of CSV files that no spreadsheet runs as a formula."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def guarded(text: str, *, raw: str | None = None) -> str:
    """Text with a leading apostrophe where it looks like a formula; spreadsheets hide it (OWASP's rule).

    Args:
        text: the cell as it will be shown.
        raw: the cell before control characters were escaped, where they were.
    """
    looks = text.startswith(FORMULA_STARTS) or (raw is not None and raw.startswith(FORMULA_STARTS))
    return f"'{text}" if looks else text


def unguarded(cell: str) -> str:
    """The text that ``guarded`` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS) else cell


def printable(text: str) -> str:
    """Text on one line: control characters escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
