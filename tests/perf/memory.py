"""Peak anonymous memory of ``embed``, all its processes together, with ten times the images."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.perf.children import ROOT, ChildFailed, backbones_command
from tests.perf.figures import Figure, Target, Unit
from tests.perf.jobs import empty
from tests.perf.setting import Setting

_BACKBONES = "MobileNet_0.25,MobileNetV3Small_0.75"
_EVERY_SECONDS = 0.05


def measure(setting: Setting) -> Iterator[Figure]:
    """Many images over few, in pairs; a first run converts the models, so that none measures conversion."""
    few, many = setting.pick((2000, 20_000), (500, 5000), (24, 48))
    cache = empty(setting.folder / "memory-cache")
    peak_megabytes(setting.images(24, seed=9), cache, setting)
    rounds = setting.rounds(1)
    pairs = []
    for _ in range(rounds):
        large, small = (
            peak_megabytes(setting.images(count), _without_embeddings(cache), setting)[0]
            for count in (many, few)
        )
        pairs.append((large, small))
    yield Figure.of_pairs(
        (f"peak anonymous memory of embed, {many:,} images", f"{few:,} images"),
        Unit.MEGABYTES,
        pairs,
        Target(at_most=1.1),
        f"{_BACKBONES.replace(',', ', ')}; all processes together, every {_EVERY_SECONDS * 1000:.0f} ms",
    )


def _without_embeddings(cache: Path) -> Path:
    """The cache with its converted models, but no embedding and no index of images."""
    for path in cache.iterdir():
        if (path / "key.json").exists() or path.name in {"index", "scratch"}:
            empty(path)
    return cache


def peak_megabytes(
    data: Path, cache: Path, setting: Setting, backbones: str = _BACKBONES
) -> tuple[float, float]:
    """Embed a folder in a new process and watch it.

    Returns:
        Peak of the sum over its process tree in 10^6 bytes, and seconds from start to end.
    """
    words = ["embed", data, "--backbones", backbones, "--weights", "random", "--cache", cache]
    begun = time.perf_counter()
    with (
        setting.log.open("a") as output,
        subprocess.Popen(
            backbones_command(*words, "--engine", "openvino"), stdout=output, stderr=output, cwd=ROOT
        ) as process,
    ):
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(anonymous_bytes, family(process.pid))))
            time.sleep(_EVERY_SECONDS)
    if process.returncode:
        raise ChildFailed(
            f"embed ended with exit status {process.returncode}; its output is in {setting.log}"
        )
    return peak / 1e6, time.perf_counter() - begun


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty when it has just ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def anonymous_bytes(process: psutil.Process) -> int:
    """Resident memory that no file backs; all resident memory where the system does not tell them apart."""
    try:
        if not sys.platform.startswith("linux"):
            return int(process.memory_info().rss)
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (OSError, psutil.Error):
        return 0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return 1024 * int(lines[0].split()[1]) if lines else 0
