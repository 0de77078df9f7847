"""Heads of one backbone: trained, chosen, refitted, scored, as a protocol wants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmark.errors import EmbeddingError
from benchmark.heads.choice import Choice, ModelSelection
from benchmark.heads.fit import Heads, Job, TrainingData, fit, predict
from benchmark.heads.loop import probabilities
from benchmark.heads.protocols import FoldPlan, final_plan, make_plan
from benchmark.heads.scaling import part_scales, standardisation, working_copy
from benchmark.records import Embeddings, Float32, HeadProtocol, Int64, Predictions, Split, Targets, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadResult:
    """What the heads of one backbone gave."""

    predictions: Predictions
    # (E,) for the plot: mean F1 after each epoch, over folds, at the chosen grid point, on the images that
    # choose (inside the training part; for the reference protocol the validation part).
    val_history: Float32
    chosen: Mapping[str, Any]  # per fold, its medians, and notes; JSON-able
    head_params: int  # of one head
    seconds: float  # wall time of it all


def train_heads(
    embeddings: Embeddings,
    targets: Targets,
    split: Split,
    protocol: HeadProtocol = HeadProtocol(),  # noqa: B008 - a frozen value
) -> HeadResult:
    """Train, choose, refit and score the heads of one backbone.

    Everything that is chosen (learning rate, weight decay, threshold) is chosen on images of the same
    training part, then the head is refitted on all of it. Test labels are never looked at.

    Args:
        embeddings: of one backbone; row i belongs to row i of ``targets``.
        targets: labels and groups of the N images.
        split: the parts.
        protocol: how to train and validate.

    Raises:
        DataError: the parts or classes are too small for the protocol.
        EmbeddingError: the embeddings are not of these images, or not finite.
        TrainingError: training did not stay finite.
    """
    started = time.perf_counter()
    _check(embeddings, targets)
    plan = make_plan(targets, split, protocol, embeddings.image_ids)
    # The products are small: more threads would only wait for each other, and could change the last bit.
    with threadpool_limits(limits=1, user_api="blas"):
        planned = plan_data(embeddings.features, targets, plan, protocol)
        selection, smaller = _choose(planned)
        choices = selection.choices()
        scores = refit(planned, choices)
    return HeadResult(
        predictions=predictions_of(plan, split, choices, scores, smaller),
        val_history=selection.history(),
        chosen=_chosen(plan, choices, protocol),
        head_params=(embeddings.features.shape[1] + 1) * targets.targets.shape[1],
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalHead:
    """A head as one dense layer on embeddings as they are, standardisation folded in.

    Attributes:
        kernel: float32 (D, C).
        bias: float32 (C,).
        threshold: of sigmoid outputs.
        fitted: int64 (n,), ascending, the rows that it was trained on.
    """

    kernel: Float32
    bias: Float32
    threshold: float
    fitted: Int64

    def probabilities(self, features: Float32, *, exclusive: bool) -> Float32:
        """Probabilities float32 (N, C) of embeddings float32 (N, D); softmax for exclusive classes."""
        logits = features.astype(np.float64) @ self.kernel + self.bias
        return probabilities(logits.astype(np.float32), exclusive=exclusive)


def final_head(embeddings: Embeddings, targets: Targets, split: Split, protocol: HeadProtocol) -> FinalHead:
    """The head that ``train_heads`` scores the test part with, alone; also where there is no test part.

    Args and errors are those of ``train_heads``.
    """
    _check(embeddings, targets)
    plan = final_plan(targets, split, protocol, embeddings.image_ids)
    with threadpool_limits(limits=1, user_api="blas"):
        planned = plan_data(embeddings.features, targets, plan, protocol)
        (choice,) = _choose(planned)[0].choices()
        _, (head,) = _refitted(planned, (choice,))
    kernel, bias = head.kernel[0].astype(np.float64), head.bias[0].astype(np.float64)
    if plan.standardised:
        mean, inverse = standardisation(embeddings.features, plan.used)
        kernel = kernel * inverse[:, None]
        bias = bias - mean @ kernel
    return FinalHead(
        kernel=kernel.astype(np.float32),
        bias=bias.astype(np.float32),
        threshold=choice.threshold,
        fitted=np.sort(plan.folds[0].train),
    )


def _check(embeddings: Embeddings, targets: Targets) -> None:
    features, count = embeddings.features, len(targets.targets)
    if features.ndim != 2 or len(features) != count or len(embeddings.image_ids) != count:
        raise EmbeddingError(
            "embeddings do not belong to these images",
            expected=f"one row for each of {count} images",
            got=f"{features.shape} and {len(embeddings.image_ids)} image ids",
        )
    if not np.isfinite(features).all():
        raise EmbeddingError("embeddings are not finite", next_step="Embed this backbone again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanData:
    """What a plan trains the heads of a backbone on; labels of rows that may not train are blanked out."""

    features: Float32
    targets: Float32
    groups: Int64 | None
    task: Task
    plan: FoldPlan
    protocol: HeadProtocol

    def data(self, parts: Sequence[Int64]) -> TrainingData:
        """For jobs that train on these rows."""
        shape = (len(parts), self.features.shape[1])
        scale, shift = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        if self.plan.standardised:
            scale, shift = part_scales(self.features, parts)
        exclusive = self.task is Task.MULTICLASS
        return TrainingData(
            features=self.features,
            targets=self.targets,
            scale=scale,
            shift=shift,
            exclusive=exclusive,
            protocol=self.protocol,
        )


def plan_data(features: Float32, targets: Targets, plan: FoldPlan, protocol: HeadProtocol) -> PlanData:
    """What heads are trained on: standardised features float32 (N, D), and labels of nobody but ``used``."""
    wanted = np.zeros(targets.targets.shape, np.float32)
    wanted[plan.used] = targets.targets[plan.used]
    ready = working_copy(features, plan.used) if plan.standardised else np.ascontiguousarray(features)
    return PlanData(
        features=ready,
        targets=wanted,
        groups=targets.groups,
        task=targets.task,
        plan=plan,
        protocol=protocol,
    )


def _choose(planned: PlanData) -> tuple[ModelSelection, dict[int, Float32]]:
    """Train every grid point of every fold on its inner part.

    Returns:
        What chooses, and, by fold that has a smaller inner part, what its chosen head, trained on that part
        alone, says of the ``score`` rows.
    """
    plan, epochs = planned.plan, planned.protocol.epochs
    data = planned.data([fold.inner for fold in plan.folds])
    jobs = [
        Job(label=fold.label, train=fold.inner, rates=plan.rates, decays=plan.decays, epochs=epochs)
        for fold in plan.folds
    ]
    selection = ModelSelection(plan, planned.targets, planned.task, planned.protocol, planned.groups)
    scores: dict[int, Float32] = {}

    def after_epoch(epoch: int, numbers: Sequence[int], heads: Heads) -> None:
        rows = [plan.folds[number].choose for number in numbers]
        selection.see(epoch, numbers, predict(data, heads, rows))
        for place, number in enumerate(numbers):
            fold = plan.folds[number]
            if epoch == epochs and fold.repeat is not None and len(fold.inner) < len(fold.train):
                one = heads.one(place, selection.grid_point(number), planned.targets.shape[1])
                scores[number] = predict(data, one, [fold.score])[0][0]

    fit(data, jobs, after_epoch)
    return selection, scores


def refit(planned: PlanData, choices: Sequence[Choice]) -> list[Float32]:
    """Train the chosen head of every fold on its training part; probabilities on its ``score`` rows."""
    data, heads = _refitted(planned, choices)
    folds = planned.plan.folds
    return [predict(data, head, [fold.score])[0][0] for head, fold in zip(heads, folds, strict=True)]


def _refitted(planned: PlanData, choices: Sequence[Choice]) -> tuple[TrainingData, list[Heads]]:
    """Train the chosen head of every fold on its training part; what they were trained on, and the heads."""
    plan = planned.plan
    data = planned.data([fold.train for fold in plan.folds])
    jobs = [
        Job(
            label=fold.label,
            train=fold.train,
            rates=(choice.learning_rate,),
            decays=(choice.weight_decay,),
            epochs=choice.epoch,
        )
        for fold, choice in zip(plan.folds, choices, strict=True)
    ]
    kept: dict[int, Heads] = {}

    def after_epoch(epoch: int, numbers: Sequence[int], heads: Heads) -> None:
        for place, number in enumerate(numbers):
            if choices[number].epoch == epoch:
                kept[number] = heads.one(place, 0, planned.targets.shape[1])

    fit(data, jobs, after_epoch)
    return data, [kept[number] for number in range(len(jobs))]


def predictions_of(
    plan: FoldPlan,
    split: Split,
    choices: Sequence[Choice],
    scores: Sequence[Float32],
    smaller: Mapping[int, Float32],
) -> Predictions:
    """Scores of all folds as rows of repeats, each with the threshold of its own fold."""
    outputs = scores[0].shape[1]
    shape = (plan.repeats, len(plan.val_rows))
    val, thresholds = np.zeros((*shape, outputs), np.float32), np.zeros(shape)
    val_smaller = np.zeros_like(val)
    test = np.zeros((len(split.test), outputs), np.float32)
    test_threshold = choices[-1].threshold
    for number, (fold, choice, score) in enumerate(zip(plan.folds, choices, scores, strict=True)):
        held_out = np.isin(fold.score, plan.val_rows)
        if fold.repeat is not None:
            places = np.searchsorted(plan.val_rows, fold.score[held_out])
            val[fold.repeat, places] = score[held_out]
            if number in smaller:
                val_smaller[fold.repeat, places] = smaller[number][held_out]
            thresholds[fold.repeat, places] = choice.threshold
        places = np.searchsorted(split.test, fold.score[~held_out])
        test[places] = score[~held_out]
    return Predictions(
        val_rows=plan.val_rows,
        val=val,
        val_thresholds=thresholds,
        test_rows=split.test,
        test=test,
        test_threshold=test_threshold,
        val_smaller=val_smaller if smaller else None,
        train_sizes=_train_sizes(plan) if smaller else None,
    )


def _train_sizes(plan: FoldPlan) -> tuple[float, float, float]:
    """Mean images behind the smaller heads and the validated heads, and all that may train."""
    folds = [fold for fold in plan.folds if fold.repeat is not None]
    inner, train = (
        float(np.mean([len(rows) for rows in parts]))
        for parts in zip(*((fold.inner, fold.train) for fold in folds), strict=True)
    )
    return inner, train, float(len(plan.used))


def _chosen(plan: FoldPlan, choices: Sequence[Choice], protocol: HeadProtocol) -> dict[str, Any]:
    folds = [choice for fold, choice in zip(plan.folds, choices, strict=True) if fold.repeat is not None]
    final = [choice for fold, choice in zip(plan.folds, choices, strict=True) if fold.repeat is None]
    chosen = {one.name: [getattr(choice, one.name) for choice in folds] for one in fields(Choice)}
    return {
        "protocol": protocol.name.value,
        "repeats": plan.repeats,
        "folds": len(folds) // plan.repeats,
        "fold_labels": [fold.label for fold in plan.folds if fold.repeat is not None],
        **chosen,
        "median": {name: float(np.median(values)) for name, values in chosen.items()},
        "final": asdict(final[0]) if final else None,
        "notes": list(plan.notes),
        "val_history_of": "validation part"
        if not plan.standardised
        else "images that choose, inside each training part",
    }
