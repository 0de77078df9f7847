"""What is remembered of each image after one look: a perceptual hash, colours and texture, its capture time.

Remembered by image id under ``<cache>/audit``, so that an image is looked at once, whatever it is called
and whichever data sets it stands in. Labels and file names are not remembered.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmark.data import FULL_DEPTH, NO_LIMIT, decode_thumbnail, map_in_order, read_regular
from benchmark.errors import DataError, StorageError
from benchmark.records import Bool, Float32, Float64, ImageSet, Int64, Observer, Silent
from benchmark.storage import load_arrays, lock_folder, sha256_bytes, write_arrays

# Part of the file's name: a change of anything below that changes a stored value needs a new number.
SCHEMA = 2
COLOUR_DIM = 16
HISTOGRAM_DIM = 48
_TASK = "looking for duplicates"
_THUMBNAIL = 64
_LOOK_SIDE = 4 * _THUMBNAIL
_ROWS_PER_MESSAGE = 256
_ROWS_AT_ONCE = 20_000
_GROWTH = 4  # what is remembered is written again when it has grown by a quarter
_LOCK_SECONDS = 60.0
_RECORD = np.dtype(
    [
        ("image_id", "S64"),
        ("phash", "<u8"),
        ("colours", "<f4", (COLOUR_DIM,)),
        ("captured", "<f8"),
        ("histogram", "<f2", (HISTOGRAM_DIM,)),
    ]
)

Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """What the audit knows of N images, in the order of an ImageSet."""

    phash: npt.NDArray[np.uint64]  # (N,) perceptual hash (64-bit DCT hash); 0 where not readable
    colours: Float32  # (N, 16) colour and texture statistics; nan where not readable
    captured: Float64  # (N,) capture time of the camera in seconds; nan where EXIF has none
    readable: Bool  # (N,) False where the file could no longer be opened


def signatures(images: ImageSet, *, cache: Path, observer: Observer | None = None) -> Signatures:
    """Signatures of images, computing only those that the cache does not hold.

    A cache that cannot be written costs time, not the run: ``observer`` is told.

    Args:
        images: the data set.
        cache: where signatures are remembered.
        observer: told about progress.
    """
    known, wanted = _records(images, cache, np.arange(len(images)), observer)
    return _in_order(known, wanted)


def colour_histograms(images: ImageSet, rows: Int64, *, cache: Path) -> Float32:
    """Colour histograms of some images, remembered with their signatures.

    Args:
        images: the data set.
        rows: int64 (n,) which of its rows.
        cache: where signatures are remembered.

    Returns:
        float32 (n, 48): for red, green and blue the shares of pixels in 16 equal bins; nan for images that
        cannot be read any more.
    """
    known, wanted = _records(images, cache, rows, None)
    found, place = _places(known, wanted)
    histograms = np.full((len(wanted), HISTOGRAM_DIM), np.nan, np.float32)
    histograms[found] = known["histogram"][place]
    return histograms


def _records(
    images: ImageSet, cache: Path, rows: Int64, observer: Observer | None
) -> tuple[Records, npt.NDArray[np.bytes_]]:
    """Everything that is known, that of the wanted rows included, and the wanted image ids."""
    depth = "" if images.bit_depth == FULL_DEPTH else f"-{images.bit_depth}bit"
    path = cache / "audit" / f"signatures-{SCHEMA}{depth}.npz"
    try:
        known = _remembered(path)
    except OSError:  # not now: what is not known is looked at
        known = np.zeros(0, _RECORD)
    wanted = np.array([images.image_ids[row] for row in rows], dtype="S64")
    missing = rows[~np.isin(wanted, known["image_id"])]
    if len(missing):
        known = np.concatenate([known, *_looked_at(images, missing, path, observer or Silent())])
    return known, wanted


def _looked_at(images: ImageSet, rows: Int64, path: Path, observer: Observer) -> list[Records]:
    """Records of the given rows; they are remembered now and then, and at the end, Ctrl-C included."""
    observer.started(_TASK, len(rows))
    found: list[Records] = []
    saved, pause = 0, _ROWS_AT_ONCE
    try:
        with closing(map_in_order(lambda row: _record(images, row), rows.tolist(), 0)) as looks:
            for done, record in enumerate(looks, start=1):
                found += [record] if record is not None else []
                if done % _ROWS_PER_MESSAGE == 0:
                    observer.advanced(_TASK, done)
                if len(found) - saved >= pause:
                    # The whole file is written: ever rarer as it grows, so that all writing together is
                    # some times what is remembered, not its square.
                    pause = max(_ROWS_AT_ONCE, _remember(path, found[saved:], observer) // _GROWTH)
                    saved = len(found)
    finally:
        if found[saved:]:
            _remember(path, found[saved:], observer)
    observer.finished(_TASK)
    return found


def _remember(path: Path, some: list[Records], observer: Observer) -> int:
    """Add records to those in the file; where that fails the audit is still right, only the next one slow.

    Returns:
        How many the file has now; 0 where it could not be written.
    """
    cache = path.parents[1]
    try:
        # Of two runs neither may write what it read before the other wrote.
        with lock_folder(cache, f"audit-{path.stem}", timeout=_LOCK_SECONDS):
            together = np.concatenate([_remembered(path), *some])
            write_arrays(path, None, {"records": together}, root=cache)
    except (OSError, StorageError) as error:
        observer.message(f"What the audit saw cannot be remembered: {error}")
        return 0
    return len(together)


def _remembered(path: Path) -> Records:
    """The records in the file; none where there is none, or a damaged one, or another's.

    Raises:
        OSError: it cannot be read now, and may hold what should not be written over.
    """
    with suppress(FileNotFoundError, ValueError, KeyError):
        records = load_arrays(path)[1]["records"]
        if records.dtype == _RECORD and records.ndim == 1:
            return records
    return np.zeros(0, _RECORD)


def _record(images: ImageSet, row: int) -> Records | None:
    """The record of one image, shape (1,), or None when the file cannot be read any more or was replaced."""
    try:
        content = read_regular(images.root / images.paths[row])
        if sha256_bytes(content) != images.image_ids[row]:
            return None
        seen = decode_thumbnail(content, _LOOK_SIDE, max_pixels=NO_LIMIT, bit_depth=images.bit_depth)
    except DataError:
        return None
    small = Image.fromarray(seen.pixels)
    small.thumbnail((_LOOK_SIDE, _LOOK_SIDE))
    record = np.zeros(1, _RECORD)
    record["image_id"] = images.image_ids[row].encode()
    record["phash"] = perceptual_hash(small)
    record["colours"] = colour_statistics(np.asarray(small.resize((_THUMBNAIL, _THUMBNAIL))))
    record["captured"] = parse_capture_time(seen.captured)
    record["histogram"] = colour_histogram(small)
    return record


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


def colour_histogram(image: Image.Image) -> Float32:
    """For red, green and blue the shares of pixels in 16 equal bins, float32 (48,)."""
    counts = np.array(image.histogram(), np.float32).reshape(HISTOGRAM_DIM, -1).sum(1)
    return np.asarray(counts / (image.width * image.height), np.float32)


def _gradient(luma: Float32) -> float:
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def _places(known: Records, wanted: npt.NDArray[np.bytes_]) -> tuple[Bool, Int64]:
    """Which of the wanted images are known, bool (n,), and the records of those, int64."""
    order = np.argsort(known["image_id"], kind="stable")
    position = np.searchsorted(known["image_id"], wanted, sorter=order)
    found = np.zeros(len(wanted), bool)
    inside = position < len(known)
    found[inside] = known["image_id"][order[position[inside]]] == wanted[inside]
    return found, order[position[found]]


def _in_order(known: Records, wanted: npt.NDArray[np.bytes_]) -> Signatures:
    readable, rows = _places(known, wanted)
    phash = np.zeros(len(wanted), np.uint64)
    colours = np.full((len(wanted), COLOUR_DIM), np.nan, np.float32)
    captured = np.full(len(wanted), np.nan)
    phash[readable] = known["phash"][rows]
    colours[readable] = known["colours"][rows]
    captured[readable] = known["captured"][rows]
    return Signatures(phash=phash, colours=colours, captured=captured, readable=readable)
