"""From a folder or CSV of images to labelled, checked, split sets and uint8 pixels."""

from benchmark.data.audit import (
    AuditPair,
    AuditReport,
    Finding,
    PairKind,
    Severity,
    audit,
    row_label,
    row_parts,
    torn_group_findings,
)
from benchmark.data.audit_output import AUDIT_FILES, audit_table, write_audit, write_pair_sheet
from benchmark.data.audit_signatures import colour_histograms
from benchmark.data.contact_sheet import draw_captioned, draw_groups
from benchmark.data.decode import decode
from benchmark.data.demo import write_demo
from benchmark.data.file_facts import file_facts
from benchmark.data.files import read_regular
from benchmark.data.fingerprint import decoder_name
from benchmark.data.folders import list_below
from benchmark.data.groups import Grouping, auto_groups, group_related
from benchmark.data.listing import Layout
from benchmark.data.loading import dataset_name, load_images, regroup
from benchmark.data.options import DataOptions, KnownLabels
from benchmark.data.reading import reading_notes, reading_summary, tell_reading
from benchmark.data.resize import load_pixels, resize_pixels
from benchmark.data.scratch import Scratch
from benchmark.data.split import split_images

# ``audit`` names a module and a function of this room: importing both here, at once, lets the function win.
__all__ = [
    "AUDIT_FILES",
    "AuditPair",
    "AuditReport",
    "DataOptions",
    "Finding",
    "Grouping",
    "KnownLabels",
    "Layout",
    "PairKind",
    "Scratch",
    "Severity",
    "audit",
    "audit_table",
    "auto_groups",
    "colour_histograms",
    "dataset_name",
    "decode",
    "decoder_name",
    "draw_captioned",
    "draw_groups",
    "file_facts",
    "group_related",
    "list_below",
    "load_images",
    "load_pixels",
    "read_regular",
    "reading_notes",
    "reading_summary",
    "regroup",
    "resize_pixels",
    "row_label",
    "row_parts",
    "split_images",
    "tell_reading",
    "torn_group_findings",
    "write_audit",
    "write_demo",
    "write_pair_sheet",
]
