"""Backbones as scikit-learn estimators: scikit-learn's own checks, and what its users do with them."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_array, validate_data

import benchmark as bb
from benchmark.data import write_demo
from benchmark.errors import ArgumentError, DataError
from benchmark.estimators import BackboneClassifier, BackboneEmbedding
from benchmark.records import Embeddings

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


# scikit-learn's checks bring tables of numbers. These doubles take such rows for embeddings, so that all but
# the backbone is checked: parameters, cloning, pickling, labels, errors, the head.


def as_embeddings(X: npt.ArrayLike) -> Embeddings:
    features = np.asarray(X, np.float32)
    ids = [hashlib.sha256(row.tobytes()).hexdigest() for row in features]
    return Embeddings(image_ids=ids, features=features)


class RowsAsEmbeddings(BackboneEmbedding):  # type: ignore[misc]
    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags

    def _embeddings(self, X: npt.ArrayLike, bit_depth: int | None) -> tuple[Embeddings, int]:
        return as_embeddings(check_array(X)), 16


class RowsClassifier(BackboneClassifier):  # type: ignore[misc]
    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        tags.input_tags.string = False
        tags.no_validation = False
        return tags

    def _embeddings(self, X: npt.ArrayLike, bit_depth: int | None) -> tuple[Embeddings, int]:
        return as_embeddings(validate_data(self, X, reset=not hasattr(self, "n_features_in_"))), 16


NOT_AS_THE_CHECKS_WANT = {
    "RowsAsEmbeddings": {"check_estimator_sparse_tag": "fit learns nothing and so refuses no images"},
    "RowsClassifier": {
        "check_class_weight_classifiers": "weights by inverse frequency or none, as on boards"
    },
}


@parametrize_with_checks(
    [RowsAsEmbeddings("MobileNet_0.25"), RowsClassifier("MobileNet_0.25")],
    expected_failed_checks=lambda one: NOT_AS_THE_CHECKS_WANT.get(type(one).__name__, {}),
    xfail_strict=True,
)
@pytest.mark.filterwarnings("ignore:SCIPY_ARRAY_API:UserWarning")
def test_scikit_learns_own_checks(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimators") / "photos"
    write_demo(folder, count=40)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def files(photos: Path) -> list[str]:
    return sorted(map(str, photos.glob("*/*")))


def embedding(cache: Path, **changed: object) -> BackboneEmbedding:
    return bb.BackboneEmbedding(
        **{"backbone": "MobileNet_0.25", "weights": "random", "size": 32, "cache": cache, "jobs": 1} | changed
    )


def labels_of(files: list[str]) -> list[str]:
    return [Path(file).parent.name for file in files]


def test_embeddings_are_those_of_the_command_in_the_order_given(
    photos: Path, files: list[str], cache: Path
) -> None:
    shuffled = [files[row] for row in np.random.default_rng(0).permutation(len(files))]
    found = embedding(cache).transform([*shuffled, shuffled[0]])
    known = bb.embed(photos, "MobileNet_0.25", weights="random", size=32, cache=cache, jobs=1)
    row_of = {str(photos / path): row for row, path in enumerate(known.paths)}
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, known.features[[row_of[file] for file in [*shuffled, shuffled[0]]]])


def test_paths_come_in_every_form(files: list[str], cache: Path) -> None:
    one = embedding(cache)
    wanted = one.fit(files).transform(files)
    table = pd.DataFrame({"path": files}, index=[f"photo {number}" for number in range(len(files))])
    for form in (np.array(files), table["path"], table, tuple(map(Path, files)), np.array(files)[:, None]):
        np.testing.assert_array_equal(one.transform(form), wanted)
    framed = clone(one).set_output(transform="pandas").transform(table)
    assert framed.index.tolist() == table.index.tolist()
    assert framed.columns.tolist() == one.get_feature_names_out().tolist()
    assert framed.shape == (len(files), one.n_features_out_) == (40, 256)


def test_pixels_are_as_good_as_files(files: list[str], cache: Path) -> None:
    one = embedding(cache)
    pixels = [np.asarray(Image.open(file).convert("RGB")) for file in files[:4]]
    wanted = one.transform(files[:4])
    np.testing.assert_array_equal(one.transform(pixels), wanted)
    np.testing.assert_array_equal(one.transform(np.stack(pixels)), wanted)
    odd = [pixels[0], pixels[1][:50], pixels[2][:, :, 0]]
    assert one.transform(odd).shape == (3, 256)
    assert not list(cache.glob("**/*.bmp"))


def test_other_images_of_a_batch_do_not_change_how_greys_are_read(tmp_path: Path, cache: Path) -> None:
    random = np.random.default_rng(0)
    files = [str(tmp_path / f"{number}.png") for number in range(12)]
    for number, file in enumerate(files):
        values = random.integers(0, 2**11 if number % 2 else 2**12, (24, 24), dtype=np.uint16)
        Image.fromarray(values).save(file)
    bright = str(tmp_path / "bright.png")
    Image.fromarray(np.full((24, 24), 60_000, np.uint16)).save(bright)

    full, twelve = embedding(cache), embedding(cache, bit_depth=12)
    with pytest.warns(UserWarning, match="almost black as read with 16 bits"):
        alone = full.transform(files)
    with pytest.warns(UserWarning, match="almost black beside the others"):
        np.testing.assert_array_equal(full.transform([*files, bright])[:12], alone)
    assert not np.array_equal(twelve.transform(files), alone)
    with pytest.raises(DataError, match="1 of 13 images cannot be read"):
        twelve.transform([*files, bright])
    with pytest.raises(ArgumentError, match="`bit_depth`: expected 12 or 16; got 'auto'"):
        embedding(cache, bit_depth="auto").fit(files)

    one = bb.BackboneClassifier("MobileNet_0.25", weights="random", size=32, cache=cache, jobs=1)
    assert one.fit(files, np.arange(12) % 2).bit_depth_ == 12
    wanted = one.head_.probabilities(twelve.transform(files), exclusive=False)[:, 0]
    np.testing.assert_allclose(one.predict_proba(files)[:, 1], wanted, atol=1e-6)
    assert one.fit([*files, bright], np.arange(13) % 2).bit_depth_ == 16
    wanted = one.head_.probabilities(alone, exclusive=False)[:, 0]
    with pytest.warns(UserWarning, match="almost black as read"):
        np.testing.assert_allclose(one.predict_proba(files)[:, 1], wanted, atol=1e-6)


def test_other_files_of_a_batch_do_not_change_the_key_of_an_image(files: list[str], tmp_path: Path) -> None:
    avif = str(tmp_path / "one.avif")
    Image.open(files[0]).convert("RGB").save(avif)
    one = embedding(tmp_path / "cache")
    jpegs = files[:6]
    alone = one.transform(jpegs)
    both = one.transform([*jpegs[:3], avif, *jpegs[3:]])
    np.testing.assert_array_equal(np.delete(both, 3, axis=0), alone)
    np.testing.assert_array_equal(one.transform([avif])[0], both[3])
    rows = {}
    for part in tmp_path.glob("cache/**/part-*.h5"):
        with h5py.File(part) as file:
            decoder = json.loads((part.parent / "key.json").read_text())["decoder"]
            rows[decoder.count("-avif-")] = rows.get(decoder.count("-avif-"), 0) + len(file["image_ids"])
    assert rows == {0: 6, 1: 1}, "each was embedded once"


def test_the_classifier_is_the_board_s_head(files: list[str], cache: Path) -> None:
    labels = labels_of(files)
    one = bb.BackboneClassifier("MobileNet_0.25", weights="random", size=32, cache=cache, jobs=1)
    with pytest.raises(NotFittedError):
        one.predict(files)
    one.fit(files, labels)
    assert one.classes_.tolist() == ["Negative", "Positive"]
    probabilities = one.predict_proba(files)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert one.predict(files).tolist() == one.classes_[probabilities.argmax(1)].tolist()
    features = embedding(cache).transform(files)
    np.testing.assert_allclose(
        one.head_.probabilities(features, exclusive=False)[:, 0], probabilities[:, 1], atol=1e-6
    )
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.predict_proba(files), probabilities)


def test_three_classes_and_weights(files: list[str], cache: Path) -> None:
    labels = np.arange(len(files)) % 3
    one = bb.BackboneClassifier(
        "MobileNet_0.25", weights="random", size=32, cache=cache, jobs=1, class_weight="balanced"
    )
    assert one.fit(files, labels).predict_proba(files).shape == (40, 3)
    assert set(one.predict(files)) <= {0, 1, 2}


def test_searches_pipelines_and_grouped_folds_work(files: list[str], cache: Path) -> None:
    labels, groups = labels_of(files), np.arange(len(files)) // 2
    pipeline = make_pipeline(embedding(cache), LogisticRegression())
    search = GridSearchCV(
        pipeline, {"backboneembedding__backbone": ["MobileNet_0.25", "MobileNet_0.5"]}, cv=2
    )
    assert search.fit(files, labels).best_params_["backboneembedding__backbone"].startswith("MobileNet")
    one = bb.BackboneClassifier("MobileNet_0.25", weights="random", size=32, cache=cache, jobs=1)
    scores = cross_val_score(one, np.array(files), labels, groups=groups, cv=GroupKFold(3))
    assert np.isfinite(scores).all()
    assert one.fit(files, labels, groups=groups).score(files, labels) > 0.5


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "0 sample"),
        ("photo.jpg", "Put it into a list"),
        (np.zeros((2, 8, 8, 3)), "got float64 (8, 8, 3)"),
        (np.zeros((2, 8, 8, 4), np.uint8), "channels last"),
        ([3, 4], "Expected paths of image files"),
        (np.zeros((24, 30, 3), np.uint8), "got one image (24, 30, 3). Put it into a list"),
        (np.zeros((24, 30, 4), np.uint8), "got one image (24, 30, 4). Put it into a list"),
    ],
)
def test_what_is_no_image_is_told(images: object, said: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        embedding(cache).transform(images)


def test_what_cannot_be_is_told(files: list[str], tmp_path: Path, cache: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 41 images cannot be read.*Leave them out"):
        embedding(cache).transform([*files, broken])
    with pytest.raises(ArgumentError, match="`backbone`: names several backbones"):
        embedding(cache, backbone="MobileNet_0.*").fit(files)
    with pytest.raises(ArgumentError, match="`size`"):
        embedding(cache, size=3).fit(files)
    one = bb.BackboneClassifier("MobileNet_0.25", weights="random", size=32, cache=cache, jobs=1)
    with pytest.raises(ValueError, match="at least two classes"):
        one.fit(files, ["a"] * len(files))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        one.fit(files, ["a", "b"])
