"""Measurements in processes of their own, so that one leaves nothing behind for the next.

``python -m tests.perf.children MODULE:FUNCTION RESULT`` calls the function with the JSON value on its
standard input and writes what it returns to the file RESULT.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


class ChildFailed(RuntimeError):
    """A measurement's process did not finish; its output is in the log."""


def call_child(function: Callable[[Any], Any], argument: object, log: Path) -> Any:  # noqa: ANN401 - JSON
    """Call a module-level function in a new process; what it returns.

    Args:
        function: of one JSON value, returning a JSON value.
        argument: the value.
        log: takes the process's output.

    Raises:
        ChildFailed: it ended with an error.
    """
    return run_reported(function, argument, log)[1]


def run_reported(function: Callable[[Any], Any], argument: object, log: Path) -> tuple[float, Any]:
    """Call a module-level function in a new process; the process's seconds and what it returned."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        name = f"{function.__module__}:{function.__name__}"
        words = [sys.executable, "-m", "tests.perf.children", name, str(result)]
        seconds = run(words, log, json.dumps(argument))
        return seconds, json.loads(result.read_text())


def run(words: Sequence[str], log: Path, given: str = "") -> float:
    """Run a command from the repository's root; seconds from start to end.

    Raises:
        ChildFailed: its exit status is not 0.
    """
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {' '.join(words)}\n")
        output.flush()
        started = time.perf_counter()
        done = subprocess.run(
            words,
            input=given,
            text=True,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, **_QUIET},
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise ChildFailed(f"exit status {done.returncode} of: {' '.join(words)}\nIts output is in {log}")
    return seconds


def run_measured(words: Sequence[str], log: Path) -> float:
    """Run a command; processor seconds of it and its children, which others on the machine hardly change.

    Raises:
        ChildFailed: its exit status is not 0.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(words, log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def backbones_command(*words: object) -> list[str]:
    """The product's command line, as this interpreter runs it."""
    return [sys.executable, "-m", "benchmark", *map(str, words)]


def main(name: str, result: str) -> None:
    """Call the function and store what it returns."""
    module, _, function = name.partition(":")
    value = getattr(importlib.import_module(module), function)(json.load(sys.stdin))
    Path(result).write_text(json.dumps(value))


if __name__ == "__main__":
    main(*sys.argv[1:])
