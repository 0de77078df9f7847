"""The F1 that the final head will have on new images, before there are any.

Cross-validation scores heads that trained on a part of the images; the final head trains on all of them. Its
F1 on new images differs from a validated F1 for three reasons. The validated images are a sample: for that
there is the bootstrap (``resampling``). More images make better heads: the same held-out images are also
scored by heads that trained on only a part of each fold's training images, and what the rest bought is
carried on to all images along the square root law, lost F1 = c / sqrt(images). Other images would have made
other heads, the validated ones and the final one: each F1 gets a normal deviation whose standard deviation
is what the rest of the training images bought. Where more images no longer change F1, heads no longer
differ much. That is a rule of thumb for the scale, which docs/statistics.md checks by simulation, not a
theorem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmark.records import Float64
from benchmark.statistics.resampling import ErrorCounts, Sample, resample


def final_head_estimates(
    sample: Sample,
    heads: Sequence[ErrorCounts],
    smaller_heads: Sequence[ErrorCounts],
    sizes: tuple[float, float, float],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Float64:
    """The score of final heads on new images like these, in this class mix, with central 95 % intervals.

    Args:
        sample: the validated images; with groups, the new images are of new groups.
        heads: error counts of the validated heads of K backbones.
        smaller_heads: error counts on the same images of K backbones' heads that were trained on fewer.
        sizes: images that trained ``smaller_heads``, ``heads`` and the final heads, ascending.
        resamples: of the bootstrap.
        seed: of the draws.

    Returns:
        float64 (K, 3): the score and the low and the high end, within 0 and 1.
    """
    count = len(heads)
    drawn = resample(sample, [*heads, *smaller_heads], resamples=resamples, seed=seed)
    scores = np.array([each.score(sample).mean() for each in (*heads, *smaller_heads)])
    fewer, used, final = (size**-0.5 for size in sizes)
    growth = (used - final) / (fewer - used)

    def grown(values: Float64) -> Float64:
        """Values of heads and smaller heads (..., 2 * K), carried on to the final heads (..., K)."""
        return np.asarray((1 + growth) * values[..., :count] - growth * values[..., count:])

    # Twice the variance: of the validated heads and of the final one.
    normal = math.sqrt(2) * np.random.default_rng([seed, 4]).standard_normal((resamples, 1))
    training = normal * (scores[:count] - scores[count:])
    low = np.quantile(grown(drawn.low) + training, 0.025, axis=0) - 2 * grown(drawn.bias)
    high = np.quantile(grown(drawn.high) + training, 0.975, axis=0) - 2 * grown(drawn.bias)
    expected = grown(scores)
    ends = np.stack([expected, np.minimum(low, expected), np.maximum(high, expected)], -1)
    return np.asarray(np.clip(ends, 0.0, 1.0))
