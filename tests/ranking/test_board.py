"""The board: order, columns, sentences, and the traps that must not fool its reader."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from benchmark.errors import ArgumentError
from benchmark.ranking import COLUMNS
from benchmark.ranking.board import (
    BoardOptions,
    build_leaderboard,
    data_seed,
    validation_f1,
)
from benchmark.records import Average, Failed, Leaderboard, Predictions, Pruned, Scored, Targets, Task

ROWS = np.arange


def targets_of(positives: int, negatives: int, groups: np.ndarray | None = None) -> Targets:
    targets = np.repeat(np.float32([[1], [0]]), [positives, negatives], axis=0)
    return Targets(targets=targets, classes=("crack", "sound"), task=Task.BINARY, positive=0, groups=groups)


def outcome(name: str, decided: np.ndarray, *, params: int = 1000, test: np.ndarray | None = None) -> Scored:
    """A scored backbone: decisions bool (R, V, C) on the first V images, ``test`` on those after them."""
    repeats, images, classes = decided.shape
    later = np.zeros((0, classes), bool) if test is None else test
    return Scored(
        backbone=name,
        family="family",
        source="keras",
        params=params,
        weights="imagenet",
        predictions=Predictions(
            val_rows=ROWS(images),
            val=np.where(decided, 0.9, 0.1).astype(np.float32),
            val_thresholds=np.full((repeats, images), 0.5),
            test_rows=images + ROWS(len(later)),
            test=np.where(later, 0.9, 0.1).astype(np.float32),
            test_threshold=0.5,
        ),
    )


def guesses(targets: Targets, error: float, seed: int, repeats: int = 2) -> np.ndarray:
    """Decisions that are wrong in a share of the images, mostly the same ones in each repeat."""
    generator = np.random.default_rng(seed)
    wrong = generator.random(targets.targets.shape) < error
    flips = generator.random((repeats, *targets.targets.shape)) < error / 10
    return (targets.targets > 0.5) ^ wrong ^ flips


def board_of(targets: Targets, errors: list[float], **options: object) -> Leaderboard:
    outcomes = [
        outcome(f"Backbone{k:02}", guesses(targets, error, k), params=1000 * (len(errors) - k))
        for k, error in enumerate(errors)
    ]
    return build_leaderboard(outcomes, targets, BoardOptions(**options))  # type: ignore[arg-type]


def said(board: Leaderboard) -> str:
    return " ".join((*board.notes, *board.statements))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "precision"])
@pytest.mark.parametrize("task", Task)
def test_every_metric_tells_from_guessing(task: Task, metric: str) -> None:
    """Also balanced accuracy of labels that do not exclude each other: calling all of them has all of it."""
    generator = np.random.default_rng(0)
    classes, positive = ("a", "b", "c"), None
    wanted = np.eye(3, dtype=np.float32)[np.arange(300) % 3]
    if task is Task.BINARY:
        classes, positive, wanted = ("a", "b"), 0, wanted[:, :1]
    if task is Task.MULTILABEL:
        wanted = np.float32(generator.random((300, 3)) < 0.4)
    targets = Targets(targets=wanted, classes=classes, task=task, positive=positive)
    true = wanted > 0.5
    useful = np.where(generator.random((300, 1)) < 0.15, np.roll(true, 1, axis=0), true)
    guessed = generator.permutation(true)
    board, chance = (
        build_leaderboard([outcome("A", decided[None])], targets, BoardOptions(metric=metric))
        for decided in (useful, guessed)
    )
    assert board.winner == "A"
    assert "Chance-level" not in said(board)
    assert chance.winner is None
    assert "Chance-level" in said(chance)


def test_columns_stand_in_the_contracts_order() -> None:
    board = board_of(targets_of(100, 100), [0.1, 0.2])
    assert ",".join(board.columns).startswith(
        "rank,backbone,family,source,status,pick,tie_group,val_f1,val_f1_low,val_f1_high,test_f1,test_accuracy,"
        "test_precision,test_recall,threshold,size_bytes,params,embedding_dim,input_size,images_per_second,"
        "latency_ms,embed_seconds,head_seconds,weights,weights_sha256,reason"
    )
    assert board.columns == tuple(column.name for column in COLUMNS if not column.optional)
    assert tuple(board.frame.columns) == board.columns
    assert all(tuple(row) == board.columns for row in board.rows)


def test_ranks_go_by_f1_then_size_then_name() -> None:
    board = board_of(targets_of(200, 200), [0.03, 0.04, 0.03, 0.3, 0.32])
    scores = [row["val_f1"] for row in board.rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["rank"] for row in board.rows] == [1, 2, 3, 4, 5]
    assert {row["backbone"]: row["tie_group"] for row in board.rows} == {
        "Backbone00": 1,
        "Backbone01": 1,
        "Backbone02": 1,
        "Backbone03": 2,
        "Backbone04": 2,
    }
    assert "3 of 5 cannot be told from the best on 400 images" in said(board)
    assert "2 are clearly behind" in said(board)


def test_another_metric_ranks_ties_and_picks() -> None:
    targets = targets_of(60, 540)
    true = targets.targets[:, 0] > 0.5
    careful, bold = true.copy(), true.copy()
    careful[:30] = False  # misses half of the cracks: F1 0.667, balanced accuracy 0.75
    bold[60:150] = True  # finds all with 90 false alarms: F1 0.571, balanced accuracy 0.917
    outcomes = [outcome("Careful", careful[None, :, None]), outcome("Bold", bold[None, :, None])]
    by_f1 = build_leaderboard(outcomes, targets)
    by_recalls = build_leaderboard(outcomes, targets, BoardOptions(metric="balanced_accuracy"))
    assert [row["backbone"] for row in by_f1.rows] == ["Careful", "Bold"]
    assert [row["backbone"] for row in by_recalls.rows] == ["Bold", "Careful"]
    first, second = by_recalls.rows
    assert (first["tie_group"], second["tie_group"]) == (1, 2)
    assert first["val_balanced_accuracy"] == pytest.approx((1 + 450 / 540) / 2)
    assert first["val_balanced_accuracy_low"] < first["val_balanced_accuracy"]
    assert by_recalls.winner == "Bold"
    assert "by 0.167 balanced accuracy" in said(by_recalls)
    f1 = [{row["backbone"]: row["val_f1"] for row in board.rows} for board in (by_f1, by_recalls)]
    assert f1[0] == f1[1], "F1 stays on the board"
    with pytest.raises(ArgumentError, match="f1, precision, balanced_accuracy; got recall"):
        BoardOptions(metric="recall")


def test_names_break_ties_of_size() -> None:
    targets = targets_of(50, 50)
    same = guesses(targets, 0.1, 0)
    board = build_leaderboard([outcome("B", same), outcome("A", same)], targets)
    assert [row["backbone"] for row in board.rows] == ["A", "B"]


def test_the_order_of_outcomes_does_not_matter() -> None:
    targets = targets_of(150, 150)
    outcomes = [outcome(f"Backbone{k}", guesses(targets, 0.05 * k, k), params=k) for k in range(1, 8)]
    forward, backward = build_leaderboard(outcomes, targets), build_leaderboard(outcomes[::-1], targets)
    assert repr(forward) == repr(backward)
    assert repr(forward) == repr(build_leaderboard(outcomes, targets))


def test_scores_follow_from_the_predictions() -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    targets = targets_of(60, 60)
    mixed = np.random.default_rng(0).permutation(120)
    targets = dataclasses.replace(targets, targets=targets.targets[mixed])
    decided = guesses(targets, 0.2, 1, repeats=3)
    scored = outcome("A", decided[:, :80], test=decided[0, 80:])
    row = build_leaderboard([scored], targets).rows[0]
    true = targets.targets[:, 0] > 0.5
    each = [f1_score(true[:80], one[:80, 0]) for one in decided]
    assert row["val_f1"] == pytest.approx(np.mean(each))
    assert row["val_f1_spread"] == pytest.approx(np.std(each, ddof=1))
    assert validation_f1(scored, targets) == pytest.approx(each)
    assert row["val_f1_low"] < row["val_f1"] < row["val_f1_high"]
    pair = true[80:], decided[0, 80:, 0]
    assert row["test_f1"] == pytest.approx(f1_score(*pair))
    assert row["test_accuracy"] == pytest.approx(accuracy_score(*pair))
    assert row["test_precision"] == pytest.approx(precision_score(*pair))
    assert row["test_recall"] == pytest.approx(recall_score(*pair))
    assert row["threshold"] == 0.5


def test_the_test_part_decides_nothing() -> None:
    targets = targets_of(100, 100)
    mixed = np.random.default_rng(0).permutation(200)
    targets = dataclasses.replace(targets, targets=targets.targets[mixed])
    decided = [guesses(targets, 0.1, k) for k in range(4)]
    outcomes = [
        outcome(f"Backbone{k}", one[:, :150], params=k, test=one[0, 150:]) for k, one in enumerate(decided)
    ]
    flipped = targets.targets.copy()
    flipped[150:] = 1 - flipped[150:]
    one = build_leaderboard(outcomes, targets)
    other = build_leaderboard(outcomes, dataclasses.replace(targets, targets=flipped))
    tests = [name for name in one.columns if name.startswith("test_")]
    assert one.frame.drop(columns=tests).equals(other.frame.drop(columns=tests))
    assert one.loss_bound == other.loss_bound
    assert not one.frame["test_f1"].equals(other.frame["test_f1"])


def test_without_a_test_part_its_columns_are_empty() -> None:
    board = board_of(targets_of(50, 50), [0.1])
    assert all(
        math.isnan(board.rows[0][f"test_{name}"]) for name in ("f1", "accuracy", "precision", "recall")
    )
    assert "test part" not in said(board)


def test_a_single_backbone_is_ranked_and_compared_with_nothing() -> None:
    board = board_of(targets_of(100, 100), [0.1])
    assert board.winner == "Backbone00"
    assert board.loss_bound == 0
    assert "only one that was scored" in said(board)


def test_backbones_that_were_not_scored_come_last_with_their_reason() -> None:
    targets = targets_of(100, 100)
    failed = Failed(backbone="Aaa", family="f", source="keras", reason="no weights", params=5)
    pruned = Pruned(**outcome("Abc", guesses(targets, 0.1, 9)).facts(), reason="behind")
    board = build_leaderboard([pruned, failed, outcome("Z", guesses(targets, 0.1, 0))], targets)
    assert [row["backbone"] for row in board.rows] == ["Z", "Aaa", "Abc"]
    assert [row["rank"] for row in board.rows] == [1, None, None]
    assert board.rows[1]["reason"] == "no weights"
    assert math.isnan(board.rows[2]["val_f1"])
    assert "Not scored: 1 pruned (Abc), 1 failed (Aaa)." in board.statements


def test_nothing_scored_is_said() -> None:
    failed = Failed(backbone="A", family="f", source="keras", reason="boom")
    board = build_leaderboard([failed], targets_of(10, 10))
    assert board.winner is None
    assert math.isnan(board.loss_bound)
    assert "No backbone was scored" in said(board)
    assert build_leaderboard([], targets_of(10, 10)).rows == ()


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_labels_tie_at_chance_and_the_board_says_so(seed: int) -> None:
    targets = targets_of(150, 150)
    generator = np.random.default_rng(seed)
    outcomes = [outcome(f"Backbone{k}", generator.random((2, 300, 1)) < 0.5, params=k) for k in range(12)]
    board = build_leaderboard(outcomes, targets)
    assert "labels look unrelated to the images" in said(board)
    assert "calling every image crack (F1 0.667)" in said(board)
    assert "clearly behind" not in said(board)
    assert board.winner is None, "guesses have no winner"
    assert math.isnan(board.loss_bound)
    macro = build_leaderboard(outcomes, targets, BoardOptions(average=Average.MACRO))
    untrained = build_leaderboard([dataclasses.replace(one, weights="random") for one in outcomes], targets)
    assert "Random weights tell nothing: no backbone is shown" in said(untrained)
    assert "unrelated" not in said(untrained)
    assert {row["tie_group"] for row in macro.rows} == {1}
    assert "guessing without looking" in said(macro)
    assert macro.winner is None


def test_a_useful_board_does_not_speak_of_chance() -> None:
    assert "unrelated" not in said(board_of(targets_of(100, 100), [0.2, 0.1]))


def test_six_images_never_give_a_confident_table() -> None:
    board = board_of(targets_of(3, 3), [0.0, 0.2, 0.5])
    assert "Too few to know" in said(board)
    assert "Tiny sample" in said(board)
    for claim in ("clearly behind", "is better than", "gives away", "give away"):
        assert claim not in said(board)
    assert board.rows[0]["val_f1_low"] < 0.7


def test_a_perfect_board_of_few_images_is_not_called_chance() -> None:
    board = board_of(targets_of(2, 198), [0.0, 0.0])
    assert "Chance-level" not in said(board)
    assert "Too few images to show that any backbone beats guessing" in said(board)


def test_forty_small_classes_make_one_note_of_each_kind() -> None:
    classes = tuple(f"class{number}" for number in range(40))
    wanted = np.repeat(np.eye(40, dtype=np.float32), 4, axis=0)
    targets = Targets(targets=wanted, classes=classes, task=Task.MULTICLASS)
    board = build_leaderboard([outcome("Backbone0", (wanted > 0.5)[None])], targets)
    kinds = [note.split()[0] for note in board.notes]
    assert len(kinds) == len(set(kinds))
    assert "Imbalance" not in said(board), "2.5 % each is what forty equal classes have"


def test_a_class_that_was_not_validated_is_named_and_left_out_of_the_mean() -> None:
    wanted = np.repeat(np.eye(4, dtype=np.float32)[:3], 30, axis=0)
    targets = Targets(targets=wanted, classes=("a", "b", "c", "never"), task=Task.MULTICLASS)
    board = build_leaderboard([outcome("Backbone0", (wanted > 0.5)[None])], targets)
    assert board.rows[0]["val_f1"] == 1.0
    assert board.winner == "Backbone0"
    assert "No validated image of never" in said(board)
    assert "unrelated" not in said(board)


@pytest.mark.parametrize("spared", [0, 1, 3])
def test_a_tag_that_nearly_all_images_carry_hides_no_winner(spared: int) -> None:
    wanted = np.random.default_rng(0).random((200, 3)) < (0.4, 0.3, 2.0)
    wanted[:spared, 2] = False
    targets = Targets(targets=wanted.astype(np.float32), classes=("a", "b", "wall"), task=Task.MULTILABEL)
    board = build_leaderboard([outcome("Backbone0", guesses(targets, 0.03, 0))], targets)
    assert board.winner == "Backbone0"
    assert "unrelated" not in said(board)


def test_ninety_nine_to_one_is_called_so() -> None:
    board = board_of(targets_of(5, 495), [0.0, 0.01, 0.02])
    assert "Imbalance: 1 class with few of the images (crack 1.0%)" in said(board)
    assert "only 5 images of class crack" in said(board)
    larger = board_of(targets_of(30, 2970), [0.001, 0.002])
    assert "Imbalance" in said(larger)
    assert "Tiny" not in said(larger)


def test_all_perfect_backbones_tie_with_an_interval_and_a_price() -> None:
    board = board_of(targets_of(50, 50), [0.0] * 5)
    assert {row["tie_group"] for row in board.rows} == {1}
    assert all(row["val_f1"] == row["val_f1_high"] == 1.0 for row in board.rows)
    assert all(0.93 < row["val_f1_low"] < 0.98 for row in board.rows)
    assert 0.01 < board.loss_bound < 0.08


def test_random_weights_are_named() -> None:
    targets = targets_of(60, 60)
    drawn = dataclasses.replace(outcome("A", guesses(targets, 0.3, 0)), weights="random")
    trained = outcome("B", guesses(targets, 0.1, 1))
    assert "Random weights: A." in build_leaderboard([drawn, trained], targets).notes
    assert any("All weights are random" in note for note in build_leaderboard([drawn], targets).notes)


def test_the_winner_is_the_smallest_within_the_margin_or_the_best() -> None:
    targets = targets_of(2000, 2000)
    errors = [0.02, 0.021, 0.2]  # the later, the smaller
    board = board_of(targets, errors, max_loss=0.02)
    picks = {row["backbone"]: row["pick"] for row in board.rows}
    best = board.rows[0]["backbone"]
    assert board.winner == "Backbone01"
    assert "winner" in picks["Backbone01"]
    assert "best score" in picks[best]
    assert picks["Backbone02"] in ("", "best value")
    assert board.loss_bound <= 0.02
    strict = board_of(targets, errors, max_loss=0.0)
    assert strict.winner == best
    assert "none is sure to give away at most 0 F1" in said(strict)
    assert [row["loss_bound"] for row in strict.rows] == [row["loss_bound"] for row in board.rows]
    assert [row["backbone"] for row in strict.rows] == [row["backbone"] for row in board.rows]


def test_best_value_is_the_knee_of_the_front() -> None:
    targets = targets_of(1000, 1000)
    sizes = [1_000, 2_000, 100_000, 200_000]
    outcomes = [
        outcome(f"Backbone{k}", guesses(targets, error, k), params=size)
        for k, (error, size) in enumerate(zip([0.4, 0.06, 0.05, 0.04], sizes, strict=True))
    ]
    picks = {row["backbone"]: row["pick"] for row in build_leaderboard(outcomes, targets).rows}
    assert "best value" in picks["Backbone1"]
    assert "best score" in picks["Backbone3"]


def test_the_test_part_has_an_interval() -> None:
    targets = targets_of(100, 100)
    decided = guesses(targets, 0.1, 0)
    order = np.random.default_rng(0).permutation(200)
    shuffled = dataclasses.replace(targets, targets=targets.targets[order])
    own = outcome("A", decided[:, order[:120]], test=decided[0, order[120:]])
    row = build_leaderboard([own], shuffled).rows[0]
    assert row["test_f1_low"] < row["test_f1"] < row["test_f1_high"]
    assert 0.05 < row["test_f1_high"] - row["test_f1_low"] < 0.3


def test_ungrouped_scores_stand_beside_the_grouped_ones() -> None:
    groups = np.arange(200) // 4
    targets = targets_of(100, 100, groups)
    grouped = [outcome("A", guesses(targets, 0.15, 0)), outcome("B", guesses(targets, 0.3, 1))]
    leaky = [outcome("A", guesses(targets, 0.02, 2))]
    board = build_leaderboard(grouped, targets, BoardOptions(ungrouped=leaky))
    assert board.columns[-1] == "val_f1_ungrouped"
    assert board.rows[0]["val_f1_ungrouped"] > board.rows[0]["val_f1"]
    assert math.isnan(board.rows[1]["val_f1_ungrouped"])
    assert "Splitting related images at random flatters" in said(board)
    assert "200 images in 50 groups" in said(board)


def test_groups_widen_intervals() -> None:
    errors = np.repeat(np.random.default_rng(0).random(40) < 0.15, 10)[None, :, None]
    plain = targets_of(200, 200)
    decided = (plain.targets > 0.5) ^ errors
    grouped = targets_of(200, 200, np.arange(400) // 10)
    (alone,), (together,) = (
        build_leaderboard([outcome("A", decided)], targets).rows for targets in (plain, grouped)
    )
    assert together["val_f1"] == alone["val_f1"]
    assert together["val_f1_high"] - together["val_f1_low"] > 2 * (alone["val_f1_high"] - alone["val_f1_low"])


def test_more_classes_and_labels() -> None:
    generator = np.random.default_rng(0)
    for task in (Task.MULTICLASS, Task.MULTILABEL):
        names = ("a", "b", "c")
        if task is Task.MULTICLASS:
            wanted = np.eye(3, dtype=np.float32)[np.arange(240) % 3]
        else:
            wanted = (generator.random((240, 3)) < 0.4).astype(np.float32)
        targets = Targets(targets=wanted, classes=names, task=task)
        outcomes = []
        for k, error in enumerate((0.05, 0.05, 0.5)):
            wrong = generator.random((2, 240)) < error
            decided = np.where(wrong[..., None], np.roll(wanted, 1, -1), wanted) > 0.5
            outcomes.append(outcome(f"Backbone{k}", decided, params=k))
        board = build_leaderboard(outcomes, targets)
        assert [row["tie_group"] for row in board.rows] == [1, 1, 2]
        assert math.isnan(board.rows[0]["threshold"]) is (task is Task.MULTICLASS)


def test_chance_level_of_three_classes() -> None:
    generator = np.random.default_rng(1)
    targets = Targets(
        targets=np.eye(3, dtype=np.float32)[np.arange(300) % 3],
        classes=("a", "b", "c"),
        task=Task.MULTICLASS,
    )
    decided = np.eye(3, dtype=bool)[generator.integers(0, 3, (6, 1, 300))]
    board = build_leaderboard([outcome(f"B{k}", each) for k, each in enumerate(decided)], targets)
    assert "unrelated" in said(board)
    assert "guessing without looking (F1 0.3" in said(board), "no image is of all classes at once"


def test_the_seed_depends_on_data_and_user_alone() -> None:
    targets = targets_of(10, 10)
    assert data_seed(targets, ROWS(20), 0) == data_seed(targets, ROWS(20), 0)
    others = {
        data_seed(targets, ROWS(20), 1),
        data_seed(targets, ROWS(19), 0),
        data_seed(targets_of(11, 9), ROWS(20), 0),
        data_seed(targets_of(10, 10, np.arange(20)), ROWS(20), 0),
    }
    assert len(others | {data_seed(targets, ROWS(20), 0)}) == 5


@pytest.mark.parametrize(
    ("options", "message"), [({"max_loss": 2.0}, "out of range"), ({"resamples": 10}, "too few resamples")]
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        BoardOptions(**options)  # type: ignore[arg-type]


def test_boards_that_cannot_be_compared_are_refused() -> None:
    targets = targets_of(50, 50)
    decided = guesses(targets, 0.1, 0)
    with pytest.raises(ArgumentError, match="different images"):
        build_leaderboard([outcome("A", decided), outcome("B", decided[:, :90])], targets)
    with pytest.raises(ArgumentError, match="one name"):
        build_leaderboard([outcome("A", decided), outcome("A", decided)], targets)


def test_the_model_you_will_get_has_an_interval_of_its_own() -> None:
    targets = targets_of(100, 100)
    known = outcome("Known", guesses(targets, 0.1, 0))
    smaller = np.where(guesses(targets, 0.15, 1), 0.9, 0.1).astype(np.float32)
    predictions = dataclasses.replace(
        known.predictions, val_smaller=smaller, train_sizes=(128.0, 160.0, 200.0)
    )
    known = dataclasses.replace(known, predictions=predictions)
    board = build_leaderboard([known, outcome("Unknown", guesses(targets, 0.3, 2))], targets)
    first, second = board.rows
    assert first["new_f1_low"] < first["val_f1_low"] < first["val_f1"] < first["new_f1"]
    assert first["new_f1"] < first["new_f1_high"] <= 1
    assert math.isnan(second["new_f1"])
    ends = f"F1 between {first['new_f1_low']:.3f} and {first['new_f1_high']:.3f} with Known, on new images"
    assert f"The model you will get, its head trained on all of train and val: {ends}" in said(board)
    grouped = build_leaderboard([known], dataclasses.replace(targets, groups=np.arange(200) // 5))
    assert "with Known, on images of new groups like these, in this class mix" in said(grouped)
