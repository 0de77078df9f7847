"""The audit finds what it should: on drawn images with known faults, and on real photographs."""

from __future__ import annotations

import csv
import errno
import io
import struct
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from benchmark.audit import (
    AuditReport,
    Severity,
    audit,
    audit_table,
    draw_groups,
    write_audit,
    write_pair_sheet,
)
from benchmark.audit import pairs as pairing
from benchmark.audit import signatures as signing
from benchmark.audit.contact_sheet import thumbnail
from benchmark.audit.findings import PairKind
from benchmark.audit.pairs import cosine_pairs, hamming_pairs, pair_cosines
from benchmark.audit.signatures import colour_histograms, parse_capture_time, signatures
from benchmark.data import load_images
from benchmark.errors import StorageError
from benchmark.records import ImageSet

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRICKS = SHARED / "data" / "brick_cracks"


def picture(seed: int, side: int = 64) -> Image.Image:
    """A smooth random picture: its hash survives saving and resizing."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def folder_of(root: Path, classes: dict[str, range]) -> Path:
    for name, seeds in classes.items():
        (root / name).mkdir(parents=True)
        for seed in seeds:
            picture(seed).save(root / name / f"{seed * 7919 % 1000:03}.png")
    return root


def shouts(report: AuditReport) -> bool:
    return any(finding.severity is Severity.ERROR for finding in report.findings)


def report_of(root: Path, cache: Path) -> tuple[ImageSet, AuditReport]:
    images = load_images(root, cache=cache)
    return images, audit(images, cache=cache)


def codes_of(report: AuditReport) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in report.findings}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "data", {"sound": range(20), "cracked": range(100, 120)})


def test_a_clean_set_has_no_pairs(clean: Path, tmp_path: Path) -> None:
    _, report = report_of(clean, tmp_path / "cache")
    assert report.pairs == ()
    assert set(codes_of(report)) == {"few-images"}
    assert not shouts(report)


def test_copies_and_conflicts_are_found(clean: Path, tmp_path: Path) -> None:
    (clean / "sound" / "copy.png").write_bytes((clean / "sound" / "000.png").read_bytes())
    picture(3).save(clean / "sound" / "again.jpg", quality=80)
    picture(105, side=80).save(clean / "sound" / "wrong.jpg", quality=90)
    (clean / "sound" / "broken.png").write_bytes(b"no image")
    (clean / "sound" / "both.png").write_bytes((clean / "cracked" / "900.png").read_bytes())
    _, report = report_of(clean, tmp_path / "cache")
    kinds = [pair.kind for pair in report.pairs]
    assert kinds.count(PairKind.IDENTICAL) == 1
    assert kinds.count(PairKind.NEAR_DUPLICATE) == 2
    assert report.pairs[0].conflict
    assert {"sound/wrong.jpg"} <= {report.pairs[0].first, report.pairs[0].second}
    wanted = {"rejected", "identical-with-two-labels", "identical", "near-duplicate", "label-conflict"}
    assert wanted <= set(codes_of(report))
    broken = next(finding for finding in report.findings if finding.code == "rejected")
    assert broken.count == 1
    assert "broken.png" in broken.text


def test_a_test_part_identical_to_train_makes_the_audit_shout(tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder_of(root / "train", {"a": range(12), "b": range(20, 32)})
    folder_of(root / "test", {"a": range(12), "b": range(20, 32)})
    _, report = report_of(root, tmp_path / "cache")
    assert shouts(report)
    assert codes_of(report)["test-seen-in-training"] is Severity.ERROR
    shout = next(finding for finding in report.findings if finding.code == "test-seen-in-training")
    assert "100%" in shout.text
    assert all(pair.straddles for pair in report.pairs)


def test_a_test_part_saved_again_from_train_makes_the_audit_shout(tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder_of(root / "train", {"a": range(12), "b": range(20, 32)})
    for name, seeds in {"a": range(12), "b": range(20, 32)}.items():
        (root / "test" / name).mkdir(parents=True)
        for seed in seeds:
            picture(seed).save(root / "test" / name / f"{seed}.jpg", quality=85)
    _, report = report_of(root, tmp_path / "cache")
    shout = next(finding for finding in report.findings if finding.code == "test-seen-in-training")
    assert "24 of 24" in shout.text


def test_given_parts_without_copies_do_not_shout(tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder_of(root / "train", {"a": range(12), "b": range(20, 32)})
    folder_of(root / "test", {"a": range(40, 52), "b": range(60, 72)})
    assert not shouts(report_of(root, tmp_path / "cache")[1])


def test_imbalance_and_small_classes_are_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"many": range(90), "few": range(100, 107)})
    report = report_of(root, tmp_path / "cache")[1]
    assert codes_of(report)["small-class"] is Severity.WARNING
    assert "'many' has 13 times as many images as 'few'" in " ".join(f.text for f in report.findings)


def test_signatures_are_computed_once_and_survive_damage(clean: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    images, first = report_of(clean, cache)
    parts = sorted((cache / "audit").glob("signatures-*.npz"))
    stamp = parts[0].stat().st_mtime_ns
    audit(images, cache=cache)
    assert [path.stat().st_mtime_ns for path in sorted((cache / "audit").glob("signatures-*.npz"))] == [stamp]
    content = bytearray(parts[0].read_bytes())
    content[-3] ^= 1
    parts[0].write_bytes(content)
    again = audit(images, cache=cache)
    np.testing.assert_array_equal(again.signatures.phash, first.signatures.phash)
    np.testing.assert_array_equal(again.signatures.colours, first.signatures.colours)


def test_a_file_that_vanished_is_reported_not_fatal(clean: Path, tmp_path: Path) -> None:
    images = load_images(clean, cache=tmp_path / "cache")
    (clean / images.paths[0]).unlink()
    report = audit(images, cache=tmp_path / "cache")
    assert codes_of(report)["unreadable"] is Severity.WARNING
    assert not report.signatures.readable[0]


def test_features_of_another_length_are_refused(clean: Path, tmp_path: Path) -> None:
    images = load_images(clean, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="features has 2 rows"):
        audit(images, cache=tmp_path / "cache", features=np.zeros((2, 3), np.float32))


def test_look_alikes_come_from_features(clean: Path, tmp_path: Path) -> None:
    images = load_images(clean, cache=tmp_path / "cache")
    features = np.random.default_rng(0).normal(size=(len(images), 64)).astype(np.float32)
    features[5] = features[9] + 0.25 * features[5]
    features[1] = features[2] + 0.05 * features[1]
    report = audit(images, cache=tmp_path / "cache", features=features)
    found = {(pair.kind, pair.first, pair.second) for pair in report.pairs}
    assert found == {
        (PairKind.LOOK_ALIKE, images.paths[5], images.paths[9]),
        (PairKind.NEAR_DUPLICATE, images.paths[1], images.paths[2]),
    }


def test_files_and_table_are_written(clean: Path, tmp_path: Path) -> None:
    picture(3).save(clean / "sound" / "=again.jpg", quality=80)
    images, report = report_of(clean, tmp_path / "cache")
    write_audit(report, images, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"audit_summary.csv", "audit_pairs.csv"}
    write_pair_sheet(report, images, tmp_path / "out")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "audit_pairs.csv").read_text())))
    assert [line["kind"] for line in lines] == ["near-duplicate"]
    with Image.open(tmp_path / "out" / "audit_pairs.png") as sheet:
        assert min(sheet.size) > 200
    stream = io.StringIO()
    Console(file=stream, width=90).print(audit_table(report))
    assert "nearly identical" in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 90
    assert draw_groups(images, np.arange(len(images)) % 3).startswith(b"\x89PNG")


def jpeg_with_exif(entries: list[tuple[int, int, int]], seed: int = 50) -> bytes:
    """A JPEG whose EXIF block holds entries (tag, type, value) of count 1, 4 bytes each."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0)
    file = io.BytesIO()
    picture(seed).save(file, "JPEG", quality=95)
    return file.getvalue()[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + file.getvalue()[2:]


@pytest.mark.parametrize(
    "entries",
    [
        [(0x0102, 4, 70_000), (0x0112, 3, 6)],
        [(0x0112, 3, 6), (0x8769, 4, 2**31)],
        [(0x0112, 3, 6), (0x8769, 2, 5)],
        [(0x0112, 5, 2**32 - 1)],
    ],
    ids=["bits per sample too large", "a block outside the file", "a block of text", "a ratio outside"],
)
def test_odd_exif_ends_neither_audit_nor_contact_sheet(
    clean: Path, tmp_path: Path, entries: list[tuple[int, int, int]]
) -> None:
    (clean / "sound" / "odd.jpg").write_bytes(jpeg_with_exif(entries))
    images, report = report_of(clean, tmp_path / "cache")
    assert report.signatures.readable.all()
    write_audit(report, images, tmp_path / "out")
    write_pair_sheet(report, images, tmp_path / "out")
    assert thumbnail(clean / "sound" / "odd.jpg", 40).size == (40, 40)
    draw_groups(images, np.zeros(len(images), np.int64))


def test_only_the_six_codecs_open(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "look.png", "PPM")
    cross = thumbnail(tmp_path / "look.png", 40)
    assert cross.getpixel((20, 20)) == (200, 30, 40)


def test_a_file_replaced_meanwhile_leaves_no_signature(clean: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    images = load_images(clean, cache=cache)
    content = (clean / images.paths[0]).read_bytes()
    (clean / images.paths[0]).write_bytes((clean / images.paths[1]).read_bytes())
    assert not signatures(images, cache=cache).readable[0]
    (clean / images.paths[0]).write_bytes(content)
    mended = signatures(images, cache=cache)
    assert mended.readable.all()
    np.testing.assert_array_equal(mended.colours, signatures(images, cache=tmp_path / "other").colours)


def test_a_memo_that_can_neither_be_read_nor_written_ends_nothing(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    images, first = report_of(clean, cache)
    (part,) = (cache / "audit").glob("signatures-*.npz")
    part.write_bytes(part.read_bytes()[:-1])
    monkeypatch.setattr(signing, "write_arrays", refuse_to_write)
    watch = Messages()
    again = signatures(images, cache=cache, observer=watch)
    np.testing.assert_array_equal(again.colours, first.signatures.colours)
    assert "cannot be remembered" in " ".join(watch.messages)


def test_a_memo_that_cannot_be_read_now_is_not_written_over(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    images, first = report_of(clean, cache)
    (part,) = (cache / "audit").glob("signatures-*.npz")
    content = part.read_bytes()

    def too_many_open(_: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(signing, "load_arrays", too_many_open)
    watch = Messages()
    again = signatures(images, cache=cache, observer=watch)
    np.testing.assert_array_equal(again.colours, first.signatures.colours)
    assert "Too many open files" in " ".join(watch.messages)
    assert part.read_bytes() == content


def test_what_two_audits_see_at_the_same_time_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, written = tmp_path / "cache", signing.write_arrays

    def write_slowly(*given: Any, **named: Any) -> None:  # noqa: ANN401
        time.sleep(0.5)
        written(*given, **named)

    monkeypatch.setattr(signing, "write_arrays", write_slowly)
    folders = [
        folder_of(tmp_path / name, {"a": range(at, at + 4), "b": range(at + 20, at + 24)})
        for name, at in (("x", 0), ("y", 50))
    ]
    sets = [load_images(folder, cache=cache) for folder in folders]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda images: signatures(images, cache=cache), sets))
    monkeypatch.setattr(signing, "_record", lambda *_: pytest.fail("looked at again"))
    for images in sets:
        assert signatures(images, cache=cache).readable.all()


def test_remembering_writes_some_times_what_there_is(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its square: that of twenty pieces of two would be 420."""
    images, written, keep = load_images(clean, cache=tmp_path / "cache"), [], signing.write_arrays

    def count(path: Path, fields: object, arrays: dict[str, Any], **named: Any) -> None:  # noqa: ANN401
        written.append(len(arrays["records"]))
        keep(path, fields, arrays, **named)

    monkeypatch.setattr(signing, "write_arrays", count)
    monkeypatch.setattr(signing, "_ROWS_AT_ONCE", 2)
    signatures(images, cache=tmp_path / "cache")
    assert written[0] == 2
    assert written[-1] == len(images) == 40
    assert sum(written) < 6 * len(images)


def refuse_to_write(path: Path, *_: object, **__: object) -> None:
    raise StorageError("cannot be written", where=path)


class Messages:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.calls: list[str] = []

    def started(self, task: str, total: int) -> None:
        self.calls.append(f"started {task} {total}")

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.calls.append(f"advanced {task} {done}")

    def finished(self, task: str, note: str = "") -> None:
        self.calls.append(f"finished {task}")

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_colour_histograms_count_pixels(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"a": range(11), "b": range(20, 31)})
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = (17, 0, 250)
    Image.fromarray(half).save(root / "a" / "half.png")
    images = load_images(root, cache=tmp_path / "cache")
    row = images.paths.index("a/half.png")
    rows = np.array([row, 0, 1])
    (root / images.paths[1 if row != 1 else 2]).unlink()
    rows[2] = 1 if row != 1 else 2
    found = colour_histograms(images, rows, cache=tmp_path / "cache")
    assert found.shape == (3, 48)
    assert found[0, [0, 1, 16, 32, 47]].tolist() == [0.5, 0.5, 1, 0.5, 0.5]
    np.testing.assert_allclose(found[:2].reshape(2, 3, 16).sum(-1), 1, atol=2e-3)
    assert np.isnan(found[2]).all()


def test_colours_seen_by_the_audit_are_not_looked_at_again(clean: Path, tmp_path: Path) -> None:
    images, _ = report_of(clean, tmp_path / "cache")
    elsewhere = replace(images, root=tmp_path / "gone")
    found = colour_histograms(elsewhere, np.arange(len(images)), cache=tmp_path / "cache")
    assert np.isfinite(found).all()


def test_too_many_look_alikes_are_said(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        picture(3).save(clean / "sound" / f"again{number}.jpg", quality=70 + 4 * number)
    images, report = report_of(clean, tmp_path / "cache")
    assert "more-pairs" not in codes_of(report)
    monkeypatch.setitem(audit.__globals__, "MOST_PAIRS", 2)
    capped = audit(images, cache=tmp_path / "cache")
    assert codes_of(capped)["more-pairs"] is Severity.WARNING
    nearest = sorted(pair.distance for pair in report.pairs)[:2]
    assert sorted(pair.distance for pair in capped.pairs) == nearest


def test_a_later_audit_without_pairs_leaves_no_picture_behind(clean: Path, tmp_path: Path) -> None:
    picture(3).save(clean / "sound" / "again.jpg", quality=80)
    images, report = report_of(clean, tmp_path / "cache")
    write_audit(report, images, tmp_path / "out")
    write_pair_sheet(report, images, tmp_path / "out")
    own = tmp_path / "out" / "mine.png"
    own.write_bytes(b"mine")
    (clean / "sound" / "again.jpg").unlink()
    images, report = report_of(clean, tmp_path / "cache")
    write_audit(report, images, tmp_path / "out")
    write_pair_sheet(report, images, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audit_pairs.csv",
        "audit_summary.csv",
        "mine.png",
    ]


@pytest.mark.parametrize(
    ("text", "known"),
    [("2021:06:30 12:00:59", True), ("2021:06:30 12:00:59\0", True), ("", False), (None, False)],
)
def test_capture_times(text: object, known: bool) -> None:
    assert np.isnan(parse_capture_time(text)) != known


def test_capture_time_and_orientation_are_read_from_photographs(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"a": range(11), "b": range(20, 31)})
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2021:06:30 12:00:59"
    exif[0x0112] = 6
    picture(50).transpose(Image.Transpose.ROTATE_90).save(root / "a" / "turned.jpg", exif=exif, quality=95)
    picture(50).save(root / "b" / "upright.jpg", quality=95)
    images, report = report_of(root, tmp_path / "cache")
    assert np.isfinite(report.signatures.captured).sum() == 1
    assert np.isfinite(report.signatures.captured[images.paths.index("a/turned.jpg")])
    assert [pair.conflict for pair in report.pairs] == [True]


# --- neighbours -----------------------------------------------------------------------------------------


def slow_pairs(codes: np.ndarray, radius: int) -> set[tuple[int, int]]:
    return {
        (one, two)
        for two in range(len(codes))
        for one in range(two)
        if int(codes[one] ^ codes[two]).bit_count() <= radius
    }


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hamming_pairs_finds_exactly_the_near_ones(data: st.DataObject) -> None:
    centres = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=9).map(lambda bits: sum({1 << bit for bit in bits}))
    made = data.draw(st.lists(st.tuples(st.sampled_from(centres), flips), min_size=1, max_size=30))
    codes = np.unique(np.array([centre ^ flip for centre, flip in made], np.uint64))
    found = hamming_pairs(codes)
    assert found.complete
    assert set(map(tuple, found.rows.tolist())) == slow_pairs(codes, 7)
    assert all(
        int(codes[one] ^ codes[two]).bit_count() == distance
        for (one, two), distance in zip(found.rows.tolist(), found.measures.tolist(), strict=True)
    )
    near = hamming_pairs(codes, most=3)
    order = np.lexsort((found.rows[:, 1], found.rows[:, 0], found.measures))[:3]
    assert set(map(tuple, near.rows.tolist())) == set(map(tuple, found.rows[order].tolist()))
    assert near.complete == (len(found.rows) <= 3)


def test_a_thousand_equal_codes_make_a_star() -> None:
    found = hamming_pairs(np.zeros(1000, np.uint64))
    assert found.rows.shape == (999, 2)
    assert set(found.rows[:, 0].tolist()) == {0}
    assert not found.measures.any()


def ball(count: int, flips: int) -> np.ndarray:
    """Different codes within ``flips`` bits of each other's centre."""
    random = np.random.default_rng(5)
    codes = np.full(4 * count, 2**63 + 12345, np.uint64)
    for _ in range(flips):
        codes ^= np.uint64(1) << random.integers(0, 64, len(codes)).astype(np.uint64)
    return random.permutation(np.unique(codes))[:count]


def test_where_everything_looks_alike_only_the_nearest_pairs_are_kept() -> None:
    codes = ball(600, 3)
    everything = hamming_pairs(codes)
    assert everything.complete
    assert len(everything.rows) > 100_000
    for most in (1, 100, 5000):
        found = hamming_pairs(codes, most=most)
        order = np.lexsort((everything.rows[:, 1], everything.rows[:, 0], everything.measures))[:most]
        wanted = everything.rows[np.sort(order)]
        np.testing.assert_array_equal(found.rows, wanted)
        assert not found.complete


def test_look_alikes_cost_no_more_memory_than_a_fixed_number_of_pairs() -> None:
    codes = ball(5000, 3)
    tracemalloc.start()
    found = hamming_pairs(codes, most=10_000)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.rows) == 10_000
    assert not found.complete
    assert peak_bytes < 150e6, "all 12 million pairs three times over would take 600 MB"


def test_too_many_candidates_are_cut_evenly_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = ball(400, 3)
    monkeypatch.setattr(pairing, "_CANDIDATES_PER_PROBE", 4000)
    found = hamming_pairs(codes)
    assert not found.complete
    assert set(map(tuple, found.rows.tolist())) <= slow_pairs(codes, 7)
    assert len(np.unique(found.rows)) == len(codes), "every row still meets some others"


def test_pairs_that_do_not_count_take_no_place() -> None:
    codes = ball(300, 3)
    odd = hamming_pairs(codes, most=50, accept=lambda rows: (rows % 2 == 1).all(1))
    assert len(odd.rows) == 50
    assert (odd.rows % 2 == 1).all()


def test_cosine_pairs_agrees_with_every_pair_even_for_tiny_features() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(300, 40))
    features[:60] += 4 * features[60:120]
    centred = features - features.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    wanted = set(zip(*np.nonzero(np.triu(unit @ unit.T >= 0.95, 1)), strict=True))
    for scale in (1.0, 1e-18):
        scaled = (features * scale + scale).astype(np.float32)
        found = cosine_pairs(scaled, 0.95)
        assert set(map(tuple, found.rows.tolist())) == wanted
        assert found.complete
        near = cosine_pairs(scaled, 0.95, most=9)
        best = np.argsort(-found.measures)[:9]
        np.testing.assert_array_equal(near.rows, found.rows[np.sort(best)])
        assert not near.complete
        np.testing.assert_allclose(pair_cosines(scaled, near.rows), near.measures, atol=1e-5)
    assert len(wanted) > 20


def test_large_sets_take_the_projected_road() -> None:
    random = np.random.default_rng(2)
    features = random.normal(size=(20_500, 32)).astype(np.float32)
    features[:200] = features[200:400] + 0.1 * features[:200]
    pairs = cosine_pairs(features, 0.95)
    found = set(map(tuple, pairs.rows.tolist()))
    assert len(found & {(row, row + 200) for row in range(200)}) >= 195
    assert pairs.measures.min() >= 0.95


# --- real photographs -----------------------------------------------------------------------------------


@pytest.mark.skipif(not BRICKS.is_dir(), reason="the shared photographs are not here")
def test_the_brick_photographs_hold_seven_identical_pairs(tmp_path: Path) -> None:
    images = load_images(BRICKS, cache=tmp_path)
    report = audit(images, cache=tmp_path)
    assert sum(pair.kind is PairKind.IDENTICAL for pair in report.pairs) == 7
    near = [(pair.first, pair.second) for pair in report.pairs if pair.kind is PairKind.NEAR_DUPLICATE]
    assert near == [("Positive/00019.jpg", "Positive/00020.jpg")]
    assert codes_of(report)["sequences"] is Severity.WARNING


def test_signatures_do_not_depend_on_names(clean: Path, tmp_path: Path) -> None:
    images = load_images(clean, cache=tmp_path / "one")
    first = signatures(images, cache=tmp_path / "one")
    for path in images.paths:
        (clean / path).rename(clean / Path(path).parent / f"x{Path(path).name}")
    renamed = load_images(clean, cache=tmp_path / "two")
    np.testing.assert_array_equal(signatures(renamed, cache=tmp_path / "two").colours, first.colours)
