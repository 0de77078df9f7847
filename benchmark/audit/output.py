"""The audit for people and programs: a table for the terminal, CSV files, a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.audit.contact_sheet import draw_pairs
from benchmark.audit.findings import AuditReport, Severity
from benchmark.cells import csv_bytes, printable
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
"""Everything that ``write_audit`` and ``write_pair_sheet`` may write, the picture last."""


def audit_table(report: AuditReport) -> RenderableType:
    """The findings for a terminal, most severe first."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"Audit of {printable(report.name)}: {report.images:,} distinct images")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("severity", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold", ratio=1)
    for finding in report.findings:
        text = Text(printable(finding.text))
        if finding.next_step:
            text.append(f" {printable(finding.next_step)}", style="italic")
        table.add_row(Text(finding.severity.value, style=_STYLES[finding.severity]), str(finding.count), text)
    if not report.findings:
        table.add_row("", "", "Nothing found.")
    return table


def write_audit(report: AuditReport, images: ImageSet, folder: Path) -> None:
    """Write ``audit_summary.csv`` and ``audit_pairs.csv``; the picture is ``write_pair_sheet``'s.

    Raises:
        StorageError: the folder cannot be written.
    """
    summary = [
        (finding.severity.value, finding.code, finding.count, finding.text, finding.next_step)
        for finding in report.findings
    ]
    summary += [
        ("info", "class-size", size, f"Class {name!r}.", "") for name, size in images.class_sizes().items()
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
    summary_file, pairs_file, _ = (folder / name for name in AUDIT_FILES)
    write_whole(summary_file, csv_bytes(_SUMMARY_COLUMNS, summary), root=folder)
    write_whole(pairs_file, csv_bytes(_PAIR_COLUMNS, pairs), root=folder)


def write_pair_sheet(report: AuditReport, images: ImageSet, folder: Path) -> None:
    """Write ``audit_pairs.png``, the first pairs side by side; that of an earlier audit goes in any case.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / AUDIT_FILES[-1]
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    if report.pairs:
        write_whole(path, draw_pairs(report.pairs[:SHEET_PAIRS], images.root, images.bit_depth), root=folder)
