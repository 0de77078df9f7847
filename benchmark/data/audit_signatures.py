"""What the audit remembers of each image: a perceptual hash, its colours and texture, its capture time.

Remembered by image id under ``<cache>/audit``, so that an image is looked at once, whatever it is called
and whichever data sets it stands in. Labels and file names are not remembered.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from benchmark.data.decode import decode
from benchmark.data.files import read_regular
from benchmark.errors import DataError
from benchmark.records import Bool, Float32, Float64, ImageSet, Observer
from benchmark.storage import sha256_bytes, write_whole

# Part of the folder name: a change of anything below that changes a stored value needs a new number.
SCHEMA = 1
COLOUR_DIM = 16
_THUMBNAIL = 64
_ROWS_PER_PART = 20_000
_PARTS_BEFORE_MERGE = 32
_RECORD = np.dtype(
    [("image_id", "S64"), ("phash", "<u8"), ("colours", "<f4", (COLOUR_DIM,)), ("captured", "<f8")]
)
_UNREADABLE = (DataError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)

Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """What the audit knows of N images, in the order of an ImageSet.

    Attributes:
        phash: uint64 (N,) perceptual hash (64-bit DCT hash); 0 where not readable.
        colours: float32 (N, 16) colour and texture statistics; nan where not readable.
        captured: float64 (N,) capture time of the camera in seconds; nan where EXIF has none.
        readable: bool (N,) False where the file could no longer be opened.
    """

    phash: npt.NDArray[np.uint64]
    colours: Float32
    captured: Float64
    readable: Bool


def signatures(images: ImageSet, *, cache: Path, observer: Observer | None = None) -> Signatures:
    """Signatures of all images, computing only those that the cache does not hold.

    Raises:
        StorageFull: the cache cannot be written.
    """
    folder = cache / "audit" / f"signatures-{SCHEMA}"
    known = _read_parts(folder)
    wanted = np.array(images.image_ids, dtype="S64")
    missing = np.flatnonzero(~np.isin(wanted, known["image_id"]))
    if len(missing):
        fresh = [part for part in _compute_parts(images, missing, folder, observer) if len(part)]
        known = np.concatenate([known, *fresh])
        _merge_parts(folder)
    return _in_order(known, wanted)


def _compute_parts(
    images: ImageSet, rows: npt.NDArray[np.int64], folder: Path, observer: Observer | None
) -> Iterator[Records]:
    """Records of the given rows, part by part; each part is on the disk before it is handed out."""
    task = "looking for duplicates"
    if observer is not None:
        observer.started(task, len(rows))
    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for part_rows in _chunks(rows.tolist(), _ROWS_PER_PART):
            records: list[Records | None] = []
            # Threads take a bounded number of images at a time, so that progress is seen and memory flat.
            for some in _chunks(part_rows, 256):
                records += pool.map(lambda row: _record(images, row), some)
                done += len(some)
                if observer is not None:
                    observer.advanced(task, done)
            found = [record for record in records if record is not None]
            part = np.concatenate(found) if found else np.zeros(0, _RECORD)
            if len(part):
                _write_part(folder, part)
            yield part
    if observer is not None:
        observer.finished(task)


def _chunks(items: Iterable[int], size: int) -> Iterator[list[int]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _record(images: ImageSet, row: int) -> Records | None:
    """The record of one image, shape (1,), or None when the file cannot be read any more."""
    try:
        thumbnail, captured = _look_at(images.root / images.paths[row])
    except _UNREADABLE:
        return None
    record = np.zeros(1, _RECORD)
    record["image_id"] = images.image_ids[row].encode()
    record["phash"] = perceptual_hash(thumbnail)
    record["colours"] = colour_statistics(np.asarray(thumbnail.resize((_THUMBNAIL, _THUMBNAIL))))
    record["captured"] = captured
    return record


def _look_at(path: Path) -> tuple[Image.Image, float]:
    """A small upright RGB picture of the image file, and its capture time in seconds or nan.

    JPEG files are decoded at a fraction of their size: a hash and mean colours need no more, and large
    photographs open several times faster. Everything else goes through the one decoder.
    """
    content = read_regular(path)
    with Image.open(io.BytesIO(content)) as image:
        captured = _capture_time(image)
        if image.format == "JPEG":
            image.draft("RGB", (4 * _THUMBNAIL, 4 * _THUMBNAIL))
            rgb = ImageOps.exif_transpose(image).convert("RGB")
        else:
            # The data set was loaded under the limit that its user chose.
            rgb = Image.fromarray(decode(content, max_pixels=image.width * image.height))
    rgb.thumbnail((4 * _THUMBNAIL, 4 * _THUMBNAIL))
    return rgb, captured


def _capture_time(image: Image.Image) -> float:
    exif = image.getexif()
    text = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal) if exif else None
    return parse_capture_time(text)


def parse_capture_time(text: object) -> float:
    """Seconds of an EXIF time such as ``2021:06:30 12:00:59``; nan for anything else.

    Cameras write local time without a zone; only differences are used, so UTC is assumed.
    """
    try:
        return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def perceptual_hash(image: Image.Image) -> int:
    """The 64-bit DCT hash of ``imagehash.phash`` as one number."""
    bits = np.asarray(imagehash.phash(image).hash, bool).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def colour_statistics(image: npt.NDArray[np.uint8]) -> Float32:
    """Colour and texture of an image, blind to where in the picture things are.

    Two crops of one photograph have different contents in each place but the same material and light, so
    only statistics over the whole picture are kept.

    Args:
        image: uint8 (S, S, 3) RGB.

    Returns:
        float32 (16,): mean and standard deviation of luma, red-green and blue-yellow; luma quantiles at
        5, 25, 75 and 95 %; mean colour of the brighter and darker half (4); log gradient energy at two
        scales.
    """
    rgb = image.astype(np.float32) / 255
    luma: Float32 = np.asarray(rgb @ np.array([0.299, 0.587, 0.114]), np.float32)
    opponent = np.stack([rgb[..., 0] - rgb[..., 1], rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2], -1)
    bright = luma > np.median(luma)
    halves = [opponent[part].mean(0) if part.any() else np.zeros(2) for part in (bright, ~bright)]
    moments = [luma.mean(), luma.std(), *opponent.mean((0, 1)), *opponent.std((0, 1))]
    quantiles = np.quantile(luma, [0.05, 0.25, 0.75, 0.95])
    energy = [np.log(_gradient(luma[::step, ::step]) + 1e-3) / 4 for step in (1, 4)]
    return np.concatenate([moments, quantiles, *halves, energy]).astype(np.float32)


def _gradient(luma: Float32) -> float:
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def _write_part(folder: Path, part: Records) -> Path:
    stream = io.BytesIO()
    np.save(stream, part, allow_pickle=False)
    content = stream.getvalue()
    path = folder / f"part-{sha256_bytes(content)[:16]}.npy"
    write_whole(path, content)
    return path


def _read_parts(folder: Path) -> Records:
    """All records in the folder. A damaged part is removed: its images are looked at again."""
    parts = [_read_part(path) for path in sorted(folder.glob("part-*.npy"))]
    return np.concatenate([np.zeros(0, _RECORD), *(part for part in parts if part is not None)])


def _read_part(path: Path) -> Records | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # Another run has just merged it into a larger part.
        return None
    if path.stem != f"part-{sha256_bytes(content)[:16]}":
        path.unlink(missing_ok=True)
        return None
    part: Any = np.load(io.BytesIO(content), allow_pickle=False)
    return part if part.dtype == _RECORD else None


def _merge_parts(folder: Path) -> None:
    """Join many small parts into one, written before the small ones go."""
    paths = sorted(folder.glob("part-*.npy"))
    if len(paths) <= _PARTS_BEFORE_MERGE:
        return
    merged = _write_part(folder, np.unique(_read_parts(folder)))
    for path in paths:
        if path != merged:
            path.unlink(missing_ok=True)


def _in_order(known: Records, wanted: npt.NDArray[np.bytes_]) -> Signatures:
    order = np.argsort(known["image_id"], kind="stable")
    position = np.searchsorted(known["image_id"], wanted, sorter=order)
    readable = np.zeros(len(wanted), bool)
    inside = position < len(known)
    chosen = order[position[inside]]
    readable[inside] = known["image_id"][chosen] == wanted[inside]
    rows = order[position[readable]]
    phash = np.zeros(len(wanted), np.uint64)
    colours = np.full((len(wanted), COLOUR_DIM), np.nan, np.float32)
    captured = np.full(len(wanted), np.nan)
    phash[readable] = known["phash"][rows]
    colours[readable] = known["colours"][rows]
    captured[readable] = known["captured"][rows]
    return Signatures(phash=phash, colours=colours, captured=captured, readable=readable)
