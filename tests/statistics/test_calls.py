"""The public interface: what it says, that it is what the board says, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulation import World, watch_winners

from benchmark.errors import ArgumentError
from benchmark.ranking import BoardOptions, build_leaderboard
from benchmark.records import Predictions, Scored, Targets, Task
from benchmark.statistics import compare, f1_interval


def decided(targets: np.ndarray, error: float, seed: int, repeats: int = 2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wrong = generator.random((repeats, len(targets))) < error
    return np.where(wrong, 1 - targets, targets)


TARGETS = np.arange(300) % 2
ERRORS = {"a": 0.05, "b": 0.06, "c": 0.3}
DECISIONS = {name: decided(TARGETS, error, place) for place, (name, error) in enumerate(ERRORS.items())}
SIZES = {"a": 3e6, "b": 1e6, "c": 1e5}


def test_it_is_what_the_board_runs() -> None:
    targets = Targets(
        targets=TARGETS[:, None].astype(np.float32), classes=("no", "yes"), task=Task.BINARY, positive=1
    )
    outcomes = [
        Scored(
            backbone=name,
            family="f",
            source="s",
            params=int(SIZES[name]) // 4,
            predictions=Predictions(
                val_rows=np.arange(300),
                val=found[..., None].astype(np.float32),
                val_thresholds=np.full((2, 300), 0.5),
                test_rows=np.zeros(0, np.int64),
                test=np.zeros((0, 1), np.float32),
                test_threshold=0.5,
            ),
        )
        for name, found in DECISIONS.items()
    ]
    board = build_leaderboard(outcomes, targets, BoardOptions(max_loss=0.1))
    found = compare(TARGETS, DECISIONS, sizes=SIZES, margin=0.1)
    rows = {row["backbone"]: row for row in board.rows}
    assert found.winner == board.winner
    assert found.tie_groups[0] == tuple(name for name, row in rows.items() if row["tie_group"] == 1)
    for name, row in rows.items():
        assert found.intervals[name].value == pytest.approx(row["val_f1"])
        # Seeds differ: the board's comes from the images.
        assert found.intervals[name].low == pytest.approx(row["val_f1_low"], abs=0.01)
        assert found.loss_bounds[name] == pytest.approx(row["loss_bound"], abs=0.01)


def test_intervals_of_perfect_and_of_few_decisions() -> None:
    perfect = f1_interval(TARGETS, TARGETS)
    assert perfect.value == perfect.high == 1.0
    assert 0.97 < perfect.low < 0.995
    few = f1_interval(TARGETS[:20], TARGETS[:20])
    assert few.low < perfect.low
    wide = f1_interval(TARGETS, DECISIONS["a"], level=0.99)
    narrow = f1_interval(TARGETS, DECISIONS["a"], level=0.8)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_other_averages_agree_with_scikit_learn(average: str) -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(3)
    targets = generator.integers(5, 9, 200)
    found = np.where(generator.random(200) < 0.2, generator.integers(5, 9, 200), targets)
    assert f1_interval(targets, found, average=average).value == pytest.approx(
        f1_score(targets, found, average=average)
    )


def test_groups_widen_the_interval() -> None:
    groups = np.arange(300) // 30
    wrong = groups < 2
    found = np.where(wrong, 1 - TARGETS, TARGETS)
    alone, together = f1_interval(TARGETS, found), f1_interval(TARGETS, found, groups=groups)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_without_sizes_the_best_score_wins() -> None:
    assert compare(TARGETS, DECISIONS, margin=0.1).winner == "a"
    assert compare(TARGETS, DECISIONS, sizes=SIZES, margin=0.2).winner == "b"


def test_a_class_that_is_decided_but_never_true_hides_no_winner() -> None:
    strays = {name: np.where(np.arange(found.shape[1]) < 1, 2, found) for name, found in DECISIONS.items()}
    assert compare(TARGETS, strays, average="macro").winner is not None


def test_nobody_is_picked_by_guesses_or_of_few_images() -> None:
    generator = np.random.default_rng(0)
    guesses = {name: generator.integers(0, 2, (2, 300)) for name in "abc"}
    assert compare(TARGETS, guesses, average="macro").winner is None
    few = compare(TARGETS[:12], {name: found[:, :12] for name, found in DECISIONS.items()})
    assert few.winner is None
    assert few.statements == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": "mean"}, "average: unknown; expected binary"),
        ({"targets": TARGETS[:5]}, "do not fit"),
        ({"targets": TARGETS + 1}, "binary average is of 0 and 1"),
        ({"margin": 2.0}, "margin: not an F1"),
        ({"sizes": {"a": 1.0}}, "one above 0 for each of a, b, c"),
        ({"sizes": {"a": 1.0, "b": 0.0, "c": 1.0}}, "one above 0 for each of a, b, c"),
        ({"sizes": {"a": 1.0, "b": math.nan, "c": 1.0}}, "one above 0 for each of a, b, c"),
        ({"sizes": {"a": math.inf, "b": 1.0, "c": 1.0}}, "one above 0 for each of a, b, c"),
        ({"groups": [1, 2]}, "groups do not fit"),
        ({"decisions_by_name": {}}, "nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, object], message: str) -> None:
    asked = {"targets": TARGETS, "decisions_by_name": DECISIONS} | change
    with pytest.raises(ArgumentError, match=message):
        compare(**asked)  # type: ignore[arg-type]


def test_the_winner_gives_away_little_and_never_more_than_its_bound() -> None:
    """Twelve backbones, the better the larger: few images pick the best, many a smaller one."""
    errors = tuple(np.linspace(0.04, 0.12, 12))
    few = watch_winners(World(images=100, errors=errors, correlation=0.3), trials=25)
    assert few.winner <= 1.5 * few.best_score + 0.005
    assert few.bound_held >= 0.88
    many = watch_winners(World(images=4000, errors=errors, correlation=0.3), trials=8)
    assert many.bound_held == many.within == 1.0
    assert many.smaller > 0


def test_one_that_is_better_than_all_others_is_not_called_unsure() -> None:
    """Few groups: the bound counts mistakes that no image has shown, the comparison does not."""
    targets = np.tile([0, 1], 60)
    groups = np.arange(120) // 12
    good, bad = targets.copy(), targets.copy()
    good[[5, 60]] ^= 1
    bad[::3] ^= 1
    found = compare(targets, {"good": good, "bad": bad}, groups=groups, seed=0)
    assert found.tie_groups == (("good",), ("bad",))
    assert found.loss_bounds["good"] > 0.02
    (said,) = [line for line in found.statements if line.startswith("Winner good")]
    assert "mistakes that no image has shown yet" in said
    assert "none is sure" not in said
    assert any(line.startswith("bad is clearly behind, by 0.") for line in found.statements)
