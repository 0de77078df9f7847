"""From a folder or CSV of images to labelled, checked, split sets and uint8 pixels."""

from benchmark.data.decode import FULL_DEPTH, NO_LIMIT, decode, decode_thumbnail
from benchmark.data.decoded import DecodedImages
from benchmark.data.demo import write_demo
from benchmark.data.file_facts import file_facts
from benchmark.data.files import read_regular
from benchmark.data.fingerprint import decoder_name, optional_formats
from benchmark.data.folders import list_below
from benchmark.data.known_labels import KnownLabels
from benchmark.data.listing import part_named
from benchmark.data.loading import dataset_name, files_of, images_root, load_images, regroup
from benchmark.data.pixel_buffer import PixelBuffer
from benchmark.data.reading import (
    label_notes,
    left_out,
    lost_classes,
    reading_notes,
    reading_summary,
    tell_reading,
)
from benchmark.data.resize import load_pixels, resize_pixels
from benchmark.data.workers import map_in_order
