"""A task in a process of its own, which has run nothing before and leaves nothing behind.

``python -m benchmark.execution.apart PARENT`` reads a call from its input, writes the result to its output,
and ends with the process of the number PARENT.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import JobError
from benchmark.execution.runner import Function, Result
from benchmark.machine import end_with_parent, mute_native_stderr

_POLL_SECONDS = 0.1


def run_apart(
    function: Function,
    argument: Any,  # noqa: ANN401 - whatever the task takes
    threads: int,
    *,
    environment: Mapping[str, str],
    is_wanted: Callable[[], bool] = lambda: True,
) -> Result:
    """Run a task in a new process.

    Args:
        function: module-level.
        argument: picklable by name.
        threads: to use.
        environment: variables of the process beside those of this one.
        is_wanted: asked again and again; the process is ended when it is not.

    Raises:
        JobError: the process died, or was not wanted any more.
    """
    found = os.pathsep.join(path for path in (str(Path(__file__).parents[2]), *sys.path) if path)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmark.execution.apart", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": found, **environment},
        start_new_session=True,  # Ctrl-C is for whoever waits here, and ends it in order
    )
    done = threading.Event()
    watching = threading.Thread(target=_end_unwanted, args=(process, is_wanted, done), daemon=True)
    watching.start()
    try:
        answer, _ = process.communicate(pickle.dumps((function, argument, threads)))
    finally:
        done.set()
        watching.join()
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise JobError("its process died", got=f"status {process.returncode}")
    result: Result = pickle.loads(answer)
    return result


def _end_unwanted(
    process: subprocess.Popen[bytes], is_wanted: Callable[[], bool], done: threading.Event
) -> None:
    while not done.wait(_POLL_SECONDS):
        if not is_wanted():
            process.kill()
            return


def main(parent: int) -> int:
    """The other side."""
    # It may have become an orphan before it could look who its parent is.
    end_with_parent(parent)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no result
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        mute_native_stderr()
    function, argument, threads = pickle.load(sys.stdin.buffer)
    with output:
        output.write(pickle.dumps(function(argument, threads)))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
