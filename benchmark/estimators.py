"""Backbones as scikit-learn estimators: images in, embeddings or classes out.

They take what scikit-learn's take: plain constructor parameters, ``fit``, ``clone``, pipelines, searches.
What they compute lies in the cache of the commands: a cross-validation embeds each image once.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from benchmark.api import absolute, keep_pixels, keep_table
from benchmark.data import FULL_DEPTH, KnownLabels, load_images, optional_formats
from benchmark.embeddings import EmbeddingStore
from benchmark.errors import ArgumentError, DataError, EmbeddingError
from benchmark.heads import final_head
from benchmark.options import DataOptions, EmbedOptions
from benchmark.pipeline import EmbedRequest, embed_images, take_rows
from benchmark.records import Embeddings, Float32, HeadProtocol, ImageSet, Int64, Split, Targets, Task

_ONE_CLASS = KnownLabels(classes=("image",), task=Task.MULTICLASS, positive=None)
_ACCEPTED = "paths of image files, uint8 (N, height, width, 3), or a list of uint8 (height, width, 3)"


class _Embedding(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What both estimators take, and how they embed."""

    def __init__(
        self,
        backbone: str = "MobileNetV3Small",
        *,
        weights: str | os.PathLike[str] = "imagenet",
        size: int | str = 224,
        resize: str = "bilinear",
        engine: str = "auto",
        precision: str = "auto",
        bit_depth: int | str = 16,
        cache: str | os.PathLike[str] = "embeddings_cache",
        jobs: int = 0,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.size = size
        self.resize = resize
        self.engine = engine
        self.precision = precision
        self.bit_depth = bit_depth
        self.cache = cache
        self.jobs = jobs
        self.seed = seed

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True  # images have no features that could be counted or named
        return tags

    def _request(self) -> EmbedRequest:
        names = ("weights", "size", "resize", "engine", "precision", "bit_depth", "cache", "jobs", "seed")
        given = {name: getattr(self, name) for name in names}
        asked = EmbedOptions.check({"data": Path(), "backbones": self.backbone, **given})
        request = EmbedRequest.of(asked)
        if len(request.backbones) != 1:
            found = ", ".join(one.name for one in request.backbones[:5])
            raise ArgumentError("names several backbones", where="`backbone`", expected="one name", got=found)
        return request

    def _embeddings(
        self,
        X: Any,  # noqa: ANN401 - whatever scikit-learn hands on
        bit_depth: int | None,
    ) -> tuple[Embeddings, int]:
        """One row an image, in the order given, and the bit depth; an image given twice has two rows.

        Args:
            X: images.
            bit_depth: 12 or 16; None finds it from these images.
        """
        request = self._request()
        with tempfile.TemporaryDirectory() as scratch:
            files = _files(X, Path(scratch))
            # What is known of files is kept, but for those that are gone in a moment.
            written = files[0].startswith(scratch)
            cache = Path(scratch) if written else request.options.cache
            reading = {"jobs": request.options.jobs, "follow_links": True, "bit_depth": bit_depth}
            images = _images(files, cache, DataOptions.check(reading))
            features = _features(request, images)
        row_of = {absolute(images.root / path): row for row, path in enumerate(images.paths)}
        for path, twin in images.duplicates:
            row_of[absolute(images.root / twin)] = row_of[absolute(images.root / path)]
        rows = [row_of[file] for file in files]
        found = Embeddings(image_ids=[images.image_ids[row] for row in rows], features=features[rows])
        return found, images.bit_depth


def _features(request: EmbedRequest, images: ImageSet) -> Float32:
    """The embeddings float32 (N, D) of N images, each kind of file for itself.

    One key holds what was read with the same decoders: that of a file must not depend on the other files of
    a batch.
    """
    rows_of: dict[frozenset[str], list[int]] = {}
    for row, path in enumerate(images.paths):
        rows_of.setdefault(optional_formats([path]), []).append(row)
    features = np.empty((len(images), request.backbones[0].embedding_dim), np.float32)
    for rows in rows_of.values():
        part = take_rows(images, rows)
        (plan,) = embed_images(request, part).plans
        if plan.stopped is not None or plan.key is None:
            reason = plan.stopped.reason if plan.stopped else "not embedded"
            raise EmbeddingError(reason, where=plan.backbone.name)
        features[rows] = EmbeddingStore(request.options.cache).read(plan.key, part.image_ids).features
    return features


def _images(files: Sequence[str], cache: Path, options: DataOptions) -> ImageSet:
    """Files as images without labels."""
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label"), *((file, "image") for file in dict.fromkeys(files))])
    table = keep_table(text.getvalue().encode("utf-8", "surrogateescape"), cache)
    images = load_images(table, options=options, cache=cache, known=_ONE_CLASS)
    if options.bit_depth == FULL_DEPTH:
        for note in images.notes:  # almost black images
            warnings.warn(note, stacklevel=4)
    if images.rejected:
        first = images.rejected[0]
        raise DataError(
            f"{len(images.rejected):,} of {len(files):,} images cannot be read",
            where=images.root / first.path,
            got=first.reason,
            next_step="Leave them out: every image needs its row."
            + (" Brighter greys need `bit_depth=16`." if options.bit_depth not in (None, FULL_DEPTH) else ""),
        )
    return images


def _files(X: Any, folder: Path) -> list[str]:  # noqa: ANN401 - whatever scikit-learn hands on
    """Absolute paths of N images; arrays are written to files of the same pixels."""
    if isinstance(X, str | os.PathLike):
        raise ValueError(f"Expected {_ACCEPTED}; got the path {os.fspath(X)!r}. Put it into a list.")
    if hasattr(X, "iloc"):  # pandas, without importing it
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[2] in (3, 4):
        raise ValueError(f"Expected {_ACCEPTED}; got one image {X.shape}. Put it into a list.")
    items = list(X)
    if not items:
        raise ValueError(f"Found array with 0 sample(s), while a minimum of 1 is required: {_ACCEPTED}.")
    if all(isinstance(one, str | os.PathLike) for one in items):
        return [absolute(one) for one in items]
    try:
        return [str(keep_pixels(one, row, folder, root=folder)) for row, one in enumerate(items)]
    except ArgumentError as error:  # scikit-learn's users look for a ValueError
        raise ValueError(f"Expected {_ACCEPTED}. {error}") from error


class BackboneEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Embedding):  # type: ignore[misc]
    """Embed images with a pretrained backbone; nothing is learned from the images given to ``fit``.

    Args:
        backbone: its name, for example ``MobileNet_0.25``; ``benchmark.list_backbones()`` lists them.
        weights: ``imagenet``, ``random``, or a folder or file of weights.
        size: input side in pixels, or ``native``.
        resize: ``bilinear`` or ``area``.
        engine: ``auto``, ``openvino`` or ``tensorflow``.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        bit_depth: bits used by the greys of 16-bit files, 12 or 16. Commands find it from a whole data set,
            which one batch cannot tell.
        cache: folder of the embedding cache; what it holds is not computed again.
        jobs: processes that read and embed; 0: one a core, fewer where memory is short.
        seed: of random weights.
    """

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32, whatever comes in
        return tags

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ANN401
        """See that there is such a backbone; images are not looked at, and ``transform`` works without it.

        Args:
            X: ignored.
            y: ignored.

        Raises:
            ArgumentError: a parameter that cannot be.
        """
        self._request()
        return self

    def _request(self) -> EmbedRequest:
        request = super()._request()
        if request.options.bit_depth is None:  # another batch of the same images would be read otherwise
            raise ArgumentError("expected 12 or 16", where="`bit_depth`", got=repr(self.bit_depth))
        return request

    @property
    def n_features_out_(self) -> int:
        """Length D of an embedding."""
        return self._request().backbones[0].embedding_dim

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Any) -> Float32:  # noqa: ANN401
        """Embeddings float32 (N, D) of N images.

        Args:
            X: paths of image files (a list, an array, a Series, or one column), uint8 (N, height, width, 3),
                or a list of uint8 (height, width, 3) of any sizes.

        Raises:
            ValueError: X is something else, or empty.
            DataError: an image that cannot be read.
            EmbeddingError: the backbone could not be run.
        """
        embeddings, _ = self._embeddings(X, self._request().options.bit_depth)
        return np.asarray(embeddings.features)


class BackboneClassifier(ClassifierMixin, _Embedding):  # type: ignore[misc]
    """A pretrained backbone with the board's head: dropout and a sigmoid (softmax) on its embeddings.

    The head is trained as the final heads of a board are: penalty chosen on an inner part of the images, then
    refitted on all of them.

    Args:
        backbone: its name, for example ``MobileNet_0.25``; ``benchmark.list_backbones()`` lists them.
        weights: ``imagenet``, ``random``, or a folder or file of weights.
        size: input side in pixels, or ``native``.
        resize: ``bilinear`` or ``area``.
        engine: ``auto``, ``openvino`` or ``tensorflow``.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        bit_depth: bits used by the greys of 16-bit files, 12 or 16; ``auto`` keeps what ``fit`` finds.
        cache: folder of the embedding cache; what it holds is not computed again.
        jobs: processes that read and embed; 0: one a core, fewer where memory is short.
        seed: of random weights, and of the head.
        class_weight: ``balanced`` weights classes by inverse frequency; None does not.

    Attributes:
        classes_: (C,) labels, ascending.
        head_: the head as one dense layer: ``kernel``, ``bias``.
        bit_depth_: 12 or 16: bits that the greys of 16-bit files are read with.
    """

    def __init__(
        self,
        backbone: str = "MobileNetV3Small",
        *,
        weights: str | os.PathLike[str] = "imagenet",
        size: int | str = 224,
        resize: str = "bilinear",
        engine: str = "auto",
        precision: str = "auto",
        bit_depth: int | str = "auto",
        cache: str | os.PathLike[str] = "embeddings_cache",
        jobs: int = 0,
        seed: int = 0,
        class_weight: str | None = None,
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            size=size,
            resize=resize,
            engine=engine,
            precision=precision,
            bit_depth=bit_depth,
            cache=cache,
            jobs=jobs,
            seed=seed,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Self:  # noqa: ANN401
        """Train the head.

        Args:
            X: N images, as ``BackboneEmbedding.transform`` takes them.
            y: (N,) labels; at least two classes.
            groups: (N,) group labels: images of one group are on the same side when the penalty is chosen.

        Raises:
            ValueError: X or y are something else, or of different lengths.
            DataError: an image that cannot be read, or a class with too few images.
            EmbeddingError: the backbone could not be run.
        """
        if self.class_weight not in (None, "balanced"):
            expected = "expected balanced or None"
            raise ArgumentError(expected, where="`class_weight`", got=repr(self.class_weight))
        if y is None:
            raise ValueError("BackboneClassifier requires y to be passed, but the target y is None.")
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        check_consistent_length(X, labels, groups)
        self.classes_, positions = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Expected at least two classes; got one class: {self.classes_.tolist()}.")
        embeddings, self.bit_depth_ = self._embeddings(X, self._request().options.bit_depth)
        protocol = HeadProtocol(balanced=self.class_weight == "balanced", seed=self.seed)
        self.head_ = final_head(
            embeddings, _targets(positions, len(self.classes_), groups), _all_train(len(positions)), protocol
        )
        return self

    def predict_proba(self, X: Any) -> Float32:  # noqa: ANN401
        """Probabilities float32 (N, C) in the order of ``classes_``; errors are those of ``transform``."""
        check_is_fitted(self)
        exclusive = len(self.classes_) > 2
        embeddings, _ = self._embeddings(X, self.bit_depth_)
        found = self.head_.probabilities(embeddings.features, exclusive=exclusive)
        return found if exclusive else np.hstack([1 - found, found])

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        """The likeliest of ``classes_`` for each image, (N,); errors are those of ``transform``."""
        found = self.predict_proba(X)
        return np.asarray(self.classes_[found.argmax(1)])


def _targets(positions: Int64, count: int, groups: npt.ArrayLike | None) -> Targets:
    binary = count == 2
    one_hot = np.eye(count, dtype=np.float32)[positions]
    numbers = (
        None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    )
    return Targets(
        targets=one_hot[:, 1:] if binary else one_hot,
        classes=tuple(map(str, range(count))),
        task=Task.BINARY if binary else Task.MULTICLASS,
        positive=1 if binary else None,
        groups=numbers,
    )


def _all_train(count: int) -> Split:
    none = np.zeros(0, np.int64)
    return Split(train=np.arange(count, dtype=np.int64), val=none, test=none, given=False)
