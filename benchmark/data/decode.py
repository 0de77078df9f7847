"""The one decoder: file bytes to RGB pixels as a viewer would show them.

What it does beyond calling Pillow:

- formats are recognised by their first bytes: a wrong extension does not matter, no other codec is reached;
- the size in the header is checked before any pixel is decoded;
- EXIF (and TIFF) orientation is applied;
- transparency is composited on white, the page that a browser shows behind an image;
- 16-bit greys are scaled to 8 bits instead of clipped: 65535 becomes 255, with 12 bits asked for 4095 does;
- animations give their first frame;
- a file that ends too early is refused, never filled with grey;
- floating-point and 32-bit pixels are refused: what is white among them is anybody's guess.

Embedded colour profiles are not applied: CMYK is converted by Pillow's plain formula.
"""

from __future__ import annotations

import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import PIL
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from benchmark.data.fast_jpeg import fast_pixels
from benchmark.errors import DataError
from benchmark.records import MAX_PIXELS, UInt8

FULL_DEPTH: Final = 16
TWELVE_BITS: Final = 12
"""What many industrial and medical cameras deliver, in files of 16 bits."""
NO_LIMIT: Final = sys.maxsize
"""For bytes that were already accepted under the limit that their user chose."""
HEADER_BYTES: Final = 16
"""How many first bytes ``sniff`` looks at."""

# Pillow warns of odd metadata on stderr, from whatever thread decodes. What matters is said by ``decode``'s
# own error, and what does not (a broken EXIF block beside whole pixels) a viewer does not mention either.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*Plugin")
# The limit of pixels is ``decode``'s own; of formats opened here, GIF's frames alone ask for Pillow's. Behind
# all other filters: who makes it an error, for what they open themselves, goes on to get one.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.", append=True)

_ORIENTATION_TAG = 0x0112
_BITS_TAG = 258
_PNG_DEPTH = 24
_TURNS: dict[int, Callable[[UInt8], UInt8]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}
# What Pillow's parsers are known to raise on bytes that are not what they claim to be.
_PARSER_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    # Where a program turned warnings into errors.
    UserWarning,
    Image.DecompressionBombWarning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class _NoFixedRangeError(ValueError):
    """Pixels whose black and white the file does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """An image looked at without need for all its pixels.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, upright; read-only. As large as was asked for, where the image is.
        captured: the camera's capture time as it stands in EXIF; empty where there is none.
    """

    pixels: UInt8
    captured: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    name: str
    matches: Callable[[bytes], bool]
    open: Callable[[BytesIO], Image.Image]


def _starts(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _is_box_of(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


_is_avif = _is_box_of(b"avif", b"avis")
_is_heif = _is_box_of(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
READS_AVIF: Final = bool(features.check("avif"))
READS_HEIF: Final = find_spec("pillow_heif") is not None


def _open_heif(file: BytesIO) -> Image.Image:
    import_module("pillow_heif").register_heif_opener()
    return Image.open(file, formats=["HEIF"])


def _open_jpeg(file: BytesIO) -> Image.Image:
    # The factory also recognises multi-picture files of telephones, whose first frame is the photograph.
    factory = cast("Callable[[BytesIO], Image.Image]", JpegImagePlugin.jpeg_factory)
    return factory(file)


_FORMATS = (
    _Format(name="JPEG", matches=_starts(b"\xff\xd8\xff"), open=_open_jpeg),
    _Format(name="PNG", matches=_starts(b"\x89PNG\r\n\x1a\n"), open=PngImagePlugin.PngImageFile),
    _Format(name="BMP", matches=_starts(b"BM"), open=BmpImagePlugin.BmpImageFile),
    _Format(name="GIF", matches=_starts(b"GIF87a", b"GIF89a"), open=GifImagePlugin.GifImageFile),
    _Format(name="WebP", matches=_is_webp, open=WebPImagePlugin.WebPImageFile),
    _Format(
        name="TIFF",
        matches=_starts(b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
        open=TiffImagePlugin.TiffImageFile,
    ),
    *([_Format(name="AVIF", matches=_is_avif, open=AvifImagePlugin.AvifImageFile)] if READS_AVIF else ()),
    *([_Format(name="HEIC", matches=_is_heif, open=_open_heif)] if READS_HEIF else ()),
)
_NO_AVIF = "AVIF, which this build of Pillow does not read"
_NO_HEIF = "HEIC, which needs the package pillow-heif (the extra 'heif')"
_DICOM = "DICOM: export its frames as PNG"
_NUMPY = "NumPy arrays: save each image as PNG"
# Where the endings of these stand, the format is not one of those above.
_FOREIGN = (
    (_is_avif, _NO_AVIF),
    (_is_heif, _NO_HEIF),
    (lambda content: content[128:132] == b"DICM", _DICOM),
    (_starts(b"\x93NUMPY"), _NUMPY),
)
_FOREIGN_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif"), _NO_HEIF),
    ".avif": _NO_AVIF,
    **dict.fromkeys((".dcm", ".dicom"), _DICOM),
    **dict.fromkeys((".npy", ".npz"), _NUMPY),
}
OPTIONAL_SUFFIXES: Final = frozenset(
    [*([".avif"] if READS_AVIF else ()), *([".heic", ".heif"] if READS_HEIF else ())]
)
"""Of the formats that are read because a library is there."""


def foreign_suffix(suffix: str) -> str:
    """Why images whose names end so are not read, as one clause with what to do, where something can be."""
    # Behind the colon stands what is about the single file.
    known = _FOREIGN_SUFFIXES.get(suffix)
    return f"not supported, {known}" if known else f"not a supported format: {suffix}"


def decoder_version() -> str:
    """Decoders and versions, which decide what files are accepted: ``pillow-<version>`` and others."""
    heif = f" pillow-heif-{version('pillow-heif')}" if READS_HEIF else ""
    return f"pillow-{PIL.__version__}{' avif' if READS_AVIF else ''}{heif}"


def sniff(head: bytes) -> str | None:
    """The accepted format that a file's first bytes (``HEADER_BYTES`` of them) announce, or None."""
    found = _format_of(head)
    return found.name if found else None


def _format_of(head: bytes) -> _Format | None:
    return next((known for known in _FORMATS if known.matches(head)), None)


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS, bit_depth: int = FULL_DEPTH) -> UInt8:
    """Decode an image file.

    Args:
        content: the whole file: JPEG, PNG, BMP, GIF, WebP, TIFF, and AVIF and HEIC where libraries are there.
        max_pixels: images whose header declares more are refused before decoding.
        bit_depth: 12 or 16: how many bits of the greys of 16-bit files are used; with 12, 4095 is white.

    Returns:
        uint8 (H, W, 3), RGB, upright; treat it as read-only.

    Raises:
        DataError: not an image of these formats, too large, damaged or cut off, or greys above the bit depth;
            ``what`` is the reason.
    """
    image = open_header(content, max_pixels)
    try:
        return _upright_rgb(image, content, bit_depth)
    except _PARSER_ERRORS as error:
        raise _damaged(image.format or "image", error) from error


def decode_thumbnail(
    content: bytes, side: int, *, max_pixels: int = MAX_PIXELS, bit_depth: int = FULL_DEPTH
) -> Thumbnail:
    """Decode an image for a look at it: like ``decode``, but a large JPEG at a fraction of its size.

    Args:
        content: the whole file.
        side: pixels of the shorter side that are enough.
        max_pixels: as for ``decode``.
        bit_depth: as for ``decode``.

    Raises:
        DataError: as for ``decode``.
    """
    image = open_header(content, max_pixels)
    size = image.size
    try:
        if image.format == "JPEG":
            image.draft("RGB", (side, side))
        pixels = _upright_rgb(image, content, bit_depth, whole=image.size == size)
        return Thumbnail(pixels=pixels, captured=_capture_time(image))
    except _PARSER_ERRORS as error:
        raise _damaged(image.format or "image", error) from error


def check_decodable(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[str, int]:
    """Why these bytes cannot be decoded, as one clause, empty when they can; and their largest 16-bit grey.

    The latter is 0 where the image has no greys of 16 bits, or the file itself says how many they have.
    """
    try:
        image = open_header(content, max_pixels)
        try:
            _upright_rgb(image, content, FULL_DEPTH)
        except _PARSER_ERRORS as error:
            raise _damaged(image.format or "image", error) from error
    except DataError as error:
        return f"{error.what}: {error.got}" if error.got else error.what, 0
    sixteen = image.mode.startswith("I;16") and _declared_bits(image) == FULL_DEPTH
    return "", int(np.asarray(image).max()) if sixteen else 0


def beyond_depth(peak: int, bit_depth: int) -> str:
    """Why an image with such greys is not read with such a bit depth, as one clause; empty when it is."""
    white = 2**bit_depth - 1
    return f"greys of up to {peak:,}, where {white:,} is white: {bit_depth} bits" if peak > white else ""


def open_header(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image with its header read, its size found acceptable, and no pixel decoded.

    Raises:
        DataError: as for ``decode``.
    """
    kind = _format_of(content[:HEADER_BYTES])
    if kind is None:
        raise _unknown_format(content)
    try:
        image = kind.open(BytesIO(content))
    except _PARSER_ERRORS as error:
        raise _damaged(kind.name, error) from error
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError("an image without pixels", got=f"{width} x {height}")
    if width * height > max_pixels:
        raise DataError(
            f"too many pixels (at most {max_pixels:,})",
            got=f"{width} x {height}",
            next_step="Shrink the image, or raise the limit of pixels.",
        )
    return image


def _unknown_format(content: bytes) -> DataError:
    if not content:
        return DataError("an empty file")
    if not any(content[:4096]):
        return DataError("a file of zero bytes only")
    known = next((reason for matches, reason in _FOREIGN if matches(content)), "")
    if known:
        return DataError(f"not supported, {known}")
    return DataError(
        "not a JPEG, PNG, BMP, GIF, WebP or TIFF image", got=f"a file that starts with {content[:12]!r}"
    )


def _damaged(kind: str, error: BaseException) -> DataError:
    if isinstance(error, _NoFixedRangeError) or (kind == "TIFF" and "unknown pixel mode" in str(error)):
        # Pillow knows no mode for pixels of 64 bits, nor for several floats each.
        return DataError("not supported, pixel values have no fixed range", got=_text(error))
    return DataError(f"a damaged or incomplete {kind} file", got=_text(error))


def _text(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _upright_rgb(image: Image.Image, content: bytes, bit_depth: int, *, whole: bool = True) -> UInt8:
    plain_jpeg = image.format == "JPEG" and image.mode == "RGB"
    pixels = fast_pixels(content) if whole and plain_jpeg else None
    if pixels is None:
        image.load()
        _check_deep_colours(image, content)
        pixels = np.asarray(_to_rgb(image, bit_depth))
    # Read after loading: PNG may carry its EXIF behind the pixels, and TIFF files come out upright already.
    turn = _TURNS.get(_orientation(image))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or the EXIF block is damaged, as viewers do."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _PARSER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _capture_time(image: Image.Image) -> str:
    """EXIF's DateTimeOriginal; empty where there is none or the EXIF block is damaged."""
    try:
        found = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    except _PARSER_ERRORS:
        return ""
    return found if isinstance(found, str) else ""


def _to_rgb(image: Image.Image, bit_depth: int) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(np.asarray(image), min(bit_depth, _declared_bits(image)))
    if image.mode in {"I", "F"}:
        raise _NoFixedRangeError({"I": "32-bit integers", "F": "floating-point numbers"}[image.mode])
    if image.has_transparency_data or image.mode in {"La", "RGBa"}:
        return _on_white(image)
    return image.convert("RGB")


def _check_deep_colours(image: Image.Image, content: bytes) -> None:
    """Refuse 12-bit colours in a file of 16 bits: Pillow keeps 16 levels of almost black."""
    if image.mode not in {"RGB", "RGBA", "LA"}:
        return
    declared = getattr(image, "tag_v2", {}).get(_BITS_TAG, ())
    if 16 in declared or (image.format == "PNG" and content[_PNG_DEPTH] == 16):
        colours = np.asarray(image)[..., : len(image.mode.removesuffix("A"))]
        if 0 < colours.max() < 16:
            raise DataError(
                "not supported, 16-bit colours below 4,096, of which only the high 8 bits can be read",
                next_step="Convert the images to 8 bits.",
            )


def _declared_bits(image: Image.Image) -> int:
    """Bits of each grey of a 16-bit image as its file says; TIFF files may pack 12."""
    declared = getattr(image, "tag_v2", {}).get(_BITS_TAG)
    return TWELVE_BITS if declared == (TWELVE_BITS,) else FULL_DEPTH


def _from_sixteen_bits(greys: npt.NDArray[np.uint16], bits: int) -> Image.Image:
    reason = beyond_depth(int(greys.max()), bits)
    if reason:
        raise DataError(reason, next_step="Read the images with 16 bits.")
    white = 2**bits - 1
    levels = (greys.astype(np.uint32) * 255 + white // 2) // white  # the nearest of 256
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(page, layer).convert("RGB")
