"""``probe-then-tune`` beside ``two-phase-f1``: brick photographs, split at random and by groups, and digits.

Both recipes fine-tune the board's backbone at the board's size from the same weights, on the same split: per
seed the whole command, in turn. The board is ranked once per data set, before anything is timed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.perf.children import ROOT, backbones_command, run_measured
from tests.perf.figures import Figure, Target, Unit
from tests.perf.setting import Setting
from tests.perf.study_sets import write_digits

_SHARED = ROOT.parent / "shared"
_NETWORK = "MobileNet_0.25"
_OURS, _THEIRS = "probe-then-tune", "two-phase-f1"
_FASTER = Target(at_least=3.0)
_AS_GOOD = Target(at_least=1.0)
_NOT_BELOW = Target(at_least=0.0, of_ours=True)
_SHORT = (1, 2)  # epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A data set and how it is split."""

    name: str
    data: Path
    groups: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """One finished command."""

    seconds: float  # of the processors, start and building included
    metrics: dict[str, Any]

    @property
    def test_f1(self) -> float:
        """Of the model that was kept."""
        return float(self.metrics[self.metrics["kept"]]["test"]["f1"])

    @property
    def below_frozen(self) -> float:
        """Test F1 less the lower end of the interval of the frozen head's."""
        return self.test_f1 - float(self.metrics["before"]["test"]["f1_low"])


def measure(setting: Setting) -> Iterator[Figure]:
    """Test F1, seconds, and what three epochs do, medians over the seeds."""
    weights = _SHARED / "weights"
    if not (weights / f"{_NETWORK}.weights.h5").is_file():
        return
    seeds = range(setting.rounds(3))
    for task in _tasks(setting):
        place = setting.folder / f"tuning-{task.name.replace(' ', '-')}"
        _rank(task, place, weights, setting)
        runs: dict[str, list[Tuned]] = {_OURS: [], _THEIRS: [], "short": []}
        for seed in seeds:
            for recipe in (_OURS, _THEIRS):
                runs[recipe].append(_tune(task, place, recipe, seed, setting))
            runs["short"].append(_tune(task, place, _OURS, seed, setting, _SHORT))
        yield from _figures(task, runs)


def _figures(task: Task, runs: dict[str, list[Tuned]]) -> Iterator[Figure]:
    ours, theirs, short = runs[_OURS], runs[_THEIRS], runs["short"]
    frozen = [float(one.metrics["before"]["test"]["f1"]) for one in ours]
    kept = ", ".join(one.metrics["kept"] for one in ours)
    yield Figure.of_pairs(
        (f"{_OURS}, {task.name}: test F1", _THEIRS),
        Unit.F1,
        [(one.test_f1, other.test_f1) for one, other in zip(ours, theirs, strict=True)],
        _AS_GOOD,
        f"the board's head alone {median(frozen):.3f}; kept: {kept}",
    )
    yield Figure.of_pairs(
        (f"{_OURS}, {task.name}: processor seconds", _THEIRS),
        Unit.SECONDS,
        [(one.seconds, other.seconds) for one, other in zip(ours, theirs, strict=True)],
        _FASTER,
    )
    least = [one.below_frozen for one in (*ours, *short)]
    yield Figure(
        work=f"{_OURS}, {task.name}: test F1 above the low end of the board's head's interval",
        unit=Unit.F1,
        ours=min(least),
        target=_NOT_BELOW,
        note=f"the least of {len(least)} runs, half of them of {sum(_SHORT)} epochs",
    )


def _tasks(setting: Setting) -> Sequence[Task]:
    bricks = _SHARED / "data" / "brick_cracks"
    size = setting.pick(96, 64, 32)
    digits = write_digits(setting.folder / "digits", setting.pick(900, 400, 200))
    return (
        Task(name="bricks at random", data=bricks, groups="none", size=size),
        Task(name="bricks in groups", data=bricks, groups="auto", size=size),
        Task(name="digits", data=digits, groups="none", size=setting.pick(64, 48, 32)),
    )


def _rank(task: Task, place: Path, weights: Path, setting: Setting) -> None:
    words = ["rank", task.data, "--backbones", _NETWORK, "--weights", weights, "--size", task.size]
    words += ["--groups", task.groups, "--repeats", 1, *_folders(place), "--quiet"]
    run_measured(backbones_command(*words), setting.log)


def _folders(place: Path) -> list[object]:
    return ["--cache", place / "cache", "--results", place / "results"]


def _tune(
    task: Task, place: Path, recipe: str, seed: int, setting: Setting, epochs: tuple[int, int] | None = None
) -> Tuned:
    words: list[object] = ["finetune", task.data, "--recipe", recipe, "--winner", _NETWORK, "--seed", seed]
    words += ["--groups", task.groups, "--force", "--quiet", *_folders(place)]
    epochs = epochs or setting.pick(None, (4, 4), (1, 1))
    if epochs is not None:
        words += ["--epochs", ",".join(map(str, epochs))]
    seconds = run_measured(backbones_command(*words), setting.log)
    (path,) = (place / "results").glob(f"*/finetune/{_NETWORK}/{recipe}/metrics.json")
    metrics = json.loads(path.read_text())
    return Tuned(seconds=seconds, metrics=metrics)
