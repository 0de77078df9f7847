from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmark.deployment import open_model
from benchmark.embeddings import EmbeddingStore
from benchmark.engines import EngineRequest, FrozenBackbone
from benchmark.errors import DataError, RecipeError, StorageError, TrainingError
from benchmark.finetuning import (
    Familiar,
    FineTuned,
    FinetuneRequest,
    Recipe,
    TrainedOn,
    finetune,
    load_manifest,
    views,
)
from benchmark.finetuning.manifest import FOR_PEOPLE
from benchmark.finetuning.model_directory import ModelDirectory
from benchmark.finetuning.progress import Progress
from benchmark.finetuning.scoring import METRICS
from benchmark.records import Average, Engine, ImageSet, Precision, ThresholdKind, ThresholdRule, UInt8

if TYPE_CHECKING:
    import keras

pytestmark = [
    # Keras converts variables without NumPy 2's copy keyword.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
Request = Callable[..., FinetuneRequest]
TRAINED = [name for name in Recipe.names() if not Recipe.load(name).starts_from_board]
ARTEFACTS = {
    "architecture.txt",
    "history.csv",
    "labels.txt",
    "manifest.json",
    "metrics.json",
    "model.keras",
    "predictions.csv",
    "run.json",
    "split.csv",
    "tensorboard",
    "training_images.ids",
    "training_vectors.npy",
    "validation_images.ids",
}


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


class Witness:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def started(self, task: str, total: int) -> None:
        self.events.append(("started", task, total))

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.events.append(("advanced", task, done, note))

    def finished(self, task: str, note: str = "") -> None:
        self.events.append(("finished", task, note))

    def message(self, text: str) -> None:
        self.events.append(("message", text))

    def text(self) -> str:
        return "\n".join(str(event) for event in self.events)


def check_artefacts(done: FineTuned, images: ImageSet) -> None:
    folder = done.model_dir
    assert {path.name for path in folder.iterdir()} == ARTEFACTS
    assert [path.name for path in folder.with_name(f".{folder.name}").iterdir()] == ["lock"]
    assert load_manifest(folder) == done.manifest
    for_people = {*FOR_PEOPLE, "manifest.json", "tensorboard"}
    assert set(done.manifest.files) == ARTEFACTS - for_people, "what a command opens is listed"
    rows = table(folder / "split.csv")
    assert [row["image_id"] for row in rows] == list(images.image_ids)
    seen = TrainedOn.read(folder, done.manifest.files)
    assert seen is not None
    training, validation = seen.parts(images.image_ids)
    assert training.nonzero()[0].tolist() == images.split.train.tolist()
    assert validation.nonzero()[0].tolist() == images.split.val.tolist()
    assert (folder / "training_images.ids").stat().st_size == 8 * len(images.split.train)
    counts = {part: len(getattr(images.split, part)) for part in ("train", "val", "test")}
    assert {part: sum(row["part"] == part for row in rows) for part in counts} == counts
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


def check_phases(done: FineTuned, images: ImageSet) -> None:
    stored = json.loads((done.model_dir / "metrics.json").read_text())
    assert {name: stored[name] for name in ("before", "phase1", "phase2")} == done.phases
    assert stored["kept"] == done.kept_phase
    manifest, calibration, abstention = done.manifest, stored["calibration"], stored["abstention"]
    assert calibration["temperature"] == manifest.temperature > 0
    assert calibration["part"] == abstention["part"] == ("test" if len(images.split.test) else "val")
    assert 0 <= calibration["after"]["error"] <= 1
    assert abstention["sure_from"] == manifest.sure_from
    for phase in filter(None, done.phases.values()):
        assert set(phase["val"]) == {*METRICS, "f1_low", "f1_high", "threshold"}
        for scores in filter(None, phase.values()):
            assert 0 <= scores["f1_low"] <= scores["f1"] <= scores["f1_high"] <= 1
        assert (phase["test"] is None) == (len(images.split.test) == 0)
    kept = done.phases[done.kept_phase]
    assert done.manifest.metrics["val"] == kept["val"]
    assert done.val_f1 == max(
        phase["val"]["f1"] for name, phase in done.phases.items() if phase and name != "before"
    )


def check_model(done: FineTuned, images: ImageSet) -> None:
    """The saved model says what predictions.csv says, from files and manifest alone."""
    import keras

    from benchmark.data import load_pixels

    rows = table(done.model_dir / "predictions.csv")
    positions = [*images.split.val, *images.split.test]
    assert [row["path"].lstrip("'") for row in rows] == [images.paths[at] for at in positions]
    pixels = [
        load_pixels(images.root / images.paths[at], done.manifest.input_size, done.manifest.resize)
        for at in positions
    ]
    found = keras.saving.load_model(done.model_dir / "model.keras").predict(np.stack(pixels), verbose=0)
    stored = np.array(
        [[float(value) for name, value in row.items() if name.startswith("p_")] for row in rows]
    )
    assert np.abs(found - stored).max() < 1e-5
    familiar = Familiar.read(done.model_dir, done.manifest)
    assert familiar is not None
    train = images.split.train[: len(familiar.vectors)]
    shown = np.stack([load_pixels(images.root / images.paths[at], done.manifest.input_size) for at in train])
    probabilities, strange = open_model(done.model_dir).recognise(shown)
    assert probabilities.shape == (len(train), found.shape[1])
    assert not strange.all(), "the vectors are those of the network that was saved"


# Each recipe on another kind of data: (data, epochs, first trained layer, further settings).
RUNS = {
    "two-phase-f1": (
        "binary",
        (2, 1),
        None,
        {"threshold": ThresholdRule(kind=ThresholdKind.RECALL, value=1.0)},
    ),
    "mobilenetv2-augmented": ("three", (2, 1), 4, {"class_weight": "balanced"}),
    "mobilenetv2-plain": (
        "labelled",
        (2, 1),
        4,
        {
            "class_weight": "balanced",
            "average": Average.MICRO,
            "threshold": ThresholdRule(kind=ThresholdKind.TUNED),
        },
    ),
    "vgg16-average": ("without_test", (1, 2), 4, {"cached_views": 1}),
    "vgg16-flatten": ("binary", (0, 2), None, {}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_each_recipe_runs_end_to_end(name: str, request: pytest.FixtureRequest, request_for: Request) -> None:
    data, epochs, layer, settings = RUNS[name]
    images: ImageSet = request.getfixturevalue(data)
    watch = Witness()
    asked = request_for(name, {"epochs": epochs, "unfreeze_from": layer}, **settings)
    done = finetune(asked, images, watch)
    assert done.repeated
    check_artefacts(done, images)
    check_phases(done, images)
    check_model(done, images)
    check_tensorboard(done, sum(epochs))
    check_found_again(done, asked, images)
    assert (done.phases["phase1"] is None) == (epochs[0] == 0)
    history = table(done.model_dir / "history.csv")
    assert [row["epoch"] for row in history] == [str(1 + at) for at in range(sum(epochs))]
    assert [row["phase"] for row in history] == ["1"] * epochs[0] + ["2"] * epochs[1]
    assert ("started", "phase 2", epochs[1] * len(images.split.train)) in watch.events
    assert any("model is kept" in note for note in done.notes)
    assert done.notes[-1] not in watch.text(), "who called says it, once"
    assert done.manifest.threshold == done.manifest.metrics["val"]["threshold"]
    if name == "two-phase-f1":
        assert done.manifest.metrics["val"]["recall"] == 1.0
    if data == "three":
        assert done.manifest.classes == images.classes
        labels = (done.model_dir / "labels.txt").read_text(encoding="utf-8")
        assert labels.splitlines() == list(images.classes)


def check_found_again(first: FineTuned, asked: FinetuneRequest, images: ImageSet) -> None:
    stamp = (first.model_dir / "model.keras").stat().st_mtime_ns
    again = finetune(asked, images)
    assert not again.repeated
    assert "nothing was trained" in again.notes[0]
    assert (again.manifest, again.phases, again.kept_phase) == (
        first.manifest,
        first.phases,
        first.kept_phase,
    )
    assert (first.model_dir / "model.keras").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_a_finished_run_is_repeated_when_forced_changed_or_damaged(
    binary: ImageSet, request_for: Request
) -> None:
    asked = request_for(overrides={"epochs": (2, 1)})
    first = finetune(asked, binary)
    forced = finetune(asked.but(force=True), binary)
    assert forced.repeated
    assert forced.phases == first.phases  # the same seed
    other = finetune(asked.but(seed=1), binary)
    assert other.repeated
    assert other.phases != first.phases
    (first.model_dir / "model.keras").write_bytes(b"damaged")
    assert finetune(asked.but(seed=1), binary).repeated


def progress(first: dict | None, second: dict | None) -> Progress:
    best = {"phase1": first, "phase2": second}
    return Progress(best={name: {"epoch": 1, **values} for name, values in best.items() if values})


def test_phase_two_has_to_beat_phase_one() -> None:
    from benchmark.finetuning.training import choose

    first = {"f1": 0.9, "loss": 0.3, "threshold": 0.4}
    better = {"f1": 0.91, "loss": 0.5, "threshold": 0.6}
    assert choose(progress(first, better)).kept == "phase2"
    assert choose(progress(first, better)).threshold == 0.6
    assert choose(progress(first, {**first, "loss": 0.29})).kept == "phase2"
    kept = choose(progress(first, {**first, "threshold": 0.5}))
    assert (kept.kept, kept.threshold) == ("phase1", 0.4)
    assert "Phase 2 did not beat phase 1" in kept.note
    assert choose(progress(None, better)).kept == "phase2"
    assert "left out" in choose(progress(first, None)).note


@pytest.mark.slow
def test_phase_one_is_kept_when_phase_two_does_not_beat_it(binary: ImageSet, request_for: Request) -> None:
    rates = {"epochs": (12, 2), "learning_rates": (0.1, 5.0), "optimizer": "sgd"}
    done = finetune(request_for(overrides=rates), binary)
    assert done.kept_phase == "phase1"
    assert done.manifest.metrics["val"] == done.phases["phase1"]["val"]
    check_model(done, binary)
    check_phases(done, binary)


@pytest.mark.slow
def test_training_learns(binary: ImageSet, request_for: Request) -> None:
    rates = {"epochs": (4, 25), "learning_rates": (0.01, 0.01)}
    done = finetune(request_for(overrides=rates), binary)
    assert done.kept_phase == "phase2"
    assert done.val_f1 > 0.9
    assert done.phases["phase2"]["val"]["f1"] > done.phases["before"]["val"]["f1"]


@pytest.mark.slow
def test_patience_ends_a_phase_early(binary: ImageSet, request_for: Request) -> None:
    overrides = {"epochs": (30, 0), "learning_rates": (1e-9, 1.0), "patience": 2, "dropout": 0.0}
    done = finetune(request_for(overrides=overrides), binary)
    history = table(done.model_dir / "history.csv")
    assert len(history) < 30
    best = json.loads((done.model_dir / "metrics.json").read_text())["best"]["phase1"]["epoch"]
    assert len(history) == best + 2


@pytest.mark.slow
@pytest.mark.parametrize("head", ["avg", "flatten"])
def test_kept_views_are_computed_once(head: str, binary: ImageSet, request_for: Request) -> None:
    asked = request_for(overrides={"epochs": (4, 0), "head": head}, cached_views=2)
    watch = Witness()
    first = finetune(asked, binary, watch)
    assert ("started", "embed views", 2 * len(binary.split.train)) in watch.events
    check_artefacts(first, binary)
    more = Witness()
    finetune(replace(asked.but(cached_views=3), out=asked.out / "more"), binary, more)
    assert ("started", "embed views", len(binary.split.train)) in more.events
    again = Witness()
    repeated = finetune(asked.but(force=True), binary, again)
    assert "embed views" not in again.text()
    assert repeated.phases == first.phases


def test_views_are_kept_under_the_engine_that_made_them(
    binary: ImageSet, request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO is planned, and cannot be used when it comes to it."""
    opened = views.open_engine

    def fall_back(wanted: EngineRequest, *, sample: UInt8) -> FrozenBackbone:
        return opened(replace(wanted, engine=Engine.TENSORFLOW), sample=sample)

    monkeypatch.setattr(views, "plan_engine", lambda *_: (Engine.OPENVINO, Precision.FLOAT32))
    monkeypatch.setattr(views, "open_engine", fall_back)
    asked = request_for(overrides={"epochs": (1, 0)}, cached_views=1)
    first = finetune(asked, binary)
    keys = [entry.key for entry in EmbeddingStore(asked.options.cache).entries()]
    assert [key and key.engine for key in keys] == [Engine.TENSORFLOW]
    watch = Witness()
    again = finetune(asked.but(force=True), binary, watch)
    assert "embed views" not in watch.text(), "they are there"
    assert again.phases == first.phases


def test_views_of_a_recipe_without_augmentation_are_one(binary: ImageSet, request_for: Request) -> None:
    asked = request_for("mobilenetv2-plain", {"epochs": (3, 0), "unfreeze_from": 4}, cached_views=3)
    watch = Witness()
    kept = finetune(asked, binary, watch)
    assert ("started", "embed views", len(binary.split.train)) in watch.events
    plain = finetune(replace(asked.but(cached_views=0), out=asked.out / "plain"), binary)
    for part in ("val", "test"):
        assert kept.phases["phase1"][part] == pytest.approx(plain.phases["phase1"][part], abs=1e-4)


@pytest.mark.slow
def test_kept_views_learn_what_running_the_network_learns(binary: ImageSet, request_for: Request) -> None:
    """With as many views as epochs both ways see the same pictures in the same order."""
    overrides = {"epochs": (3, 0), "learning_rates": (0.05, 1.0)}
    plain = finetune(request_for(overrides=overrides), binary)
    kept = finetune(request_for(overrides=overrides, cached_views=3, out=plain.model_dir / "kept"), binary)
    for part in ("val", "test"):
        one, other = plain.phases["phase1"][part], kept.phases["phase1"][part]
        assert one == pytest.approx(other, abs=2e-3)


@pytest.mark.slow
def test_pixels_that_do_not_fit_the_buffer_are_decoded_anew(binary: ImageSet, request_for: Request) -> None:
    asked = request_for(overrides={"epochs": (1, 0)})
    kept = finetune(asked, binary)
    anew = finetune(replace(asked, buffer_bytes=0, out=asked.out / "anew"), binary)
    assert anew.phases == kept.phases
    assert not list((asked.options.cache / "scratch").iterdir())


def test_decoding_on_the_way_gives_the_pixels_of_the_buffer(binary: ImageSet, request_for: Request) -> None:
    from benchmark.finetuning.pixels import open_pixels

    rows = np.array([5, 0, 17])
    found = []
    for limit in (0, 2**30):
        asked = replace(request_for(), buffer_bytes=limit)
        with open_pixels(asked, binary, Witness()) as pixels:
            found.append(np.stack(list(pixels(rows))))
    assert found[0].shape == (3, 32, 32, 3)
    assert np.array_equal(*found)
    assert not list((asked.options.cache / "scratch").glob("*"))


def test_an_image_with_too_many_pixels_is_refused_where_its_content_is_not_compared(
    binary: ImageSet, request_for: Request
) -> None:
    from benchmark.finetuning.pixels import open_pixels

    asked = request_for(buffer_bytes=0, max_pixels=40 * 40 - 1)
    with (
        pytest.raises(DataError, match="at most 1,599"),
        open_pixels(asked, binary, Witness()) as pixels,
    ):
        next(pixels(np.array([0])))


def event_payloads(path: Path) -> list[bytes]:
    """Records of an event file: length, its checksum, bytes, their checksum."""
    content, payloads = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        payloads.append(content[12 : 12 + length])
        content = content[16 + length :]
    return payloads


def check_tensorboard(done: FineTuned, epochs: int) -> None:
    for name, tag in (("train", b"epoch_loss"), ("validation", b"epoch_f1")):
        (path,) = (done.model_dir / "tensorboard" / name).iterdir()
        payloads = event_payloads(path)
        assert len(payloads) == epochs + 1
        assert b"brain.Event:2" in payloads[0]
        assert all(tag in payload for payload in payloads[1:])


def build_exploding(size: int) -> keras.Model:
    import keras

    inputs = keras.Input((size, size, 3))
    huge = keras.layers.Rescaling(3e38)(keras.layers.Rescaling(3e38)(inputs))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(huge))


def test_what_cannot_be_fine_tuned(binary: ImageSet, request_for: Request) -> None:
    with pytest.raises(RecipeError, match=r"block5_con.*Did you mean block5_conv1"):
        finetune(request_for(overrides={"unfreeze_from": "block5_con"}), binary)
    request = request_for()
    large = replace(request, backbone=replace(request.backbone, min_size=400))
    with pytest.raises(RecipeError, match=r"too small.*at least 400"):
        finetune(large, binary)
    split = replace(binary.split, val=np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no images in the val part"):
        finetune(request_for(), replace(binary, split=split))
    asked = request_for()
    with pytest.raises(TrainingError, match=r"not a number"):
        finetune(replace(asked, backbone=replace(asked.backbone, build=build_exploding)), binary)


def test_a_folder_that_cannot_be_written(binary: ImageSet, request_for: Request, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        finetune(request_for(out=tmp_path / "file" / "model"), binary)


def test_two_processes_do_not_share_a_model_directory(binary: ImageSet, request_for: Request) -> None:
    import filelock

    request = request_for()
    bench = ModelDirectory(request.out)
    bench.folder.mkdir(parents=True)
    with filelock.FileLock(bench.folder / "lock"), pytest.raises(TrainingError, match="another process"):
        finetune(request, binary)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_each_recipe_runs_on_its_own_architecture(name: str, binary: ImageSet, request_for: Request) -> None:
    from benchmark.backbones import select

    asked = request_for(name, {"epochs": (0, 1) if name == "vgg16-flatten" else (1, 1)})
    (backbone,) = select(asked.recipe.backbone)
    done = finetune(replace(asked, backbone=backbone), binary)
    check_artefacts(done, binary)
    check_phases(done, binary)
    check_model(done, binary)
    assert done.manifest.preprocessing == str(backbone.preprocessing)


WEIGHTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "weights"
PHOTOGRAPHS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "brick_cracks"


@pytest.mark.slow
@pytest.mark.skipif(
    not (WEIGHTS.is_dir() and PHOTOGRAPHS.is_dir()), reason="no shared photographs and weights"
)
def test_photographs_of_brickwork(tmp_path: Path) -> None:
    """The default recipe with fewer epochs, pretrained weights, a plain random split."""
    from benchmark.backbones import parse_weights, select
    from benchmark.data import load_images
    from benchmark.finetuning import Recipe
    from benchmark.options import DataOptions, FinetuneOptions, RecipeChanges

    images = load_images(PHOTOGRAPHS, cache=tmp_path / "cache", options=DataOptions())
    (backbone,) = select("MobileNetV3Small_0.75")
    done = finetune(
        FinetuneRequest(
            backbone=backbone,
            recipe=Recipe.load().changed(RecipeChanges(epochs=(25, 2))),
            out=tmp_path / "model",
            options=FinetuneOptions(data=PHOTOGRAPHS, cache=tmp_path / "cache", cached_views=4),
            weights=parse_weights(str(WEIGHTS)),
        ),
        images,
    )
    check_artefacts(done, images)
    check_phases(done, images)
    check_model(done, images)
    assert done.manifest.metrics["test"]["f1"] >= 0.93
    assert "  re_lu  " in (done.model_dir / "architecture.txt").read_text()  # whatever was built before
    phases = done.phases
    assert done.val_f1 >= phases["phase1"]["val"]["f1"] > phases["before"]["val"]["f1"]
