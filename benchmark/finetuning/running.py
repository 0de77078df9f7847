"""One fine-tuning run, from request to model directory. Loads TensorFlow."""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmark import __version__
from benchmark.backbones import (
    KERAS,
    Pretrained,
    engines_of,
    known_weights_sha256,
    library_version,
    load_network,
    load_weights,
)
from benchmark.errors import DataError, ManifestError, RecipeError, TrainingError
from benchmark.finetuning.artefacts import METRICS_FILE, RunResults, architecture, save_model, write_artefacts
from benchmark.finetuning.comparing import BoardComparison, GroupCounts, keeps_together, other_test_f1
from benchmark.finetuning.events import EventLog
from benchmark.finetuning.familiar import VECTORS_FILE, Familiar
from benchmark.finetuning.feed import Inference
from benchmark.finetuning.flips import allowed_flips
from benchmark.finetuning.foreign import write_foreign
from benchmark.finetuning.keeping import Trained
from benchmark.finetuning.manifest import (
    LABELS_FILE,
    MANIFEST_SCHEMA,
    MODEL_FILE,
    load_manifest,
    write_manifest,
)
from benchmark.finetuning.model_directory import RUN_FILE, ModelDirectory, StoredRun, read_run
from benchmark.finetuning.network import Network, Outputs, assemble, first_trained, freeze
from benchmark.finetuning.pixels import Pixels, decoded_pixels, open_pixels
from benchmark.finetuning.progress import Progress
from benchmark.finetuning.recipe import Flip, Recipe
from benchmark.finetuning.request import (
    ALREADY_DONE,
    BoardHead,
    FineTuned,
    FinetuneRequest,
    as_json,
    versions,
)
from benchmark.finetuning.scoring import Scoring
from benchmark.finetuning.settling import Settled, Tempering, fold_temperature, settle
from benchmark.finetuning.tables import SPLIT_FILE, whole_text
from benchmark.finetuning.trained_on import SEEN_FILES
from benchmark.finetuning.training import PREDICTION_BATCH, EpochRecorder, FineTuningData, Trainer
from benchmark.finetuning.views import embed_views
from benchmark.heads import FinalHead
from benchmark.machine import cores
from benchmark.records import Float32, ImageSet, Int64, Manifest, Observer, Silent, Task
from benchmark.statistics import default_average
from benchmark.storage import read_json, sha256_file, storage_error, write_whole

_CHECKED_IMAGES = 8
_CHECKED_DIFFERENCE = 1e-4
_BOARD_DIFFERENCE = 0.02  # embeddings may be bfloat16


def finetune(
    request: FinetuneRequest,
    images: ImageSet,
    observer: Observer | None = None,
    on_epoch: EpochRecorder | None = None,
) -> FineTuned:
    """Fine-tune one backbone, or take up, or find, an earlier run of the same request.

    A finished model of another run that stands in ``request.out`` is moved, whole, to
    ``<out>.<first digits of its digest>`` when the new one is ready.

    Args:
        request: what, how, and where to.
        images: the labelled images, split.
        observer: told of epochs and batches.
        on_epoch: told of the figures of every epoch, also of those that an interrupted run trained.

    Returns:
        The model directory and what it reached.

    Raises:
        RecipeError: a layer that the backbone does not have, or an input too small for it.
        DataError: no training or validation images, or one that cannot be decoded.
        WeightsError: the backbone's weights cannot be had.
        TrainingError: the loss became NaN, or another process fine-tunes into this folder.
        StorageError: no room left; finished epochs are kept.
    """
    watch = observer or Silent()
    _check_request(request, images)
    _take_the_cores()
    directory = ModelDirectory(request.out, request.states)
    with directory.alone():
        known = known_weights_sha256(request.backbone, request.source, cache=request.options.cache)
        done = _found(request, directory, request.digest(images, known)) if known else None
        if done is None:
            kind = _KerasRun if request.backbone.source == KERAS else _ForeignRun
            done = kind(request, images, watch, directory, on_epoch).run()
        return _compared(done, request, images, directory)


def _take_the_cores() -> None:
    """Have TensorFlow begin with the threads that processes side by side are told to have.

    It would count the processors, also those that a container has no time for. Sums are taken in another
    order by another number of threads.
    """
    threads = tf.config.threading
    if "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with suppress(RuntimeError):  # it has begun
            threads.set_intra_op_parallelism_threads(cores())
    if "TF_NUM_INTEROP_THREADS" not in os.environ:
        with suppress(RuntimeError):
            threads.set_inter_op_parallelism_threads(cores())


def find_finished(request: FinetuneRequest, images: ImageSet) -> FineTuned | None:
    """An earlier, whole result of the same request, as ``finetune`` would find it; else None.

    Raises:
        TrainingError: another process fine-tunes into this folder.
        StorageError: the folder cannot be written.
    """
    known = known_weights_sha256(request.backbone, request.source, cache=request.options.cache)
    directory = ModelDirectory(request.out)
    with directory.alone():
        done = _found(request, directory, request.digest(images, known)) if known else None
        return done and _compared(done, request, images, directory)


def take_model(request: FinetuneRequest, images: ImageSet, made: Path) -> FineTuned:
    """Make what another process wrote for a request, wherever it worked, the model of this one.

    Args:
        request: with the place of this process.
        images: those that it was trained on.
        made: a whole model directory; its files are copied.

    Raises:
        ManifestError: it is not whole.
        TrainingError: another process fine-tunes into this folder.
        StorageError: no room left.
    """
    directory = ModelDirectory(request.out)
    with directory.alone():
        directory.begin()
        try:
            shutil.copytree(made, directory.new)
        except OSError as error:
            raise storage_error(error, directory.new) from error
        try:
            run = read_run(directory.new)
        except (OSError, ValueError) as error:
            raise ManifestError("a model that is not whole", where=made, got=str(error)) from error
        # It may know the images under another path.
        data = whole_text(str(images.root))
        manifest = replace(load_manifest(directory.new), data=data)
        write_manifest(directory.new, manifest)
        moved = directory.publish(directory.new, run.digest)
        directory.finish(run.digest)
        done = _result(request, directory.out, run, manifest, _moved_note(moved))
        return _compared(done, request, images, directory)


def _check_request(request: FinetuneRequest, images: ImageSet) -> None:
    for part in ("train", "val"):
        if not len(getattr(images.split, part)):
            raise DataError(
                f"no images in the {part} part",
                where=images.root,
                expected="training and validation images",
                next_step="Add images, or leave the split to this program.",
            )
    if request.recipe.starts_from_board is not (request.head is not None):
        raise RecipeError("the board's head and a recipe that starts from it belong together", where="head")
    if request.recipe.image_size < request.backbone.min_size:
        raise RecipeError(
            "the input is too small for this backbone",
            where=request.backbone.name,
            expected=f"at least {request.backbone.min_size} pixels",
            got=request.recipe.image_size,
            next_step="Choose a larger `image_size`.",
        )


def _found(request: FinetuneRequest, directory: ModelDirectory, digest: str) -> FineTuned | None:
    """An earlier, whole result of the same request; None when there is none, or it shall be repeated.

    It is the latest model, or one that was finished and not yet published when its process was killed, or one
    that stands aside; those two become the latest.
    """
    if request.options.force:
        return None
    for place in (directory.out, directory.new, directory.kept_beside(digest)):
        done = _finished(request, place, digest)
        if done is not None:
            moved = None if place == directory.out else directory.publish(place, digest)
            directory.finish(digest)
            return replace(done, model_dir=directory.out, notes=(*done.notes, *_moved_note(moved)))
    return None


def _finished(request: FinetuneRequest, model_dir: Path, digest: str) -> FineTuned | None:
    """A whole result of the run with this digest; None when there is none in this directory."""
    try:
        run = read_run(model_dir)
        if run.digest != digest:
            return None
        found = _result(request, model_dir, run, load_manifest(model_dir), ())
    except (OSError, ValueError, ManifestError):
        return None
    note = f"{ALREADY_DONE}: nothing was trained (`force` repeats it)."
    return replace(found, repeated=False, notes=(note, *found.notes))


def _result(
    request: FinetuneRequest, model_dir: Path, run: StoredRun, manifest: Manifest, notes: tuple[str, ...]
) -> FineTuned:
    return FineTuned(
        backbone=request.backbone.name,
        model_dir=model_dir,
        manifest=manifest,
        phases=run.phases,
        kept_phase=run.kept,
        notes=(*run.notes, *notes),
    )


def _carried_out(recipe: Recipe, progress: Progress) -> Recipe:
    """The recipe with the learning rate that was found."""
    if not progress.found_rate:
        return recipe
    found = {"learning_rate": progress.found_rate, "range_test": 0}
    return recipe.model_copy(update={"phase2": recipe.phase2.model_copy(update=found)})


def _with_flip(data: FineTuningData, flip: Flip) -> FineTuningData:
    recipe = data.recipe
    augmentation = recipe.augmentation.model_copy(update={"flip": flip})
    recipe = recipe.model_copy(update={"augmentation": augmentation})
    return replace(data, request=replace(data.request, recipe=recipe))


def _moved_note(moved: Path | None) -> tuple[str, ...]:
    if moved is None:
        return ()
    return (
        f"The model of an earlier, different run stood here; it is in {moved.name} now, exports included.",
    )


def _compared(
    done: FineTuned, request: FinetuneRequest, images: ImageSet, directory: ModelDirectory
) -> FineTuned:
    """Put the test F1 beside what is known by now of another split and of the board, here and on disk."""
    grouping = GroupCounts.of(images)
    test = done.manifest.metrics.get("test")
    board = request.board
    if board is not None and board.weights_sha256 != done.manifest.weights_sha256:
        board = None  # its backbone is another one, of the same name
    comparable_digest = request.comparable_digest(images, done.manifest.weights_sha256)
    comparison = BoardComparison(
        grouping=grouping,
        test_f1=None if test is None else test["f1"],
        other_test_f1=other_test_f1(_runs(directory), comparable_digest, grouped=keeps_together(grouping)),
        board=board,
    )
    _record_comparison(directory.out / METRICS_FILE, comparison)
    return replace(done, comparison=comparison, notes=(*done.notes, *comparison.sentences()))


def _runs(directory: ModelDirectory) -> Iterator[StoredRun]:
    """The records of all runs of this backbone and recipe, the newest first."""
    found = []
    for folder in directory.relatives():
        try:
            found.append(((folder / RUN_FILE).stat().st_mtime_ns, read_run(folder)))
        except (OSError, ValueError):
            continue
    yield from (run for _, run in sorted(found, key=lambda each: -each[0]))


def _record_comparison(path: Path, comparison: BoardComparison) -> None:
    try:
        metrics = read_json(path)
    except (OSError, ValueError):  # not a file of the model itself: one that its owner removed is not missed
        return
    wanted = {**metrics, "comparison": comparison.record()}
    if wanted != metrics:
        write_whole(path, as_json(wanted), root=path.parent)


def _make_deterministic(seed: int) -> None:
    """Choose repeatable algorithms on a GPU; on processors they are so already.

    TensorFlow then wants a seed even where none is used.
    """
    if tf.config.list_physical_devices("GPU"):
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished:
    """A model whose weights will not change any more."""

    trained: Trained
    found: Mapping[str, Float32]  # val, and test where there is one -> its probabilities (n, C)
    settled: Settled
    familiar: Familiar | None  # None for a network whose vectors cannot be had beside its answers


class _Run(ABC):
    """The state of one run."""

    _files: tuple[str, ...] = (MODEL_FILE,)  # of the model

    def __init__(
        self,
        request: FinetuneRequest,
        images: ImageSet,
        observer: Observer,
        directory: ModelDirectory,
        on_epoch: EpochRecorder | None,
    ) -> None:
        self._on_epoch = on_epoch
        self._request = request
        self._directory = directory
        self._images = images
        self._observer = observer
        self._notes: list[str] = []
        self._scoring = Scoring(
            task=images.task,
            average=default_average(images.task, request.options.average),
            rule=request.options.threshold,
        )

    def run(self) -> FineTuned:
        """Build, train, write."""
        request, images = self._request, self._images
        self._observer.message(f"Building {request.backbone.name} at {request.recipe.image_size} pixels.")
        weights_sha256 = self._load()
        digest = request.digest(images, weights_sha256)
        done = _found(request, self._directory, digest)
        if done is not None:
            return done
        self._directory.begin()
        with self._pixels() as pixels:
            data = FineTuningData(request=request, images=images, pixels=pixels, scoring=self._scoring)
            progress = self._progress(digest, weights_sha256)
            if request.recipe.ships_the_board and request.head is not None:
                finished, fitted = self._ship(data, progress, request.head), request.head.head.fitted
            else:
                data = self._as_the_data_allow(data)
                finished = self._train(data, progress, self._directory.state(digest))
                fitted = images.split.train
            results = RunResults(
                data=data,
                trained=finished.trained,
                progress=progress,
                found=finished.found,
                fitted=fitted,
                settled=finished.settled,
            )
            write_artefacts(results, self._architecture(), self._directory.new)
        return self._finish(finished, progress, digest, _carried_out(data.recipe, progress))

    @abstractmethod
    def _load(self) -> str:
        """Build the network that the run begins with; the SHA-256 of its backbone's weights."""

    @abstractmethod
    def _as_the_data_allow(self, data: FineTuningData) -> FineTuningData:
        """The same with what the recipe leaves to the data decided."""

    @abstractmethod
    def _train(self, data: FineTuningData, progress: Progress, state: Path) -> _Finished:
        """Train, settle and save the network."""

    @abstractmethod
    def _put_head(self, head: FinalHead, pixels: Pixels) -> Callable[[Int64], Float32]:
        """Save the network with a head behind it; what answers the images at some positions."""

    @abstractmethod
    def _familiar(self, pixels: Pixels, kept: str) -> Familiar | None:
        """What pictures like the training images are, for the network as it is now."""

    @abstractmethod
    def _architecture(self) -> bytes:
        """The network as text."""

    def _progress(self, digest: str, weights_sha256: str) -> Progress:
        """What an interrupted run of the same request left, else a beginning."""
        request = self._request
        kept = Progress.load(self._directory.state(digest))
        if (
            kept is None
            or kept.weights_sha256 != weights_sha256
            # Where its process died, the same request is tried again: it forgets only what others left.
            or (request.options.force and kept.token != request.token)
        ):
            return Progress(weights_sha256=weights_sha256, token=request.token)
        if kept.history:
            note = f"An interrupted run goes on after epoch {len(kept.history)}."
            self._notes.append(note)
            self._observer.message(note)
        return kept

    def _pixels(self) -> AbstractContextManager[Pixels]:
        if self._request.recipe.ships_the_board:  # most images are not looked at
            return nullcontext(decoded_pixels(self._images, self._request))
        return open_pixels(self._request, self._images, self._observer)

    def _ship(self, data: FineTuningData, progress: Progress, board: BoardHead) -> _Finished:
        """Put the board's head on the network.

        Validation scores are the board's, of heads that had not seen the image: this one has.
        """
        said, scoring, images, part = board.predictions, self._scoring, self._images, board.part
        assert said is not None, "a board that is shipped has scores"
        rows, targets = data.rows(part), images.head_targets()
        tempering = Tempering.found(said.val, targets[said.val_rows], images.task)
        head = tempering.head(board.head)
        answers = self._put_head(head, data.pixels)(rows)
        self._check_answers(answers, tempering.probabilities(board.expected))
        order = np.searchsorted(said.val_rows, images.split.val)
        # Of one repeat: the mean of what several heads say is right more often than the one that ships.
        raw = {"val": said.val[0][order]}
        final = {"val": tempering.probabilities(said.val[0])[order]}
        interval = self._request.board.interval if self._request.board else {}
        val = scoring.out_of_fold(said, targets[said.val_rows], tempering.temperature)
        metrics: dict[str, dict[str, float] | None] = {
            "val": val | interval | {"threshold": head.threshold},
            "test": None,
        }
        if part == "test":
            raw["test"], final["test"] = board.expected, answers
            metrics["test"] = self._scores("test", answers, head.threshold)
        progress.metrics = {"before": metrics, "phase1": None, "phase2": None}
        note = "The board's head on the frozen backbone; validation scores are the board's."
        self._notes.append(note)
        trained = Trained(kept="before", threshold=head.threshold, note=note)
        return self._settled(data.pixels, trained, tempering, raw, final)

    def _scores(self, part: str, probabilities: Float32, threshold: float) -> dict[str, float]:
        rows, images = getattr(self._images.split, part), self._images
        groups = None if images.groups is None else images.groups[rows]
        targets = images.head_targets()[rows]
        return self._scoring.score(probabilities, targets, groups, threshold, self._request.seed)

    def _settled(
        self,
        pixels: Pixels,
        trained: Trained,
        tempering: Tempering,
        raw: Mapping[str, Float32],
        final: Mapping[str, Float32],
    ) -> _Finished:
        settled = settle(
            self._scoring,
            self._images,
            self._request.options.abstain,
            tempering,
            trained.threshold,
            raw,
            final,
            self._request.seed,
        )
        self._notes += settled.notes()
        familiar = self._familiar(pixels, trained.kept)
        return _Finished(trained=trained, found=final, settled=settled, familiar=familiar)

    def _check_answers(self, found: Float32, expected: Float32) -> None:
        """See that the network makes of pixels what the board's head made of its embeddings."""
        difference = float(np.abs(found - expected).mean())
        if not difference <= _BOARD_DIFFERENCE:
            raise TrainingError(
                "the network does not answer as the board's head did",
                where=self._request.backbone.name,
                expected=f"a mean difference of at most {_BOARD_DIFFERENCE}",
                got=difference,
                next_step=f"Rank this backbone again with `engine={engines_of(self._request.backbone)[0]}`.",
            )

    def _finish(self, finished: _Finished, progress: Progress, digest: str, recipe: Recipe) -> FineTuned:
        """Write what says that the run is whole, make it the latest, forget how it got there."""
        request, directory, trained = self._request, self._directory, finished.trained
        run = StoredRun(
            digest=digest,
            comparable_digest=request.comparable_digest(self._images, progress.weights_sha256),
            grouped=keeps_together(GroupCounts.of(self._images)),
            kept=trained.kept,
            phases=progress.metrics,
            notes=self._notes,
            recipe=recipe.model_dump(mode="json"),
            cached_views=request.options.cached_views,
            train_seconds=sum(row["seconds"] for row in progress.history),
        )
        write_whole(directory.new / RUN_FILE, as_json(asdict(run)), root=directory.new)
        if finished.familiar is not None:
            write_whole(directory.new / VECTORS_FILE, finished.familiar.content(), root=directory.new)
        manifest = self._manifest(finished, progress)
        write_manifest(directory.new, manifest)
        moved = directory.publish(directory.new, digest)
        directory.finish(digest)
        return _result(request, directory.out, run, manifest, _moved_note(moved))

    def _manifest(self, finished: _Finished, progress: Progress) -> Manifest:
        request, images, trained = self._request, self._images, finished.trained
        familiar = finished.familiar
        vectors = () if familiar is None else (VECTORS_FILE,)
        measured = progress.metrics[trained.kept]
        return Manifest(
            schema=MANIFEST_SCHEMA,
            backbone=request.backbone.architecture,
            family=request.backbone.family,
            recipe=request.recipe.name,
            task=images.task,
            classes=tuple(map(whole_text, images.classes)),
            positive=images.positive,
            threshold=trained.threshold,
            input_size=request.recipe.image_size,
            resize=request.resize,
            preprocessing=str(request.backbone.preprocessing),
            weights=whole_text(str(request.source)),
            weights_sha256=progress.weights_sha256,
            data=whole_text(str(images.root)),
            data_fingerprint=images.fingerprint(),
            seed=request.seed,
            metrics={part: values for part, values in measured.items() if values is not None},
            versions={"backbone-benchmark": __version__, **versions(request.backbone)},
            files={
                name: sha256_file(self._directory.new / name)
                for name in (*self._files, LABELS_FILE, SPLIT_FILE, RUN_FILE, *SEEN_FILES, *vectors)
            },
            average=self._scoring.average,
            bit_depth=images.bit_depth,
            temperature=finished.settled.temperature,
            sure_from=finished.settled.chosen.sure_from,
            unlike_from=None if familiar is None else familiar.limit,
        )


class _KerasRun(_Run):
    """A run of a network of Keras."""

    _network: Network
    _inference: Inference | None = None

    def _load(self) -> str:
        request, images, recipe = self._request, self._images, self._request.recipe
        _make_deterministic(request.seed)
        # Layers that Keras names by counting (re_lu_3) get the names of a fresh process, whatever ran in this
        # one before: recipes and --unfreeze-from name them.
        keras.utils.clear_session()
        model = request.backbone.build(recipe.image_size)
        digest = load_weights(request.backbone, model, request.source, cache=request.options.cache)
        outputs = Outputs(task=images.task, classes=len(images.classes), positive=images.positive)
        network = assemble(model, request.backbone.preprocessing, recipe.head, outputs, request.seed)
        if request.head is not None:
            network.head.layers[-1].set_weights([request.head.head.kernel, request.head.head.bias])
        if recipe.phase2.epochs:
            first_trained(network.base, recipe.phase2)  # a layer that is not there is an error now, not later
        freeze(network)
        self._network = network
        return digest

    def _as_the_data_allow(self, data: FineTuningData) -> FineTuningData:
        recipe = data.recipe
        if recipe.augmentation.flip is not Flip.AUTO:
            return data
        if data.in_vain:
            return _with_flip(data, Flip.NONE)
        rows = data.rows("val")
        targets = self._images.head_targets()[rows]
        flip, note = allowed_flips(self._answers(data.pixels), data.pixels, rows, targets, self._scoring)
        self._notes.append(note)
        return _with_flip(data, flip)

    def _train(self, data: FineTuningData, progress: Progress, state: Path) -> _Finished:
        network, views = self._network, None
        if data.in_vain:
            self._observer.message(f"Nothing is trained, the board's head is kept: {data.in_vain}.")
        elif self._request.options.cached_views and data.recipe.phase1.epochs and progress.phase == 1:
            views = embed_views(data, network, progress.weights_sha256, self._observer)
        trainer = Trainer(network, data, state, self._observer, views, self._answers(data.pixels))
        if self._request.head is not None:
            self._check_answers(trainer.frozen("val"), self._request.head.expected)
        with closing(EventLog(self._directory.new / "tensorboard", time.time())) as events:

            def record(row: Mapping[str, float]) -> None:
                events.add(row)
                if self._on_epoch:
                    self._on_epoch(row)

            for row in progress.history:
                record(row)
            trained = trainer.run(progress, record)
        if progress.found_rate:
            self._notes.append(f"Phase 2 learnt at {progress.found_rate:.1e}, found by a range test.")
        self._notes.append(trained.note)
        images = self._images
        parts = [part for part in ("val", "test") if len(data.rows(part))]
        raw = {part: trainer.probabilities(part) for part in parts}
        targets = images.head_targets()[images.split.val]
        tempering = Tempering.found(raw["val"], targets, images.task)
        fold_temperature(network.head.layers[-1], tempering.temperature)
        self._save(data.pixels)
        final = {part: trainer.probabilities(part) for part in parts}
        threshold = tempering.exact_threshold(trained.threshold, raw["val"], final["val"])
        trained = replace(trained, threshold=threshold)
        # Its loss stays that of the probabilities before the temperature, as of the other moments.
        kept = {part: self._scores(part, final[part], threshold) for part in parts}
        for part, scores in kept.items():
            scores["loss"] = progress.metrics[trained.kept][part]["loss"]
        progress.metrics[trained.kept] = {"test": None, **kept}
        return self._settled(data.pixels, trained, tempering, raw, final)

    def _put_head(self, head: FinalHead, pixels: Pixels) -> Callable[[Int64], Float32]:
        self._network.head.layers[-1].set_weights([head.kernel, head.bias])
        self._save(pixels)
        return self._answers(pixels)

    def _answers(self, pixels: Pixels) -> Inference:
        """The network's model over a run's pixels, traced once: it reads the weights as they are."""
        if self._inference is None:
            self._inference = Inference(self._network.model, pixels, PREDICTION_BATCH)
        return self._inference

    def _save(self, pixels: Pixels) -> None:
        """Write ``model.keras``, open it as a user would, and compare it with the network in memory."""
        save_model(self._network.model, self._directory.new)
        rows = self._images.split.val[:_CHECKED_IMAGES]
        path = self._directory.new / MODEL_FILE
        found = Inference(keras.saving.load_model(path), pixels, len(rows))(rows)
        expected = self._answers(pixels)(rows)
        difference = float(np.abs(found - expected).max())
        if not difference <= _CHECKED_DIFFERENCE:
            raise TrainingError(
                "the saved model does not give the trained model's probabilities",
                where=path,
                expected=f"a difference of at most {_CHECKED_DIFFERENCE}",
                got=difference,
                next_step="Run again; if it happens again, report this backbone.",
            )

    def _familiar(self, pixels: Pixels, kept: str) -> Familiar:
        head, seen = self._request.head, Inference(self._network.body, pixels, PREDICTION_BATCH)
        if kept == "before" and head is not None and head.features is not None:
            features = head.features  # of this network, by the engine that ranked
            return Familiar.found(seen, self._images.split, lambda rows: features[rows])
        return Familiar.found(seen, self._images.split)

    def _architecture(self) -> bytes:
        return architecture(self._network)


class _ForeignRun(_Run):
    """A run of another library's network: it stays as it is, and gets the board's head."""

    _loaded: Pretrained

    def _load(self) -> str:
        request, size = self._request, self._request.recipe.image_size
        self._loaded = load_network(request.backbone, request.source, size, cache=request.options.cache)
        return self._loaded.weights_sha256

    def _as_the_data_allow(self, data: FineTuningData) -> FineTuningData:
        return data

    def _train(self, data: FineTuningData, progress: Progress, state: Path) -> _Finished:
        raise RecipeError(
            "fine-tuning trains networks of Keras",
            where=self._request.backbone.name,
            next_step="Take the recipe that ships the board's head as it is.",
        )

    def _put_head(self, head: FinalHead, pixels: Pixels) -> Callable[[Int64], Float32]:
        sample = list(pixels(self._images.split.val[:_CHECKED_IMAGES]))
        exclusive = self._images.task is Task.MULTICLASS
        try:
            model = write_foreign(self._loaded, head, self._directory.new, sample, exclusive=exclusive)
        except OSError as error:
            raise storage_error(error, self._directory.new) from error
        self._files = model.files
        if model.note:
            self._notes.append(f"{model.files[0]} and no ONNX: {model.note}.")
        return partial(model.answers, pixels)

    def _familiar(self, pixels: Pixels, kept: str) -> None:
        return None

    def _architecture(self) -> bytes:
        backbone, size = self._request.backbone, self._request.recipe.image_size
        facts = {
            "backbone": backbone.name,
            "library": library_version(backbone),
            "preprocessing": backbone.preprocessing,
            "input": f"RGB, uint8 (n, {size}, {size}, 3)",
            "embedding": backbone.embedding_dim,
            "parameters": f"{backbone.params:,} in the backbone, none of them trained",
        }
        return "".join(f"{name}: {value}\n" for name, value in facts.items()).encode()
