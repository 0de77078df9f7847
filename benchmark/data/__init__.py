"""From a folder or CSV of images to labelled, checked, split sets and uint8 pixels."""

from benchmark.data.audit import AuditReport, audit
from benchmark.data.decode import decode, decoder_name
from benchmark.data.demo import write_demo
from benchmark.data.groups import auto_groups
from benchmark.data.loading import load_images, regroup
from benchmark.data.options import DataOptions
from benchmark.data.resize import load_pixels, resize_pixels
from benchmark.data.scratch import Scratch
from benchmark.data.split import split_images

# ``audit`` names a module and a function of this room: importing both here, at once, lets the function win.
__all__ = [
    "AuditReport",
    "DataOptions",
    "Scratch",
    "audit",
    "auto_groups",
    "decode",
    "decoder_name",
    "load_images",
    "load_pixels",
    "regroup",
    "resize_pixels",
    "split_images",
    "write_demo",
]
