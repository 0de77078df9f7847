"""Real commands in process groups of their own: started, killed, looked after."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmark.embeddings import EmbeddingStore
from benchmark.records import Float32

NETWORKS = "MobileNet_0.25,MobileNet_0.5"
SMALL = ("--weights", "random", "--size", "32", "--quiet", "--format", "json")


class Target(StrEnum):
    """Who is killed."""

    GROUP = "group"
    PARENT = "parent"
    WORKER = "worker"


@dataclass
class Command:
    """One running command; what it prints goes to files, which orphans cannot keep open for us."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    began: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = 600) -> int:
        """Its exit status."""
        return self.process.wait(timeout=seconds)

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out.read_text())
        return found

    @property
    def errors(self) -> str:
        return self.err.read_text(errors="replace")

    def members(self) -> list[psutil.Process]:
        """Living processes of its session: itself, workers, whoever they started."""
        found = []
        for one in psutil.process_iter(["status"]):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(one.pid) == self.process.pid and one.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return found

    def orphans(self, seconds: float = 20) -> list[psutil.Process]:
        """Processes that are still there some seconds after its end."""
        deadline = time.monotonic() + seconds
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def start(
    *words: object, folder: Path, limit: Callable[[], None] | None = None, **environment: str
) -> Command:
    """Start a command that prints into ``folder``.

    Args:
        words: its arguments.
        folder: where it runs.
        limit: called in the new process before anything else.
        environment: variables added to this process's; an empty value removes one.
    """
    name = f"{time.monotonic_ns()}"
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    variables = {key: value for key, value in {**os.environ, **environment}.items() if value}
    with out.open("wb") as output, err.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark", *map(str, words)],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            preexec_fn=limit,
        )
    return Command(process, out, err)


def run(*words: object, folder: Path, **options: Any) -> Command:  # noqa: ANN401
    """Run a command to its end."""
    command = start(*words, folder=folder, **options)
    command.wait()
    return command


def kill_at_random(command: Command, target: Target, seconds: float, chance: random.Random) -> bool:
    """SIGKILL somebody of a command at a random moment within some seconds.

    Returns:
        Whether somebody was killed before the command's end.
    """
    try:
        command.process.wait(timeout=chance.random() * seconds)
    except subprocess.TimeoutExpired:
        return _strike(command, target, chance)
    return False


def _strike(command: Command, target: Target, chance: random.Random) -> bool:
    if target is Target.GROUP:
        os.killpg(command.process.pid, signal.SIGKILL)
    elif target is Target.PARENT:
        command.process.kill()
    else:
        workers = [one for one in command.members() if _works(one, command.process.pid)]
        if not workers:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(sorted(workers, key=lambda one: one.pid)).kill()
        return True
    command.wait()
    return command.process.returncode == -signal.SIGKILL


def _works(process: psutil.Process, parent: int) -> bool:
    """Whether a process is a worker: not the parent, not the tracker of shared resources."""
    try:
        return process.pid != parent and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.Error:
        return False


def image_ids(data: Path) -> tuple[str, ...]:
    """Ids of all images of a folder, sorted."""
    return tuple(sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in data.rglob("*.jpg")))


Vectors = dict[str, dict[str, Float32]]


def vectors(cache: Path, ids: tuple[str, ...]) -> Vectors:
    """Every vector that a cache holds: key folder -> image id -> features."""
    store = EmbeddingStore(cache)
    found: Vectors = {}
    for entry in store.entries():
        if entry.key is not None:
            absent = set(store.missing(entry.key, ids))
            held = tuple(image_id for image_id in ids if image_id not in absent)
            features = store.read(entry.key, held).features if held else np.zeros((0, 0), np.float32)
            found[entry.folder.name] = dict(zip(held, features, strict=True))
    return found


def count(held: Vectors) -> int:
    return sum(len(rows) for rows in held.values())


def lost(before: Vectors, after: Vectors) -> int:
    """Rows that were there and are gone."""
    return sum(len(rows.keys() - after.get(key, {}).keys()) for key, rows in before.items())


def wrong(held: Vectors, reference: Vectors) -> int:
    """Rows with other bits than those of an undisturbed run."""
    return sum(
        image_id not in reference.get(key, {}) or row.tobytes() != reference[key][image_id].tobytes()
        for key, rows in held.items()
        for image_id, row in rows.items()
    )
