"""What this machine has for this process, with the limits of containers drawn in folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.machine import available_memory, cores, processor_flags, processor_name


def group(root: Path, lines: str, **files: str) -> dict[str, Path]:
    """A control group ``root/groups/<path>`` and the file that says that we are in it."""
    root.mkdir(exist_ok=True)
    own = root / "own"
    own.write_text(lines)
    _, controllers, path = lines.splitlines()[0].split(":", 2)
    folder = root / "groups" / controllers / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return {"groups": root / "groups", "own": own}


def test_a_container_has_as_many_cores_as_its_time_allows(tmp_path: Path) -> None:
    free = cores(groups=tmp_path / "none", own=tmp_path / "none")
    assert free == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    half = group(tmp_path / "two", "0::/\n", cpu__max="50000 100000\n")
    assert cores(**half) == 1
    wide = group(tmp_path / "wide", "0::/\n", cpu__max="max 100000\n")
    assert cores(**wide) == free
    old = {"cpu__cfs_quota_us": "100000", "cpu__cfs_period_us": "100000"}
    first = group(tmp_path / "one", "4:cpu,cpuacct:/docker/7f\n", **old)
    assert cores(**first) == 1


def test_the_memory_of_a_container_is_what_it_may_still_take(tmp_path: Path) -> None:
    everything = available_memory(groups=tmp_path / "none", own=tmp_path / "none")
    new = {
        "memory__max": "300000",
        "memory__current": "250000",
        "memory__stat": "anon 1\ninactive_file 150000",
    }
    inside = group(tmp_path, "0::/\n", **new)
    assert 200_000 <= available_memory(**inside) < everything
    (tmp_path / "groups" / "memory.max").write_text("max")
    assert available_memory(**inside) > 10**7


def test_an_outer_limit_counts(tmp_path: Path) -> None:
    everything = available_memory(groups=tmp_path / "none", own=tmp_path / "none")
    inside = group(tmp_path, "0::/user/app\n", memory__max="max", memory__current="5")
    (tmp_path / "groups" / "user" / "memory.max").write_text("1000")
    assert available_memory(**inside) < everything - 10**7


def test_what_own_workers_hold_can_be_used_again(tmp_path: Path) -> None:
    inside = group(tmp_path, "0::/\n", memory__max="1000", memory__current="1000")
    code = "block = b'x' * 80_000_000; print(flush=True); input()"
    before = available_memory(**inside)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert available_memory(**inside) - before > 60_000_000
        child.communicate(b"\n")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux says it there")
def test_the_processor_is_named() -> None:
    assert processor_name() in Path("/proc/cpuinfo").read_text()
    assert all(flag in Path("/proc/cpuinfo").read_text() for flag in processor_flags())
