"""Rules of selection judged by what fine-tuning made of the backbones they pick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.ranking import StudyTables, TunedBackbone, study_tables
from benchmark.ranking.study import FEWEST_DATA_SETS, over_data_sets
from benchmark.reporting import data_shown

BACKBONES = ("A", "B", "C")


def runs_of(
    data: str,
    tuned: Sequence[Sequence[float]],
    said: Sequence[Sequence[float]],
    **facts: Sequence[Any],
) -> list[TunedBackbone]:
    """Runs of three backbones: [seed][backbone] F1 after fine-tuning, and F1 on the board."""
    return [
        TunedBackbone(
            data=data,
            seed=seed,
            backbone=name,
            val_f1=said[seed][place],
            picks="winner" if place == int(np.argmax(said[seed])) else "",
            params=float(place),
            imagenet_top1=facts.get("imagenet_top1", (70.0, 71.0, 72.0))[place],
            knn_f1=0.5,
            logme=-float(place),
            h_score=float(place),
            tuned_val_f1=tuned[seed][place],
            tuned_f1=tuned[seed][place],
            kept=facts.get("kept", ("phase2",) * 3)[place],
        )
        for seed in range(len(tuned))
        for place, name in enumerate(BACKBONES)
    ]


def rule(tables: StudyTables, name: str) -> Mapping[str, Any]:
    return next(row for row in tables.rules if row["rule"] == name)


TWO_SEEDS = runs_of("one", [(0.9, 0.8, 0.7), (0.8, 0.9, 0.4)], [(0.5, 0.6, 0.7), (0.7, 0.6, 0.5)])


def test_regret_is_that_of_each_seeds_pick_to_the_best_mean() -> None:
    """Means 0.85, 0.85, 0.55; the board picks C under the first seed and A under the second."""
    tables = study_tables([*TWO_SEEDS, *runs_of("two", [(0.5, 0.6, 0.7)] * 2, [(0.1, 0.2, 0.3)] * 2)])
    found = {row["data"]: row for row in tables.choices if row["rule"] == "board F1"}
    assert found["one"]["picks"] == "C, A"
    assert found["one"]["regret"] == pytest.approx(((0.9 - 0.7) + (0.8 - 0.8)) / 2)
    assert found["one"]["p_best"] == pytest.approx(0.5), "A and B are equally good, C is not"
    assert found["one"]["tau"] == pytest.approx((-1 + 1 / 3) / 2)
    assert (found["two"]["regret"], found["two"]["p_best"], found["two"]["tau"]) == (0, 1, pytest.approx(1))
    whole = rule(tables, "board F1")
    assert whole["regret"] == pytest.approx(0.05)
    assert whole["p_best"] == pytest.approx(0.75)
    assert whole["data_sets"] == 2


def test_chance_and_the_other_data_sets_stand_beside_the_rules() -> None:
    tables = study_tables(
        [
            *runs_of("one", [(0.9, 0.8, 0.7)], [(0.5, 0.6, 0.7)]),
            *runs_of("two", [(0.6, 0.7, 0.5)], [(0.1, 0.2, 0.3)]),
        ]
    )
    assert rule(tables, "at random")["regret"] == pytest.approx(0.1)
    assert rule(tables, "at random")["p_best"] == pytest.approx(1 / 3)
    elsewhere = [row["picks"] for row in tables.choices if row["rule"] == "other data"]
    assert elsewhere == ["B", "A"], "each is the best of the other data set"
    assert rule(tables, "parameters")["regret"] == pytest.approx((0.2 + 0.2) / 2)


def test_a_rule_that_says_nothing_has_no_order_and_one_that_knows_less_is_told_of() -> None:
    runs = runs_of("one", [(0.9, 0.8, 0.7)] * 2, [(0.5, 0.6, 0.7)] * 2, imagenet_top1=(math.nan, 71.0, 72.0))
    tables = study_tables(runs)
    assert math.isnan(rule(tables, "kNN")["tau"]), "all values are the same"
    assert rule(tables, "kNN")["regret"] == 0, "the first by name"
    assert rule(tables, "ImageNet top-1")["regret"] == pytest.approx(0.2)
    assert math.isnan(rule(tables, "smallest tied")["regret"]), "the board names none"
    assert any("not known of A" in sentence for sentence in tables.sentences)
    assert any(sentence.startswith("'smallest tied' names nobody") for sentence in tables.sentences)
    assert not any("'at random'" in sentence for sentence in tables.sentences)


def test_where_a_rule_names_nobody_a_pick_at_random_counts() -> None:
    """The board names its winner under the first of three seeds alone, and names the best one there."""
    tuned = [(0.9, 0.6, 0.6), (0.9, 0.3, 0.3), (0.6, 0.9, 0.3)]
    whole = runs_of("one", tuned, [(0.9, 0.5, 0.4)] * 3)
    runs = [replace(run, picks="" if run.seed else run.picks) for run in whole]
    silent = [replace(run, data="two", picks="") for run in runs]
    tables = study_tables([*runs, *silent])
    one, two = (row for row in tables.choices if row["rule"] == "board winner")
    assert one["regret"] == pytest.approx((0 + (0.9 - 0.5) + (0.6 - 0.6)) / 3)
    assert one["p_best"] == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert one["picks"] == "A"
    assert (one["silent_seeds"], two["silent_seeds"]) == (2, 3)
    (chance, _) = (row for row in tables.choices if row["rule"] == "at random")
    assert (two["regret"], two["p_best"]) == pytest.approx((chance["regret"], chance["p_best"]))
    assert rule(tables, "board winner")["regret"] == pytest.approx((one["regret"] + chance["regret"]) / 2)
    assert rule(tables, "board winner")["data_sets"] == 1
    told = [sentence for sentence in tables.sentences if sentence.startswith("'board winner'")]
    assert told == [
        "'board winner' names nobody who was fine-tuned under 2 of 3 seeds of one, 3 of 3 seeds of two: "
        "there a pick at random counts."
    ]


def test_data_sets_and_backbones_that_are_not_judged_are_told_of() -> None:
    less = [run for run in TWO_SEEDS if (run.seed, run.backbone) != (1, "C")]
    alone = [replace(run, data="two") for run in TWO_SEEDS if run.backbone == "A"]
    short = [replace(run, data="three") for run in TWO_SEEDS if run.seed == 0]
    tables = study_tables([*less, *alone, *short])
    assert "one: C was not fine-tuned under every seed, and takes no part." in tables.sentences
    assert "two: fewer than two backbones were fine-tuned under every seed; left out." in tables.sentences
    assert "Fine-tuned models: 7, of 2 data sets under 1 to 2 seeds each." in tables.sentences


def test_what_a_seed_does_to_all_backbones_alike_is_no_noise() -> None:
    (row,) = study_tables(runs_of("one", [(0.9, 0.8, 0.7), (0.6, 0.5, 0.4)], [(0.5, 0.6, 0.7)] * 2)).data
    assert row["noise"] == pytest.approx(0, abs=1e-12)
    assert row["within_noise"] == 1
    (noisy,) = study_tables(TWO_SEEDS).data
    moves = np.array([(0.9, 0.8, 0.7), (0.8, 0.9, 0.4)])
    moves -= moves.mean(0)
    moves -= moves.mean(1, keepdims=True)
    assert noisy["noise"] == pytest.approx(math.sqrt(2 / 2 * (moves**2).sum() / 2))
    assert noisy["within_noise"] == 2, "C is behind by more"


def test_the_order_of_runs_changes_nothing_and_a_backbone_that_a_seed_lacks_takes_no_part() -> None:
    assert study_tables(TWO_SEEDS[::-1]).rules == study_tables(TWO_SEEDS).rules
    less = [run for run in TWO_SEEDS if (run.seed, run.backbone) != (1, "C")]
    (row,) = study_tables(less).data
    assert row["backbones"] == 2


def test_one_seed_shows_no_noise() -> None:
    tables = study_tables(runs_of("one", [(0.9, 0.8, 0.7)], [(0.5, 0.6, 0.7)]))
    (shown,) = data_shown(tables)
    assert (shown["noise of a difference"], shown["within twice the noise"]) == ("", "")
    assert tables.sentences[0] == "Fine-tuned models: 3, of 1 data set under 1 seed each."


def test_models_that_stayed_frozen_are_counted() -> None:
    tables = study_tables(
        runs_of("one", [(0.9, 0.8, 0.7)], [(0.5, 0.6, 0.7)], kept=("before", "before", "phase2"))
    )
    assert tables.data[0]["kept_frozen"] == 2
    assert any(sentence.startswith("2 of the 3 models are the board's head") for sentence in tables.sentences)


def test_too_few_data_sets_have_no_interval_and_it_is_said() -> None:
    few = [replace(run, data=f"{number}") for number in range(FEWEST_DATA_SETS - 1) for run in TWO_SEEDS]
    tables = study_tables(few)
    assert math.isnan(rule(tables, "board F1")["regret_low"])
    assert any(sentence.startswith("Too few data sets for an interval (4") for sentence in tables.sentences)
    enough = study_tables([*few, *TWO_SEEDS])
    assert math.isfinite(rule(enough, "board F1")["regret_low"])
    assert not any("Too few" in sentence for sentence in enough.sentences)


@pytest.mark.parametrize(("count", "least"), [(5, 0.86), (12, 0.9)])
def test_intervals_hold_the_mean_of_normal_values(count: int, least: float) -> None:
    """200 simulated studies; plain percentiles hold it in 0.80 of those with five data sets."""
    random = np.random.default_rng(0)
    held = 0
    for study in range(200):
        found = over_data_sets(random.normal(0.1, 0.05, count).tolist(), seed=study)
        held += found.low <= 0.1 <= found.high
    assert held / 200 >= least
