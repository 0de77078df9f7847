"""Temperature and abstention of a finished model: what is folded in, what is judged on what."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmark.finetuning import BoardHead, FinetuneRequest, Recipe, finetune
from benchmark.finetuning.scoring import Scoring
from benchmark.finetuning.settling import Tempering, fold_temperature, settle
from benchmark.records import (
    AbstentionRule,
    Average,
    ImageSet,
    Int64,
    Predictions,
    Split,
    Task,
    ThresholdRule,
)
from benchmark.statistics import decide, sureness

SCORING = Scoring(task=Task.BINARY, average=Average.BINARY, rule=ThresholdRule())


def test_a_folded_temperature_divides_the_logits() -> None:
    import keras

    dense = keras.layers.Dense(3)
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    before = np.asarray(dense(vectors))
    dense.bias.assign([1.0, -2.0, 0.5])
    before = np.asarray(dense(vectors))
    fold_temperature(dense, 2.5)
    assert np.asarray(dense(vectors)) == pytest.approx(before / 2.5, abs=1e-6)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTILABEL])
def test_an_image_that_stands_on_the_threshold_stays_decided(task: Task) -> None:
    generator = np.random.default_rng(1)
    for temperature in (0.37, 1.0, 4.2):
        tempering = Tempering(task=task, temperature=temperature)
        raw = generator.random((200, 1 if task is Task.BINARY else 3)).astype(np.float32)
        final = tempering.probabilities(raw)
        for at in raw[::20, 0].astype(np.float64):
            threshold = tempering.exact_threshold(float(at), raw, final)
            assert np.array_equal(decide(raw, float(at), task), decide(final, threshold, task))
            assert np.abs(final - threshold).min() > 1e-7, "an export's rounding must not decide"


@pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
def test_a_shipped_head_is_judged_as_one_head_not_as_the_mean_of_several(
    many: ImageSet, board_head: Callable[..., BoardHead], request_for: Callable[..., FinetuneRequest]
) -> None:
    rows, test = np.sort(many.split.val), many.split.test
    generator = np.random.default_rng(4)
    odds = 3 * many.head_targets()[rows] - 1.5 + generator.normal(0, 2, (5, len(rows), 1))
    said = (1 / (1 + np.exp(-odds))).astype(np.float32)
    expected = np.full((len(test), 1), 0.5, np.float32)
    predictions = Predictions(
        val_rows=rows,
        val=said,
        val_thresholds=np.full(said.shape[:2], 0.5),
        test_rows=test,
        test=expected,
        test_threshold=0.5,
    )
    head = replace(board_head(many), part="test", expected=expected, predictions=predictions)
    recipe = Recipe.load("frozen").model_copy(update={"image_size": 32})
    wish = AbstentionRule.parse("coverage=0.7")
    done = finetune(replace(request_for(head=head, abstain=wish), recipe=recipe), many)
    tempering = Tempering(task=Task.BINARY, temperature=done.manifest.temperature)
    one = tempering.probabilities(said[0])[np.searchsorted(rows, many.split.val)]
    assert done.probabilities(many, "val") == pytest.approx(one, abs=1e-5)
    assert not finetune(replace(request_for(head=head, abstain=wish), recipe=recipe), many).repeated
    # The same head, validated by one repeat: other scores, temperature and certainty stand in its model.
    fewer = replace(predictions, val=said[1:2], val_thresholds=predictions.val_thresholds[:1])
    asked = request_for(head=replace(head, predictions=fewer), abstain=wish)
    other = finetune(replace(asked, recipe=recipe), many)
    assert other.repeated
    assert other.manifest.metrics["val"] != done.manifest.metrics["val"]
    sure = sureness(one, 0.5, Task.BINARY)
    assert (sure >= done.manifest.sure_from).mean() == pytest.approx(0.7, abs=1.01 / len(rows))


def overconfident(images: ImageSet, count: int) -> tuple[ImageSet, dict[str, np.ndarray]]:
    """Twice as many validation as test images, and probabilities with logits four times too large."""
    generator = np.random.default_rng(2)
    odds = generator.choice([-1, 1], 3 * count) * np.abs(generator.normal(3, 1.5, 3 * count))
    targets = (generator.random(3 * count) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    rows: Int64 = np.arange(3 * count)
    split = Split(train=rows[:0], val=rows[: 2 * count], test=rows[2 * count :], given=True)
    said = (1 / (1 + np.exp(-4 * odds))).astype(np.float32)[:, None]
    changed = replace(
        images,
        image_ids=[f"{row:064x}" for row in rows],
        paths=[f"{row}.png" for row in rows],
        targets=targets if images.positive == 1 else 1 - targets,
        groups=None,
        split=split,
    )
    return changed, {"val": said[split.val], "test": said[split.test]}


def test_what_was_overconfident_is_mended_and_judged_on_the_test_part(binary: ImageSet) -> None:
    images, raw = overconfident(binary, 400)
    targets = images.head_targets()[images.split.val]
    tempering = Tempering.found(raw["val"], targets, Task.BINARY)
    assert tempering.temperature == pytest.approx(4.0, rel=0.2)
    final = {part: tempering.probabilities(values) for part, values in raw.items()}
    rule = AbstentionRule.parse("error=0.1")
    settled = settle(SCORING, images, rule, tempering, 0.5, raw, final, 0)
    record = json.loads(json.dumps(settled.record(), allow_nan=False))
    calibration, abstention = record["calibration"], record["abstention"]
    assert calibration["part"] == "test"
    assert calibration["before"]["error"] > 2 * calibration["after"]["error"]
    assert calibration["after"]["error"] < 1.5 * calibration["after"]["by_chance"]
    assert sum(each["images"] for each in calibration["after"]["bins"]) == 400
    assert abstention["promised"]
    assert 0.5 < abstention["sure_from"] < 1
    assert abstention["error"]["low"] < 0.1
    assert any("are unsure" in note for note in settled.notes())
    assert not any("chosen for" in note for note in settled.notes())


@pytest.mark.parametrize("wish", ["recall=0.98", "precision=0.9"])
def test_what_a_wished_threshold_reaches_is_told_with_its_interval(wish: str, binary: ImageSet) -> None:
    images, raw = overconfident(binary, 400)
    scoring = replace(SCORING, rule=ThresholdRule.parse(wish))
    targets = images.head_targets()
    tempering = Tempering.found(raw["val"], targets[images.split.val], Task.BINARY)
    final = {part: tempering.probabilities(values) for part, values in raw.items()}
    before = scoring.threshold(raw["val"], targets[images.split.val])
    threshold = tempering.exact_threshold(before, raw["val"], final["val"])
    settled = settle(scoring, images, AbstentionRule.parse("none"), tempering, threshold, raw, final, 0)
    name, _, wanted = wish.partition("=")
    found = settled.reached[name]
    decided = final["test"][:, 0] >= threshold
    true = targets[images.split.test, 0] > 0.5
    reached = decided[true].mean() if name == "recall" else true[decided].mean()
    assert found.value == pytest.approx(reached)
    assert found.low <= float(wanted) <= found.high, "as it was on validation, on images like them"
    assert f"chosen for a {name} of {wanted}" in settled.notes()[0]
    assert settled.record()["reached"][name]["low"] == found.low


def test_without_a_test_part_the_temperature_is_judged_by_cross_fitting(binary: ImageSet) -> None:
    images, raw = overconfident(binary, 100)
    only = {"val": raw["val"]}
    images = replace(images, split=replace(images.split, test=images.split.test[:0]))
    targets = images.head_targets()[images.split.val]
    tempering = Tempering.found(only["val"], targets, Task.BINARY)
    final = {"val": tempering.probabilities(only["val"])}
    settled = settle(SCORING, images, AbstentionRule.parse("none"), tempering, 0.5, only, final, 0)
    assert settled.part == "val"
    assert settled.after.error < settled.before.error
    assert settled.chosen.sure_from == 0.0
    assert len(settled.notes()) == 1
