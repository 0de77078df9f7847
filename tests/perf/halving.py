"""Successive halving against an exhaustive search, on real photographs and weights where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.perf.children import ROOT, backbones_command, run
from tests.perf.figures import Figure, Target, Unit
from tests.perf.jobs import empty
from tests.perf.setting import Setting

_SHARED = ROOT.parent / "shared"
_REAL = ("MobileNet_0.25", "MobileNet_0.5", "MobileNetV2_0.35", "MobileNetV3Small_0.75")
_RANDOM = (
    "MobileNetV3Small",
    "MobileNetV3Large",
    "MobileNetV3Large_0.75",
    "MobileNetV2",
    "MobileNetV2_0.5",
    "MobileNetV2_0.75",
    "MobileNet",
    "MobileNet_0.75",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "NASNetMobile",
    "DenseNet121",
)
_TARGET = Target(at_most=0.3, of_ours=True)


def measure(setting: Setting) -> Iterator[Figure]:
    """The share of images x FLOPs that halving spends, and whether it finds the same."""
    data = _SHARED / "data" / "brick_cracks"
    if not data.is_dir() or not all(_weights(name).is_file() for name in _REAL):
        return
    random = setting.pick(_RANDOM, _RANDOM[:3], _RANDOM[:1])
    names = [f"{name}@{_weights(name)}" for name in _REAL] + [f"{name}@random" for name in random]
    boards = {
        search: _board(search, names, data, setting)
        for search in ("halving", "exhaustive")  # each with a cache of its own
    }
    halving, exhaustive = boards["halving"], boards["exhaustive"]
    spent = halving.spent / exhaustive.spent
    what = f"{len(_REAL)} real weights beside {len(random)} random"
    yield Figure(
        work=f"rank --search halving, {what}, brick photographs",
        against="exhaustive",
        unit=Unit.SHARE,
        ours=spent,
        ratios=(spent,),
        target=_TARGET,
        note=f"{agreement(halving, exhaustive)}; {halving.said}",
    )
    yield Figure(
        work="the same, from nothing to the board",
        against="exhaustive",
        ours=halving.seconds,
        theirs=exhaustive.seconds,
        ratios=(exhaustive.seconds / halving.seconds,),
        note=f"its replay says: {exhaustive.said}" if exhaustive.said else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What a search left.

    Attributes:
        winner: rank 1.
        first: names of the first tie group.
        pruned_for_size: names that were dropped because they are larger than a sure member of the group.
        spent: images x FLOPs.
        seconds: wall time.
        said: what the board says of the search.
    """

    winner: str
    first: frozenset[str]
    pruned_for_size: frozenset[str]
    spent: float
    seconds: float
    said: str

    @classmethod
    def of(cls, stored: dict[str, Any], seconds: float) -> Board:
        """From the content of ``leaderboard.json``."""
        rows = stored["rows"]
        pruned = [row for row in rows if row["status"] == "pruned"]
        return cls(
            winner=_short(stored["winner"]),
            first=frozenset(_short(row["backbone"]) for row in rows if row["tie_group"] == 1),
            pruned_for_size=frozenset(
                _short(row["backbone"]) for row in pruned if "larger than" in row["reason"]
            ),
            spent=float(sum(row["images_embedded"] * row["flops"] for row in rows)),
            seconds=seconds,
            said=" ".join(line for line in stored["statements"] if "alving" in line or "FLOP" in line),
        )


def agreement(halving: Board, exhaustive: Board) -> str:
    """Whether two boards have one winner and, apart from members pruned for size, one first tie group."""
    winner = (
        "same winner"
        if halving.winner == exhaustive.winner
        else (f"ANOTHER WINNER: {halving.winner} instead of {exhaustive.winner}")
    )
    lost = exhaustive.first - halving.first - halving.pruned_for_size
    gained = halving.first - exhaustive.first
    if not lost and not gained:
        return f"{winner} ({halving.winner}), same tie group"
    return f"{winner}, ANOTHER TIE GROUP: lost {sorted(lost)}, gained {sorted(gained)}"


def _short(name: str) -> str:
    """A board's name without the folder of its weights."""
    backbone, _, weights = name.partition("@")
    return name if not Path(weights).suffix else f"{backbone}@{Path(weights).name}"


def _weights(name: str) -> Path:
    return _SHARED / "weights" / f"{name}.weights.h5"


def _board(search: str, names: list[str], data: Path, setting: Setting) -> Board:
    folder = empty(setting.folder / f"halving-{search}")
    words = ["rank", data, "--backbones", ",".join(names), "--weights", "random", "--search", search]
    audit = ["--audit-search"] if search == "exhaustive" else []
    limit = setting.pick([], [], ["--limit", "200"])
    folders = ["--cache", folder / "cache", "--results", folder / "results"]
    seconds = run(backbones_command(*words, *audit, *limit, *folders), setting.log)
    path = folder / "results" / data.name / "leaderboard.json"
    return Board.of(json.loads(path.read_text()), seconds)
