"""Baselines on the same page: cheap ways to choose a backbone, and classifiers that each must beat."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from benchmark.drawing import fair_order
from benchmark.heads import hash_keys, make_plan, salted_order
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
from benchmark.records import Embeddings, Float32, HeadProtocol, Int64, Split, Task, Truth

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "baseline",
    "kind",
    "val_f1",
    "test_f1",
    "weighted_tau",
    "backbones",
    "first_choice",
    "regret",
    "source",
    "note",
)
REFERENCE = "logistic_regression_cv"
# The cost of LogME, H-score and nearest neighbours grows with the square of the images; what a histogram can
# tell does not grow with them either.
MOST_IMAGES = 4000
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
    """A classifier that needs no backbone, or no head of ours.

    Attributes:
        baseline: ``majority``, ``logistic_regression_cv``, or what a logistic regression was fitted to.
        val_f1: as the board's ``val_f1``.
        test_f1: nan without a test part.
        note: what a reader must know: a sample, images left out, why there is no score.
    """

    baseline: str
    val_f1: float
    test_f1: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a baseline is measured on, the same for all backbones.

    Attributes:
        truth: labels and groups of N images.
        split: the parts.
        protocol: whose folds are used.
        image_ids: N image ids.
    """

    truth: Truth
    split: Split
    protocol: HeadProtocol
    image_ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What selection methods are compared with.

    Attributes:
        val_f1: backbone -> validation F1 of its heads.
        fine_tuned: backbone -> F1 after fine-tuning, of as many as there are.
    """

    val_f1: Mapping[str, float]
    fine_tuned: Mapping[str, float] = field(default_factory=dict)


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

    Args:
        backbone: name on the board; ``@random`` has no published accuracy.
        embeddings: of all N images, in the order of ``setting.image_ids``.
        setting: labels, parts and folds.
        params: parameters without the top.
    """
    rows = _sample(setting, np.concatenate([setting.split.train, setting.split.val]))
    part, features = _limited(setting, rows), embeddings.features[rows]
    targets = part.truth.targets
    if part.truth.task is Task.BINARY:
        targets = np.concatenate([1 - targets, targets], 1)
    plan = make_plan(part.truth, part.split, part.protocol, part.image_ids)
    neighbours = cross_predict(nearest_neighbours(features, part.truth), plan, part.truth, part.split)
    random = backbone.endswith("@random")
    return SelectionScores(
        backbone=backbone,
        params=params,
        imagenet_top1=_NAN if random else published_top1(backbone.split("@")[0]),
        knn_f1=f1_of(neighbours, part.truth, part.protocol.average)[0],
        logme=log_me(features, targets),
        h_score=h_score(features, targets),
    )


def sanity_rows(setting: Setting, features: Mapping[str, Features] | None = None) -> tuple[SanityRow, ...]:
    """Majority class and logistic regression on features that take no look at what the images show.

    Args:
        setting: labels, parts and folds.
        features: by name of the baseline; they are asked for of at most ``MOST_IMAGES`` images.
    """
    rows = [_sanity_row("majority", majority(setting.truth), setting)]
    return (*rows, *(_feature_row(name, setting, one) for name, one in (features or {}).items()))


def reference_row(setting: Setting, backbone: str, embeddings: Features) -> SanityRow:
    """scikit-learn's LogisticRegressionCV in place of the heads: the same embeddings, the same folds.

    Args:
        setting: labels, parts and folds.
        backbone: whose embeddings they are.
        embeddings: asked for of at most ``MOST_IMAGES`` images.
    """
    row = _feature_row(REFERENCE, setting, embeddings, logistic_regression_cv)
    return replace(row, note="; ".join(filter(None, [f"on {backbone}", row.note])))


def _feature_row(
    name: str,
    setting: Setting,
    features: Features,
    fitted: Callable[[Float32, Truth], Classifier] = logistic_regression,
) -> SanityRow:
    everything = np.concatenate([setting.split.train, setting.split.val, setting.split.test])
    rows = _sample(setting, everything)
    found = features(rows)
    known = np.isfinite(found).all(1)
    if not known.any():
        return SanityRow(baseline=name, val_f1=_NAN, test_f1=_NAN, note="no image could be read again")
    part = _limited(setting, rows[known])
    row = _sanity_row(name, fitted(found[known], part.truth), part)
    missing = int((~known).sum())
    gone = f"{missing} image{'s' * (missing > 1)} could not be read again" if missing else ""
    sample = f"{len(rows)} of {len(everything)} images" if len(rows) < len(everything) else ""
    return replace(row, note="; ".join(filter(None, [sample, gone])))


def _sanity_row(name: str, classifier: Classifier, setting: Setting) -> SanityRow:
    plan = make_plan(setting.truth, setting.split, setting.protocol, setting.image_ids)
    predictions = cross_predict(classifier, plan, setting.truth, setting.split)
    val, test = f1_of(predictions, setting.truth, setting.protocol.average)
    return SanityRow(baseline=name, val_f1=val, test_f1=test)


def _sample(setting: Setting, rows: Int64) -> Int64:
    """At most ``MOST_IMAGES`` of the rows, ascending: classes and parts in proportion, by hashed image id."""
    rows = np.sort(rows)
    if len(rows) <= MOST_IMAGES:
        return rows
    order = salted_order(
        hash_keys([setting.image_ids[row] for row in rows], setting.protocol.seed), "baselines"
    )
    first = fair_order(_strata(setting)[rows[order]], first=_FROM_EACH)[:MOST_IMAGES]
    return np.sort(rows[order[first]])


def _strata(setting: Setting) -> Int64:
    """What is kept in proportion, int64 (N,): a number for the labels and the part of each row."""
    labels = np.packbits(setting.truth.targets > 0.5, axis=1)
    number = np.unique(labels, axis=0, return_inverse=True)[1].ravel() * 3
    for part, rows in enumerate((setting.split.train, setting.split.val, setting.split.test)):
        number[rows] += part
    return np.asarray(number, np.int64)


def _limited(setting: Setting, rows: Int64) -> Setting:
    """The setting of some rows, ascending."""
    truth, split = setting.truth, setting.split
    train, val, test = (np.flatnonzero(np.isin(rows, part)) for part in (split.train, split.val, split.test))
    return Setting(
        truth=replace(
            truth,
            targets=truth.targets[rows],
            groups=None if truth.groups is None else truth.groups[rows],
        ),
        split=Split(train=train, val=val, test=test, given=split.given),
        protocol=setting.protocol,
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


def regret(values: Mapping[str, float], fine_tuned: Mapping[str, float]) -> float:
    """F1 given away by fine-tuning the backbone with the highest value instead of the best one.

    Only backbones with a fine-tuned F1 and a value take part; nan with fewer than two. Of equal values the
    first by name is chosen.
    """
    known = sorted(name for name in fine_tuned if np.isfinite(values.get(name, _NAN)))
    if len(known) < 2:
        return _NAN
    return max(fine_tuned[name] for name in known) - fine_tuned[max(known, key=values.__getitem__)]


_METHODS = {
    "params": ("params", "the registry: parameters without the top"),
    "imagenet_top1": ("imagenet_top1", "https://keras.io/api/applications/ and the MobileNet pages"),
    "knn": ("knn_f1", f"{NEIGHBOURS} nearest neighbours by cosine"),
    "logme": ("logme", "You et al. 2021"),
    "h_score": ("h_score", "Bao et al. 2019, shrinkage of Ibrahim et al. 2022"),
}


def baselines_table(
    scores: Sequence[SelectionScores], sanity: Sequence[SanityRow], yardstick: Yardstick
) -> pd.DataFrame:
    """All baselines, one row each, with the columns ``COLUMNS``.

    A selection method's ``weighted_tau`` compares its order with that of the heads' validation F1;
    ``first_choice`` is the backbone that it puts first; ``regret`` needs fine-tuned results. The row
    ``heads`` is the ranking itself.

    Args:
        scores: of the backbones that were scored.
        sanity: of ``sanity_rows``.
        yardstick: validation F1 of the heads, and fine-tuned results.
    """
    import pandas as pd

    rows = [_sanity(row) for row in sanity]
    heads = {score.backbone: yardstick.val_f1.get(score.backbone, _NAN) for score in scores}
    rows.append(_method("heads", heads, yardstick, "validation F1 of this board"))
    for name, (attribute, source) in _METHODS.items():
        values = {score.backbone: float(getattr(score, attribute)) for score in scores}
        rows.append(_method(name, values, yardstick, source))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def scores_table(scores: Sequence[SelectionScores], yardstick: Yardstick) -> pd.DataFrame:
    """One row per backbone: what every method says of it, beside the heads' validation F1."""
    import pandas as pd

    columns = ["backbone", "val_f1", "params", "imagenet_top1", "knn_f1", "logme", "h_score"]
    rows = [
        {
            "backbone": score.backbone,
            "val_f1": yardstick.val_f1.get(score.backbone, _NAN),
            **{attribute: getattr(score, attribute) for attribute, _ in _METHODS.values()},
        }
        for score in scores
    ]
    return pd.DataFrame(rows, columns=columns)


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


def _method(name: str, values: Mapping[str, float], yardstick: Yardstick, source: str) -> dict[str, object]:
    known = sorted(backbone for backbone, value in values.items() if np.isfinite(value))
    heads = [yardstick.val_f1.get(backbone, _NAN) for backbone in known]
    return {
        "baseline": name,
        "kind": "selection",
        "weighted_tau": weighted_tau(heads, [values[backbone] for backbone in known]),
        "backbones": len(known),
        "first_choice": max(known, key=values.__getitem__) if known else "",
        "regret": regret(values, yardstick.fine_tuned),
        "source": source,
        "note": "",
    }
