"""Starting, listening to and killing workers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

WORKER = Path(__file__).with_name("store_worker.py")


Worker = subprocess.Popen[str]
Lines = list[tuple[str, str]]


def start(
    task: str, root: Path, rows: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A worker at work; it has said ``ready``."""
    process = subprocess.Popen(
        [sys.executable, str(WORKER), task, str(root), str(rows)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    first = _first_line(process.stdout.fileno())
    assert first == b"ready\n", (first, process.stderr.read() if process.stderr else "")
    return process


def _first_line(descriptor: int) -> bytes:
    """Up to the first line break, byte by byte: a buffer would swallow lines that ``communicate`` misses."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line


def finish(process: Worker) -> Lines:
    """Wait for a worker's end and return its (event, number) lines."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return events(output)


def kill_at_random(process: Worker, seconds: float, chance: random.Random) -> tuple[Lines, bool]:
    """SIGKILL a worker at a random moment within some seconds.

    Returns:
        What it had said until then, and whether it was still at work.
    """
    timer = threading.Timer(chance.random() * seconds, process.kill)
    timer.start()
    output, _ = process.communicate(timeout=120)
    timer.cancel()
    timer.join()
    return events(output), process.returncode < 0


def kill_when(process: Worker, condition: Callable[[], bool]) -> bool:
    """SIGKILL a worker once a condition holds; returns whether it was still at work."""
    while process.poll() is None and not condition():
        time.sleep(0.0005)
    process.kill()
    process.communicate(timeout=120)
    return process.returncode < 0


def events(output: str) -> Lines:
    lines = [line.partition(" ") for line in output.splitlines()]
    return [(name, rest) for name, _, rest in lines]


def total(lines: Lines, name: str) -> int:
    return sum(int(rest) for event, rest in lines if event == name)


def last(lines: Lines, name: str) -> int:
    return next((int(rest) for event, rest in reversed(lines) if event == name), 0)
