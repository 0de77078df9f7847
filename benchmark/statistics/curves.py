"""What more training images would bring: a power law through the F1 of heads on fewer images.

The error 1 - F1 of n training images is taken to fall as e (s + (1 - s) (n / N)^-b): a power law (Hestness
et al., Deep Learning Scaling is Predictable, Empirically, 2017) above an asymptote, the share s of today's
error e that no number of images removes (Viering and Loog, The Shape of Learning Curves, 2021; Mahmood et
al., How Much More Data Do I Need?, CVPR 2022). A few points of one curve cannot tell s: fitted, it makes
predictions scatter; left out, they are too good. So every draw takes an s of its own, evenly from 0 to 1, and
fits b (0 to 1) to it, by least squares of logarithms, weighted by the number of images.

The draws are those of the validated images (``resample``), the same for all sizes, and of the training
images: repeats of cross-validation, trained on other images, differ by what a new training set would change,
or less; the variance between repeats, its mean over the two largest sizes that have several, is added.
docs/statistics.md has the simulations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.errors import ArgumentError
from benchmark.records import Float64
from benchmark.statistics.assessment import Assessment
from benchmark.statistics.calls import Interval, sample_of
from benchmark.statistics.resampling import ErrorCounts, Sample, resample

FEWEST_SIZES = 3
_EXPONENTS = np.linspace(0.0, 1.0, 51)
_SMALLEST_ERROR = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """F1 by the number of training images.

    Attributes:
        measured: number of training images -> F1 with its interval, fewest first; of these decisions.
        images: what is predicted for.
        predicted: F1 of a head trained on so many images.
        gain: F1 that it has more than a head on the most images that were measured.
        is_telling: whether the prediction is worth a sentence: at least three sizes, ten images (or groups)
            of the rarest class, errors that are shown to fall with the number of images, and an interval that
            is narrower than what is left to gain.
    """

    measured: Mapping[int, Interval]
    images: int
    predicted: Interval
    gain: Interval
    is_telling: bool

    @property
    def now(self) -> Interval:
        """F1 on the most images that were measured."""
        return self.measured[max(self.measured)]


def learning_curve(
    targets: npt.ArrayLike,
    decisions_by_images: Mapping[int, npt.ArrayLike],
    *,
    images: int | None = None,
    average: str = "binary",
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> LearningCurve:
    """Predict the F1 of a classifier trained on more images, with an interval.

    Args:
        targets: int (N,) true classes of the validated images; for ``binary`` 0 and 1.
        decisions_by_images: number of training images -> decided classes int (N,) or (R, N), of classifiers
            that did not train on the images that they decide about; R repeats, each trained on other images.
            Two sizes at least; smaller training sets within larger ones give the steadiest curve.
        images: to predict for; None for twice the most.
        average: ``binary`` (class 1), ``macro``, ``micro`` or ``weighted``.
        groups: int (N,) which images are related; they are drawn together.
        level: of the intervals, 0 to 1.
        seed: of the draws.

    Raises:
        ArgumentError: fewer than two sizes, a size below 1, shapes that do not fit, an unknown average, a
            level outside 0 to 1.
    """
    sizes = sorted(decisions_by_images)
    if len(sizes) < 2 or sizes[0] < 1:
        raise ArgumentError(
            "no curve", where="decisions_by_images", expected="two sizes above 0 at least", got=sizes
        )
    if not 0 < level < 1:
        raise ArgumentError("not a level", where="level", expected="between 0 and 1", got=level)
    sample, errors = sample_of(targets, [decisions_by_images[size] for size in sizes], average, groups)
    found = dict(zip(sizes, errors, strict=True))
    return fit_curve(sample, found, images=images or 2 * sizes[-1], level=level, seed=seed)


def fit_curve(
    sample: Sample, errors: Mapping[int, ErrorCounts], *, images: int, level: float = 0.95, seed: int = 0
) -> LearningCurve:
    """``learning_curve`` of decisions that were counted already, of two sizes at least."""
    sizes = np.array(sorted(errors))
    counted = [errors[size] for size in sizes.tolist()]
    by_repeat = [each.score(sample) for each in counted]
    f1 = np.array([each.mean() for each in by_repeat])
    drawn = resample(sample, counted, seed=seed)
    generator = np.random.default_rng([seed, 4])
    asymptotes = generator.random(len(drawn.low))
    several = [each.var(ddof=1) for each in by_repeat if len(each) > 1][-2:]
    spread = float(np.sqrt(np.mean(several))) if several else 0.0
    training = generator.standard_normal(len(asymptotes)) * spread

    def left(lacking: Float64) -> Float64:
        return _share_left(lacking, sizes / sizes[-1], images / sizes[-1], asymptotes)

    tail = (1 - level) / 2
    low, high = (1 - np.clip(each - 2 * drawn.bias, 0.0, 1.0) for each in (drawn.low, drawn.high))
    left_low, left_high = left(low), left(high)
    gains = np.concatenate([low[:, -1] * (1 - left_low), high[:, -1] * (1 - left_high)])
    value = float(1 - (1 - f1[-1]) * left(np.tile(1 - f1, (len(asymptotes), 1))).mean())
    most = np.quantile((low[:, -1] + training) * left_low, 1 - tail)
    least = np.quantile((high[:, -1] + training) * left_high, tail)
    predicted = Interval(
        value=value, low=max(0.0, min(value, float(1 - most))), high=min(1.0, max(value, float(1 - least)))
    )
    gain = Interval(
        value=value - float(f1[-1]),
        low=float(np.quantile(gains, tail)),
        high=float(np.quantile(gains, 1 - tail)),
    )
    measured = {
        int(size): Interval(value=float(own), low=float(min(ends[0], own)), high=float(max(ends[1], own)))
        for size, own, ends in zip(sizes, f1, drawn.intervals(level), strict=True)
    }
    return LearningCurve(
        measured=measured,
        images=images,
        predicted=predicted,
        gain=gain,
        is_telling=bool(
            len(sizes) >= FEWEST_SIZES
            and sample.fewest_units >= Assessment.FEWEST_PER_CLASS
            and gain.low > 0
            and predicted.high - predicted.low < 1 - f1[-1]
        ),
    )


def _share_left(errors: Float64, sizes: Float64, wanted: float, asymptotes: Float64) -> Float64:
    """Which share of the error of the most images is left with more, float64 (B,); 1 where it does not fall.

    Args:
        errors: float64 (B, K) drawn errors of K sizes, the largest size last.
        sizes: float64 (K,) training images, of the most.
        wanted: training images to predict for, of the most.
        asymptotes: float64 (B,) share of the error that stays.
    """
    curves = np.log(
        asymptotes[:, None, None] + (1 - asymptotes)[:, None, None] * sizes ** -_EXPONENTS[:, None]
    )
    apart = np.log(np.maximum(errors, _SMALLEST_ERROR))[:, None, :] - curves
    weights = sizes / sizes.sum()
    apart -= (apart @ weights)[..., None]
    exponents = _EXPONENTS[((apart**2) @ weights).argmin(-1)]
    return np.asarray(asymptotes + (1 - asymptotes) * wanted**-exponents)
