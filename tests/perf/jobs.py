"""``make embeddings`` from nothing, and again with converted models, against the straightforward loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.backbones.registry import registry
from tests.perf.children import backbones_command, run
from tests.perf.embedding import IMAGES
from tests.perf.figures import Figure, Target, Unit
from tests.perf.setting import Setting
from tests.perf.straightforward import loop_seconds

# The eight of the embedding benchmark and the four small ones that come with many a small device.
BACKBONES = (*IMAGES, "MobileNet_0.25", "MobileNet_0.5", "MobileNetV2_0.35", "MobileNetV3Small_0.75")
_QUICK = ("MobileNet_0.25", "MobileNetV3Small", "MobileNetV2", "EfficientNetB0")
_SIZE = 224
_COLD, _SECOND = Target(at_least=3.0), Target(at_least=5.0)
_LOOP = "straightforward loop"


def measure(setting: Setting) -> Iterator[Figure]:
    """Cold, then a second process on other images; ours and the loop in turn."""
    backbones = setting.pick(BACKBONES, _QUICK, _QUICK[:2])
    count = setting.pick(500, 200, 24)
    first, other = setting.images(count), setting.images(count, seed=1)
    cold: list[tuple[float, float]] = []
    second: list[tuple[float, float]] = []
    slowest = ""
    for _ in range(setting.rounds(1)):
        cache = empty(setting.folder / "jobs-cache")
        for data, pairs in ((first, cold), (other, second)):
            ours = embed_seconds(data, cache, backbones, setting)
            theirs, by_backbone = loop_seconds(data, backbones, _SIZE, setting.log)
            pairs.append((ours, theirs))
            slowest = _slowest(by_backbone)
    work = f"make embeddings, {len(backbones)} backbones x {count} images"
    yield Figure.of_pairs((f"{work}, from nothing", _LOOP), Unit.SECONDS, cold, _COLD, where_time_went(cache))
    names = (f"{work}, second process, other images", _LOOP)
    yield Figure.of_pairs(names, Unit.SECONDS, second, _SECOND, f"the loop's slowest: {slowest}")


def measure_zoo(setting: Setting) -> Iterator[Figure]:
    """Every backbone of the registry from nothing."""
    count, backbones = setting.pick(500, 100, 24), [backbone.name for backbone in registry()]
    cache = empty(setting.folder / "zoo-cache")
    seconds = embed_seconds(setting.images(count), cache, backbones, setting)
    yield Figure(
        work=f"the whole zoo: make embeddings, {len(backbones)} backbones x {count} images, from nothing",
        ours=seconds / 60,
        unit=Unit.MINUTES,
        target=Target(at_most=45, of_ours=True),
        note=where_time_went(cache, most=8),
    )


def embed_seconds(
    data: Path, cache: Path, backbones: Sequence[str], setting: Setting, size: int = _SIZE
) -> float:
    """Wall time of ``backbones embed`` in a new process."""
    words = ["embed", data, "--backbones", ",".join(backbones), "--weights", "random", "--size", str(size)]
    return run(backbones_command(*words, "--cache", cache, "--format", "csv"), setting.log)


def where_time_went(cache: Path, most: int = 4) -> str:
    """Processor seconds of all workers by kind, and the backbones that took most, as the runs recorded them.

    Preparing is building, converting, comparing, compiling and timing.
    """
    total: dict[str, float] = {}
    inference = 0.0
    for path in sorted((cache / "runs").glob("*/run.json")):
        for task in json.loads(path.read_text())["tasks"]:
            name = task["backbone"]
            total[name] = total.get(name, 0.0) + task["prepare"] + task["inference"]
            inference += task["inference"]
    everything = sum(total.values())
    slowest = _slowest(total, most)
    return (
        f"processor seconds: inference {inference:.0f}, preparing {everything - inference:.0f}; "
        f"most: {slowest}"
    )


def _slowest(seconds: dict[str, float], most: int = 4) -> str:
    ordered = sorted(seconds.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{name} {value:.0f} s" for name, value in ordered)


def empty(folder: Path) -> Path:
    """A folder without content."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
