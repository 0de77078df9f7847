"""The parent's side of the worker process: start it, bound its time, survive its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import ExportError

WORKER = (sys.executable, "-m", "benchmark.deployment.worker")
_TAIL_BYTES = 1500
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One task of the worker."""

    action: str  # ``convert`` or ``measure``
    name: str  # what a reader calls it; a target
    arguments: Mapping[str, Any]  # JSON values
    answer: Path  # file that the answer is written to


def carry_out(
    tasks: Sequence[Work], *, log: Path, timeout_seconds: float, program: Sequence[str] = WORKER
) -> Iterator[tuple[Work, dict[str, Any] | ExportError]]:
    """Have tasks done in a worker process, in order, and give each answer as it comes.

    A task that ends the process or takes too long is answered with an ExportError, and a fresh process goes
    on with the next one. The process and its children are ended when the caller stops reading.

    Args:
        tasks: what to do.
        log: receives everything the process prints.
        timeout_seconds: for each task.
        program: the worker's command; the plan's path is appended.
    """
    left = list(tasks)
    while left:
        for task, answer in _one_process(tuple(left), log, timeout_seconds, program):
            left.remove(task)
            yield task, answer


def _one_process(
    tasks: Sequence[Work], log: Path, timeout_seconds: float, program: Sequence[str]
) -> Iterator[tuple[Work, dict[str, Any] | ExportError]]:
    """Answers until the process ends or is ended; the last one may be the reason why it did."""
    plan = log.with_name("plan.json")
    plan.write_text(
        json.dumps([asdict(task) | {"answer": str(task.answer)} for task in tasks]), encoding="utf-8"
    )
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*program, str(plan)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=os.name == "posix",
        )
        try:
            for task in tasks:
                answer = _await(process, task, log, timeout_seconds)
                yield task, answer
                if isinstance(answer, ExportError) and not task.answer.exists():
                    return
        finally:
            _end(process)


def _await(
    process: subprocess.Popen[bytes], task: Work, log: Path, timeout_seconds: float
) -> dict[str, Any] | ExportError:
    deadline = time.monotonic() + timeout_seconds
    while not task.answer.exists():
        ended = process.poll() is not None
        if ended and not task.answer.exists():
            return _failure(task, f"the process ended with status {process.returncode}: {_tail(log)}")
        if time.monotonic() > deadline:
            return _failure(task, f"not finished after {timeout_seconds:g} seconds")
        time.sleep(_POLL_SECONDS)
    answer: dict[str, Any] = json.loads(task.answer.read_text(encoding="utf-8"))
    return _failure(task, answer["failed"]) if "failed" in answer else dict(answer["value"])


def _failure(task: Work, reason: str) -> ExportError:
    return ExportError(f"the model could not be {_PARTICIPLES[task.action]}", where=task.name, got=reason)


_PARTICIPLES = {"convert": "converted", "measure": "compared"}


def _tail(log: Path) -> str:
    text = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-500:]


def _environment() -> dict[str, str]:
    package_parent = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [package_parent, inherited])),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",  # conversion and CPU runtimes need none, and must not take its memory
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None and os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
