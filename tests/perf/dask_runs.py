"""A Dask cluster of this machine against its own worker processes, on the same embeddings from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.machine import cores
from tests.perf.children import backbones_command, run
from tests.perf.figures import Figure, Target, Unit
from tests.perf.jobs import BACKBONES, empty
from tests.perf.setting import Setting

_OVERHEAD = Target(at_least=0.87)  # 15 % longer


def measure(setting: Setting) -> Iterator[Figure]:
    """``backbones embed`` both ways in turn, start of the cluster included."""
    backbones, count = setting.pick(BACKBONES, BACKBONES[:6], BACKBONES[:2]), setting.pick(500, 200, 24)
    data = setting.images(count)
    pairs = []
    for _ in range(setting.rounds(1)):
        seconds = [
            _seconds(data, setting.folder / "cluster-cache", backbones, setting, *way)
            for way in (("--cluster", f"local:{cores()}"), ())
        ]
        pairs.append((seconds[0], seconds[1]))
    work = f"embed on --cluster local:{cores()}, {len(backbones)} backbones x {count} images"
    yield Figure.of_pairs((work, "--jobs"), Unit.SECONDS, pairs, _OVERHEAD)


def _seconds(data: Path, cache: Path, backbones: tuple[str, ...], setting: Setting, *way: str) -> float:
    words = ["embed", data, "--backbones", ",".join(backbones), "--weights", "random", "--quiet"]
    return run(backbones_command(*words, "--cache", empty(cache), *way), setting.log)
