"""What this machine has for this process, with the limits of containers drawn in folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from benchmark import machine
from benchmark.machine import (
    available_memory,
    cores,
    own_processes_id,
    processor_flags,
    processor_name,
)


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


def test_who_sees_other_processes_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one name: clones, containers beside each other, and containers of machines that began alike."""
    card, other_card, own, inner = (tmp_path / name for name in ("card", "other", "own", "inner"))
    card.write_text("0123456789abcdef0123456789abcdef\n")
    other_card.write_text("f" * 32)
    own.write_text("")
    inner.write_text("")
    boots = [tmp_path / "boot", tmp_path / "later"]
    for boot in boots:
        boot.write_text(boot.name)
    numbers = own.stat().st_ino
    monkeypatch.setattr(machine, "_FIRST_NAMESPACE", numbers)

    def seen(card: Path, namespace: Path, boot: Path = boots[0]) -> str:
        return own_processes_id(machine_id=card, namespace=namespace, boot=boot)

    plain = seen(card, own)
    assert seen(card, own) == plain
    assert seen(card, own, boots[1]) == plain, "what it left before it started anew is its own"
    told_apart = [plain, seen(other_card, own), seen(card, inner), seen(card, inner, boots[1])]
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    told_apart.append(seen(card, own))
    assert len({*told_apart}) == len(told_apart)


@pytest.mark.parametrize("text", ["", "uninitialized\n"])
def test_without_an_id_a_machine_is_its_network_card(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tmp_path / "machine-id"
    card.write_text(text)

    def seen(number: int) -> str:
        monkeypatch.setattr(uuid, "getnode", lambda: number)
        return own_processes_id(machine_id=card, namespace=tmp_path / "none", boot=tmp_path / "none")

    assert seen(0x001122334455) != seen(0x001122334456)
    drawn = 1 << 40  # without a card every process draws another number
    assert seen(drawn | 5) == seen(drawn | 6)
    assert own_processes_id() == own_processes_id()


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
