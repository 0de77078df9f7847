"""Looks: pictures of one thing are linked, unrelated ones are not; copies are found however turned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.audit import copy_links, look_links
from benchmark.audit.copies import fit, turned_back
from benchmark.data import load_images
from benchmark.embeddings import VIEWS, TurnedEmbedder
from benchmark.embeddings.turned import turned

RANDOM = np.random.default_rng


def test_pictures_of_one_thing_are_linked_and_strangers_are_not() -> None:
    """400 images of 100 things that differ a little, among 600 that share nothing but their class."""
    random = RANDOM(0)
    things = np.repeat(random.normal(size=(100, 96)), 4, 0) + 0.3 * random.normal(size=(400, 96))
    strangers = random.normal(size=(600, 96))
    classes = np.repeat([[0.0], [3.0]], 500, 0) * np.ones((1, 96))
    features = (np.concatenate([things, strangers]) + classes).astype(np.float32)
    links = look_links(features)
    assert (links[:, 0] < links[:, 1]).all()
    right = (links < 400).all(1) & (links[:, 0] // 4 == links[:, 1] // 4)
    assert len(np.unique(links[right])) >= 0.95 * 400
    assert len(np.unique(links[~right])) <= 0.01 * 1000
    np.testing.assert_array_equal(look_links(features * np.float32(1e-18)), links)


@pytest.mark.parametrize("count", [0, 3, 12, 60])
def test_few_or_equal_images_link_nothing(count: int) -> None:
    features = RANDOM(1).normal(size=(count, 32)).astype(np.float32)
    assert look_links(features).shape == (0, 2)
    assert look_links(np.zeros((count, 32), np.float32)).shape == (0, 2)


def picture(seed: int, side: int = 96) -> np.ndarray:
    coarse = RANDOM(seed).integers(0, 256, (12, 12), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def test_a_copy_fits_and_another_picture_does_not() -> None:
    whole, large = picture(0), picture(0, 120)
    for copy in (whole, whole // 2 + 20, large[20:116, 4:100], np.asarray(Image.fromarray(whole).rotate(5))):
        assert fit(whole, copy) > 0.8
        assert fit(copy, whole) > 0.8
    assert max(fit(whole, picture(seed)) for seed in range(1, 20)) < 0.75
    assert fit(whole, np.full_like(whole, 128)) < 0.5


def test_a_turned_picture_is_turned_as_its_view() -> None:
    batch = RANDOM(2).integers(0, 256, (2, 20, 20, 3), np.uint8)
    views = list(turned(batch))
    assert len(views) == VIEWS
    assert all(view.shape == batch.shape for view in views)
    for view in range(8):
        np.testing.assert_array_equal(views[view][1, ..., 0], turned_back(batch[1, ..., 0], view))
    np.testing.assert_array_equal(turned_back(batch[0, ..., 0], VIEWS - 1), batch[0, ..., 0])


class _Plain:
    """An embedder that looks at a few places of a picture."""

    batch_size = 8

    def embed(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            small = batch.reshape(len(batch), 8, 8, 8, 8, 3).mean((2, 4))
            yield small.reshape(len(batch), -1).astype(np.float32)

    def close(self) -> None:
        """Nothing to give back."""


def test_copies_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    """Of 40 pictures, ten have a copy upside down, turned or smaller, under a name that means nothing."""
    random = RANDOM(3)
    names = {number: f"{random.bytes(6).hex()}.png" for number in range(50)}
    for number, name in names.items():
        pixels = np.stack([picture(100 * colour + number % 40, 64) for colour in range(3)], -1)
        if number >= 40:
            pixels = np.rot90(pixels, number % 4) if number % 4 else pixels[:, ::-1]
        place = tmp_path / "data" / "ab"[number % 2] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(place)
    images = load_images(tmp_path / "data", cache=tmp_path / "cache")
    pixels = np.stack([np.asarray(Image.open(images.root / path)) for path in images.paths])
    padded = np.concatenate([pixels, pixels[:6]]).reshape(7, 8, 64, 64, 3)
    features = np.concatenate(list(TurnedEmbedder(_Plain()).embed(padded)))[: len(images)]
    links = copy_links(images, features.reshape(len(images), VIEWS, -1))
    number_of = {name: number for number, name in names.items()}
    found = {
        tuple(sorted(number_of[Path(images.paths[row]).name] for row in pair)) for pair in links.tolist()
    }
    assert found == {(number - 40, number) for number in range(40, 50)}
    gone = dataclasses.replace(images, root=tmp_path / "elsewhere")
    assert copy_links(gone, features.reshape(len(images), VIEWS, -1)).shape == (0, 2)
