"""The two phases: the head alone, then the unfrozen layers with it. Loads TensorFlow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmark.drawing import derived_seed
from benchmark.errors import TrainingError
from benchmark.finetuning.augment import view_keys
from benchmark.finetuning.feed import Batch, Inference, PixelFeed, vector_batches
from benchmark.finetuning.keeping import Trained, best_text, choose, choose_against_board, too_few
from benchmark.finetuning.network import Network, freeze, layer_scales, reseed, unfreeze
from benchmark.finetuning.pixels import Pixels
from benchmark.finetuning.progress import Progress, assign, values_of
from benchmark.finetuning.rates import rate_before_harm, tried_rates
from benchmark.finetuning.recipe import OptimizerName, Phase, Recipe, UnfreezingPhase
from benchmark.finetuning.request import FinetuneRequest
from benchmark.finetuning.scoring import Scoring, beats, loss_weights
from benchmark.finetuning.untyped import Optimizer, Tensor, Variable
from benchmark.records import Float32, ImageSet, Int64, Observer, Task
from benchmark.statistics import Sample

PREDICTION_BATCH = 32
_MOST_KEPT_BYTES = 2**30
_OPTIMIZERS = {
    OptimizerName.ADAM: keras.optimizers.Adam,
    OptimizerName.ADAMW: keras.optimizers.AdamW,
    OptimizerName.RMSPROP: keras.optimizers.RMSprop,
    OptimizerName.SGD: keras.optimizers.SGD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Embeddings of a few augmented views of every training image."""

    count: int  # epochs take turns
    read: Callable[[int], Float32]  # view -> (n_train, D), row i belongs to ``split.train[i]``


@dataclass(frozen=True, kw_only=True)
class FineTuningData:
    """What is learnt, from which images, how it is scored."""

    request: FinetuneRequest
    images: ImageSet
    pixels: Pixels
    scoring: Scoring

    @property
    def recipe(self) -> Recipe:
        """The protocol."""
        return self.request.recipe

    def rows(self, part: str) -> Int64:
        """Positions of the images of ``train``, ``val`` or ``test``, int64 (n,)."""
        rows: Int64 = getattr(self.images.split, part)
        return rows

    def sample(self) -> Sample:
        """The validation images."""
        rows, groups = self.rows("val"), self.images.groups
        related = None if groups is None else groups[rows]
        return Sample.of(self.images.head_targets()[rows], self.scoring.average, related)

    @cached_property
    def in_vain(self) -> str:
        """Why the board's head is kept whatever training does; empty where training decides."""
        return too_few(self.sample()) if self.recipe.starts_from_board else ""

    def loss_targets(self, *, softmax: bool) -> Float32:
        """Targets float32 (N, U) as the loss sees them: two softmax columns for two classes."""
        if softmax and self.images.task is Task.BINARY:
            return np.eye(2, dtype=np.float32)[self.images.targets]
        return self.images.head_targets()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One phase, ready to run."""

    number: int  # 1 or 2
    phase: Phase
    variables: list[Variable]  # what is trained
    batches: Callable[[int], Iterator[Batch]]  # of an epoch of the phase
    embed: Callable[[Tensor], Tensor]  # inputs of a batch -> pooled vectors
    validate: Callable[[], Float32]  # -> probabilities (n_val, C)
    scales: Sequence[float] = ()  # of the learning rate, one a variable; empty for 1 each


EpochRecorder = Callable[[Mapping[str, float]], None]
"""Is told of the figures of every epoch."""


class Trainer:
    """Runs both phases, from wherever an earlier run stopped."""

    def __init__(
        self,
        network: Network,
        data: FineTuningData,
        state: Path,
        observer: Observer,
        views: Views | None,
        answers: Inference,
    ) -> None:
        """Prepare the readers; nothing runs yet.

        Args:
            network: with the backbone's starting weights.
            data: what is learnt.
            state: file that keeps the progress.
            observer: told of epochs and batches.
            views: what phase 1 trains on; None runs the frozen network in every epoch.
            answers: the network's model.
        """
        self._network = network
        self._data = data
        targets = data.loss_targets(softmax=network.softmax)
        balanced = data.request.options.balanced
        weights = loss_weights(targets, data.images.split, balanced=balanced, softmax=network.softmax)
        self._answers = (targets, weights)
        self._views = views
        self._state = state
        self._first_head = values_of(network.head.trainable_variables)
        self._observer = observer
        self._model = answers
        self._body = Inference(network.body, data.pixels, PREDICTION_BATCH)
        self._vectors: dict[str, Float32] = {}
        self._targets_of: dict[str, Float32] = {}
        self._broken: list[str] = []  # phases that ended early, in words

    def run(self, progress: Progress, record: EpochRecorder) -> Trained:
        """Train what is still to be trained, then put the best checkpoint into the network.

        Raises:
            TrainingError: the loss became NaN or infinite, and there is no board's head to keep.
            StorageError: progress cannot be written.
        """
        if not progress.metrics:
            before = self._metrics(None, self.frozen)
            progress.metrics = {"before": before, "phase1": None, "phase2": None}
            if self._data.recipe.starts_from_board:
                self._begin_with_the_board(progress)
        if self._data.in_vain:
            return choose_against_board(progress, self._data.sample())
        if progress.phase == 1:
            self._first(progress, record)
        if progress.best1 and beats(progress.best["phase1"], progress.best.get("before")):
            assign(self._network.head.trainable_variables, progress.best1)
        else:
            assign(self._network.head.trainable_variables, self._first_head)
        self._vectors.clear()
        return self._second(progress, record)

    def _begin_with_the_board(self, progress: Progress) -> None:
        """The model before training is one to choose."""
        found = progress.metrics["before"]["val"]
        progress.best["before"] = {"epoch": 0} | {name: found[name] for name in ("f1", "loss", "threshold")}
        self._keep_decisions(self.frozen("val"), found["threshold"], progress)

    def _keep_decisions(self, probabilities: Float32, threshold: float, progress: Progress) -> None:
        progress.decided.append(np.packbits(self._data.scoring.decided(probabilities, threshold)))

    def _first(self, progress: Progress, record: EpochRecorder) -> None:
        freeze(self._network)
        phase = self._data.recipe.phase1
        variables = self._network.head.trainable_variables
        if phase.epochs:
            batches, embed = self._first_source()
            plan = _Round(
                number=1,
                phase=phase,
                variables=variables,
                batches=batches,
                embed=embed,
                validate=lambda: self.frozen("val"),
            )
            self._train(plan, progress, record)
            if progress.best1:
                assign(variables, progress.best1)
                threshold = progress.best["phase1"]["threshold"]
                progress.metrics["phase1"] = self._metrics(threshold, self.frozen)
        progress.next_phase()
        progress.save(self._state)

    def _second(self, progress: Progress, record: EpochRecorder) -> Trained:
        phase = self._data.recipe.phase2
        unfreeze(self._network, phase)
        variables = self._network.model.trainable_variables
        first_model = values_of(variables)
        if progress.phase == 2:
            if phase.epochs:
                self._train(self._second_round(variables), progress, record)
                if progress.best2:
                    assign(variables, progress.best2)
                    threshold = progress.best["phase2"]["threshold"]
                    progress.metrics["phase2"] = self._metrics(threshold, self.probabilities)
            progress.next_phase()
            progress.save(self._state)
        trained = self._choose(progress)
        assign(variables, progress.best2 if trained.kept == "phase2" else first_model)
        if trained.kept != "phase2":
            head = progress.best1 if trained.kept == "phase1" else self._first_head
            assign(self._network.head.trainable_variables, head)
        return trained

    def _choose(self, progress: Progress) -> Trained:
        if not self._data.recipe.starts_from_board:
            return choose(progress)
        trained = choose_against_board(progress, self._data.sample())
        return replace(trained, note=" ".join([*self._broken, trained.note]))

    def _second_round(self, variables: list[Variable]) -> _Round:
        recipe, phase = self._data.recipe, self._data.recipe.phase2
        feed = self._pixel_feed()
        body = self._network.body
        return _Round(
            number=2,
            phase=phase,
            variables=variables,
            scales=() if phase.layer_decay == 1 else layer_scales(self._network, variables, phase),
            # Views go on where phase 1 stopped, so that phase 2 sees new ones.
            batches=lambda epoch: self._pixel_epoch(feed, 2, epoch, recipe.phase1.epochs + epoch),
            embed=lambda images: body(tf.cast(images, tf.float32), training=True),
            validate=lambda: self.probabilities("val"),
        )

    def _first_source(self) -> tuple[Callable[[int], Iterator[Batch]], Callable[[Tensor], Tensor]]:
        """What phase 1 trains on: kept vectors where it can, else pixels through the frozen network."""
        views = self._views
        if views is None and self._data.recipe.augmentation.changes_nothing and self._fits("train"):
            vectors = self._body(self._data.rows("train"))
            views = Views(count=1, read=lambda _: vectors)
        if views is not None:
            kept = views
            return lambda epoch: self._vector_epoch(kept, epoch), lambda vectors: vectors
        feed = self._pixel_feed()
        body = self._network.body
        return (
            lambda epoch: self._pixel_epoch(feed, 1, epoch, epoch),
            lambda images: body(tf.cast(images, tf.float32), training=False),
        )

    def _pixel_feed(self) -> PixelFeed:
        data, recipe = self._data, self._data.recipe
        return PixelFeed(
            data.pixels, recipe.image_size, self._answers, recipe.augmentation, recipe.batch_size
        )

    def _order(self, phase: int, epoch: int) -> Int64:
        """A permutation of the training part's positions, int64 (n_train,)."""
        seed = derived_seed(self._data.request.seed, "order", phase, epoch)
        return np.random.default_rng(seed).permutation(len(self._data.rows("train"))).astype(np.int64)

    def _pixel_epoch(self, feed: PixelFeed, phase: int, epoch: int, view: int) -> Iterator[Batch]:
        rows = self._data.rows("train")[self._order(phase, epoch)]
        image_ids = [self._data.images.image_ids[row] for row in rows]
        return feed.epoch(rows, view_keys(self._data.request.seed, view, image_ids))

    def _vector_epoch(self, views: Views, epoch: int) -> Iterator[Batch]:
        data, order = self._data, self._order(1, epoch)
        features = views.read(epoch % views.count)[order]
        return vector_batches(features, data.rows("train")[order], self._answers, data.recipe.batch_size)

    def _train(self, plan: _Round, progress: Progress, record: EpochRecorder) -> None:
        name, phase, images = f"phase {plan.number}", plan.phase, len(self._data.rows("train"))
        optimizer = _OPTIMIZERS[phase.optimizer](learning_rate=phase.learning_rate)
        optimizer.build(plan.variables)
        step = _Step(self._network, plan, optimizer)
        if isinstance(phase, UnfreezingPhase) and phase.range_test:
            if not progress.found_rate:
                progress.found_rate = self._range_test(plan, phase.range_test, step, optimizer)
            phase = phase.model_copy(update={"learning_rate": progress.found_rate})
            plan = replace(plan, phase=phase)
        if progress.epoch:
            assign(plan.variables, progress.current)
            assign(optimizer.variables, progress.optimizer)
        self._observer.started(name, phase.epochs * images)
        while progress.epoch < phase.epochs and not (phase.patience and progress.stale >= phase.patience):
            started = time.perf_counter()
            rate = optimizer.learning_rate = phase.rate_of(progress.epoch)
            reseed(self._network, self._data.request.seed, plan.number, progress.epoch)
            row = self._epoch(plan, step, optimizer, progress.epoch)
            if not math.isfinite(row["loss"]):
                self._end_early(name, row["loss"])
                break
            probabilities = plan.validate()
            if self._data.recipe.starts_from_board and not np.isfinite(probabilities).all():
                self._end_early(name, math.nan)  # the last update of the epoch did it
                break
            row |= self._validated(plan, progress, probabilities)
            row |= {"learning_rate": rate, "finished_at": time.time()}
            row["seconds"] = time.perf_counter() - started
            self._record(plan, row, optimizer, progress)
            record(progress.history[-1])
            self._observer.advanced(name, progress.epoch * images, f"validation F1 {row['val_f1']:.4f}")
        best = f"phase{plan.number}"
        self._observer.finished(name, best_text(progress, best) if best in progress.best else "")

    def _end_early(self, name: str, loss: float) -> None:
        """A loss that is no number is no better than the board's head, which is a finished model."""
        if not self._data.recipe.starts_from_board:
            raise TrainingError(
                "the training loss is not a number any more",
                where=name,
                got=loss,
                next_step="Lower the learning rate.",
            )
        self._broken.append(f"{name.capitalize()} ended early: its loss was not a number any more.")

    def _range_test(self, plan: _Round, updates: int, step: _Step, optimizer: Optimizer) -> float:
        """A learning rate, at most the phase's; network and optimizer are afterwards as they were.

        The test takes batches of the phase, each of them twice: first at a rate of 0, for what a batch costs
        before anything is learnt.
        """
        name, images = "range test", len(self._data.rows("train"))
        rates = tried_rates(plan.phase.learning_rate, updates)
        passes = math.ceil(updates * self._data.recipe.batch_size / images)
        start, fresh = values_of(plan.variables), values_of(optimizer.variables)
        losses: list[list[float]] = []
        self._observer.started(name, 2 * updates)
        for tried in ([0.0] * updates, rates):
            reseed(self._network, self._data.request.seed, name)
            each = (batch for epoch in range(passes) for batch in plan.batches(epoch))
            losses.append([])
            for rate, batch in zip(tried, each, strict=False):
                optimizer.learning_rate = rate
                losses[-1].append(float(step(*batch)[0]))
                self._observer.advanced(name, sum(map(len, losses)))
            assign(plan.variables, start)
            assign(optimizer.variables, fresh)
        found = rate_before_harm(rates, *losses)
        self._observer.finished(name, f"learning rate {found:.1e}")
        return found

    def _epoch(self, plan: _Round, step: _Step, optimizer: Optimizer, epoch: int) -> dict[str, float]:
        """One pass over the training part; mean loss and accuracy of its batches."""
        images = len(self._data.rows("train"))
        done, updates = epoch * images, math.ceil(images / self._data.recipe.batch_size)
        loss = right = 0.0
        count = 0
        for update, (inputs, targets, weights) in enumerate(plan.batches(epoch)):
            if epoch < plan.phase.warm_up:
                warmth = plan.phase.warmth(epoch, update, updates)
                optimizer.learning_rate = plan.phase.rate_of(epoch) * warmth
            batch_loss, batch_right = step(inputs, targets, weights)
            loss += float(batch_loss) * len(targets)
            right += float(batch_right)
            count += len(targets)
            self._observer.advanced(f"phase {plan.number}", done + count)
        return {"loss": loss / count, "accuracy": right / count}

    def _validated(self, plan: _Round, progress: Progress, probabilities: Float32) -> dict[str, float]:
        targets = self._targets("val")
        threshold = self._data.scoring.threshold(probabilities, targets)
        measured = self._data.scoring.measure(probabilities, targets, threshold)
        key = f"phase{plan.number}"
        if beats(measured, progress.best.get(key)):
            best = {"epoch": len(progress.history) + 1, "threshold": threshold}
            progress.best[key] = best | {"f1": measured["f1"], "loss": measured["loss"]}
            setattr(progress, f"best{plan.number}", values_of(plan.variables))
            progress.stale = 0
        else:
            progress.stale += 1
        if progress.decided:
            self._keep_decisions(probabilities, threshold, progress)
        return {"threshold": threshold} | {f"val_{name}": value for name, value in measured.items()}

    def _record(self, plan: _Round, row: dict[str, float], optimizer: Optimizer, progress: Progress) -> None:
        progress.history.append({"phase": plan.number, "epoch": len(progress.history) + 1, **row})
        progress.epoch += 1
        progress.current = values_of(plan.variables)
        progress.optimizer = values_of(optimizer.variables)
        progress.save(self._state)

    def _metrics(
        self, threshold: float | None, probabilities: Callable[[str], Float32]
    ) -> dict[str, dict[str, float] | None]:
        """Scores on validation and test images; the threshold is found on validation where None."""
        on_val = probabilities("val")
        used = self._data.scoring.threshold(on_val, self._targets("val")) if threshold is None else threshold
        found: dict[str, dict[str, float] | None] = {"val": self._scores("val", on_val, used), "test": None}
        if len(self._data.rows("test")):
            found["test"] = self._scores("test", probabilities("test"), used)
        return found

    def _scores(self, part: str, probabilities: Float32, threshold: float) -> dict[str, float]:
        scoring, images = self._data.scoring, self._data.images
        targets = self._targets(part)
        groups = None if images.groups is None else images.groups[self._data.rows(part)]
        return scoring.score(probabilities, targets, groups, threshold, self._data.request.seed)

    def probabilities(self, part: str) -> Float32:
        """Probabilities float32 (n, C) of the network as it is now, for ``train``, ``val`` or ``test``."""
        return self._model(self._data.rows(part))

    def frozen(self, part: str) -> Float32:
        """The same while the backbone has its starting weights: it runs once for each part."""
        if not self._fits(part):
            return self.probabilities(part)
        if part not in self._vectors:
            self._vectors[part] = self._body(self._data.rows(part))
        found: Float32 = self._network.classify(self._vectors[part], training=False).numpy()
        return found

    def _fits(self, part: str) -> bool:
        width = math.prod(self._network.body.output.shape[1:])
        return bool(4 * width * len(self._data.rows(part)) <= _MOST_KEPT_BYTES)

    def _targets(self, part: str) -> Float32:
        """Targets float32 (n, C) as scores see them."""
        if part not in self._targets_of:
            self._targets_of[part] = self._data.images.head_targets()[self._data.rows(part)]
        return self._targets_of[part]


class _Step:
    """One update: inputs, targets (B, U) and weights (B, U) -> mean weighted loss, right answers."""

    def __init__(self, network: Network, plan: _Round, optimizer: Optimizer) -> None:
        self._network, self._plan, self._optimizer = network, plan, optimizer
        self._traced: Callable[..., tuple[Tensor, Tensor]] | None = None

    def __call__(self, inputs: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Update the variables; the first batch says what all batches look like but for their length."""
        if self._traced is None:
            batches = (
                tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in (inputs, targets, weights)
            )
            self._traced = tf.function(self._update).get_concrete_function(*batches)
        return self._traced(inputs, targets, weights)

    def _update(self, inputs: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        network, variables = self._network, self._plan.variables
        with tf.GradientTape() as tape:
            logits = network.head(self._plan.embed(inputs), training=True)
            loss = _loss(logits, targets, weights, softmax=network.softmax)
        starts = [tf.identity(variable.value) for variable in variables] if self._plan.scales else []
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        # An update is proportional to its rate: a share of it is the update of a smaller rate.
        for variable, start, scale in zip(variables, starts, self._plan.scales, strict=bool(starts)):
            if scale != 1:
                variable.assign(start + scale * (variable - start))
        return loss, _right(logits, targets, softmax=network.softmax)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor, *, softmax: bool) -> Tensor:
    """Mean weighted cross-entropy, from logits: a saturated probability would have no gradient."""
    if softmax:
        each = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        return tf.reduce_mean(each * weights[:, 0])
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits) * weights)


def _right(logits: Tensor, targets: Tensor, *, softmax: bool) -> Tensor:
    """Number of images of the batch with every answer right at threshold 0.5."""
    if softmax:
        right = tf.argmax(logits, -1) == tf.argmax(targets, -1)
    else:
        right = tf.reduce_all((logits >= 0) == (targets > 0.5), -1)
    return tf.reduce_sum(tf.cast(right, tf.float32))
