"""What this machine has for this process: cores, memory, the processor and what it can do."""

from __future__ import annotations

import functools
import os
import platform
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# In the words of /proc/cpuinfo, on x86-64 and 64-bit Arm.
_ARITHMETIC = (
    *("sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16", "avx10"),
    *("asimd", "asimdhp", "asimddp", "fphp", "sve", "sve2", "i8mm", "bf16", "svebf16", "sme"),
)
_CPU_INFO = Path("/proc/cpuinfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_WATCH = "parent-watch"
_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_NAMESPACE = Path("/proc/self/ns/pid")
# Linux gives this number to the namespace that a machine starts with, and others to those of containers.
_FIRST_NAMESPACE = 0xEFFFFFFC
_DRAWN_NODE = 1 << 40


def cores(*, groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> int:
    """Processors that this process may use: those it may run on, and as many as its container has time for.

    Args:
        groups: where control groups are mounted.
        own: says which of them this process is in.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _group_folders(groups, own):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            allowed = min(allowed, -(-quota // period))
    return max(1, allowed)


def available_memory(*, groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> int:
    """Bytes that this process and its workers may still take, what those workers hold already included.

    Args:
        groups: where control groups are mounted.
        own: says which of them this process is in.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    for folder in _group_folders(groups, own):
        limit, used = _memory(folder)
        free = min(free, max(0, limit - used)) if limit else free
    held = 0
    for child in psutil.Process().children(recursive=True):
        try:
            held += child.memory_full_info().uss
        except psutil.Error:  # it has just ended
            continue
    return free + held


def processor_seconds() -> tuple[float, float]:
    """How much the processors have worked since some time in the past, as seconds of one of them.

    Returns:
        For everybody, and for this process; processes that it has started, and those that they have started,
        count as its own.
    """
    import psutil

    spent = psutil.cpu_times()
    own = psutil.Process()
    mine = sum(own.cpu_times()[:4])
    for child in own.children(recursive=True):
        try:
            mine += sum(child.cpu_times()[:4])
        except psutil.Error:  # it has just ended
            continue
    return sum(spent[:4]) - spent.idle, mine


def all_processors() -> int:
    """Processors of this machine, whether this process may use them or not."""
    return os.cpu_count() or 1


def own_processes_id(
    *, machine_id: Path = _MACHINE_ID, namespace: Path = _PROCESS_NAMESPACE, boot: Path = _BOOT_ID
) -> str:
    """What tells those that see the processes of this one by their numbers from everybody else.

    A host name alone does not: containers and cloned machines share theirs. A container that starts again
    sees other processes than before; a machine that does sees that the earlier ones are gone.

    Args:
        machine_id: file that names this machine; without one its network card does.
        namespace: stands for the processes that this one can see.
        boot: file that names this start of the machine. Namespaces are numbered anew at each, and alike on
            machines that begin alike.
    """
    machine = _text(machine_id)
    if not re.fullmatch(r"[0-9a-f]{32}", machine):
        node = uuid.getnode()
        machine = "" if node & _DRAWN_NODE else f"{node:012x}"
    try:
        number = namespace.stat().st_ino
    except OSError:
        number = _FIRST_NAMESPACE
    within = "" if number == _FIRST_NAMESPACE else f"{number} {_text(boot)}"
    return "|".join([socket.gethostname(), machine, within])


@functools.cache
def processor_name() -> str:
    """What this machine's processor calls itself."""
    return _processor_line("model name") or platform.processor()


@functools.cache
def processor_flags() -> frozenset[str]:
    """The abilities that the system lists for the processor; empty where it lists none."""
    return frozenset((_processor_line("flags") or _processor_line("Features")).split())


@functools.cache
def instruction_set() -> str:
    """What of the processor's instruction set engines choose their arithmetic by."""
    known = [flag for flag in _ARITHMETIC if flag in processor_flags()]
    return "+".join([platform.machine(), *known]) if known else f"{platform.machine()} {platform.processor()}"


def _processor_line(name: str) -> str:
    """The first value of a name in /proc/cpuinfo; empty where there is none."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _group_folders(groups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's control groups, of version 1 or 2, and of those around them."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        base = groups / controllers if controllers else groups
        inner = base / path.lstrip("/")
        # Inside a container the path is that of the host, and only the base can be seen.
        around = (folder for folder in (inner, *inner.parents) if folder.is_relative_to(base))
        yield from (folder for folder in around if folder.is_dir())


def _quota(folder: Path) -> tuple[int, int]:
    """Processor time and the time it is given in, in microseconds; (0, 0) where there is no limit."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return _whole(quota), _whole(period)


def _memory(folder: Path) -> tuple[int, int]:
    """Limit (0: none) and use in bytes; files in memory that the system would drop count as free."""
    limit = _whole(_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes"))
    used = _whole(_text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes"))
    stated = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    droppable = _whole(stated.get("total_inactive_file") or stated.get("inactive_file", ""))
    return limit, max(0, used - droppable)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _whole(text: str) -> int:
    """A non-negative whole number; 0 for anything else ("max", "-1", nothing)."""
    return int(text) if text.isdecimal() else 0


def end_with_parent(parent: int) -> None:
    """Have a thread end this process as soon as its parent, the process of that number, is gone."""
    if not any(thread.name == _WATCH for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), name=_WATCH, daemon=True).start()


def _watch(parent: int) -> None:
    import psutil

    # Windows keeps the number of a parent that is gone.
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def without_native_stderr() -> Iterator[None]:
    """What is written to file descriptor 2 in here is lost: TensorFlow's lines on its first import."""
    own = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no file
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)


def mute_native_stderr() -> None:
    """Send file descriptor 2 to nowhere and keep Python's own ``sys.stderr`` where it was.

    TensorFlow writes several lines on every import, before any of its settings is read, and processes
    that are started inherit the descriptor.
    """
    own = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = os.fdopen(own, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
