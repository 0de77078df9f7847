"""What is wrong with a set of images, and which of them belong together."""

from benchmark.audit.contact_sheet import draw_captioned, draw_groups, thumbnail
from benchmark.audit.findings import AuditReport, Severity
from benchmark.audit.groups import Grouping, group_related
from benchmark.audit.looks import COPIES_VERSION, copy_links, look_links
from benchmark.audit.output import AUDIT_FILES, audit_table, write_audit, write_pair_sheet
from benchmark.audit.report import audit, judge
from benchmark.audit.signatures import colour_histograms
