"""Run benchmarks and print one table: ``python -m tests.perf --results results/bench``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark.storage import write_whole
from tests.perf import (
    boards,
    cluster,
    dask_runs,
    embedding,
    halving,
    heads,
    jobs,
    memory,
    peak,
    plans,
    scale,
    store,
    timm_networks,
    tuning,
    views,
)
from tests.perf.children import ChildFailed
from tests.perf.figures import Figure
from tests.perf.machine import machine_facts, others_busy
from tests.perf.setting import Setting
from tests.perf.tables import screen_table, write_figures

_BUSY = 0.1
_PIPED_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: what it measures and whether only ``--all`` runs it."""

    measure: Callable[[Setting], Iterator[Figure]]
    about: str
    long: bool = False


BENCHMARKS = {
    "embedding": Benchmark(embedding.measure, "images per second against Keras predict"),
    "timm": Benchmark(timm_networks.measure, "timm's networks against PyTorch eager in bfloat16"),
    "peak": Benchmark(peak.measure, "arithmetic per second against the matrix-product peak"),
    "heads": Benchmark(heads.measure, "training heads against Model.fit"),
    "jobs": Benchmark(jobs.measure, "make embeddings, first and second process, against the loop"),
    "dask": Benchmark(dask_runs.measure, "a Dask cluster of this machine against its own processes"),
    "workers": Benchmark(dask_runs.measure_workers, "a Dask cluster of 1, 2 and 4 workers", long=True),
    "startup": Benchmark(boards.measure_startup, "help, list, and a finished ranking again"),
    "memory": Benchmark(memory.measure, "peak memory with ten times the images"),
    "halving": Benchmark(halving.measure, "halving against exhaustive on brick photographs"),
    "plans": Benchmark(plans.measure, "what rank predicted against what it took, over five jobs"),
    "views": Benchmark(views.measure, "fine-tuning's phase 1 on cached views against every epoch anew"),
    "tuning": Benchmark(tuning.measure, "fine-tuning from the board's head against the reference recipe"),
    "scale": Benchmark(scale.measure, "time and memory against the images, up to 50,000", long=True),
    "cluster": Benchmark(cluster.measure, "a simulated cluster: ten million images on up to 4,000 workers"),
    "store": Benchmark(store.measure, "the store with ten million rows of one backbone", long=True),
    "rank": Benchmark(boards.measure_rank, "all backbones ranked when everything is embedded", long=True),
    "zoo": Benchmark(jobs.measure_zoo, "all backbones embedded from nothing", long=True),
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 0 whatever the figures say, 1 when a benchmark did not finish."""
    arguments = _parser().parse_args(words)
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)
    folder: Path = arguments.results
    folder.mkdir(parents=True, exist_ok=True)
    work = arguments.work or Path(tempfile.mkdtemp(prefix="bench-"))
    work.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        folder=work.resolve(),
        log=folder.resolve() / "bench.log",
        quick=arguments.quick,
        tiny=arguments.tiny,
        pairs=arguments.pairs,
    )
    try:
        return _run(_chosen(arguments), setting, folder, console)
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)


def _run(names: Sequence[str], setting: Setting, folder: Path, console: Console) -> int:
    facts = machine_facts()
    write_whole(folder / "machine.json", json.dumps(facts, indent=1).encode(), root=folder)
    everything: list[Figure] = []
    failed = 0
    for name in names:
        figures, finished = _run_one(name, setting, console)
        failed += not finished
        everything += figures
        write_figures(folder, name, figures, facts)
        write_figures(folder, "summary", everything, facts)
    console.print(screen_table(everything), markup=False)
    console.print(f"Written to {folder}", markup=False)
    return 1 if failed else 0


def _run_one(name: str, setting: Setting, console: Console) -> tuple[list[Figure], bool]:
    """The figures of one benchmark, as far as it came, and whether it finished."""
    busy = others_busy()
    if busy > _BUSY:
        console.print(f"Other programs use {busy:.0%} of the processors: expect noise.", markup=False)
    started = time.perf_counter()
    figures = []
    try:
        for figure in BENCHMARKS[name].measure(setting):
            figures.append(figure)
            row = figure.row()
            told = " ".join(f"{row[key]}" for key in ("ours", "theirs", "ratio [min, max]"))
            console.print(f"  {figure.work}: {told} {figure.note}", markup=False, highlight=False)
    except ChildFailed as error:
        console.print(f"{name}: {error}", markup=False)
        return figures, False
    console.print(f"{name}: {time.perf_counter() - started:.0f} s", markup=False, highlight=False)
    return figures, True


def _chosen(arguments: argparse.Namespace) -> list[str]:
    if arguments.only:
        return [name for name in BENCHMARKS if name in arguments.only]
    return [name for name, one in BENCHMARKS.items() if arguments.all or not one.long]


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}"
        )
    return names


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<10} {one.about}{' (--all)' if one.long else ''}" for name, one in BENCHMARKS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.perf",
        description="Ours against the straightforward way, in pairs, on the same images.",
        epilog="benchmarks:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("--results", type=Path, default=Path("results/bench"), help="tables go here (default results/bench)")
    add("--only", type=_names, metavar="NAMES", help="comma-separated; see below")
    add("--all", action="store_true", help="the long ones too (more than an hour)")
    add("--quick", action="store_true", help="small but real: about three minutes without --only")
    add("--tiny", action="store_true", help="sizes that only show that everything runs")
    add("--pairs", type=int, metavar="N", help="measured pairs (default: each benchmark's own number)")
    add("--work", type=Path, metavar="DIR", help="keep images, caches and boards here (default: temporary)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
