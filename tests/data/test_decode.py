"""The decoder against a corpus of odd and bad files, each with its outcome stated."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.data import decode, decoder_name, fingerprint
from benchmark.data.decode import OPTIONAL_SUFFIXES, READS_AVIF, sniff
from benchmark.errors import DataError
from benchmark.records import UInt8

# decode.py asks for the same at import, but pytest starts every test with filters of its own.
pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*Plugin")

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture whose corners differ, so that turning it shows."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    red, green = 255 * x // max(size[0] - 1, 1), 255 * y // max(size[1] - 1, 1)
    pixels = np.stack([red, green, np.full_like(red, 90)], -1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def bomb() -> bytes:
    """A PNG of 14000 x 14000 grey pixels in about 24 KB."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(14_001)) for _ in range(14_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 14_000, 14_000, 8, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def with_orientation(kind: str, turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return encode(
        gradient(), kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {})
    )


def ycck_jpeg() -> bytes:
    """A CMYK JPEG whose Adobe marker says YCCK: 4 components, transform 2."""
    content = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    marker = content.index(b"Adobe")
    return content[: marker + 11] + b"\x02" + content[marker + 12 :]


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN)]
    return encode(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=50,
        **({"lossless": True} if kind == "WEBP" else {}),
    )


def wide_tiff() -> bytes:
    return encode(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")


def double_tiff() -> bytes:
    """Integers of 64 bits, for which Pillow has no mode at all."""
    depth, kind = b"\x02\x01\x03\0\x01\0\0\0", b"\x53\x01\x03\0\x01\0\0\0"
    content = wide_tiff()
    assert depth + b"\x20" in content
    assert kind + b"\x03" in content
    return content.replace(depth + b"\x20", depth + b"\x40").replace(kind + b"\x03", kind + b"\x01")


def declared_bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 70, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)
    )


JPEG = encode(gradient(size=(200, 150)), "JPEG", quality=90)
PNG = encode(gradient(size=(200, 150)), "PNG")
HTML = b"<!DOCTYPE html><html><body>404 not found</body></html>"


@dataclass(frozen=True)
class Good:
    """A file that decodes: its size, and its colour at some pixels (within ``slack`` levels)."""

    name: str
    build: Callable[[], bytes]
    shape: tuple[int, int]
    pixels: tuple[tuple[int, int, tuple[int, int, int]], ...] = ()
    slack: int = 0


@dataclass(frozen=True)
class Bad:
    """A file that is left out, and what its reason says."""

    name: str
    build: Callable[[], bytes]
    reason: str


def upright(kind: str, slack: int) -> list[Good]:
    corners = ((0, 0, (0, 0, 90)), (0, -1, (255, 0, 90)), (-1, 0, (0, 255, 90)))
    return [
        Good(f"{kind} orientation 1", lambda: with_orientation(kind, 1), (30, 40), corners, slack),
        Good(
            f"{kind} orientation 2",
            lambda: with_orientation(kind, 2),
            (30, 40),
            ((0, 0, (255, 0, 90)), (-1, -1, (0, 255, 90))),
            slack,
        ),
        Good(
            f"{kind} orientation 3",
            lambda: with_orientation(kind, 3),
            (30, 40),
            ((0, 0, (255, 255, 90)), (-1, -1, (0, 0, 90))),
            slack,
        ),
        Good(
            f"{kind} orientation 5",
            lambda: with_orientation(kind, 5),
            (40, 30),
            ((0, 0, (0, 0, 90)), (0, -1, (0, 255, 90))),
            slack,
        ),
        Good(
            f"{kind} orientation 6",
            lambda: with_orientation(kind, 6),
            (40, 30),
            ((0, 0, (0, 255, 90)), (0, -1, (0, 0, 90))),
            slack,
        ),
        Good(
            f"{kind} orientation 8",
            lambda: with_orientation(kind, 8),
            (40, 30),
            ((0, 0, (255, 0, 90)), (-1, 0, (0, 0, 90))),
            slack,
        ),
        Good(f"{kind} orientation 77", lambda: with_orientation(kind, 77), (30, 40), corners, slack),
    ]


def alpha_png() -> bytes:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128)])
    return encode(image, "PNG")


def palette_with_transparency(kind: str) -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    return encode(image, kind, transparency=1)


GOOD = [
    Good("plain jpeg", lambda: JPEG, (150, 200)),
    Good("progressive jpeg", lambda: encode(gradient(), "JPEG", progressive=True, quality=95), (30, 40)),
    Good("grey jpeg", lambda: encode(Image.new("L", (9, 7), 80), "JPEG"), (7, 9), ((3, 3, (80,) * 3),), 1),
    Good(
        "cmyk jpeg",
        lambda: encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100),
        (16, 16),
        ((8, 8, RED),),
        3,
    ),
    Good("ycck jpeg", ycck_jpeg, (16, 16)),
    Good("jpeg with trailing garbage", lambda: JPEG + HTML, (150, 200)),
    Good(
        "jpeg with a broken exif block",
        lambda: encode(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff"),
        (30, 40),
    ),
    Good(
        "two-picture jpeg of a telephone",
        lambda: encode(
            Image.new("RGB", (20, 20), RED),
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (8, 8), GREEN)],
        ),
        (20, 20),
        ((5, 5, RED),),
        3,
    ),
    Good("one pixel", lambda: encode(Image.new("RGB", (1, 1), GREEN), "PNG"), (1, 1), ((0, 0, GREEN),)),
    Good(
        "20000 x 10",
        lambda: encode(Image.new("RGB", (20_000, 10), RED), "PNG"),
        (10, 20_000),
        ((9, 19_999, RED),),
    ),
    Good(
        "16-bit grey png",
        lambda: png(3, 1, 16, 0, b"\0" + struct.pack(">HHH", 0, 32_896, 65_535)),
        (1, 3),
        ((0, 0, (0,) * 3), (0, 1, (128,) * 3), (0, 2, WHITE)),
    ),
    Good(
        "16-bit colour png",
        lambda: png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 65_535, 32_896, 0)),
        (1, 1),
        ((0, 0, (255, 128, 0)),),
    ),
    Good(
        "16-bit grey tiff",
        lambda: encode(Image.fromarray(np.array([[0, 65_535]], np.uint16)), "TIFF"),
        (1, 2),
        ((0, 0, (0,) * 3), (0, 1, WHITE)),
    ),
    Good("1-bit png", lambda: png(8, 1, 1, 0, b"\0\xf0"), (1, 8), ((0, 0, WHITE), (0, 7, (0, 0, 0)))),
    Good(
        "1-bit tiff",
        lambda: encode(Image.new("1", (8, 8), 1), "TIFF", compression="group4"),
        (8, 8),
        ((0, 0, WHITE),),
    ),
    Good("2-bit grey png", lambda: png(4, 1, 2, 0, b"\0\x1b"), (1, 4), ((0, 1, (85,) * 3), (0, 3, WHITE))),
    Good(
        "palette png",
        lambda: encode(Image.new("RGB", (4, 4), RED).quantize(4), "PNG"),
        (4, 4),
        ((0, 0, RED),),
    ),
    Good(
        "palette png with a transparent colour",
        lambda: palette_with_transparency("PNG"),
        (1, 2),
        ((0, 0, RED), (0, 1, WHITE)),
    ),
    Good(
        "palette gif with a transparent colour",
        lambda: palette_with_transparency("GIF"),
        (1, 2),
        ((0, 0, RED), (0, 1, WHITE)),
    ),
    Good("png with alpha", alpha_png, (1, 3), ((0, 0, RED), (0, 1, WHITE), (0, 2, (255, 127, 127))), 1),
    Good(
        "grey png with alpha",
        lambda: encode(Image.new("LA", (2, 2), (0, 0)), "PNG"),
        (2, 2),
        ((0, 0, WHITE),),
    ),
    Good(
        "rgb png with a transparent colour",
        lambda: encode(Image.new("RGB", (2, 2), RED), "PNG", transparency=RED),
        (2, 2),
        ((0, 0, WHITE),),
    ),
    Good("interlaced png", lambda: png(1, 1, 8, 2, b"\0\xff\0\0", interlace=1), (1, 1), ((0, 0, RED),)),
    Good("animated gif", lambda: animation("GIF"), (20, 20), ((5, 5, RED),)),
    Good("animated webp", lambda: animation("WEBP"), (20, 20), ((5, 5, RED),), 1),
    Good("animated png", lambda: animation("PNG"), (20, 20), ((5, 5, RED),)),
    Good("lossy webp", lambda: encode(gradient(), "WEBP"), (30, 40)),
    Good(
        "webp with alpha",
        lambda: encode(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "WEBP", lossless=True, exact=True),
        (4, 4),
        ((0, 0, WHITE),),
    ),
    Good("bmp", lambda: encode(gradient(), "BMP"), (30, 40), ((0, -1, (255, 0, 90)),)),
    Good("bottom-up bmp read upright", lambda: encode(gradient(), "BMP"), (30, 40), ((-1, 0, (0, 255, 90)),)),
    Good(
        "tiff of two pages",
        lambda: encode(
            Image.new("RGB", (5, 5), RED),
            "TIFF",
            save_all=True,
            append_images=[Image.new("RGB", (5, 5), GREEN)],
        ),
        (5, 5),
        ((0, 0, RED),),
    ),
    Good(
        "cmyk tiff",
        lambda: encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"),
        (4, 4),
        ((0, 0, RED),),
    ),
    *upright("JPEG", 6),
    *upright("PNG", 0),
    *upright("TIFF", 0),
    *upright("WEBP", 60),
]

BAD = [
    Bad("nothing", lambda: b"", "empty file"),
    Bad("zero bytes", lambda: bytes(5000), "zero bytes only"),
    Bad("html", lambda: HTML, "not a JPEG"),
    Bad("text", lambda: "kein Bild, aber schön".encode(), "not a JPEG"),
    Bad("pdf", lambda: b"%PDF-1.7\n" + bytes(100), "not a JPEG"),
    Bad("avif", lambda: b"\0\0\0\x1cftypavif" + bytes(100), "AVIF"),
    Bad("heic", lambda: b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
    Bad("dicom", lambda: bytes(128) + b"DICM" + b"x" * 9000, "not supported, DICOM: export its frames"),
    Bad("numpy", lambda: b"\x93NUMPY\1\0" + bytes(100), "not supported, NumPy arrays: save each image"),
    Bad("windows icon", lambda: encode(gradient(), "ICO"), "not a JPEG"),
    Bad("jpeg 2000", lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "not a JPEG"),
    Bad("jpeg magic only", lambda: b"\xff\xd8\xff", "JPEG"),
    *(
        Bad(f"jpeg cut at {cut}", lambda cut=cut: JPEG[: len(JPEG) * cut // 100], "JPEG")
        for cut in (1, 10, 50, 90)
    ),
    *(
        Bad(f"png cut at {cut}", lambda cut=cut: PNG[: len(PNG) * cut // 100], "PNG")
        for cut in (1, 10, 50, 90)
    ),
    Bad("gif cut", lambda: (whole := encode(gradient("P"), "GIF"))[: len(whole) // 2], "GIF"),
    Bad("webp cut", lambda: (whole := encode(gradient(), "WEBP"))[: len(whole) // 2], "WebP"),
    Bad("tiff cut", lambda: (whole := encode(gradient(), "TIFF"))[: len(whole) // 2], "TIFF"),
    Bad("bmp cut", lambda: (whole := encode(gradient(), "BMP"))[: len(whole) // 2], "BMP"),
    Bad("png with a flipped byte", lambda: PNG[:60] + bytes([PNG[60] ^ 0x55]) + PNG[61:], "PNG"),
    Bad("png without pixels", lambda: png(0, 4, 8, 2, b""), "PNG"),
    Bad("png of 14000 x 14000 in 24 KB", bomb, "too many pixels"),
    Bad("bmp that declares 2 billion rows", lambda: declared_bmp(2_000_000_000, 2), "too many pixels"),
    Bad("bmp of no width", lambda: declared_bmp(0, 5), "BMP"),
    Bad(
        "gif that declares 65535 x 65535",
        lambda: b"GIF89a\xff\xff\xff\xff" + encode(gradient("P"), "GIF")[10:],
        "too many pixels",
    ),
    Bad("tiff of floats", wide_tiff, "not supported, pixel values have no fixed range; got floating-point"),
    Bad("tiff of 64-bit integers", double_tiff, "not supported, pixel values have no fixed range"),
    Bad(
        "tiff of 32-bit integers",
        lambda: encode(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"),
        "not supported, pixel values have no fixed range; got 32-bit integers",
    ),
    Bad(
        "12-bit colours in a png of 16",
        lambda: png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 4095, 2000, 0)),
        "16-bit colours below 4,096",
    ),
    Bad("tiff that points into itself", lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "TIFF"),
]


def test_the_corpus_is_large_enough() -> None:
    assert len(BAD) + len(GOOD) >= 60
    assert len({case.name for case in (*GOOD, *BAD)}) == len(GOOD) + len(BAD)


@pytest.mark.faults("odd images, decoded as a viewer shows them")
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_decodes_as_a_viewer_shows_it(case: Good) -> None:
    pixels = decode(case.build())
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*case.shape, 3)
    for row, column, colour in case.pixels:
        assert np.abs(pixels[row, column].astype(int) - colour).max() <= case.slack, (row, column)


@pytest.mark.faults("bad images, left out with a reason")
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_leaves_out_with_a_reason(case: Bad) -> None:
    with pytest.raises(DataError) as caught:
        decode(case.build())
    assert case.reason in str(caught.value)


def test_avif_is_read_where_pillow_reads_it() -> None:
    if not READS_AVIF:
        pytest.skip("this Pillow reads no AVIF")
    upright = decode(encode(gradient(), "AVIF", quality=100))
    assert np.abs(upright.astype(int) - np.asarray(gradient())).max() <= 12
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encode(gradient(), "AVIF", quality=100, exif=exif))
    assert np.abs(turned.astype(int) - np.rot90(upright, -1)).max() <= 12
    assert (sniff(encode(gradient(), "AVIF")[:16]), ".avif" in OPTIONAL_SUFFIXES) == ("AVIF", True)


def test_heic_is_read_where_its_library_is_there() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(gradient()).save(file, quality=100, exif=exif.tobytes())
    turned = decode(file.getvalue())
    assert turned.shape == (40, 30, 3)
    assert np.abs(turned.astype(int) - np.rot90(np.asarray(gradient()), -1)).max() <= 16
    assert ".heic" in OPTIONAL_SUFFIXES


def test_what_the_reader_lacks_is_named() -> None:
    """In a process where neither library is there."""
    program = """
import importlib.util
from PIL import features
features.check = lambda name: False
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "pillow_heif" else find(name, *more)
from benchmark.data.decode import check_decodable, foreign_suffix
for brand in (b"avif", b"heic"):
    print(check_decodable(bytes(4) + b"ftyp" + brand + bytes(100))[0])
print(foreign_suffix(".heic"))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heic = "not supported, HEIC, which needs the package pillow-heif (the extra 'heif')"
    avif = "not supported, AVIF, which this build of Pillow does not read"
    assert found.stdout.splitlines() == [avif, heic, heic]


def test_a_limit_of_pixels_is_checked_before_decoding() -> None:
    with pytest.raises(DataError, match=r"too many pixels \(at most 29,999\); got 200 x 150"):
        decode(JPEG, max_pixels=29_999)
    assert decode(JPEG, max_pixels=30_000).shape == (150, 200, 3)


def test_a_bomb_above_pillows_own_limit_gives_no_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError):
            decode(bomb())
    assert not [one for one in caught if issubclass(one.category, Image.DecompressionBombWarning)]


def test_a_large_frame_of_a_gif_gives_no_warning() -> None:
    """Larger than Pillow's limit, and not twice as large."""
    file = io.BytesIO()
    gradient().save(file, "GIF")
    content = bytearray(file.getvalue())
    frame = content.index(b"\x2c\0\0\0\0" + struct.pack("<HH", *gradient().size))
    content[frame + 5 : frame + 9] = struct.pack("<HH", 10_000, 9_500)
    code = (
        "import sys; from benchmark.data.decode import decode; from benchmark.errors import DataError\n"
        "try: decode(sys.stdin.buffer.read(), max_pixels=10**6)\n"
        "except DataError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], input=bytes(content), capture_output=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"refused", b"")


def test_who_makes_pillows_limit_an_error_goes_on_to_get_one() -> None:
    code = (
        "import io, sys, warnings; from PIL import Image\n"
        "warnings.simplefilter('error', Image.DecompressionBombWarning)\n"
        "import benchmark.data\n"
        "try: Image.open(io.BytesIO(sys.stdin.buffer.read()))\n"
        "except Image.DecompressionBombWarning: print('an error')"
    )
    large = encode(Image.new("1", (10_000, 9_500)), "PNG")
    done = subprocess.run([sys.executable, "-c", code], input=large, capture_output=True, check=True)
    assert done.stdout.strip() == b"an error"


def test_the_decoder_is_named_after_its_pixels_not_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint.pixels_name.cache_clear()
    name = decoder_name()
    assert re.fullmatch(r"pixels-[0-9a-f]{16}", name)
    monkeypatch.setattr("PIL.__version__", "99.0.1")
    fingerprint.pixels_name.cache_clear()
    assert decoder_name() == name
    for one in sorted(fingerprint._PICTURES.iterdir()):
        if one.suffix in {".avif", ".heic"}:
            continue

        def slightly(content: bytes, changed: bytes = one.read_bytes()) -> UInt8:
            """One level of one pixel of one picture."""
            pixels = decode(content).copy()
            pixels[3, 4, 1] ^= content == changed
            return pixels

        monkeypatch.setattr(fingerprint, "decode", slightly)
        fingerprint.pixels_name.cache_clear()
        assert decoder_name() != name
    monkeypatch.undo()
    fingerprint.pixels_name.cache_clear()
    assert decoder_name() == name


def clear_digests() -> None:
    for remembered in (fingerprint.pixels_name, fingerprint._optional_digest, fingerprint._native_digest):
        remembered.cache_clear()


@pytest.mark.parametrize("format_name", ["avif", "heic"])
def test_a_decoder_of_its_own_stands_in_the_keys_of_its_images_alone(
    format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One level of one pixel: whoever has no such image keeps his rows."""
    content = next(fingerprint._PICTURES.glob(f"*.{format_name}")).read_bytes()

    def other(one: bytes) -> UInt8:
        pixels = np.zeros((30, 40, 3), np.uint8) if one == content else decode(one).copy()
        pixels[3, 4, 1] ^= one == content
        return pixels

    clear_digests()
    plain, named = decoder_name(), decoder_name(formats=[format_name])
    assert re.fullmatch(rf"{plain}-{format_name}-[0-9a-f]{{16}}", named)
    assert decoder_name(12, formats=[format_name]).startswith(f"{plain}-12bit-{format_name}-")
    monkeypatch.setattr(fingerprint, "decode", other)
    clear_digests()
    assert (decoder_name(), decoder_name(formats=[format_name]) != named) == (plain, True)
    monkeypatch.undo()
    clear_digests()


def test_pictures_of_other_libraries_are_decoded_where_these_are_there() -> None:
    for one in fingerprint._PICTURES.iterdir():
        if one.suffix in OPTIONAL_SUFFIXES:
            assert decode(one.read_bytes()).shape == (36, 48, 3)


def test_which_decoders_images_need_is_seen_from_their_names() -> None:
    paths = ["a/b.jpg", "c.AVIF", "d.heif", "e.heic", "avif", "f"]
    has = {name for name, ending in (("avif", ".avif"), ("heic", ".heic")) if ending in OPTIONAL_SUFFIXES}
    assert fingerprint.optional_formats(paths) == has
    assert fingerprint.optional_formats(["a.jpg", "avif", "b.heic.png"]) == frozenset()


def test_another_way_of_resizing_stands_in_the_keys_of_who_resizes_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clear_digests()
    assert decoder_name(resize="bicubic-center-0.875") == decoder_name()
    monkeypatch.setattr(fingerprint, "_USUAL_NATIVE", "another")
    assert re.fullmatch(r".*-native-[0-9a-f]{16}", decoder_name(resize="bicubic-center-0.875"))
    for usual in ("bilinear", "area", "native"):
        assert decoder_name(resize=usual) == fingerprint.pixels_name()


SEEDS = [case.build() for case in GOOD if "20000" not in case.name]


@settings(max_examples=400, deadline=None)
@given(
    content=st.sampled_from(SEEDS),
    cut=st.floats(0, 1),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
)
def test_damaged_files_raise_only_our_error(
    content: bytes, cut: float, edits: list[tuple[float, int]]
) -> None:
    damaged = bytearray(content[: max(4, int(cut * len(content)))] if cut < 0.7 else content)
    for place, value in edits:
        damaged[int(place * len(damaged))] = value
    check_outcome(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(magic=st.sampled_from([content[:16] for content in SEEDS]), rest=st.binary(max_size=400))
def test_foreign_bytes_behind_a_magic_number_raise_only_our_error(magic: bytes, rest: bytes) -> None:
    check_outcome(magic + rest)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_foreign_bytes_raise_only_our_error(content: bytes) -> None:
    check_outcome(content)


def check_outcome(content: bytes) -> None:
    try:
        pixels = decode(content, max_pixels=1_000_000)
    except DataError:
        return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
