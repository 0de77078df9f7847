"""Which images look like pictures of one thing, to a pretrained backbone.

Embeddings are centred and whitened in their first principal axes, the weak ones less (Jégou and Chum,
"Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening", ECCV 2012): what
all images of a set have in common, their class included, counts for little, and what few share for much.

How alike unrelated images look depends on the set. Most pairs of any set are unrelated, so that the middle of
all cosines says it: a link stands so many of their spreads above it, and above a fixed cosine besides.
"""

from __future__ import annotations

import numpy as np

from benchmark.audit.copies import fit, grey_pictures, turned_back
from benchmark.records import Float32, Float64, ImageSet, Int64

LEAST_COSINE = 0.65
"""Of linked images, however different all others are."""
_SPREADS = 4.5
_AXES = 64
# More axes than this would tell apart what any few images happen to share.
_IMAGES_PER_AXIS = 4
_NEIGHBOURS = 10
# Views this much alike are compared as pictures, those of so many other images.
_COPY_COSINE = 0.5
# The cosine and the correlation of a copy come to this together.
_COPY = 1.5
COPIES_VERSION = 1
"""Of the rule of copies and of all that it looks through: what was found by another one is not used."""
_COPIES_ASKED = 3
_PAIRS_SEEN = 200_000
_ROWS_AT_ONCE = 4096


def look_links(features: Float32) -> Int64:
    """Pairs of images that look like pictures of one thing.

    Args:
        features: float32 (N, D) embeddings of a pretrained backbone, finite.

    Returns:
        int64 (P, 2) rows, first < second, most alike first; none where there are too few images to know how
        alike unrelated ones are. Of an image, only its ten nearest are asked.
    """
    if len(features) < _IMAGES_PER_AXIS:
        return np.zeros((0, 2), np.int64)
    looks = _Whitening(features)(features)
    cosines, rows = _nearest(looks, looks, _NEIGHBOURS)
    pairs = np.sort(np.stack([np.repeat(np.arange(len(looks)), rows.shape[1]), rows.ravel()], 1), axis=1)
    linked = (cosines.ravel() >= _threshold(looks)) & (pairs[:, 0] != pairs[:, 1])
    pairs, at = np.unique(pairs[linked], axis=0, return_index=True)
    return np.asarray(pairs[np.argsort(-cosines.ravel()[linked][at], kind="stable")], np.int64)


def copy_links(images: ImageSet, views: Float32) -> Int64:
    """Pairs of which one is a copy of the other, also flipped, turned, cropped or in other colours.

    The embedding says where to look: at each image's few nearest views of other images. The pictures decide.

    Args:
        images: the data set.
        views: float32 (N, V, D) embeddings of the views of each image (``turned``), the first being itself.

    Returns:
        int64 (P, 2) rows, first < second, those that fit best first.
    """
    if len(views) < _IMAGES_PER_AXIS:
        return np.zeros((0, 2), np.int64)
    candidates = _copy_candidates(views)
    pictures = grey_pictures(images, sorted({row for pair in candidates for row in pair}))
    alike = {
        (row, other): cosine + fit(pictures[row], turned_back(pictures[other], view))
        for (row, other), (cosine, view) in candidates.items()
        if row in pictures and other in pictures
    }
    found = sorted((-measure, *sorted(pair)) for pair, measure in alike.items() if measure >= _COPY)
    return np.array([pair for _, *pair in found], np.int64).reshape(-1, 2)


def _copy_candidates(views: Float32) -> dict[tuple[int, int], tuple[float, int]]:
    """Pairs (image, other) that may be copies; the most like view of the other, and its cosine."""
    whiten = _Whitening(views[:, 0])
    looks = whiten(views[:, 0])
    best: dict[tuple[int, int], tuple[float, int, int, int]] = {}
    for view in range(views.shape[1]):
        cosines, rows = _nearest(looks, whiten(views[:, view]), _COPIES_ASKED)
        for row, at in np.argwhere(cosines >= _COPY_COSINE).tolist():
            other = int(rows[row, at])
            if row != other:
                # Of both directions the one that is more alike.
                pair, seen = (min(row, other), max(row, other)), (float(cosines[row, at]), view, row, other)
                best[pair] = max(best.get(pair, seen), seen)
    return {(row, other): (cosine, view) for cosine, view, row, other in best.values()}


def _nearest(looks: Float32, keys: Float32, count: int) -> tuple[Float32, Int64]:
    """Cosines and rows (N, up to count + 1) of the keys nearest to each look, its own among them."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(count + 1, len(keys)), algorithm="brute").fit(keys)
    distances, rows = index.kneighbors(looks)
    # An image that is the mean of all shows nothing, and is like nothing.
    return np.where(looks.any(1, keepdims=True), 1 - np.square(distances) / 2, -1), rows


class _Whitening:
    """What turns embeddings into looks: unit vectors in the first principal axes of a set."""

    def __init__(self, features: Float32) -> None:
        self._scale = float(np.abs(features).max()) or 1.0
        self._mean = features.mean(0, dtype=np.float64) / self._scale
        covariance: Float64 = np.zeros((features.shape[1],) * 2)
        for some in _blocks(features):
            centred = some / self._scale - self._mean
            covariance += centred.T @ centred / len(features)
        count = min(_AXES, len(features) // _IMAGES_PER_AXIS)
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = np.maximum(variances[::-1][:count], 0), axes[:, ::-1][:, :count]
        # Half-way between whitening and none for an average axis: the last ones are mostly noise.
        self._axes = axes / np.sqrt(variances + (variances.mean() or 1.0))

    def __call__(self, features: Float32) -> Float32:
        """Looks of some embeddings, float32 (n, up to 64)."""
        projected = [(some / self._scale - self._mean) @ self._axes for some in _blocks(features)]
        looks = np.concatenate(projected).astype(np.float32)
        length = np.linalg.norm(looks, axis=1, keepdims=True)
        return np.asarray(looks / np.where(length > 0, length, 1), np.float32)


def _blocks(features: Float32) -> list[Float32]:
    return [features[start : start + _ROWS_AT_ONCE] for start in range(0, len(features), _ROWS_AT_ONCE)]


def _threshold(looks: Float32) -> float:
    """The cosine from which on two images are linked."""
    random = np.random.default_rng(0)
    first, second = random.integers(0, len(looks), (2, _PAIRS_SEEN))
    cosines = np.einsum("nd,nd->n", looks[first], looks[second])[first != second]
    # The upper half of the middle two thirds: related pairs are too few to move it.
    middle, upper = np.quantile(cosines, [0.5, 0.8413])
    return max(LEAST_COSINE, float(middle + _SPREADS * (upper - middle)))
