"""What ``rank`` predicted beside what it took, over five jobs of different shapes on one cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.perf.children import ROOT, backbones_command, run
from tests.perf.figures import Figure, Target
from tests.perf.jobs import empty
from tests.perf.setting import Setting

_SHARED = ROOT.parent / "shared"
_SMALL = "MobileNet_0.25,MobileNet_0.5,MobileNetV2_0.35,MobileNetV3Small_0.75"
_WITHIN = Target(at_least=0.7, at_most=1.3)


@dataclass(frozen=True, slots=True)
class _Shape:
    """One job: what it is like, its backbones, their weights, and how many images."""

    about: str
    backbones: str
    weights: str
    images: int


def measure(setting: Setting) -> Iterator[Figure]:
    """Predicted over actual seconds of all cores, reading apart; photographs and weights where they are.

    Seconds of cores are the same on a busy machine, those on the clock are not.
    """
    bricks, weights = _SHARED / "data" / "brick_cracks", _SHARED / "weights"
    real = bricks.is_dir() and weights.is_dir() and not setting.tiny
    many, few = setting.pick(498, 498, 24), setting.pick(100, 100, 24)
    data = bricks if real else setting.images(many)
    trained = str(weights) if real else "random"
    shapes = (
        _Shape("few images, small backbones, from nothing", _SMALL, trained, few),
        _Shape("many images, the same backbones", _SMALL, trained, many),
        _Shape("all of it again", _SMALL, trained, many),
        _Shape("large backbones, random weights", "ResNet50,EfficientNetV2S", "random", few),
        _Shape("many images, random weights", "MobileNetV2,MobileNetV3Large,DenseNet121", "random", many),
    )
    place = empty(setting.folder / "plans")
    place.mkdir(parents=True)
    words = ["plan", "--images", 1, "--backbones", _SMALL, "--weights", "random", "--cache", place / "cache"]
    run(backbones_command(*words), setting.log)  # its self-test is all that the first job knows
    for shape in shapes[:: 1 if not setting.tiny else 2]:
        yield _compared(shape, data, place, setting.log)


def _compared(shape: _Shape, data: Path, place: Path, log: Path) -> Figure:
    places = ["--cache", place / "cache", "--results", place / "results"]
    chosen = ["--backbones", shape.backbones, "--weights", shape.weights, "--limit", shape.images]
    run(backbones_command("rank", data, *chosen, *places), log)
    record = next((place / "results").glob("*/run.json"))
    timings = json.loads(record.read_text())["timings"]
    parts = ", ".join(
        f"{name} {timings[f'predicted_{name}_seconds']:.1f} / {timings[f'{name}_seconds']:.1f}"
        for name in ("embedding", "audit", "heads", "board")
    )
    predicted = timings["predicted_core_seconds"]
    took = timings["all_core_seconds"] - timings["timing_core_seconds"]  # noise, timed again
    clock = f"{timings['predicted_seconds']:.0f} / {timings['all_seconds']:.0f} s on the clock"
    return Figure(
        work=f"plan: {shape.about}, {shape.images} images",
        against="what it took",
        ours=predicted,
        theirs=took,
        ratios=(predicted / took,),
        target=_WITHIN,
        note=f"seconds of all cores; {clock} ({parts}), while others used {timings['others_share']:.0%}",
    )
