"""What is unlike the training images, told by vectors of known distance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import ManifestError
from benchmark.finetuning.familiar import VECTORS_FILE, Familiar
from benchmark.records import Split
from tests.manifests import SHA, a_manifest

WIDTH = 24
MANIFEST = a_manifest(recipe="frozen", files={VECTORS_FILE: SHA}, unlike_from=0.25)


def walls(generator: np.random.Generator, count: int, centre: int = 0) -> np.ndarray:
    """Vectors around one direction of many, float32 (n, D), of any length."""
    around = np.eye(WIDTH)[centre] + generator.normal(0, 0.12, (count, WIDTH))
    return (around * generator.uniform(0.1, 9, (count, 1))).astype(np.float32)


def learn(vectors: np.ndarray, train: int) -> Familiar:
    rows = np.arange(len(vectors))
    split = Split(train=rows[:train], val=rows[train:], test=rows[:0], given=True)
    return Familiar.found(lambda at: vectors[at], split)


def test_few_images_like_these_are_called_unlike_and_nearly_all_others_are() -> None:
    generator, alarms, missed = np.random.default_rng(0), [], []
    for _ in range(60):
        familiar = learn(walls(generator, 300), 200)
        alarms.append(familiar.strange(walls(generator, 100)).mean())
        missed.append(1 - familiar.strange(walls(generator, 100, centre=1)).mean())
    assert 0.003 < np.mean(alarms) < 0.02, "one in a hundred is the aim"
    assert np.mean(missed) < 0.001


def test_few_validation_images_say_what_they_can() -> None:
    generator = np.random.default_rng(1)
    alarms = [learn(walls(generator, 219), 200).strange(walls(generator, 100)).mean() for _ in range(100)]
    assert 0.02 < np.mean(alarms) < 0.09, "one in twenty, of nineteen"


def test_many_and_wide_vectors_are_thinned() -> None:
    generator = np.random.default_rng(2)
    assert learn(walls(generator, 1200), 900).vectors.shape == (500, WIDTH)
    wide = generator.normal(size=(40, 50_000)).astype(np.float32)
    assert learn(wide, 30).vectors.nbytes <= 4 * 2**20 + 5 * 2 * 50_000
    assert learn(walls(generator, 6), 3).strange(walls(generator, 2)).shape == (2,), "fewer than five"


def test_of_wide_vectors_every_class_is_kept() -> None:
    """Rows sorted by class: what is kept is spread over all of them."""
    width, count = 25_088, 120
    vectors = np.zeros((2 * count + 20, width), np.float32)
    vectors[:count, 0] = vectors[count : 2 * count, 1] = 1
    vectors[2 * count :, 0] = 1
    kept = learn(vectors, 2 * count).vectors
    assert len(kept) == 83
    assert abs(int((kept[:, 0] == 1).sum()) - int((kept[:, 1] == 1).sum())) <= 1


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    familiar = learn(walls(generator, 100), 60)
    (tmp_path / VECTORS_FILE).write_bytes(familiar.content())
    again = Familiar.read(tmp_path, replace(MANIFEST, unlike_from=familiar.limit))
    assert again is not None
    some = walls(generator, 50)
    assert np.array_equal(familiar.distances(some), again.distances(some))
    assert Familiar.read(tmp_path, replace(MANIFEST, unlike_from=None)) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", np.zeros((2, 3)).tobytes(), "pickle", "float32", "nan"],
    ids=["empty", "cut", "raw", "pickle", "float32", "nan"],
)
def test_another_file_is_refused(content: bytes | str, tmp_path: Path) -> None:
    arrays = {
        "pickle": np.array([{"a": 1}], dtype=object),
        "float32": np.zeros((2, 3), np.float32),
        "nan": np.full((2, 3), np.nan, np.float16),
    }
    if isinstance(content, str):
        with (tmp_path / VECTORS_FILE).open("wb") as file:
            np.save(file, arrays[content], allow_pickle=True)
    else:
        (tmp_path / VECTORS_FILE).write_bytes(content)
    with pytest.raises(ManifestError, match=VECTORS_FILE):
        Familiar.read(tmp_path, MANIFEST)
