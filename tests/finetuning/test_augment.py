from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.finetuning import Recipe
from benchmark.finetuning.augment import augment_images, augmenter, view_key, view_keys
from benchmark.finetuning.recipe import Augmentation, Fill, Flip
from benchmark.records import ImageSet

SIDE = 24


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def ids(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


def views(augmentation: Augmentation, image: np.ndarray, count: int = 64) -> np.ndarray:
    return augment_images(augmentation, np.repeat(image[None], count, 0), view_keys(3, 0, ids(count)))


def test_keys_depend_on_seed_view_and_image_alone() -> None:
    keys = view_keys(0, 0, ids(5))
    assert keys.shape == (5, 2)
    assert keys.dtype == np.uint32
    assert len({tuple(key) for key in keys}) == 5
    assert np.array_equal(view_keys(0, 0, ids(5)[3:]), keys[3:])
    assert len({view_key(seed, view, "a") for seed in range(3) for view in range(3)}) == 9


@pytest.mark.parametrize("name", Recipe.names())
def test_a_view_does_not_depend_on_its_company(name: str) -> None:
    augmentation = Recipe.load(name).augmentation
    images, keys = pictures(4), view_keys(0, 1, ids(4))
    together = augment_images(augmentation, images, keys)
    assert together.dtype == np.uint8
    alone = augment_images(augmentation, images[2:3], keys[2:3])
    assert np.array_equal(together[2], alone[0])
    other_view = augment_images(augmentation, images, view_keys(0, 2, ids(4)))
    assert np.array_equal(together, other_view) == augmentation.changes_nothing
    assert np.array_equal(together, images) == augmentation.changes_nothing


def test_the_input_pipeline_gives_the_same_views_in_any_order() -> None:
    import tensorflow as tf

    augmentation = Recipe.load("two-phase-f1").augmentation
    images, keys = pictures(6), view_keys(0, 0, ids(6))
    expected = augment_images(augmentation, images, keys)
    for order in (np.arange(6), np.array([5, 0, 3, 1, 4, 2])):
        data = tf.data.Dataset.from_tensor_slices((images[order], keys[order]))
        found = data.map(augmenter(augmentation), num_parallel_calls=2).batch(4)
        assert np.array_equal(np.concatenate(list(found.as_numpy_iterator())), expected[order])


def test_brightness_moves_all_pixels_by_at_most_its_range() -> None:
    moved = views(Augmentation(brightness=5.0), np.full((SIDE, SIDE, 3), 100, np.uint8)).astype(int) - 100
    assert np.array_equal(moved.min((1, 2, 3)), moved.max((1, 2, 3)))
    assert -5 <= moved.min() < -2
    assert 2 < moved.max() <= 5


def test_contrast_is_a_factor_on_the_distance_to_the_mean() -> None:
    image = np.full((SIDE, SIDE, 3), 100, np.uint8)
    image[: SIDE // 2] = 140
    spread = np.ptp(views(Augmentation(contrast=(0.7, 1.3)), image).astype(int), axis=(1, 2, 3)) / 40
    assert 0.69 <= spread.min() < 0.8
    assert 1.2 < spread.max() <= 1.31


def test_hue_and_saturation_have_the_ranges_of_tf_image() -> None:
    import tensorflow as tf

    image = np.full((SIDE, SIDE, 3), (180, 120, 100), np.uint8)

    def hsv(images: np.ndarray) -> np.ndarray:
        return tf.image.rgb_to_hsv(tf.constant(images[:, 0, 0], tf.float32) / 255).numpy()

    before = hsv(image[None])[0]
    hue = hsv(views(Augmentation(hue=0.3), image))[:, 0] - before[0]
    turned = (hue + 0.5) % 1.0 - 0.5
    assert -0.31 <= turned.min() < -0.2
    assert 0.2 < turned.max() <= 0.31
    factor = hsv(views(Augmentation(saturation=(0.7, 1.3)), image))[:, 1] / before[1]
    assert 0.68 <= factor.min() < 0.8
    assert 1.2 < factor.max() <= 1.32


def test_flips_are_fair_and_nothing_else() -> None:
    image = pictures(1)[0]
    ways = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    found = views(Augmentation(flip=Flip.BOTH), image, 200)
    counts = [sum(np.array_equal(view, way) for view in found) for way in ways]
    assert sum(counts) == 200
    assert all(25 <= count <= 80 for count in counts)
    horizontal = views(Augmentation(flip=Flip.HORIZONTAL), image)
    assert all(any(np.array_equal(view, way) for way in ways[:2]) for view in horizontal)


@pytest.mark.parametrize("change", ["rotation_degrees", "shift", "shear", "zoom"])
def test_geometry_moves_pixels_and_stays_in_range(change: str) -> None:
    amount = 40.0 if change == "rotation_degrees" else 0.2
    image = pictures(1)[0]
    found = views(Augmentation(fill=Fill.NEAREST, **{change: amount}), image, 16)
    assert not any(np.array_equal(view, image) for view in found[:4])
    assert found.min() >= image.min()
    assert found.max() <= image.max()


def test_a_shift_stays_within_its_range() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[50, 50] = 255
    found = views(Augmentation(shift=0.2, fill=Fill.CONSTANT), image, 40).astype(float)[..., 0]
    rows = (found.sum(2) * np.arange(100)).sum(1) / found.sum((1, 2)) - 50
    assert -20.1 <= rows.min() < -12
    assert 12 < rows.max() <= 20.1


def test_bright_pixels_are_clipped_before_the_network_sees_them() -> None:
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    found = views(Recipe.load("two-phase-f1").augmentation, white)
    assert found.max() == 255
    assert found.min() >= 250


def test_rows_of_the_feed_are_those_that_were_asked_for(binary: ImageSet, tmp_path: Path) -> None:
    from benchmark.finetuning.feed import PixelFeed

    images = pictures(5)
    answers = (np.arange(5, dtype=np.float32)[:, None], np.ones((5, 1), np.float32))
    feed = PixelFeed(lambda rows: iter(images[rows]), SIDE, answers, Augmentation(), 2)
    for order in (np.array([4, 2, 0]), np.array([1, 3])):
        batches = list(feed.epoch(order, view_keys(0, 0, ids(len(order)))))
        assert np.array_equal(np.concatenate([batch[0] for batch in batches]), images[order])
        assert np.array_equal(np.concatenate([batch[1] for batch in batches])[:, 0], order)
        assert batches[0][0].dtype == np.uint8
