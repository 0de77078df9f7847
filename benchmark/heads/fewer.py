"""Heads of one backbone on fewer and fewer of the training images, validated on the same images.

Every training part is halved again and again, stratified and with groups whole, each half within the one
before. The heads take what was chosen on all images of the part: an L2 penalty weighs against the loss summed
over the images, so that what is right for many is right for few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmark.errors import DataError
from benchmark.heads.choice import Choice
from benchmark.heads.folds import FoldData, fold_data, hash_keys, make_folds, salted_order
from benchmark.heads.protocols import Fold, make_plan
from benchmark.heads.training import plan_data, predictions_of, refit
from benchmark.records import Embeddings, HeadProtocol, Predictions, ProtocolName, Split, Targets

HALVINGS = 3
# Given parts train one head; so many halves of them show how much heads differ.
_REPEATS_OF_ONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FewerImages:
    """What heads on fewer images say of the validated ones.

    Attributes:
        images: training images of a head with all of them, the mean over folds.
        predictions: the same of a half, a quarter and an eighth -> their validation predictions. A part that
            would lack a class is not there, nor are smaller ones.
    """

    images: int
    predictions: Mapping[int, Predictions]


def train_on_fewer(
    embeddings: Embeddings, targets: Targets, split: Split, protocol: HeadProtocol, chosen: Mapping[str, Any]
) -> FewerImages:
    """Train heads on a half, a quarter and an eighth of the training images. No test row is looked at.

    Args:
        embeddings: of one backbone; row i belongs to row i of ``targets``.
        targets: labels and groups of the N images.
        split: the parts.
        protocol: how the heads on all images were trained; of the reference protocol, whose heads are not
            trained to the end, there are no predictions.
        chosen: what those chose, ``HeadResult.chosen``.

    Raises:
        DataError: the parts or classes are too small for the protocol.
        TrainingError: training did not stay finite.
    """
    plan = make_plan(targets, split, protocol, embeddings.image_ids)
    folds = [fold for fold in plan.folds if fold.repeat is not None]
    images = round(np.mean([len(fold.train) for fold in folds]))
    found: dict[int, Predictions] = {}
    if protocol.name is ProtocolName.REFERENCE:
        return FewerImages(images=images, predictions=found)
    choices = [
        Choice(**{name: chosen[name][fold] for name in Choice.__dataclass_fields__})
        for fold in range(len(folds))
    ]
    if len(folds) == 1:
        (fold,), choices = folds, choices * _REPEATS_OF_ONE
        folds = [replace(fold, label=f"{fold.label}/{r}", repeat=r) for r in range(_REPEATS_OF_ONE)]
        plan = replace(plan, repeats=_REPEATS_OF_ONE)
    data = fold_data(targets, hash_keys(embeddings.image_ids, protocol.seed))
    with threadpool_limits(limits=1, user_api="blas"):
        planned = plan_data(embeddings.features, targets, plan, protocol)
        for _ in range(HALVINGS):
            try:
                folds = [_halved(fold, data) for fold in folds]
            except DataError:
                break
            fewer = replace(plan, folds=tuple(folds))
            scores = refit(replace(planned, plan=fewer), choices)
            size = round(np.mean([len(fold.train) for fold in folds]))
            found[size] = predictions_of(fewer, split, choices, scores, {})
    return FewerImages(images=images, predictions=found)


def _halved(fold: Fold, data: FoldData) -> Fold:
    half = make_folds(data, np.sort(fold.train), 2, f"half|{fold.label}").parts[0]
    return replace(fold, label=f"{fold.label}/half", train=half[salted_order(data.keys[half], "rows")])
