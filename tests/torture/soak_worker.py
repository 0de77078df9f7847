"""Ranks many small networks in this process, again and again; prints what it holds as JSON lines."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import psutil

from benchmark.options import RankOptions
from benchmark.pipeline import RankRequest, rank_backbones
from benchmark.records import HeadProtocol

TINY = Path(__file__).resolve().parents[1] / "pipeline" / "tiny.py"


def load_tiny() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_backbones", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_backbones"] = module
    spec.loader.exec_module(module)
    return module


def report(task: str) -> None:
    gc.collect()
    process = psutil.Process()
    facts = {"task": task, "bytes": process.memory_info().rss, "files": process.num_fds()}
    print(json.dumps(facts), flush=True)


class Watcher:
    """An observer that reports when a backbone is done."""

    def started(self, task: str, total: int) -> None: ...

    def advanced(self, task: str, done: int, note: str = "") -> None: ...

    def message(self, text: str) -> None: ...

    def finished(self, task: str, note: str = "") -> None:
        if task.startswith("Tiny"):
            report(task)


def main(folder: Path, networks: int, runs: int) -> None:
    tiny = load_tiny()
    data = tiny.draw_photos(folder / "photos")
    backbones = tuple(tiny.tiny_backbone(f"Tiny{8 + number:03}", 8 + number) for number in range(networks))
    protocol = HeadProtocol(epochs=2, updates=0, repeats=1, learning_rates=(1e-2,), weight_decays=(0.0,))
    for number in range(runs):
        options = RankOptions(
            data=data,
            weights="random",
            seed=number,
            size=tiny.SIZE,
            cache=folder / "cache",
            results=folder / f"results-{number}",
            jobs=1,
        )
        request = RankRequest(options=options, backbones=backbones, protocol=protocol)
        rank_backbones(request, Watcher())
        report(f"run {number}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
