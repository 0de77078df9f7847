"""What is wrong with a set of images, and which of them belong together."""

from benchmark.audit.contact_sheet import (
    draw_captioned,
    draw_groups,
)
from benchmark.audit.groups import (
    group_related,
)
from benchmark.audit.output import (
    AUDIT_FILES,
    audit_table,
    write_audit,
    write_pair_sheet,
)
from benchmark.audit.report import (
    AuditReport,
    Finding,
    Severity,
    audit,
    row_label,
    row_parts,
    torn_group_findings,
)
from benchmark.audit.signatures import (
    colour_histograms,
)

__all__ = [
    "AUDIT_FILES",
    "AuditReport",
    "Finding",
    "Severity",
    "audit",
    "audit_table",
    "colour_histograms",
    "draw_captioned",
    "draw_groups",
    "group_related",
    "row_label",
    "row_parts",
    "torn_group_findings",
    "write_audit",
    "write_pair_sheet",
]
