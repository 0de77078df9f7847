"""Going on from the board's head: flips, rate, smaller steps of early layers, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import RecipeError, TrainingError
from benchmark.finetuning import BoardHead, FinetuneRequest, Recipe, finetune
from benchmark.finetuning.keeping import choose_against_board
from benchmark.finetuning.progress import Progress
from benchmark.finetuning.rates import rate_before_harm, tried_rates
from benchmark.options import RecipeChanges
from benchmark.records import Average, Backbone, ImageSet, Preprocessing, Silent, Task
from benchmark.statistics import ErrorCounts, Pairs, Sample, gains

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
Request = Callable[..., FinetuneRequest]
Start = Callable[..., BoardHead]
SIZE = 32
EPOCHS = {"epochs": (2, 6)}


def test_a_sure_gain_is_kept_and_told(many: ImageSet, request_for: Request, board_head: Start) -> None:
    request = request_for("probe-then-tune", {"epochs": (1, 15)}, head=board_head(many))
    done = finetune(request, many)
    assert done.kept_phase == "phase2"
    stored = json.loads((done.model_dir / "metrics.json").read_text())
    before, after = (stored[moment]["val"]["f1"] for moment in ("before", "phase2"))
    gain = stored["gains"]["phase2"]
    assert gain["better"]
    assert gain["f1"] == pytest.approx(after - before)
    assert 0 < gain["f1_low"] < gain["f1"] <= gain["f1_high"]
    assert done.val_f1 == after
    run = json.loads((done.model_dir / "run.json").read_text())["recipe"]
    assert run["augmentation"]["flip"] in {"none", "horizontal", "vertical", "both"}
    assert (run["phase2"]["range_test"], stored["kept"]) == (0, "phase2")
    assert 0 < run["phase2"]["learning_rate"] <= 1e-2
    said = " ".join(done.notes)
    assert "Phase 2 is kept" in said
    assert f"{run['phase2']['learning_rate']:.1e}, found by a range test" in said


def test_nothing_is_kept_that_only_looks_better(
    binary: ImageSet, request_for: Request, board_head: Start
) -> None:
    """Six validation images of a class show nothing, however much better training makes them look."""
    done = finetune(request_for("probe-then-tune", EPOCHS, head=board_head(binary)), binary)
    assert done.kept_phase == "before"
    assert "6 validation images (or groups) of a class are too few" in " ".join(done.notes)
    before = done.phases["before"]
    assert before is not None
    assert done.manifest.metrics["val"] == before["val"]
    model = load_model(done.model_dir / "model.keras")
    assert np.all(model.get_layer("logits").get_weights()[0] == 0), "the head is the one that it started from"


def test_where_nothing_can_be_shown_nothing_is_trained(
    binary: ImageSet, request_for: Request, board_head: Start
) -> None:
    watch = Watch()
    rows: list[Mapping[str, float]] = []
    request = request_for("probe-then-tune", EPOCHS, head=board_head(binary))
    done = finetune(request, binary, watch, rows.append)
    assert not rows
    assert not {"phase 1", "phase 2", "range test"} & set(watch.tasks)
    assert any("Nothing is trained" in text and "too few" in text for text in watch.said)
    assert (done.phases["phase1"], done.phases["phase2"]) == (None, None)
    gains_told = json.loads((done.model_dir / "metrics.json").read_text())["gains"]
    assert gains_told["phase1"] is gains_told["phase2"] is None
    assert "too few" in gains_told["reason"]
    assert not (done.model_dir / "history.csv").exists()


@pytest.mark.parametrize("batch", [16, 128], ids=["within an epoch", "by its only update"])
def test_a_loss_that_is_no_number_costs_nothing_but_the_phase(
    batch: int, many: ImageSet, request_for: Request, board_head: Start
) -> None:
    def hopeless(name: str) -> Recipe:
        recipe = Recipe.load(name).changed(RecipeChanges(image_size=SIZE, epochs=(1, 3), batch_size=batch))
        rate = {"learning_rate": 1e30, "warm_up": 0, "range_test": 0}
        return recipe.model_copy(update={"phase2": recipe.phase2.model_copy(update=rate)})

    done = finetune(replace(request_for(head=board_head(many)), recipe=hopeless("probe-then-tune")), many)
    assert done.kept_phase in {"before", "phase1"}
    said = " ".join(done.notes)
    assert "Phase 2 ended early: its loss was not a number any more." in said
    model = load_model(done.model_dir / "model.keras")
    assert all(np.isfinite(values).all() for values in model.get_weights())
    other = request_for(out=done.model_dir.parent / "other")
    with pytest.raises(TrainingError, match="not a number any more"):
        finetune(replace(other, recipe=hopeless("two-phase-f1")), many)


def test_the_loss_of_every_moment_is_that_before_the_temperature(
    many: ImageSet, request_for: Request, board_head: Start
) -> None:
    """A head that says 0.9 of every image is tempered; the row of the board's head stays what it was."""
    small = {"epochs": (1, 1), "learning_rates": (1e-9, 1e-9)}
    done = finetune(request_for("probe-then-tune", small, head=board_head(many, 0.9)), many)
    assert done.kept_phase == "before"
    kept = done.phases["before"]
    assert kept is not None
    targets = many.head_targets()
    for part in ("val", "test"):
        true = targets[getattr(many.split, part), 0]
        untempered = -(true * np.log(0.9) + (1 - true) * np.log(0.1)).mean()
        assert kept[part]["loss"] == pytest.approx(untempered, abs=1e-4)  # type: ignore[index]
    told = json.loads((done.model_dir / "metrics.json").read_text())["calibration"]
    assert told["loss_before"] == pytest.approx(kept["test"]["loss"])  # type: ignore[index]
    assert told["loss_after"] < told["loss_before"] - 0.1


class Watch(Silent):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.said: list[str] = []

    def started(self, task: str, total: int) -> None:
        self.tasks.append(task)

    def message(self, text: str) -> None:
        self.said.append(text)


def load_model(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201 - Keras ships no types
    import keras

    return keras.saving.load_model(path)


def test_the_backbone_of_a_kept_board_head_is_the_pretrained_one(
    binary: ImageSet, request_for: Request, board_head: Start, tmp_path: Path
) -> None:
    tuned = finetune(request_for("probe-then-tune", EPOCHS, head=board_head(binary)), binary)
    shipped = board_head(binary)
    request = request_for("probe-then-tune", {"epochs": (1, 0)}, head=shipped, out=tmp_path / "other")
    head_only = finetune(request, binary)
    one, other = (load_model(done.model_dir / "model.keras").get_layer("tiny") for done in (tuned, head_only))
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_head_of_another_network_is_noticed(
    many: ImageSet, request_for: Request, board_head: Start
) -> None:
    wrong = replace(board_head(many, 0.9), expected=np.full((len(many.split.val), 1), 0.2, np.float32))
    with pytest.raises(TrainingError, match="does not answer as the board's head did"):
        finetune(request_for("probe-then-tune", EPOCHS, head=wrong), many)


def test_recipe_and_head_belong_together(many: ImageSet, request_for: Request, board_head: Start) -> None:
    with pytest.raises(RecipeError, match="belong together"):
        finetune(request_for("probe-then-tune", EPOCHS), many)
    with pytest.raises(RecipeError, match="belong together"):
        finetune(request_for("two-phase-f1", EPOCHS, head=board_head(many)), many)


def test_early_layers_move_less(
    many: ImageSet, request_for: Request, board_head: Start, tmp_path: Path
) -> None:
    recipe = Recipe.load("probe-then-tune").changed(
        RecipeChanges(image_size=SIZE, epochs=(0, 3), batch_size=16, learning_rates=(1e-3, 1e-3))
    )
    phase = recipe.phase2.model_copy(update={"layer_decay": 1e-9, "warm_up": 0})
    recipe = recipe.model_copy(update={"phase2": phase})
    done = finetune(replace(request_for(head=board_head(many)), recipe=recipe), many)
    assert done.kept_phase == "phase2"
    tuned = load_model(done.model_dir / "model.keras").get_layer("tiny")
    other = request_for("probe-then-tune", {"epochs": (1, 0)}, head=board_head(many), out=tmp_path / "other")
    start = load_model(finetune(other, many).model_dir / "model.keras").get_layer("tiny")

    def moved(name: str) -> float:
        after, before = (model.get_layer(name).get_weights()[0] for model in (tuned, start))
        return float(np.abs(after - before).max())

    assert moved("block1_conv1") < 1e-8
    assert moved("block5_conv1") > 1e-5


def test_layers_share_the_rate_geometrically(tiny: Backbone) -> None:
    from benchmark.finetuning.network import Outputs, assemble, layer_scales, unfreeze

    recipe = Recipe.load("probe-then-tune")
    outputs = Outputs(task=Task.BINARY, classes=2, positive=0)
    network = assemble(tiny.build(SIZE), Preprocessing.parse("tf"), recipe.head, outputs, 0)
    unfreeze(network, recipe.phase2)
    variables = network.model.trainable_variables
    scales = layer_scales(network, variables, recipe.phase2)
    layers = network.base.layers
    by_path = {variable.path: scale for variable, scale in zip(variables, scales, strict=True)}
    place = [layer.name for layer in layers].index("block5_conv1")
    assert by_path["logits/kernel"] == 1
    assert by_path["block5_conv1/kernel"] == pytest.approx(0.1 ** (1 - place / (len(layers) - 1)))
    assert 0.1 < by_path["block1_conv1/kernel"] < by_path["block5_conv1/kernel"] < 1


def test_the_rate_rises_in_warm_up() -> None:
    phase = Recipe.load("probe-then-tune").phase2.model_copy(update={"warm_up": 2})
    shares = [phase.warmth(epoch, update, 4) for epoch in range(3) for update in range(4)]
    assert shares == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1, 1, 1])
    assert phase.model_copy(update={"warm_up": 0}).warmth(0, 0, 4) == 1


def test_a_range_test_stops_before_harm() -> None:
    rates = tried_rates(1e-2, 30)
    assert (len(rates), rates[-1]) == (30, pytest.approx(1e-2))
    assert np.allclose(np.diff(np.log(rates)), np.diff(np.log(rates))[0])
    batches = np.where(np.arange(30) % 2, 0.1, 0.5).tolist()
    assert rate_before_harm(rates, batches, batches) == pytest.approx(1e-2), "nothing turned"
    turning = [loss if at < 20 else 5.0 for at, loss in enumerate(batches)]
    assert rate_before_harm(rates, batches, turning) == pytest.approx(rates[19])
    broken = [loss if at < 20 else np.nan for at, loss in enumerate(batches)]
    assert rate_before_harm(rates, batches, broken) == pytest.approx(rates[19])
    recovered = [loss if at < 25 else 0.1 for at, loss in enumerate(turning)]
    assert rate_before_harm(rates, batches, recovered) == pytest.approx(rates[19]), "for what it is worth"
    spike = [loss + 0.5 * (at == 5) for at, loss in enumerate(turning)]
    assert rate_before_harm(rates, batches, spike) == pytest.approx(rates[19]), "one batch is no turn"
    assert rate_before_harm(rates, [1e-4] * 30, [2e-2] * 30) == pytest.approx(1e-2), "both are nothing"
    assert rate_before_harm(rates, batches, [9.0] * 30) == pytest.approx(rates[0]), "only harm"
    assert tried_rates(1e-2, 1) == [1e-2]


def run_of(decided: list[np.ndarray], phases: list[int], f1: list[float]) -> Progress:
    """A finished run: decisions before training, then of every epoch."""
    progress = Progress(decided=[np.packbits(one) for one in decided])
    progress.history = [{"phase": phase, "epoch": at} for at, phase in enumerate(phases, start=1)]
    for at, value in enumerate(f1):
        key = "before" if at == 0 else f"phase{phases[at - 1]}"
        if key not in progress.best or value > progress.best[key]["f1"]:
            progress.best[key] = {"epoch": at, "f1": value, "loss": 1.0, "threshold": 0.5}
    return progress


def test_what_is_shown_to_be_better_is_kept() -> None:
    generator = np.random.default_rng(0)
    targets = generator.random((400, 1)) < 0.5
    sample = Sample.of(targets, Average.BINARY)

    def wrong(count: int, first: int = 0) -> np.ndarray:
        answers = targets.copy()
        answers[first : first + count] ^= True
        return answers

    def kept(*counts: int, phases: list[int]) -> str:
        decided = [wrong(count) for count in counts]
        f1 = [1 - count / 400 for count in counts]
        return choose_against_board(run_of(decided, phases, f1), sample).kept

    assert kept(40, 40, 10, phases=[1, 2]) == "phase2"
    assert kept(40, 10, 10, phases=[1, 2]) == "phase1", "phase 2 adds nothing"
    assert kept(40, 10, 8, phases=[1, 2]) == "phase2", "both are better, and one is best"
    assert kept(60, 30, 3, phases=[1, 2]) == "phase2"
    assert kept(40, 38, 37, phases=[1, 2]) == "before", "three images are no proof"
    assert kept(40, 60, 10, phases=[1, 2]) == "phase2"
    assert kept(10, 40, 40, phases=[1, 2]) == "before"
    assert kept(40, 5, phases=[2]) == "phase2"
    few = Sample.of(targets[:18], Average.BINARY)
    told = choose_against_board(run_of([~targets[:18], targets[:18]], [2], [0.0, 1.0]), few)
    assert told.kept == "before"
    assert "too few" in told.note


def test_the_best_of_many_equal_epochs_is_seldom_shown_to_be_better() -> None:
    """The interval is that of all epochs together: picking the best of 20 does not make it better."""
    better = alone = 0
    for draw in range(150):
        generator = np.random.default_rng(draw)
        targets = generator.random((200, 1)) < 0.5
        sample = Sample.of(targets, Average.BINARY)
        decided = [targets ^ (generator.random((200, 1)) < 0.1) for _ in range(21)]
        pairs = Pairs.of(sample, [ErrorCounts.of(one[None], sample) for one in decided])
        found = gains(pairs)
        best = int(found[:, 0].argmax())
        better += bool(found[best, 1] > 0)
        alone += bool(pairs.statistics[best, 0] > 1.645)
    assert better <= 12, "5 % of 150 are 7.5, and two standard deviations more are 12.8"
    assert alone > 3 * better, "what a single pair would say"


def test_the_head_of_the_board_decides_about_flips() -> None:
    """Bright left halves against bright right halves: mirrored sideways, one is the other."""
    import keras

    from benchmark.finetuning.feed import Inference
    from benchmark.finetuning.flips import allowed_flips
    from benchmark.finetuning.network import Outputs, assemble
    from benchmark.finetuning.recipe import Flip
    from benchmark.finetuning.scoring import Scoring
    from benchmark.records import ThresholdRule

    pictures = np.zeros((20, SIZE, SIZE, 3), np.uint8)
    pictures[:10, :, : SIZE // 2] = 200
    pictures[10:, :, SIZE // 2 :] = 200
    inputs = keras.Input((SIZE, SIZE, 3))
    left = keras.layers.Cropping2D(((0, 0), (0, SIZE // 2)))(inputs)
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(left), name="left")
    outputs = Outputs(task=Task.BINARY, classes=2, positive=0)
    head = Recipe.load("probe-then-tune").head
    network = assemble(backbone, Preprocessing.parse("identity"), head, outputs, 0)
    network.head.layers[-1].set_weights([np.full((3, 1), 0.1, np.float32), np.full(1, -30.0, np.float32)])
    targets = (np.arange(20) < 10).astype(np.float32)[:, None]
    scoring = Scoring(task=Task.BINARY, average=Average.BINARY, rule=ThresholdRule())

    def pixels(rows: np.ndarray):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return (pictures[row] for row in rows)

    answers = Inference(network.model, pixels, 8)
    flip, said = allowed_flips(answers, pixels, np.arange(20), targets, scoring)
    assert flip is Flip.VERTICAL
    assert "0.000 sideways and 1.000 upside down of 1.000" in said


@pytest.mark.parametrize("key", ["range_test = 0", "layer_decay = 1.0", "warm_up = 0"])
def test_a_recipe_of_ones_own_may_start_from_the_board(tmp_path: Path, key: str) -> None:
    text = Recipe.text("probe-then-tune")
    name = key.partition(" ")[0]
    lines = [key if line.startswith(f"{name} ") else line for line in text.splitlines()]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    recipe = Recipe.load(path)
    assert recipe.starts_from_board
    assert not recipe.ships_the_board
    path.write_text(text.replace('start = "board"', ""))
    with pytest.raises(RecipeError, match=r"auto.*needs head\.start"):
        Recipe.load(path)
