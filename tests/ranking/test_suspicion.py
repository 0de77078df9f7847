"""Wrong labels are found where they were planted, and honest mistakes are not taken for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.errors import ArgumentError
from benchmark.ranking import judge_labels
from benchmark.records import Float32, Targets, Task
from tests.statistics.labels import NAMES, draw, outcome, watch_labels


@pytest.mark.parametrize("task", list(Task))
def test_planted_flips_stand_out(task: Task) -> None:
    covered = []
    for seed in range(5):
        backbones, targets, planted = draw(task, seed, 0.03, sharpness=40.0)
        found = judge_labels(backbones, backbones[0], targets)
        per_image = len(targets.classes) if task is Task.MULTILABEL else 1
        wanted = len(planted) * per_image
        first = [one.row for one in found.suspects[:wanted]]
        assert np.isin(first, planted).sum() >= 0.7 * wanted
        assert f"{len(found.suspects)}, the most suspicious first" in found.statement
        covered.append(found.share_low <= 0.03 <= found.share_high)
        assert [one.score for one in found.suspects] == sorted(one.score for one in found.suspects)[::-1]
    assert sum(covered) >= 4


@pytest.mark.parametrize("task", list(Task))
def test_honest_mistakes_do_not_stand_out(task: Task) -> None:
    alarms = mistakes = 0
    for seed in range(20):
        backbones, targets, _ = draw(task, seed, 0.0)
        found = judge_labels(backbones, backbones[0], targets)
        alarms += bool(found.suspects)
        mistakes += sum(one.probability < 0.5 for one in found.hardest)
        assert found.suspects or "none stands out" in found.statement
    assert alarms <= 1
    assert mistakes > 100, "there were honest mistakes to be taken in by"


def test_mistakes_that_a_group_has_in_common_say_less() -> None:
    alone = together = 0
    for seed in range(20):
        backbones, targets, _ = draw(Task.BINARY, seed, 0.0)
        sure = backbones[0].predictions.val.mean(0)[:, 0] > 0.999
        denied = np.flatnonzero(sure & (targets.targets[:, 0] > 0))[:6]
        wanted = targets.targets.copy()
        wanted[denied] = 0
        groups = np.arange(len(wanted))
        lone = replace(targets, targets=wanted, groups=groups.copy())
        groups[denied] = denied[0]
        alone += bool(judge_labels(backbones, backbones[0], lone).suspects)
        together += bool(judge_labels(backbones, backbones[0], replace(lone, groups=groups)).suspects)
    assert alone == 20
    assert together <= 2


@pytest.mark.parametrize(("few", "least", "most"), [(2, 0, 1), (12, 9, 10)])
def test_wrong_labels_stand_out_by_the_groups_that_they_lie_in(few: int, least: int, most: int) -> None:
    seen = watch_labels(Task.BINARY, 600, 0.0, trials=10, seed=3, spoilt_groups=few)
    assert least <= 10 * seen.stands_out <= most


def test_a_class_is_denied_at_its_own_threshold() -> None:
    """Class 1 gets 0.4 at best, so that 0.4 is confident of it though 0.6 speaks for class 0."""
    positive = np.array([0.4, 0.4, 0.4, 0.05, 0.05, 0.4, 0.3])
    targets = Targets(
        targets=np.array([[1, 1, 1, 0, 0, 0, 0]], np.float32).T,
        classes=("no", "yes"),
        task=Task.BINARY,
        positive=1,
    )
    judge = outcome("A", positive[None, :, None])
    found = judge_labels([judge], judge, targets)
    assert found.denied == 1
    assert [one.row for one in found.hardest if one.confident_mistake] == [5]
    assert found.hardest[0].probability == pytest.approx(0.4)


def test_names_of_classes_and_backbones_are_those_that_the_user_knows() -> None:
    backbones, targets, planted = draw(Task.BINARY, 2, 0.03)
    swapped = replace(targets, classes=("crack", "sound"), positive=0)
    found = judge_labels(backbones, backbones[1], swapped)
    first = found.suspects[0]
    is_crack = targets.targets[first.row, 0] > 0
    assert (first.label, first.suggested) == (("crack", "sound") if is_crack else ("sound", "crack"))
    assert first.row in planted
    assert first.denied_by == ("A", "B", "C")
    tagged = draw(Task.MULTILABEL, 2, 0.03)
    names = {one.label for one in judge_labels(tagged[0], tagged[0][0], tagged[1]).suspects}
    assert names <= {f"{no}{name}" for no in ("", "not ") for name in NAMES}
    assert {name.startswith("not ") for name in names} == {True, False}


def test_rows_are_those_of_the_image_set_and_the_order_of_judges_plays_no_part() -> None:
    backbones, targets, _ = draw(Task.MULTICLASS, 3, 0.03)
    found = judge_labels(backbones, backbones[0], targets)
    assert judge_labels(backbones[::-1], backbones[0], targets) == found
    before: Float32 = np.zeros((10, 3), np.float32)
    later = [outcome(one.backbone, one.predictions.val, 10) for one in backbones if one.predictions]
    moved = judge_labels(later, later[0], replace(targets, targets=np.vstack([before, targets.targets])))
    assert [one.row - 10 for one in moved.suspects] == [one.row for one in found.suspects]
    assert [one.row - 10 for one in moved.hardest] == [one.row for one in found.hardest]


def test_a_class_without_images_and_a_single_image_are_no_trouble() -> None:
    backbones, targets, _ = draw(Task.MULTICLASS, 4, 0.0)
    absent = np.hstack([targets.targets, np.zeros((len(targets.targets), 1), np.float32)])
    wider = [
        outcome(one.backbone, np.concatenate([one.predictions.val, one.predictions.val[..., :1] * 0], -1))
        for one in backbones
        if one.predictions
    ]
    assert not judge_labels(wider, wider[0], replace(targets, targets=absent, classes=NAMES)).suspects
    one = outcome("A", np.array([[[0.9]]]))
    few = Targets(targets=np.zeros((1, 1), np.float32), classes=("no", "yes"), task=Task.BINARY, positive=1)
    assert "none stands out" in judge_labels([one], one, few).statement


def test_there_must_be_a_judge() -> None:
    backbones, targets, _ = draw(Task.BINARY, 5, 0.0)
    with pytest.raises(ArgumentError, match="labels need a backbone to judge them"):
        judge_labels([], backbones[0], targets)
