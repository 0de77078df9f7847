"""Ranking when everything is embedded, and how soon the command line answers when nothing is left to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmark.backbones.registry import registry
from tests.perf.children import backbones_command, run
from tests.perf.figures import Figure, Target
from tests.perf.jobs import embed_seconds, empty
from tests.perf.setting import Setting

# Neither the dimensions nor the number of embeddings depend on the images' side: small ones embed sooner.
_SIDE = 96
_FEW = ("MobileNet_0.25", "MobileNetV3Small_0.75")
_SECOND, _TWO_SECONDS = Target(at_most=1.0, of_ours=True), Target(at_most=2.0, of_ours=True)


def measure_rank(setting: Setting) -> Iterator[Figure]:
    """``rank`` over the whole registry, embedded beforehand; then the same command again."""
    count, backbones = setting.pick(500, 100, 24), [backbone.name for backbone in registry()]
    data, cache = setting.images(count), setting.folder / "rank-cache"
    embed_seconds(data, cache, backbones, setting, _SIDE)
    results = empty(setting.folder / "rank-results")
    words = rank_words(data, cache, results, backbones, "--size", str(_SIDE))
    what = f"make rank, everything embedded, {len(backbones)} backbones x {count} images, default protocol"
    yield Figure(
        work=what,
        ours=run(words, setting.log),
        target=Target(at_most=120.0, of_ours=True),
        note=head_note(results / data.name),
    )
    again = [run(words, setting.log) for _ in range(3)]
    yield Figure(work=f"{what}, again", ours=median(again), target=_TWO_SECONDS, note="median of 3")


def head_note(folder: Path) -> str:
    """Worker seconds of heads, and the backbones that took most."""
    rows = json.loads((folder / "leaderboard.json").read_text())["rows"]
    seconds = {row["backbone"]: row["head_seconds"] or 0.0 for row in rows}
    most = sorted(seconds.items(), key=lambda item: -item[1])[:3]
    return f"worker seconds of heads {sum(seconds.values()):.0f}; most: " + ", ".join(
        f"{name} {value:.1f} s" for name, value in most
    )


def measure_startup(setting: Setting) -> Iterator[Figure]:
    """What answers without TensorFlow: help, the registry, and a ranking that is finished already."""
    rounds = setting.pick(5, 3, 1)
    for words in (["--help"], ["list"]):
        seconds = [run(backbones_command(*words), setting.log) for _ in range(rounds)]
        yield Figure(work=f"backbones {words[0]}", ours=median(seconds), target=_SECOND)
    data, cache = setting.images(setting.pick(500, 100, 24)), setting.folder / "startup-cache"
    results = setting.folder / "startup-results"
    words = rank_words(data, cache, results, _FEW)
    run(words, setting.log)
    seconds = [run(words, setting.log) for _ in range(rounds)]
    yield Figure(
        work=f"backbones rank again, {len(_FEW)} backbones", ours=median(seconds), target=_TWO_SECONDS
    )


def rank_words(data: Path, cache: Path, results: Path, backbones: Sequence[str], *more: str) -> list[str]:
    """The command line of a ranking with random weights."""
    names = ",".join(backbones)
    folders = ["--cache", cache, "--results", results]
    return backbones_command("rank", data, "--backbones", names, "--weights", "random", *folders, *more)
