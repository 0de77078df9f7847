"""Backbones of known quality: what intervals and tie groups do when the truth is known.

Errors come from correlated normal variables cut at the error rate: images that are hard for all backbones,
groups of images that are hard together, and the small differences between repeats of one backbone's heads.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from benchmark.heads import train_heads, train_on_fewer
from benchmark.ranking.baselines_simple import logistic_regression_cv
from benchmark.records import (
    DEFAULT_MARGIN,
    Average,
    Embeddings,
    Float32,
    Float64,
    HeadProtocol,
    Int64,
    ProtocolName,
    Split,
    Targets,
    Task,
)
from benchmark.statistics import (
    ErrorCounts,
    LearningCurve,
    Pairs,
    Sample,
    assess,
    decide,
    default_average,
    f1,
    f1_interval,
    fit_curve,
    learning_curve,
    losses,
)
from benchmark.statistics.resampling import resample
from benchmark.statistics.ties import tie_groups

_REPEATS_AGREE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A data set to draw again and again.

    Attributes:
        images: V. Which class each is of is drawn, too.
        errors: error rate of each of K backbones, the same for all classes; wrong answers fall on the others.
        repeats: R.
        correlation: how much of what makes an image hard is common to all backbones, 0 to 1.
        shares: of the classes; the last of two is the positive one. F1 is binary for two, macro for more.
        group_size: images that belong together; 1 means no groups.
        mixed: whether those are of all classes, or of one.
        group_correlation: how much of what makes an image hard is common to its group, 0 to 1.
    """

    images: int
    errors: tuple[float, ...]
    repeats: int = 1
    correlation: float = 0.0
    shares: tuple[float, ...] = (0.5, 0.5)
    group_size: int = 1
    mixed: bool = False
    group_correlation: float = 0.0

    @property
    def average(self) -> Average:
        """Of F1 over classes."""
        return Average.BINARY if len(self.shares) == 2 else Average.MACRO

    @property
    def true_f1(self) -> Float64:
        """F1 of each backbone on endless images of these class shares, float64 (K,)."""
        wrong = np.array(self.errors)[:, None]
        shares = np.array(self.shares)
        alarms = (1 - shares) * wrong / (len(shares) - 1)
        hit = shares * (1 - wrong)
        by_class = 2 * hit / (hit + alarms + shares)
        return np.asarray(by_class[:, -1] if len(shares) == 2 else by_class.mean(1))

    def draw(self, generator: np.random.Generator) -> tuple[Sample, list[ErrorCounts]]:
        """One data set: the sample, and what each backbone got wrong on it."""
        units = np.arange(self.images) // self.group_size
        classes = len(self.shares)
        drawn = generator.choice(classes, self.images if self.mixed else units[-1] + 1, p=self.shares)
        true = drawn if self.mixed else drawn[units]
        wrong = self._difficulty(generator, units) < self._cuts()
        others = (true + generator.integers(1, classes, wrong.shape)) % classes
        names = np.arange(classes) if classes > 2 else np.array([1])
        sample = Sample.of(true[:, None] == names, self.average, None if self.group_size == 1 else units)
        decided = np.where(wrong, others, true)[..., None] == names
        return sample, [ErrorCounts.of(each, sample) for each in decided]

    def _cuts(self) -> Float64:
        return np.array([NormalDist().inv_cdf(error) for error in self.errors])[:, None, None]

    def _difficulty(self, generator: np.random.Generator, units: Int64) -> Float64:
        """Standard normal, float64 (K, R, V)."""
        count, shared, grouped = len(self.errors), self.correlation, self.group_correlation

        def normal(share: float, *shape: int) -> Float64:
            return math.sqrt(share) * generator.standard_normal(shape)

        common = normal(shared * (1 - grouped), 1, 1, self.images)
        own = normal((1 - shared) * (1 - grouped) * _REPEATS_AGREE, count, 1, self.images)
        each = normal((1 - shared) * (1 - grouped) * (1 - _REPEATS_AGREE), count, self.repeats, self.images)
        by_group = normal(shared * grouped, 1, 1, self.images) + normal(
            (1 - shared) * grouped, count, 1, self.images
        )
        return np.asarray(common + own + each + by_group[..., units])


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalsSeen:
    """How 95 % intervals did.

    Attributes:
        coverage: share that held the true F1.
        above: share of misses above the upper end, of all intervals.
        width: mean.
        spread: 95 % range of the F1 themselves: no interval that knows nothing else can be much narrower.
        trials: intervals seen.
    """

    coverage: float
    above: float
    width: float
    spread: float
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TiesSeen:
    """How tie groups and loss bounds did.

    Attributes:
        all_tied: share of data sets with everyone in the first group.
        best_kept: share with every truly best backbone in the first group.
        others_out: share with everyone else outside of it.
        bounds_held: share in which every interval of what a backbone gives away held.
        trials: data sets seen.
    """

    all_tied: float
    best_kept: float
    others_out: float
    bounds_held: float
    trials: int


def _data_sets(world: World, trials: int, seed: int) -> Iterator[tuple[int, Sample, list[ErrorCounts]]]:
    for trial in range(trials):
        yield trial, *world.draw(np.random.default_rng([seed, trial]))


def watch_intervals(world: World, *, trials: int, seed: int = 0) -> IntervalsSeen:
    """Intervals of every backbone in ``trials`` data sets."""
    found, seen = [], []
    for trial, sample, errors in _data_sets(world, trials, seed):
        found.append(resample(sample, errors, seed=trial).intervals())
        seen.append([each.score(sample).mean() for each in errors])
    low, high = np.moveaxis(np.array(found), -1, 0)
    truth = world.true_f1
    return IntervalsSeen(
        coverage=float(np.mean((low <= truth) & (truth <= high))),
        above=float(np.mean(truth > high)),
        width=float(np.mean(high - low)),
        spread=float(np.subtract(*np.quantile(np.array(seen) - truth, [0.975, 0.025]))),
        trials=trials * len(world.errors),
    )


def watch_ties(world: World, *, trials: int, seed: int = 0, draws: int = 2000) -> TiesSeen:
    """First tie groups in ``trials`` data sets."""
    truth = world.true_f1
    best = truth >= truth.max() - 1e-12
    seen = []
    for trial, sample, errors in _data_sets(world, trials, seed):
        pairs = Pairs.of(sample, errors)
        group = tie_groups(pairs, draws=draws, seed=trial)[0]
        inside = np.isin(np.arange(len(truth)), group.members)
        _, low, high = losses(pairs, draws=draws, seed=trial).T
        given = truth.max() - truth
        seen.append(
            (
                inside.all(),
                inside[best].all(),
                not inside[~best].any(),
                ((low <= given + 1e-12) & (given <= high + 1e-12)).all(),
            )
        )
    rates = np.array(seen, np.float64).mean(0).tolist()
    return TiesSeen(
        all_tied=rates[0], best_kept=rates[1], others_out=rates[2], bounds_held=rates[3], trials=trials
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSeen:
    """What the first of some models gives away to the best of them.

    Attributes:
        observed: mean difference of the highest F1 and its own.
        estimate: mean shrunk estimate.
        low: mean lower end.
        high: mean upper end.
        held: share of intervals that held the true loss.
    """

    observed: float
    estimate: float
    low: float
    high: float
    held: float


def watch_loss(world: World, *, trials: int, seed: int = 0, draws: int = 2000) -> LossSeen:
    """What the first backbone gives away, in ``trials`` data sets."""
    given = float(world.true_f1.max() - world.true_f1[0])
    seen = []
    for trial, sample, errors in _data_sets(world, trials, seed):
        pairs = Pairs.of(sample, errors)
        estimate, low, high = losses(pairs, draws=draws, seed=trial)[0].tolist()
        held = low <= given + 1e-12 and given <= high + 1e-12
        seen.append((pairs.score.max() - pairs.score[0], estimate, low, high, held))
    observed, estimate, low, high, share = np.array(seen, np.float64).mean(0).tolist()
    return LossSeen(observed=observed, estimate=estimate, low=low, high=high, held=share)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersSeen:
    """What winners gave away where the smallest backbones are the worst.

    Attributes:
        winner: mean true F1 that the winner gave away to the truly best.
        best_score: the same of the highest F1.
        within: share of winners that gave away at most the margin.
        best_within: the same of the highest F1.
        bound_held: share of winners that gave away at most their bound.
        smaller: share of winners that are not the highest F1.
    """

    winner: float
    best_score: float
    within: float
    best_within: float
    bound_held: float
    smaller: float


def watch_winners(world: World, *, trials: int, seed: int = 0) -> WinnersSeen:
    """The winners of ``trials`` data sets; the better a backbone of the world, the larger it is."""
    truth = world.true_f1
    loss = truth.max() - truth
    names = [f"{k:03}" for k in range(len(truth))]
    sizes = 1.0 + np.argsort(np.argsort(truth))
    seen = []
    for trial, sample, errors in _data_sets(world, trials, seed):
        found = assess(sample, errors, names=names, sizes=sizes, resamples=2, seed=trial)
        best = int(found.order[0])
        winner = best if found.picks is None else found.picks.winner
        bound = found.loss_bounds[winner]
        near = loss[[winner, best]] <= found.margin
        seen.append((loss[winner], loss[best], *near, loss[winner] <= bound, winner != best))
    winner_loss, best_loss, within, best_within, held, smaller = np.array(seen, np.float64).mean(0).tolist()
    return WinnersSeen(
        winner=winner_loss,
        best_score=best_loss,
        within=within,
        best_within=best_within,
        bound_held=held,
        smaller=smaller,
    )


def watch_rules(world: World, *, related: bool, trials: int, seed: int = 0) -> Float64:
    """What rules give away: the highest F1, the highest when shrunk to the mean, and to a trend in size.

    Args:
        world: its better backbones are the larger ones.
        related: else sizes are dealt out at random.
        trials: data sets.
        seed: of the draws.

    Returns:
        float64 (3, 2): mean true loss of each rule, and the share of losses within the margin.
    """
    truth = world.true_f1
    loss = truth.max() - truth
    seen = []
    for trial, sample, errors in _data_sets(world, trials, seed):
        pairs = Pairs.of(sample, errors)
        size = np.argsort(np.argsort(truth)).astype(np.float64)
        if not related:
            size = np.random.default_rng([seed, trial, 1]).permutation(size)
        alike, trend = np.ones((len(truth), 1)), np.stack([np.ones(len(truth)), size], 1)
        # Where a rule makes no difference, the board's order does.
        chosen = [
            np.lexsort((size, -pairs.score, -each))[0]
            for each in (pairs.score, _shrunk(pairs, alike), _shrunk(pairs, trend))
        ]
        seen.append([loss[chosen], loss[chosen] <= DEFAULT_MARGIN])
    return np.asarray(np.array(seen, np.float64).mean(0).T)


def _shrunk(pairs: Pairs, covariates: Float64) -> Float64:
    """Empirical Bayes means of true F1 ~ N(covariates b, t I), observed with the pairs' covariance.

    The variance t is the most likely one (restricted maximum likelihood: Patterson and Thompson 1971).
    """
    found = []
    for variance in (0.0, *np.geomspace(1e-6, 1e-2, 25)):
        inverse = np.linalg.inv(pairs.covariance + (variance + 1e-9) * np.eye(len(pairs.score)))
        normal = covariates.T @ inverse @ covariates
        centre = covariates @ np.linalg.solve(normal, covariates.T @ inverse @ pairs.score)
        rest = pairs.score - centre
        fit = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(normal)[1] - rest @ inverse @ rest
        found.append((fit, variance, centre + variance * inverse @ rest))
    return np.asarray(max(found, key=lambda one: one[:2])[2])


_FRESH = 2000
EMBEDDINGS = ("sparse", "dense", "wide")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsSeen:
    """Mean F1 on fresh images.

    Attributes:
        heads: of the heads of the default protocol.
        reference: of scikit-learn's LogisticRegressionCV, trained on the same images.
    """

    heads: float
    reference: float


def draw_embeddings(kind: str, images: int, generator: np.random.Generator) -> tuple[Float32, Float32]:
    """Embeddings float32 (N, D) of two equally frequent classes, and labels float32 (N, 1).

    Args:
        kind: ``sparse``, 2 of 64 axes tell the classes apart; ``dense``, all 64 do, each a little; ``wide``,
            1,024 activations that are never negative, of 30 hidden causes of which 5 tell the classes apart.
        images: N.
        generator: of ``numpy``; the classes are the same for all images of one call.
    """
    labels = (generator.random((images, 1)) < 0.5).astype(np.float32)
    sides = 2 * labels - 1
    if kind == "wide":
        causes = generator.normal(size=(images, 30))
        causes[:, [2, 5, 9, 14, 20]] += 0.9 * sides
        mixing = generator.normal(size=(30, 1024)) * np.exp(-np.arange(30) / 8)[:, None]
        features = np.maximum(0, causes @ mixing + 0.3 * generator.normal(size=(images, 1024)))
        return features.astype(np.float32), labels
    centre = np.where(np.arange(64) < 2, 1.6, 0.0) if kind == "sparse" else generator.normal(size=64)
    if kind == "dense":
        centre *= 2.1 / np.linalg.norm(centre)
    return (generator.normal(size=(images, 64)) + sides * centre).astype(np.float32), labels


def watch_heads(kind: str, images: int, *, trials: int, seed: int = 0) -> HeadsSeen:
    """Heads and the reference, trained on ``images`` and scored on thousands of others, again and again."""
    seen = []
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial])
        features, labels = draw_embeddings(kind, images + _FRESH, generator)
        targets = Targets(targets=labels, classes=("no", "yes"), task=Task.BINARY, positive=1)
        rows = np.arange(len(labels))
        seen.append(
            [
                f1_of_heads(features, targets, rows[:images], rows[images:], trial),
                f1_of_reference(features, targets, rows[:images], rows[images:]),
            ]
        )
    heads_f1, reference = np.array(seen, np.float64).mean(0).tolist()
    return HeadsSeen(heads=heads_f1, reference=reference)


def f1_of_heads(features: Float32, targets: Targets, train: Int64, fresh: Int64, seed: int) -> float:
    """F1 on fresh rows of the head that the default protocol trains on all of ``train``, ascending."""
    ids = tuple(f"{row:064x}" for row in range(len(features)))
    # The final head trains on both parts; where they meet plays no part.
    split = Split(train=train[1:], val=train[:1], test=fresh, given=False)
    protocol = HeadProtocol(name=ProtocolName.HOLDOUT, seed=seed)
    found = train_heads(Embeddings(image_ids=ids, features=features), targets, split, protocol)
    return float(
        f1(decide(found.predictions.test, 0.5, targets.task), targets.targets[fresh], Average.BINARY)
    )


def f1_of_reference(features: Float32, targets: Targets, train: Int64, fresh: Int64) -> float:
    """The same of scikit-learn's LogisticRegressionCV."""
    found = logistic_regression_cv(features, targets)(train, fresh).astype(np.float32)
    return float(f1(decide(found, 0.5, targets.task), targets.targets[fresh], Average.BINARY))


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveSeen:
    """How predictions of what twice the images bring did; means over data sets.

    Attributes:
        now: F1 in cross-validation.
        predicted: F1 of heads on twice the training images.
        true: F1 of one such head on thousands of fresh images.
        held: share of intervals that held the true F1 of that data set.
        width: of the intervals.
        telling: share of data sets with a sentence.
        telling_held: share of the sentences whose interval held.
        errors: root mean squared error with the asymptote drawn, without one, and with a fitted one.
    """

    now: float
    predicted: float
    true: float
    held: float
    width: float
    telling: float
    telling_held: float
    errors: tuple[float, float, float]


def draw_classes(
    classes: int, distance: float, images: int, generator: np.random.Generator
) -> tuple[Float32, Int64]:
    """Embeddings float32 (N, 64) of equally frequent classes, and class numbers int64 (N,).

    Args:
        classes: number of them, each a normal distribution around a centre of its own.
        distance: of the centres from the middle, in standard deviations.
        images: N.
        generator: of ``numpy``.
    """
    centres = generator.normal(size=(classes, 64))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    numbers = generator.integers(0, classes, images)
    return (centres[numbers] + generator.normal(size=(images, 64))).astype(np.float32), numbers


_HALVINGS = 3
_HEADS_PENALTY = 4.0


def _logistic(features: Float32, numbers: Int64) -> Callable[[Float32], Int64]:
    """A logistic regression with the penalty that heads prefer, on standardised embeddings."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features.mean(0), features.std(0) + 1e-9
    model = LogisticRegression(C=1 / _HEADS_PENALTY, max_iter=60, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a tolerance that was not quite reached
        model.fit((features - mean) / deviation, numbers)
    return lambda some: np.asarray(model.predict((some - mean) / deviation), np.int64)


def _decided_by_images(features: Float32, numbers: Int64, seed: int) -> dict[int, Int64]:
    """Out-of-fold answers int64 (3, N) of three repeats of five folds, by training images, largest first."""
    from sklearn.model_selection import RepeatedStratifiedKFold

    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=seed)
    found: dict[int, Int64] = {}
    generator = np.random.default_rng(seed)
    for number, (train, val) in enumerate(folds.split(features, numbers)):
        order = generator.permutation(train)
        # One of each class in turn: every beginning is stratified.
        turn = [np.count_nonzero(numbers[order[:at]] == numbers[row]) for at, row in enumerate(order)]
        order = order[np.argsort(turn, kind="stable")]
        for halving in range(_HALVINGS + 1):
            rows = order[: len(order) >> halving]
            decided = found.setdefault(
                round(0.8 * len(numbers)) >> halving, np.zeros((3, len(numbers)), np.int64)
            )
            decided[number // 5, val] = _logistic(features[rows], numbers[rows])(features[val])
    return found


def watch_curve(classes: int, distance: float, images: int, *, trials: int, seed: int = 0) -> CurveSeen:
    """Learning curves of ``images``, against a classifier of fresh ones, twice as many as in a fold.

    Logistic regressions stand for heads: loss and penalty are the same.
    """
    average = "binary" if classes == 2 else "macro"
    seen = []
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial])
        twice = 2 * round(0.8 * images)
        features, numbers = draw_classes(classes, distance, images + twice + _FRESH, generator)
        decided = _decided_by_images(features[:images], numbers[:images], trial)
        curve = learning_curve(numbers[:images], decided, average=average, seed=trial)
        last = _logistic(features[images:-_FRESH], numbers[images:-_FRESH])
        true = f1_interval(numbers[-_FRESH:], last(features[-_FRESH:]), average=average).value
        found, held = curve.predicted, curve.predicted.low <= true <= curve.predicted.high
        off = (each - true for each in (found.value, _law(curve, 0.0), _law(curve, 0.99)))
        width = found.high - found.low
        seen.append((curve.now.value, found.value, true, held, width, curve.is_telling, *off))
    table = np.array(seen, np.float64)
    now, predicted, true, held, width, telling = table[:, :6].mean(0).tolist()
    said = table[table[:, 5] > 0, 3]
    drawn, without, fitted = np.sqrt((table[:, 6:] ** 2).mean(0)).tolist()
    return CurveSeen(
        now=now,
        predicted=predicted,
        true=true,
        held=held,
        width=width,
        telling=telling,
        telling_held=float(said.mean()) if len(said) else math.nan,
        errors=(drawn, without, fitted),
    )


def curve_of_heads(features: Float32, targets: Targets, rows: Int64, seed: int) -> LearningCurve:
    """The learning curve of the heads of the default protocol, cross-validated on some rows."""
    embeddings = Embeddings(image_ids=tuple(f"{row:064x}" for row in range(len(features))), features=features)
    protocol = HeadProtocol(seed=seed)
    split = Split(train=rows, val=rows[:0], test=rows[:0], given=False)
    result = train_heads(embeddings, targets, split, protocol)
    fewer = train_on_fewer(embeddings, targets, split, protocol, result.chosen)
    groups = None if targets.groups is None else targets.groups[rows]
    sample = Sample.of(targets.targets[rows], default_average(targets.task), groups)
    errors = {
        size: ErrorCounts.of(decide(each.val, each.val_thresholds, targets.task), sample)
        for size, each in {**fewer.predictions, fewer.images: result.predictions}.items()
    }
    return fit_curve(sample, errors, images=2 * fewer.images, seed=seed)


def head_curve(distance: float, images: int, *, seed: int) -> tuple[LearningCurve, float]:
    """The curve of heads on two simulated classes, and F1 of a head on twice the images of a fold."""
    twice = 2 * round(0.8 * images)
    features, numbers = draw_classes(2, distance, images + twice + _FRESH, np.random.default_rng(seed))
    labels = numbers[:, None].astype(np.float32)
    targets = Targets(targets=labels, classes=("no", "yes"), task=Task.BINARY, positive=1)
    rows = np.arange(len(numbers))
    train, fresh = rows[images : images + twice], rows[images + twice :]
    curve = curve_of_heads(features, targets, rows[:images], seed)
    return curve, f1_of_heads(features, targets, train, fresh, seed)


def _law(curve: LearningCurve, most: float) -> float:
    """F1 that a power law above a fitted asymptote, at ``most`` such a share of today's error, predicts."""
    from scipy.optimize import least_squares

    sizes = np.array(list(curve.measured), np.float64) / max(curve.measured)
    errors = np.log([max(1 - each.value, 1e-4) for each in curve.measured.values()])

    def law(parts: Float64, at: Float64) -> Float64:
        level, exponent, asymptote = parts
        return np.asarray(level + np.log(asymptote + (1 - asymptote) * at**-exponent))

    fit = least_squares(
        lambda parts: np.sqrt(sizes) * (law(parts, sizes) - errors),
        x0=(errors[-1], 0.3, most / 3),
        bounds=([-np.inf, 0, 0], [np.inf, 1, most + 1e-9]),
    )
    ratio = law(np.array([0.0, *fit.x[1:]]), np.array([2.0]))
    return float(1 - (1 - curve.now.value) * np.exp(ratio[0]))
