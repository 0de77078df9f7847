"""The audit for people and programs: a table for the terminal, CSV files, a contact sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cells import guarded
from benchmark.data.audit import AuditReport, Severity
from benchmark.data.contact_sheet import draw_pairs
from benchmark.data.reading import class_sizes
from benchmark.records import ImageSet
from benchmark.storage import storage_error, write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {Severity.ERROR: "bold white on red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_SUMMARY_COLUMNS = ("severity", "code", "count", "text", "next_step")
_PAIR_COLUMNS = (
    "kind",
    "first",
    "second",
    "first_label",
    "second_label",
    "first_part",
    "second_part",
    "hash_distance",
    "cosine",
    "label_conflict",
    "straddles_parts",
)
SHEET_PAIRS = 24
AUDIT_FILES = ("audit_summary.csv", "audit_pairs.csv", "audit_pairs.png")
"""Everything that ``write_audit`` may write."""


def audit_table(report: AuditReport) -> RenderableType:
    """The findings for a terminal, most severe first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Audit of {report.name}: {report.images} distinct images", title_justify="left")
    table.add_column("severity", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold", ratio=1)
    for finding in report.findings:
        text = Text(_shown(finding.text))
        if finding.next_step:
            text.append(f" {finding.next_step}", style="italic")
        table.add_row(Text(finding.severity.value, style=_STYLES[finding.severity]), str(finding.count), text)
    if not report.findings:
        table.add_row("", "", "Nothing found.")
    return table


def write_audit(report: AuditReport, images: ImageSet, folder: Path) -> tuple[Path, ...]:
    """Write ``audit_summary.csv``, ``audit_pairs.csv`` and, where there are pairs, ``audit_pairs.png``.

    The picture of an earlier audit goes where this one found no pairs.

    Returns:
        The files written.

    Raises:
        StorageFull: the folder cannot be written.
    """
    summary = [
        (finding.severity.value, finding.code, finding.count, finding.text, finding.next_step)
        for finding in report.findings
    ]
    summary += [
        ("info", "class-size", size, f"Class {name!r}.", "") for name, size in class_sizes(images).items()
    ]
    pairs = [
        (
            pair.kind.value,
            pair.first,
            pair.second,
            *pair.labels,
            *pair.parts,
            pair.distance,
            "" if pair.cosine != pair.cosine else pair.cosine,
            pair.conflict,
            pair.straddles,
        )
        for pair in report.pairs
    ]
    summary_file, pairs_file, sheet_file = (folder / name for name in AUDIT_FILES)
    written = {summary_file: _csv(_SUMMARY_COLUMNS, summary), pairs_file: _csv(_PAIR_COLUMNS, pairs)}
    if report.pairs:
        written[sheet_file] = draw_pairs(report.pairs[:SHEET_PAIRS], images.root)
    for path, content in written.items():
        write_whole(path, content, root=folder)
    if not report.pairs:
        _remove(sheet_file)
    return tuple(written)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def _csv(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue().encode()


def _cell(value: object) -> object:
    """A value that no spreadsheet runs as a formula: text that looks like one gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    return guarded(_shown(value))


def _shown(text: str) -> str:
    """Text that can be encoded: bytes of a file name that are no UTF-8 become ``?``."""
    return text.encode("utf-8", "replace").decode()
