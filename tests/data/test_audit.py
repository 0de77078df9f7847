"""The audit finds what it should: on drawn images with known faults, and on real photographs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from benchmark.data import (
    AuditReport,
    PairKind,
    Severity,
    audit,
    audit_table,
    draw_groups,
    load_images,
    write_audit,
)
from benchmark.data.audit_pairs import cosine_pairs, hamming_pairs
from benchmark.data.audit_signatures import parse_capture_time, signatures
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
    assert not report.shouts


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
    assert report.shouts
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
    assert not report_of(root, tmp_path / "cache")[1].shouts


def test_imbalance_and_small_classes_are_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"many": range(90), "few": range(100, 107)})
    report = report_of(root, tmp_path / "cache")[1]
    assert codes_of(report)["small-class"] is Severity.WARNING
    assert "'many' has 13 times as many images as 'few'" in " ".join(f.text for f in report.findings)


def test_signatures_are_computed_once_and_survive_damage(clean: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    images, first = report_of(clean, cache)
    parts = sorted((cache / "audit").rglob("part-*.npy"))
    stamp = parts[0].stat().st_mtime_ns
    audit(images, cache=cache)
    assert [path.stat().st_mtime_ns for path in sorted((cache / "audit").rglob("part-*.npy"))] == [stamp]
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
    names = [path.name for path in write_audit(report, images, tmp_path / "out")]
    assert names == ["audit_summary.csv", "audit_pairs.csv", "audit_pairs.png"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "audit_pairs.csv").read_text())))
    assert [line["kind"] for line in lines] == ["near-duplicate"]
    with Image.open(tmp_path / "out" / "audit_pairs.png") as sheet:
        assert min(sheet.size) > 200
    stream = io.StringIO()
    Console(file=stream, width=90).print(audit_table(report))
    assert "nearly identical" in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 90
    assert draw_groups(images, np.arange(len(images)) % 3).startswith(b"\x89PNG")


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
@given(st.data(), st.integers(0, 7))
def test_hamming_pairs_finds_exactly_the_near_ones(data: st.DataObject, radius: int) -> None:
    centres = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=9).map(lambda bits: sum({1 << bit for bit in bits}))
    made = data.draw(st.lists(st.tuples(st.sampled_from(centres), flips), min_size=1, max_size=30))
    codes = np.unique(np.array([centre ^ flip for centre, flip in made], np.uint64))
    pairs, distances = hamming_pairs(codes, radius)
    assert set(map(tuple, pairs.tolist())) == slow_pairs(codes, radius)
    assert all(
        int(codes[one] ^ codes[two]).bit_count() == distance
        for (one, two), distance in zip(pairs.tolist(), distances.tolist(), strict=True)
    )


def test_a_thousand_equal_codes_make_a_star() -> None:
    pairs, distances = hamming_pairs(np.zeros(1000, np.uint64))
    assert pairs.shape == (999, 2)
    assert set(pairs[:, 0].tolist()) == {0}
    assert not distances.any()


def test_a_large_radius_is_refused() -> None:
    with pytest.raises(ValueError, match=r"radius must lie in 0\.\.7"):
        hamming_pairs(np.zeros(2, np.uint64), 8)


def test_cosine_pairs_agrees_with_every_pair_even_for_tiny_features() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(300, 40))
    features[:60] += 4 * features[60:120]
    centred = features - features.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    wanted = set(zip(*np.nonzero(np.triu(unit @ unit.T >= 0.95, 1)), strict=True))
    for scale in (1.0, 1e-18):
        pairs, _ = cosine_pairs((features * scale + scale).astype(np.float32), 0.95)
        assert set(map(tuple, pairs.tolist())) == wanted
    assert len(wanted) > 20


def test_large_sets_take_the_projected_road() -> None:
    random = np.random.default_rng(2)
    features = random.normal(size=(20_500, 32)).astype(np.float32)
    features[:200] = features[200:400] + 0.1 * features[:200]
    pairs, cosines = cosine_pairs(features, 0.95)
    found = set(map(tuple, pairs.tolist()))
    assert len(found & {(row, row + 200) for row in range(200)}) >= 195
    assert cosines.min() >= 0.95


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
