"""Baselines on the same page: cheap ways to choose a backbone, and classifiers that each must beat."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.drawing import fair_order
from benchmark.heads import hashed_order, make_plan
from benchmark.ranking.baselines_simple import (
    NEIGHBOURS,
    Classifier,
    cross_predict,
    f1_of,
    logistic_regression,
    logistic_regression_cv,
    majority,
    nearest_neighbours,
)
from benchmark.ranking.baselines_transfer import h_score, log_me
from benchmark.records import (
    Average,
    Bool,
    Embeddings,
    Float32,
    Float64,
    HeadProtocol,
    Int64,
    Predictions,
    Split,
    Targets,
    Task,
)
from benchmark.statistics import ErrorCounts, Pairs, Sample, decide, default_average, losses

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "baseline",
    "kind",
    "val_f1",
    "test_f1",
    "note",
    "compared_with",
    "backbones",
    "weighted_tau",
    "chance",
    "pairs_told_apart",
    "pairs_right",
    "first_choice",
    "regret",
    "regret_low",
    "regret_high",
    "fine_tuned",
    "fine_tuned_tau",
    "fine_tuned_regret",
    "source",
)
REFERENCE = "logistic_regression_cv"
# The cost of LogME, H-score and nearest neighbours grows with the square of the images; what a histogram can
# tell does not grow with them either.
MOST_IMAGES = 4000
_ALL_ORDERS, _LUCK = 6, 0.05
# Of every class in every part at least as many as two folds' worth, however rare it is.
_FROM_EACH = 10
_NAN = float("nan")

Features = Callable[[Int64], Float32]
"""(n rows) -> float32 (n, K), nan for images that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionScores:
    """What cheap selection methods say of one backbone; higher means chosen earlier.

    Attributes:
        backbone: name on the board.
        params: parameters without the top.
        imagenet_top1: published ImageNet top-1 accuracy in percent; nan when none is published or the weights
            are random.
        knn_f1: validation F1 of nearest neighbours on the protocol's folds.
        logme: LogME on train + validation.
        h_score: H-score with shrinkage on train + validation.
    """

    backbone: str
    params: float = _NAN
    imagenet_top1: float = _NAN
    knn_f1: float = _NAN
    logme: float = _NAN
    h_score: float = _NAN


@dataclass(frozen=True, slots=True, kw_only=True)
class SanityRow:
    """A classifier that needs no backbone, or no head of ours."""

    baseline: str  # ``majority``, ``logistic_regression_cv``, or what a logistic regression was fitted to
    val_f1: float  # as the board's ``val_f1``
    test_f1: float  # nan without a test part
    note: str = ""  # what a reader must know: a sample, images left out, why there is no score


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a baseline is measured on, the same for all backbones."""

    targets: Targets  # of N images
    split: Split
    protocol: HeadProtocol  # whose folds are used
    image_ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshScores:
    """What selection rules are compared with: decisions that no rule, and no choice of ours, has seen.

    Attributes:
        where: ``test part``, or ``other folds`` where there is none.
        names: of K backbones.
        f1: float64 (K,).
        above: bool (K, K) whether the row is shown to be above the column, all pairs taken together.
        losses: float64 (K, 3) F1 that each gives away to the best: estimate, low and high end.
        fine_tuned: backbone -> F1 of its fine-tuned model on the test part, of as many as there are; of
            several models of a backbone the one that is best on validation.
    """

    where: str
    names: tuple[str, ...]
    f1: Float64
    above: Bool
    losses: Float64
    fine_tuned: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        predictions: Mapping[str, Predictions],
        targets: Targets,
        average: Average | None,
        fine_tuned: Mapping[str, float],
    ) -> FreshScores:
        """Of the test part of predictions by backbone, or of their validated images where there is none."""
        kind = default_average(targets.task, average)
        first = next(iter(predictions.values()), None)
        if first is None:
            nothing = np.zeros((0, 3))
            return cls(where="", names=(), f1=nothing[:, 0], above=nothing > 0, losses=nothing)
        tested = len(first.test_rows) > 0
        rows = first.test_rows if tested else first.val_rows
        sample = Sample.of(
            targets.targets[rows], kind, None if targets.groups is None else targets.groups[rows]
        )
        decided = [
            decide(each.test[None], np.array([[each.test_threshold]]), targets.task)
            if tested
            else decide(each.val, each.val_thresholds, targets.task)
            for each in predictions.values()
        ]
        pairs = Pairs.of(sample, [ErrorCounts.of(each, sample) for each in decided])
        return cls(
            where="test part" if tested else "other folds",
            names=tuple(predictions),
            f1=pairs.score,
            above=pairs.told_apart(),
            losses=losses(pairs),
            fine_tuned=fine_tuned,
        )


@cache
def _published() -> dict[str, tuple[float, str]]:
    text = resources.files("benchmark.ranking").joinpath("imagenet_top1.csv").read_text(encoding="utf-8")
    return {
        row["architecture"]: (float(row["top1_percent"]), f"{row['source']} ({row['as_of']})")
        for row in csv.DictReader(text.splitlines())
    }


def published_top1(architecture: str) -> float:
    """Published ImageNet top-1 accuracy in percent (``imagenet_top1.csv``); nan when there is none."""
    return _published().get(architecture, (_NAN, ""))[0]


def selection_scores(
    backbone: str, embeddings: Embeddings, setting: Setting, *, params: int
) -> SelectionScores:
    """Score one backbone by every cheap selection method. No test image has any influence.

    ``embeddings`` are of all N images, in the order of ``setting.image_ids``; weights that are ``@random``
    have no published accuracy.
    """
    rows = _sample(setting, np.concatenate([setting.split.train, setting.split.val]))
    part, features = _limited(setting, rows), embeddings.features[rows]
    targets = part.targets.targets
    if part.targets.task is Task.BINARY:
        targets = np.concatenate([1 - targets, targets], 1)
    plan = make_plan(part.targets, part.split, part.protocol, part.image_ids)
    neighbours = cross_predict(nearest_neighbours(features, part.targets), plan, part.targets, part.split)
    random = backbone.endswith("@random")
    return SelectionScores(
        backbone=backbone,
        params=params,
        imagenet_top1=_NAN if random else published_top1(backbone.split("@")[0]),
        knn_f1=f1_of(neighbours, part.targets, part.protocol.average)[0],
        logme=log_me(features, targets),
        h_score=h_score(features, targets),
    )


def sanity_rows(setting: Setting, features: Mapping[str, Features] | None = None) -> tuple[SanityRow, ...]:
    """Majority class and logistic regression on features that take no look at what the images show.

    The features, by name of the baseline, are asked for of at most ``MOST_IMAGES`` images.
    """
    rows = [_sanity_row("majority", majority(setting.targets), setting)]
    return (*rows, *(_feature_row(name, setting, one) for name, one in (features or {}).items()))


def reference_row(setting: Setting, backbone: str, embeddings: Features) -> SanityRow:
    """scikit-learn's LogisticRegressionCV in place of the heads: the same embeddings, the same folds.

    The backbone's embeddings are asked for of at most ``MOST_IMAGES`` images.
    """
    row = _feature_row(REFERENCE, setting, embeddings, logistic_regression_cv)
    return replace(row, note="; ".join(filter(None, [f"on {backbone}", row.note])))


def _feature_row(
    name: str,
    setting: Setting,
    features: Features,
    fitted: Callable[[Float32, Targets], Classifier] = logistic_regression,
) -> SanityRow:
    everything = np.concatenate([setting.split.train, setting.split.val, setting.split.test])
    rows = _sample(setting, everything)
    found = features(rows)
    known = np.isfinite(found).all(1)
    if not known.any():
        return SanityRow(baseline=name, val_f1=_NAN, test_f1=_NAN, note="no image could be read again")
    part = _limited(setting, rows[known])
    row = _sanity_row(name, fitted(found[known], part.targets), part)
    missing = int((~known).sum())
    gone = f"{missing} image{'s' * (missing > 1)} could not be read again" if missing else ""
    sample = f"{len(rows)} of {len(everything)} images" if len(rows) < len(everything) else ""
    return replace(row, note="; ".join(filter(None, [sample, gone])))


def _sanity_row(name: str, classifier: Classifier, setting: Setting) -> SanityRow:
    plan = make_plan(setting.targets, setting.split, setting.protocol, setting.image_ids)
    predictions = cross_predict(classifier, plan, setting.targets, setting.split)
    val, test = f1_of(predictions, setting.targets, setting.protocol.average)
    return SanityRow(baseline=name, val_f1=val, test_f1=test)


def _sample(setting: Setting, rows: Int64) -> Int64:
    """At most ``MOST_IMAGES`` of the rows, ascending: classes and parts in proportion, by hashed image id."""
    rows = np.sort(rows)
    if len(rows) <= MOST_IMAGES:
        return rows
    ids = [setting.image_ids[row] for row in rows]
    order = hashed_order(ids, setting.protocol.seed, "baselines")
    first = fair_order(_strata(setting)[rows[order]], first=_FROM_EACH)[:MOST_IMAGES]
    return np.sort(rows[order[first]])


def _strata(setting: Setting) -> Int64:
    """What is kept in proportion, int64 (N,): a number for the labels and the part of each row."""
    labels = np.packbits(setting.targets.targets > 0.5, axis=1)
    number = np.unique(labels, axis=0, return_inverse=True)[1].ravel() * 3
    for part, rows in enumerate((setting.split.train, setting.split.val, setting.split.test)):
        number[rows] += part
    return np.asarray(number, np.int64)


def _limited(setting: Setting, rows: Int64) -> Setting:
    """The setting of some rows, ascending."""
    targets, split = setting.targets, setting.split
    train, val, test = (np.flatnonzero(np.isin(rows, part)) for part in (split.train, split.val, split.test))
    groups = None if targets.groups is None else targets.groups[rows]
    return replace(
        setting,
        targets=replace(targets, targets=targets.targets[rows], groups=groups),
        split=Split(train=train, val=val, test=test, given=split.given),
        image_ids=[setting.image_ids[row] for row in rows],
    )


def weighted_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Weighted Kendall tau (Vigna, 2015; hyperbolic weights, so that the top counts most).

    Pairs with a nan on either side are left out; nan with fewer than two pairs or when one side is constant.
    """
    from scipy.stats import weightedtau

    both = np.asarray([first, second], np.float64)
    both = both[:, np.isfinite(both).all(0)]
    if both.shape[1] < 2 or np.ptp(both, axis=1).min() == 0:
        return _NAN
    return float(weightedtau(both[0], both[1]).statistic)


def order_by_luck(first: Sequence[float], second: Sequence[float]) -> float:
    """Share of the orders of ``second`` whose ``weighted_tau`` is at least the one found.

    Of all orders of up to six values, else of 999 random ones and the one found; nan where tau is.
    """
    found = weighted_tau(first, second)
    if np.isnan(found):
        return _NAN
    generator = np.random.default_rng(0)
    orders: Iterable[Sequence[float]] = permutations(second)
    if len(second) > _ALL_ORDERS:
        orders = [second, *(generator.permutation(second).tolist() for _ in range(999))]
    return float(np.mean([weighted_tau(first, order) >= found - 1e-12 for order in orders]))


def regret(values: Mapping[str, float], known_f1: Mapping[str, float]) -> float:
    """F1 given away by taking the backbone with the highest value instead of the best one.

    Only backbones with an F1 and a value take part; nan with fewer than two. Of equal values the first by
    name is chosen.
    """
    known = sorted(name for name in known_f1 if np.isfinite(values.get(name, _NAN)))
    if len(known) < 2:
        return _NAN
    return max(known_f1[name] for name in known) - known_f1[max(known, key=values.__getitem__)]


_METHODS = {
    "params": ("params", "the registry: parameters without the top"),
    "imagenet_top1": ("imagenet_top1", "https://keras.io/api/applications/ and the MobileNet pages"),
    "knn": ("knn_f1", f"{NEIGHBOURS} nearest neighbours by cosine"),
    "logme": ("logme", "You et al. 2021"),
    "h_score": ("h_score", "Bao et al. 2019, shrinkage of Ibrahim et al. 2022"),
}


def baselines_table(
    scores: Sequence[SelectionScores],
    sanity: Sequence[SanityRow],
    val_f1: Mapping[str, float],
    fresh: FreshScores,
) -> pd.DataFrame:
    """All baselines, one row each, with the columns ``COLUMNS``.

    A rule puts backbones in an order. ``weighted_tau`` says how well that is the order of their fresh F1, and
    ``chance`` how often a random order does as well. Of the pairs whose fresh F1 are told apart, it puts
    ``pairs_right`` the right way round. ``regret`` is what its ``first_choice`` gives away to the best, with
    an interval that holds for all backbones together. The row ``heads`` is the order of this board.

    Args:
        scores: of the backbones that were scored.
        sanity: of ``sanity_rows`` and ``reference_row``.
        val_f1: of the heads, by backbone.
        fresh: what the rules are compared with.
    """
    import pandas as pd

    rows = [_sanity(row) for row in sanity]
    heads = {score.backbone: val_f1.get(score.backbone, _NAN) for score in scores}
    rows.append(_method("heads", heads, fresh, "validation F1 of this board"))
    for name, (attribute, source) in _METHODS.items():
        values = {score.backbone: float(getattr(score, attribute)) for score in scores}
        rows.append(_method(name, values, fresh, source))
    # As objects, so that counts stay whole beside rows that have none.
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def scores_table(
    scores: Sequence[SelectionScores], val_f1: Mapping[str, float], fresh: FreshScores
) -> pd.DataFrame:
    """One row per backbone: what every rule says of it, beside the heads' validation F1 and the fresh one."""
    import pandas as pd

    methods = [attribute for attribute, _ in _METHODS.values()]
    f1 = dict(zip(fresh.names, fresh.f1.tolist(), strict=True))
    rows = [
        {
            "backbone": score.backbone,
            "val_f1": val_f1.get(score.backbone, _NAN),
            "fresh_f1": f1.get(score.backbone, _NAN),
            **{attribute: getattr(score, attribute) for attribute in methods},
        }
        for score in scores
    ]
    return pd.DataFrame(rows, columns=["backbone", "val_f1", "fresh_f1", *methods])


def _sanity(row: SanityRow) -> dict[str, object]:
    source = {
        "majority": "the most frequent class",
        "colour_histogram": "logistic regression on 3 x 16 bins",
        REFERENCE: "scikit-learn, standardised embeddings, the heads' folds",
    }
    return {
        "baseline": row.baseline,
        "kind": "reference" if row.baseline == REFERENCE else "sanity",
        "val_f1": row.val_f1,
        "test_f1": row.test_f1,
        "source": source.get(row.baseline, ""),
        "note": row.note,
    }


def _method(name: str, values: Mapping[str, float], fresh: FreshScores, source: str) -> dict[str, object]:
    known = [place for place, one in enumerate(fresh.names) if np.isfinite(values.get(one, _NAN))]
    said = np.array([values[fresh.names[place]] for place in known])
    f1 = fresh.f1[known].tolist()
    told = fresh.above[np.ix_(known, known)]
    first = min(known, key=lambda place: (-values[fresh.names[place]], fresh.names[place]), default=None)
    lost = np.full(3, _NAN) if first is None else fresh.losses[first]
    tuned = {one: f1 for one, f1 in fresh.fine_tuned.items() if np.isfinite(values.get(one, _NAN))}
    row = {
        "baseline": name,
        "kind": "selection",
        "compared_with": fresh.where,
        "backbones": len(known),
        "weighted_tau": weighted_tau(f1, said.tolist()),
        "chance": order_by_luck(f1, said.tolist()),
        "pairs_told_apart": int(told.sum()),
        "pairs_right": int((told & (said[:, None] > said)).sum()),
        "first_choice": "" if first is None else fresh.names[first],
        "regret": lost[0],
        "regret_low": lost[1],
        "regret_high": lost[2],
        "fine_tuned": len(tuned),
        "fine_tuned_tau": weighted_tau(list(tuned.values()), [values[one] for one in tuned]),
        "fine_tuned_regret": regret(values, tuned),
        "source": source,
    }
    return {**row, "note": _doubt(row)}


def _doubt(row: Mapping[str, Any]) -> str:
    """Why a rule's order says little; empty where it says something."""
    if row["backbones"] < 2:
        return "too few backbones to tell"
    if not row["pairs_told_apart"]:
        return "too few to tell: no two backbones differ for sure"
    if row["chance"] > _LUCK:
        return f"too few to tell: {row['chance']:.0%} of random orders do as well"
    return ""
