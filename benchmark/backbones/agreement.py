"""Do an engine's embeddings say the same as TensorFlow's in float32?"""

from __future__ import annotations

import numpy as np

from benchmark.backbones.model_cache import Agreement
from benchmark.records import Float32, Float64

MIN_COSINE = 0.999
# Below this share of an embedding's length, what is left after centring is rounding noise.
_NOISE = 1e-6


def compare(features: Float32, reference: Float32) -> Agreement:
    """Compare embeddings image by image, after subtracting each side's mean over the batch.

    Without centring, embeddings of random weights, which are nearly parallel, would agree with anything.

    Args:
        features: float32 (n, D) of the engine under test.
        reference: float32 (n, D) of the same images.
    """
    if not (np.isfinite(features).all() and np.isfinite(reference).all()):
        return Agreement(cosine=-1.0, images=len(reference), passed=False)
    cosine = float(np.min(_cosines(features.astype(np.float64), reference.astype(np.float64))))
    return Agreement(cosine=cosine, images=len(reference), passed=cosine >= MIN_COSINE)


def _cosines(features: Float64, reference: Float64) -> Float64:
    lengths = np.linalg.norm(reference, axis=1)
    centred = reference - reference.mean(axis=0)
    if np.any(np.linalg.norm(centred, axis=1) <= _NOISE * lengths):
        # One image, or images without difference: centring would leave nothing to compare.
        centred, other = reference, features
    else:
        other = features - features.mean(axis=0)
    products = np.sum(centred * other, axis=1)
    scale = np.linalg.norm(centred, axis=1) * np.linalg.norm(other, axis=1)
    same = np.all(features == reference, axis=1)
    return np.where(same, 1.0, products / np.where(scale > 0, scale, np.inf))
