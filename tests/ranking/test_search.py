"""Halving: what it drops, what it must keep, what it saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from benchmark.errors import ArgumentError
from benchmark.ranking.board import BoardOptions
from benchmark.ranking.halving import audit_search, run_search
from benchmark.ranking.search import (
    Candidate,
    DropKind,
    SearchOptions,
    SearchState,
    next_round,
    search_subsets,
)
from benchmark.records import Failed, Int64, Outcome, Predictions, Scored, Status, Targets, Task

IMAGES, SEARCHED = 500, 400
# 400 images cannot show that less than about 0.03 F1 is given away.
WIDE = SearchOptions(board=BoardOptions(max_loss=0.08))


def targets_of(images: int = IMAGES, groups: Int64 | None = None, positive_share: float = 0.5) -> Targets:
    targets = (np.random.default_rng(9).permutation(images) < images * positive_share).astype(np.float32)
    return Targets(targets=targets[:, None], classes=("a", "b"), task=Task.BINARY, positive=1, groups=groups)


class Zoo:
    """Backbones of known error rates that get better with more images."""

    def __init__(
        self, targets: Targets, errors: dict[str, float], seed: int = 0, sizes: dict[str, int] | None = None
    ) -> None:
        self.targets, self.errors = targets, errors
        self.hardness = {
            name: np.random.default_rng([seed, k]).random((len(targets.targets), 1))
            for k, name in enumerate(sorted(errors))
        }
        self.sizes = sizes or {name: 1000 * (k + 1) for k, name in enumerate(sorted(errors))}
        self.calls: list[tuple[str, int]] = []

    def candidates(self) -> list[Candidate]:
        return [Candidate(backbone=n, size_bytes=4 * s, flops=s) for n, s in self.sizes.items()]

    def score(self, name: str, rows: Int64) -> Scored:
        self.calls.append((name, len(rows)))
        error = self.errors[name] * (1 + 20 / len(rows))
        wrong = self.hardness[name][rows] < error
        decided = (self.targets.targets[rows] > 0.5) ^ wrong
        return Scored(
            backbone=name,
            family="f",
            source="keras",
            params=self.sizes[name],
            flops=self.sizes[name],
            predictions=Predictions(
                val_rows=rows,
                val=decided[None].astype(np.float32),
                val_thresholds=np.full((1, len(rows)), 0.5),
                test_rows=np.zeros(0, np.int64),
                test=np.zeros((0, 1), np.float32),
                test_threshold=0.5,
            ),
        )


def four_and_twelve() -> dict[str, float]:
    return {f"Real{k}": 0.03 + 0.003 * k for k in range(4)} | {f"Random{k:02}": 0.32 for k in range(12)}


def sizes_of_four_and_twelve() -> dict[str, int]:
    return {f"Real{k}": 100 + k for k in range(4)} | {f"Random{k:02}": 300 + k for k in range(12)}


def test_subsets_are_nested_stratified_and_end_with_everything() -> None:
    targets, rows = targets_of(), np.arange(SEARCHED)
    subsets = search_subsets(targets, rows, SearchOptions(minimum=100))
    assert [round(len(each), -1) for each in subsets] == [100, 200, 400]
    for small, large in pairwise(subsets):
        assert set(small.tolist()) < set(large.tolist())
    shares = [float(targets.targets[each].mean()) for each in subsets]
    assert shares == pytest.approx([shares[-1]] * len(shares), abs=0.01)
    np.testing.assert_array_equal(subsets[-1], rows)
    again = search_subsets(targets, rows, SearchOptions(minimum=100))
    assert all(np.array_equal(one, other) for one, other in zip(subsets, again, strict=True))
    other = search_subsets(targets, rows, SearchOptions(minimum=100, board=BoardOptions(seed=1)))
    assert not np.array_equal(subsets[0], other[0])


def test_groups_move_whole() -> None:
    groups = np.arange(IMAGES) // 7
    targets, rows = targets_of(groups=groups), np.arange(SEARCHED)
    for subset in search_subsets(targets, rows, SearchOptions(minimum=80))[:-1]:
        taken = set(groups[subset].tolist())
        assert len(subset) == np.isin(groups[rows], list(taken)).sum()


@pytest.mark.parametrize(("images", "share"), [(60, 0.5), (400, 0.01)])
def test_too_few_images_are_searched_exhaustively(images: int, share: float) -> None:
    targets = targets_of(images, positive_share=share)
    assert len(search_subsets(targets, np.arange(images), SearchOptions())) == 1
    labels = dataclasses.replace(targets, task=Task.MULTILABEL)
    assert len(search_subsets(labels, np.arange(images), SearchOptions())) == 1


@pytest.mark.parametrize("spared", [0, 3])
def test_a_tag_that_nearly_all_images_carry_costs_no_round(spared: int) -> None:
    tags = np.random.default_rng(0).random((IMAGES, 2)) < (0.5, 2.0)
    tags[:spared, 1] = False
    targets = Targets(targets=tags.astype(np.float32), classes=("a", "wall"), task=Task.MULTILABEL)
    subsets = search_subsets(targets, np.arange(SEARCHED), SearchOptions())
    assert [len(rows) for rows in subsets] == [96, 192, SEARCHED]


@pytest.mark.parametrize("seed", range(3))
def test_four_real_and_twelve_random_cost_less_than_a_third(seed: int) -> None:
    targets = targets_of()
    zoo = Zoo(targets, four_and_twelve(), seed, sizes_of_four_and_twelve())
    full = [zoo.score(name, np.arange(SEARCHED)) for name in zoo.errors]
    audit = audit_search(full, zoo.score, targets)
    assert audit.same_winner
    assert audit.same_tie_group
    assert audit.lost == ()
    assert audit.share <= 0.30
    kinds = {each.kind for each in audit.report.dropped if each.backbone.startswith("Random")}
    assert kinds == {DropKind.BEHIND}


def test_equal_backbones_are_not_dropped() -> None:
    targets = targets_of()
    lost = 0
    for seed in range(20):
        zoo = Zoo(targets, {f"Backbone{k}": 0.1 for k in range(8)}, seed)
        report = run_search(
            zoo.candidates(),
            zoo.score,
            targets,
            search_subsets(targets, np.arange(SEARCHED), SearchOptions()),
        )
        lost += any(each.kind is DropKind.BEHIND for each in report.dropped)
    assert lost <= 3


def test_larger_ones_are_not_run_once_a_perfect_small_one_finished() -> None:
    targets = targets_of()
    zoo = Zoo(targets, {"Small": 0.0, "Large": 0.01, "Larger": 0.02})
    zoo.sizes = {"Small": 10, "Large": 200, "Larger": 300}
    subsets = (np.arange(SEARCHED),)
    report = run_search(zoo.candidates(), zoo.score, targets, subsets, WIDE)
    assert zoo.calls == [("Small", SEARCHED)]
    assert set(report.finished) == {"Small"}
    assert {each.backbone: each.kind for each in report.dropped} == {
        "Large": DropKind.SIZE,
        "Larger": DropKind.SIZE,
    }
    assert all("larger than Small" in each.reason and each.images == 0 for each in report.dropped)
    assert report.share == pytest.approx(10 * IMAGES / (510 * IMAGES))


def test_larger_ones_are_run_where_they_may_win() -> None:
    targets = targets_of()
    zoo = Zoo(targets, {"Small": 0.0, "Large": 0.01})
    options = SearchOptions(board=BoardOptions(max_loss=0.0))
    report = run_search(zoo.candidates(), zoo.score, targets, (np.arange(SEARCHED),), options)
    assert set(report.finished) == {"Small", "Large"}


def test_a_smaller_backbone_is_never_dropped_for_size() -> None:
    targets = targets_of()
    zoo = Zoo(targets, {"Small": 0.02, "Large": 0.0})
    zoo.sizes = {"Small": 100, "Large": 200}
    report = run_search(zoo.candidates(), zoo.score, targets, (np.arange(SEARCHED),))
    assert "Small" in report.finished


def test_dropped_backbones_become_pruned_outcomes() -> None:
    targets = targets_of()
    zoo = Zoo(targets, four_and_twelve(), 0, sizes_of_four_and_twelve())
    subsets = search_subsets(targets, np.arange(SEARCHED), SearchOptions())
    report = run_search(zoo.candidates(), zoo.score, targets, subsets)
    by_name = {each.backbone: each for each in report.outcomes()}
    assert len(by_name) == 16
    for each in report.dropped:
        assert by_name[each.backbone].status is Status.PRUNED
        assert by_name[each.backbone].reason == each.reason
        assert by_name[each.backbone].images_embedded == each.images
    assert all(by_name[name].status is Status.SCORED for name in report.finished)
    assert {count for _, count in zoo.calls} <= {len(each) for each in subsets}


def test_a_failure_leaves_the_race_and_stays_on_record() -> None:
    targets = targets_of()
    zoo = Zoo(targets, {"Good": 0.1, "Bad": 0.1})
    failed = Failed(backbone="Bad", family="f", source="keras", reason="no weights")

    def score(name: str, rows: Int64) -> Scored:
        return failed if name == "Bad" else zoo.score(name, rows)

    subsets = search_subsets(targets, np.arange(SEARCHED), SearchOptions())
    report = run_search(zoo.candidates(), score, targets, subsets)
    assert report.unfinished == {"Bad": failed}
    assert set(report.finished) == {"Good"}
    assert failed in report.outcomes()


def state_of(zoo: Zoo, scored: list[Outcome], finished: list[Outcome], images: int) -> SearchState:
    done = {outcome.backbone: outcome for outcome in finished}
    latest = {outcome.backbone: outcome for outcome in scored}
    return SearchState(
        candidates={each.backbone: each for each in zoo.candidates()},
        scored=scored,
        running={name: latest.get(name) for name in zoo.errors if name not in done},
        finished=done,
        images=images,
        seen=len(scored[0].predictions.val_rows) if scored else 0,
        round=0,
        rounds=2,
    )


def test_nothing_scored_drops_nobody() -> None:
    targets = targets_of()
    assert next_round(state_of(Zoo(targets, {"A": 0.1}), [], [], 400), targets, SearchOptions()) == ()


def test_the_leader_is_never_dropped_and_reasons_name_it() -> None:
    targets, rows = targets_of(), np.arange(200)
    zoo = Zoo(targets, {"Best": 0.02, "Worst": 0.5})
    scored = [zoo.score(name, rows) for name in ("Best", "Worst")]
    (worst,) = next_round(state_of(zoo, scored, [], SEARCHED), targets, SearchOptions())
    assert (worst.backbone, worst.kind, worst.images) == ("Worst", DropKind.BEHIND, 200)
    assert "Best on 200 images" in worst.reason


def validated_on(outcome: Scored, rows: Int64) -> Scored:
    """As with given parts: an outcome of heads that were trained on its other images."""
    found = outcome.predictions
    kept = np.isin(found.val_rows, rows)
    said = dataclasses.replace(
        found, val_rows=rows, val=found.val[:, kept], val_thresholds=found.val_thresholds[:, kept]
    )
    return dataclasses.replace(outcome, predictions=said)


@pytest.mark.parametrize(("seen", "dropped"), [(200, []), (799, ["Worse"])])
def test_the_share_seen_is_that_of_the_images_not_of_those_validated(seen: int, dropped: list[str]) -> None:
    """A lead of 4.3 deviations may vanish where three of four images are to come, not where hardly any is."""
    targets, validated = targets_of(800), np.arange(80)
    zoo = Zoo(targets, {f"Good{k:02}": 0.0 for k in range(19)} | {"Worse": 0.0})
    zoo.hardness["Worse"][np.flatnonzero(targets.targets[validated, 0] < 0.5)[:15]] = -1.0
    scored = [validated_on(zoo.score(name, np.arange(seen)), validated) for name in zoo.errors]
    state = dataclasses.replace(state_of(zoo, scored, [], images=800), seen=seen)
    assert [each.backbone for each in next_round(state, targets, SearchOptions())] == dropped


def test_what_was_dropped_was_run_on_all_images_of_its_round() -> None:
    targets = targets_of()
    zoo = Zoo(targets, four_and_twelve(), 0, sizes_of_four_and_twelve())
    subsets = search_subsets(targets, np.arange(SEARCHED), SearchOptions())

    def score(name: str, rows: Int64) -> Scored:
        return validated_on(zoo.score(name, rows), rows[::2])

    report = run_search(zoo.candidates(), score, targets, subsets)
    assert report.dropped
    assert {each.images for each in report.dropped} <= {len(each) for each in subsets}


def test_a_finished_small_one_spares_larger_ones_that_make_mistakes() -> None:
    targets, rows = targets_of(), np.arange(200)
    zoo = Zoo(targets, {"Small": 0.015, "Larger": 0.15, "Perfect": 0.0})
    zoo.sizes = {"Small": 100, "Larger": 200, "Perfect": 300}
    small = zoo.score("Small", np.arange(SEARCHED))
    alone = state_of(zoo, [zoo.score("Larger", rows)], [small], SEARCHED)
    without = dataclasses.replace(alone, running={"Larger": alone.running["Larger"]})
    (larger,) = next_round(without, targets, WIDE)
    assert (larger.backbone, larger.kind, larger.images) == ("Larger", DropKind.SIZE, 200)
    # A rival that has not failed yet may still beat the small one, and then Larger may be needed.
    both = state_of(zoo, [zoo.score(name, rows) for name in ("Larger", "Perfect")], [small], SEARCHED)
    kinds = {
        each.kind for each in next_round(both, targets, SearchOptions(board=BoardOptions(max_loss=0.03)))
    }
    assert DropKind.SIZE not in kinds


def test_a_larger_finished_one_that_is_better_keeps_the_race_open() -> None:
    targets, rows = targets_of(), np.arange(200)
    zoo = Zoo(targets, {"Small": 0.1, "Better": 0.02, "Larger": 0.1})
    zoo.sizes = {"Small": 100, "Better": 200, "Larger": 300}
    finished = [zoo.score(name, np.arange(SEARCHED)) for name in ("Small", "Better")]
    state = state_of(zoo, [], finished, SEARCHED)
    state = dataclasses.replace(state, running={"Larger": zoo.score("Larger", rows)}, seen=len(rows))
    (larger,) = next_round(state, targets, WIDE)
    assert "larger than Better" in larger.reason


def test_cheap_contenders_finish_early_where_that_may_spare_the_rest() -> None:
    targets = targets_of()
    zoo = Zoo(targets, {"Small": 0.01, "Huge": 0.15})
    zoo.sizes = {"Small": 10, "Huge": 10_000}
    subsets = search_subsets(targets, np.arange(SEARCHED), SearchOptions())
    report = run_search(zoo.candidates(), zoo.score, targets, subsets, WIDE)
    assert set(report.finished) == {"Small"}
    assert report.dropped[0].images == len(subsets[0])
    assert ("Huge", SEARCHED) not in zoo.calls


@pytest.mark.parametrize("seed", range(5))
def test_heavy_and_competent_backbones_do_not_cost_everything(seed: int) -> None:
    """Random weights are not always hopeless: heavy ones may be near, yet too large to win."""
    targets = targets_of()
    errors = {f"Real{k}": 0.02 + 0.004 * k for k in range(4)}
    errors |= {f"Random{k:02}": 0.1 if k < 4 else 0.25 for k in range(12)}
    sizes = {f"Real{k}": 100 + k for k in range(4)}
    sizes |= {f"Random{k:02}": 5000 + k if k < 4 else 300 + k for k in range(12)}
    zoo = Zoo(targets, errors, seed, sizes)
    full = [zoo.score(name, np.arange(SEARCHED)) for name in errors]
    audit = audit_search(full, zoo.score, targets, WIDE)
    assert audit.same_winner
    assert audit.same_tie_group
    assert audit.share <= 0.45


@pytest.mark.parametrize(
    "make",
    [
        lambda: SearchOptions(growth=1.0),
        lambda: SearchOptions(error=0.0),
        lambda: SearchOptions(minimum=0),
        lambda: audit_search([], lambda name, rows: None, targets_of()),  # type: ignore[arg-type,return-value]
    ],
)
def test_bad_requests_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError):
        make()


def test_rounds_on_different_images_are_refused() -> None:
    targets = targets_of()
    zoo = Zoo(targets, {"A": 0.1, "B": 0.1})
    scored = [zoo.score("A", np.arange(100)), zoo.score("B", np.arange(1, 101))]
    with pytest.raises(ArgumentError, match="different images"):
        next_round(state_of(zoo, scored, [], SEARCHED), targets, SearchOptions())
