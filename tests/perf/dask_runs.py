"""Dask on this machine: against its own worker processes, and few workers against more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.machine import cores
from tests.execution.clusters import cluster
from tests.perf.children import backbones_command, run
from tests.perf.figures import Figure, Target, Unit
from tests.perf.jobs import BACKBONES, empty
from tests.perf.setting import Setting

_OVERHEAD = Target(at_least=0.87)  # 15 % longer
_WORKERS = (1, 2, 4)


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


def measure_workers(setting: Setting) -> Iterator[Figure]:
    """``backbones embed`` on 1, 2 and 4 workers of one thread each, in turn; they wait when it starts."""
    count, backbones = setting.pick(500, 200, 24), BACKBONES[-4:]
    data = setting.images(count)
    rounds = [
        [_on_workers(number, data, backbones, setting) for number in _WORKERS]
        for _ in range(setting.rounds(3))
    ]
    one = _WORKERS[0]
    for place, number in enumerate(_WORKERS[1:], start=1):
        work = f"embed on {number} workers of one thread, {len(backbones)} backbones x {count} images"
        pairs = [(seconds[place], seconds[0]) for seconds in rounds]
        note = f"{cores()} cores"
        yield Figure.of_pairs((work, f"{one} worker"), Unit.SECONDS, pairs, note=note)


def _on_workers(number: int, data: Path, backbones: tuple[str, ...], setting: Setting) -> float:
    from distributed import Client

    folder = Path(tempfile.mkdtemp(dir=setting.folder))
    with cluster(folder, number) as made:
        with Client(made.address, set_as_default=False) as client:
            client.wait_for_workers(number, timeout=300)
        return _seconds(data, setting.folder / "worker-cache", backbones, setting, "--cluster", made.address)


def _seconds(data: Path, cache: Path, backbones: tuple[str, ...], setting: Setting, *way: str) -> float:
    words = ["embed", data, "--backbones", ",".join(backbones), "--weights", "random", "--quiet"]
    return run(backbones_command(*words, "--cache", empty(cache), *way), setting.log)
