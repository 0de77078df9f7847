"""12-bit data in 16-bit files: found by the values of the whole set, said, and read with their range."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import PixelBuffer, decode, decoder_name, load_images, load_pixels
from benchmark.data.bit_depth import find_bit_depth
from benchmark.data.decode import check_decodable, decode_thumbnail
from benchmark.errors import ArgumentError, DataError
from benchmark.options import DataOptions
from benchmark.records import ImageSet

SIDE = 8


def grey(path: Path, largest: int, seed: int) -> Path:
    """A 16-bit picture whose values reach from 0 to ``largest``."""
    values = np.random.default_rng(seed).integers(0, largest + 1, (SIDE, SIDE))
    values[0, :2] = 0, largest
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)
    return path


def camera(root: Path, largest: int, *, count: int = 6) -> Path:
    for label in ("a", "b"):
        for number in range(count):
            grey(root / label / f"{number}.png", largest, seed=number + 100 * (label == "b"))
    return root


def load(root: Path, bit_depth: int | None = None) -> ImageSet:
    return load_images(root, cache=root.parent / "cache", options=DataOptions(bit_depth=bit_depth))


def test_twelve_bits_are_found_said_and_scaled(tmp_path: Path) -> None:
    images = load(camera(tmp_path / "d", 4095))
    assert images.bit_depth == 12
    assert "12 of 12 16-bit images hold no grey above 4,095: read as 12-bit data" in " ".join(images.notes)
    path = images.root / images.paths[0]
    values = np.asarray(Image.open(path)).astype(float)
    pixels = load_pixels(path, SIDE, bit_depth=images.bit_depth)
    np.testing.assert_array_equal(pixels[..., 0], np.floor(values * 255 / 4095 + 0.5))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert decode(path.read_bytes()).max() == 16, "almost black"
    assert decode_thumbnail(path.read_bytes(), 4, bit_depth=12).pixels.max() == 255
    buffer = PixelBuffer.create(tmp_path, images.image_ids, SIDE)
    buffer.fill(images.paths, root=images.root, bit_depth=images.bit_depth)
    np.testing.assert_array_equal(buffer.rows(0, 1)[0], pixels)
    buffer.remove()


def test_the_memo_of_an_earlier_scan_knows_it_too(tmp_path: Path) -> None:
    root = camera(tmp_path / "d", 4095)
    first, again = load(root), load(root)
    assert (again.bit_depth, again.notes) == (first.bit_depth, first.notes)
    # And files of known bytes under other names.
    for path in sorted((root / "a").iterdir()):
        path.rename(path.with_name(f"new{path.name}"))
    assert load(root).bit_depth == 12


def test_sixteen_bits_stay_what_they_were(tmp_path: Path) -> None:
    images = load(camera(tmp_path / "d", 65_535))
    assert (images.bit_depth, images.notes) == (16, ())
    kept = load(camera(tmp_path / "e", 4095), 16)
    assert kept.bit_depth == 16
    assert "almost black as read with 16 bits; a bit depth of 12 brightens them" in " ".join(kept.notes)
    assert kept.fingerprint() != load(tmp_path / "e").fingerprint()


def test_one_bright_image_says_that_they_are_sixteen(tmp_path: Path) -> None:
    root = camera(tmp_path / "d", 4095)
    grey(root / "a" / "bright.png", 4096, seed=7)
    images = load(root)
    assert images.bit_depth == 16
    assert "12 of 13 16-bit images hold no grey above 4,095 and are almost black" in " ".join(images.notes)
    forced = load(root, 12)
    assert [(file.path, file.reason) for file in forced.rejected] == [
        ("a/bright.png", "greys of up to 4,096, where 4,095 is white: 12 bits")
    ]
    with pytest.raises(DataError, match=r"greys of up to 4,096, where 4,095 is white: 12 bits"):
        decode((root / "a" / "bright.png").read_bytes(), bit_depth=12)


def test_other_images_have_no_say(tmp_path: Path) -> None:
    root = camera(tmp_path / "d", 4095)
    Image.new("RGB", (9, 9), (250, 9, 9)).save(root / "a" / "colour.png")
    Image.new("L", (9, 9), 250).save(root / "b" / "grey.jpg")
    (root / "b" / "broken.png").write_bytes(b"<html>")
    assert load(root).bit_depth == 12
    np.testing.assert_array_equal(
        decode((root / "a" / "colour.png").read_bytes(), bit_depth=12),
        decode((root / "a" / "colour.png").read_bytes()),
    )


def test_a_tiff_that_packs_twelve_bits_says_so_itself() -> None:
    """Two greys of 12 bits in three bytes: 4095 and 2048."""
    entries = [
        (256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
        (278, 3, 1), (279, 4, 3),
    ]  # fmt: skip
    content = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0"
    content += struct.pack("<H", len(entries))
    content += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    assert decode(content)[0, :, 0].tolist() == [255, 128]
    assert check_decodable(content) == ("", 0)


def test_the_depth_of_a_set() -> None:
    assert find_bit_depth([], None) == (16, ())
    assert find_bit_depth([0, 0], None) == (16, ())
    assert find_bit_depth([0, 4095], None)[0] == 12
    assert find_bit_depth([1, 4096], None)[0] == 16
    assert find_bit_depth([50_000] * 99 + [3000], None) == (16, ()), "one dark photograph"


def test_the_pixels_of_another_depth_have_another_name() -> None:
    assert decoder_name(12) == f"{decoder_name()}-12bit"
    assert decoder_name(16) == decoder_name()


def test_no_other_depth() -> None:
    with pytest.raises(ArgumentError, match="`bit_depth`: expected one of auto, 12, 16; got 10"):
        DataOptions.check({"bit_depth": 10})


def test_a_file_without_greys_of_sixteen_bits_has_no_peak() -> None:
    file = io.BytesIO()
    Image.new("L", (4, 4), 9).save(file, "PNG")
    assert check_decodable(file.getvalue()) == ("", 0)
    assert check_decodable(b"")[1] == 0
