"""Automatic groups: sequences are found and cut, nothing grows without bound, classes fill the folds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.audit import audit, group_related
from benchmark.audit.findings import AuditReport, NearImages
from benchmark.audit.groups import natural_key
from benchmark.audit.signatures import COLOUR_DIM, Signatures
from benchmark.data import load_images
from benchmark.records import ImageSet, Split, Task

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRICKS = SHARED / "data" / "brick_cracks"


def image_set(paths: list[str], labels: list[int]) -> ImageSet:
    count = len(paths)
    return ImageSet(
        name="walls",
        root=Path("/walls"),
        paths=tuple(paths),
        image_ids=tuple(f"{row:064x}" for row in range(count)),
        targets=np.array(labels, np.int64),
        classes=tuple(f"class{label}" for label in range(max(labels) + 1)),
        task=Task.MULTICLASS,
        positive=None,
        groups=None,
        split=Split(train=np.arange(count), val=np.zeros(0, int), test=np.zeros(0, int), given=False),
    )


def report(
    colours: np.ndarray, captured: np.ndarray | None = None, near: list[tuple[int, int]] | None = None
) -> AuditReport:
    count = len(colours)
    return AuditReport(
        name="walls",
        images=count,
        findings=(),
        rejected=(),
        pairs=(),
        near=NearImages(
            rows=(rows := np.array(near or [], np.int64).reshape(-1, 2)),
            distances=np.zeros(len(rows), np.int64),
            cosines=np.full(len(rows), np.nan, np.float32),
            same=np.ones(len(rows), bool),
            complete=True,
        ),
        signatures=Signatures(
            phash=np.zeros(count, np.uint64),
            colours=colours.astype(np.float32),
            captured=np.full(count, np.nan) if captured is None else captured,
            readable=np.ones(count, bool),
        ),
    )


def auto_groups(images: ImageSet, report: AuditReport, looks: np.ndarray | None = None) -> np.ndarray:
    """Groups, each image alone where nothing is related."""
    groups = group_related(images, report, looks).groups
    return np.arange(len(images)) if groups is None else groups


def walls(lengths: list[int], noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Colours of crops of several walls, wall after wall."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(len(lengths), COLOUR_DIM))
    return np.repeat(means, lengths, 0) + noise * random.normal(size=(sum(lengths), COLOUR_DIM))


def test_a_sequence_is_cut_where_the_wall_changes() -> None:
    lengths = [8, 7, 9, 6, 8, 10, 7, 9, 8, 8, 9, 7, 8, 6, 9]
    images = image_set([f"a/{number:05}.jpg" for number in range(sum(lengths))], [0] * sum(lengths))
    groups = auto_groups(images, report(walls(lengths)))
    np.testing.assert_array_equal(groups, np.repeat(np.arange(len(lengths)), lengths))


def test_numbers_sort_as_numbers() -> None:
    assert sorted(["w10.png", "w9.png", "w1.png"], key=natural_key) == ["w1.png", "w9.png", "w10.png"]
    assert natural_key("a/x_1.png") < natural_key("a/x_1b.png")


def test_names_without_meaning_give_no_groups_and_say_so() -> None:
    lengths = [10] * 12
    order = np.random.default_rng(5).permutation(120)
    images = image_set([f"a/{number:05}.jpg" for number in range(120)], [0] * 120)
    grouping = group_related(images, report(walls(lengths)[order]))
    assert grouping.groups is None
    assert grouping.notes[0] == "Nothing shows that images are related."
    assert "protection is weak" in grouping.notes[1]
    seen = group_related(images, report(walls(lengths)[order]), np.array([[3, 50], [50, 99], [7, 8]]))
    assert seen.groups is not None
    assert seen.groups[3] == seen.groups[50] == seen.groups[99]
    assert seen.notes == ("5 of 120 images are related, in 2 groups: by looks 5; the largest holds 3.",)


def test_near_duplicates_and_bursts_join_without_names() -> None:
    count = 60
    colours = np.random.default_rng(1).normal(size=(count, COLOUR_DIM))
    captured = np.full(count, np.nan)
    captured[[7, 30, 31]] = [1000.0, 1010.0, 5000.0]
    images = image_set([f"{row % 3}/{row * 7919 % 9973}.jpg" for row in range(count)], [0] * count)
    groups = auto_groups(images, report(colours, captured, near=[(2, 50)]))
    assert groups[2] == groups[50]
    assert groups[7] == groups[30] != groups[31]
    assert len(np.unique(groups)) == count - 2


def test_prefixes_of_one_photograph_stay_whole() -> None:
    lengths = [4, 6, 3, 5] * 5
    names = [
        f"a/photo{photo:02}_{crop}.jpg" for photo, length in enumerate(lengths) for crop in range(length)
    ]
    images = image_set(names, [0] * len(names))
    groups = auto_groups(images, report(walls(lengths, noise=0.3)))
    for photo in range(len(lengths)):
        own = [group for name, group in zip(names, groups, strict=True) if f"photo{photo:02}_" in name]
        assert len(set(own)) == 1


def test_sound_and_cracked_crops_of_one_wall_meet() -> None:
    lengths = [10] * 12
    colours = np.concatenate([walls(lengths), walls(lengths) + 0.01])
    names = [f"{folder}/{number:05}.jpg" for folder in ("N", "P") for number in range(120)]
    groups = auto_groups(image_set(names, [0] * 120 + [1] * 120), report(colours))
    np.testing.assert_array_equal(groups[:120], groups[120:])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=8),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.booleans(),
)
def test_groups_are_bounded_stable_and_never_starve_the_folds(
    lengths: list[int], classes: int, seed: int, flat: bool
) -> None:
    count = sum(lengths)
    random = np.random.default_rng(seed)
    labels = [row * classes // count for row in range(count)]
    colours = np.zeros((count, COLOUR_DIM)) if flat else walls(lengths, seed=seed)
    images = image_set([f"{labels[row]}/{row:05}.jpg" for row in range(count)], labels)
    near = [
        tuple(sorted(pair)) for pair in random.integers(0, count, (count, 2)).tolist() if pair[0] != pair[1]
    ]
    given_report = report(colours, near=near)
    groups = auto_groups(images, given_report)
    np.testing.assert_array_equal(groups, auto_groups(images, given_report))
    assert groups.shape == (count,)
    assert set(groups.tolist()) == set(range(groups.max() + 1))
    for label in set(labels):
        members = groups[np.array(labels) == label]
        assert np.bincount(members).max() <= max(len(members) // 8, 2)
        if len(members) >= 10:
            assert len(np.unique(members)) >= 5


def test_multi_label_sets_are_bounded_too() -> None:
    images = image_set([f"a/{number:05}.jpg" for number in range(100)], [0] * 100)
    targets = np.random.default_rng(0).integers(0, 2, (100, 3))
    several = dataclasses.replace(images, targets=targets, task=Task.MULTILABEL, classes=("a", "b", "c"))
    groups = auto_groups(several, report(walls([50, 50])))
    for label in range(3):
        held = np.bincount(groups[targets[:, label] > 0])
        assert held.max() <= targets[:, label].sum() // 8


def test_images_without_a_label_are_bounded_like_a_class() -> None:
    images = image_set([f"a/{number:05}.jpg" for number in range(400)], [0] * 400)
    targets = np.zeros((400, 2), np.int64)
    targets[:120] = np.random.default_rng(0).integers(0, 2, (120, 2))
    targets[:120, 0] |= ~targets[:120].any(axis=1)
    several = dataclasses.replace(images, targets=targets, task=Task.MULTILABEL, classes=("a", "b"))
    near = [(row, row + 1) for row in range(120, 399)]
    groups = auto_groups(several, report(walls([60, 60, 280]), near=near))
    assert np.bincount(groups[120:]).max() <= 280 // 16
    assert len(np.unique(groups[120:])) < 140


def test_a_class_too_small_for_the_folds_is_named() -> None:
    images = image_set(
        [f"a/{number}.jpg" for number in range(40)] + ["b/1.jpg", "b/2.jpg"], [0] * 40 + [1] * 2
    )
    colours = np.random.default_rng(0).normal(size=(42, COLOUR_DIM))
    notes = group_related(images, report(colours, near=[(0, 1)])).notes
    assert "Class 'class1' has 2 images in 2 groups, fewer than the 5 folds." in notes


# Walls of the brick photographs as the eye sees them: last file number of each, per folder.
_WALLS = {
    "Positive": [8, 78, 120, 126, 155, 168, 214, 250],
    "Negative": [7, 73, 112, 136, 157, 174, 214, 250],
}


@pytest.mark.skipif(not BRICKS.is_dir(), reason="the shared photographs are not here")
def test_groups_of_the_brick_photographs_respect_their_walls(tmp_path: Path) -> None:
    images = load_images(BRICKS, cache=tmp_path)
    groups = auto_groups(images, audit(images, cache=tmp_path))
    assert 20 <= len(np.unique(groups)) <= 60
    wall = np.array(
        [np.searchsorted(_WALLS[Path(path).parent.name], int(Path(path).stem)) for path in images.paths]
    )
    pure = sum(np.bincount(wall[groups == group]).max() for group in np.unique(groups))
    assert pure >= 0.97 * len(images)
