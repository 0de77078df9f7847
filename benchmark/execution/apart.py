"""Tasks in a process of their own, which has run nothing before and leaves nothing behind.

It reads a function and its arguments from its input, writes one result after the other to its output, and
ends with its parent.
"""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmark.errors import JobError
from benchmark.execution.runner import Function, Result
from benchmark.machine import end_with_parent
from benchmark.storage import OF_ONE_PROCESS, is_abandoned, this_process

_POLL_SECONDS = 0.1
# Processes that it began look for their parent twice a second.
_ORPHAN_SECONDS = 1.0
# One whose task failed may still wait for a thread that it began.
_LEAVE_SECONDS = 10.0
_TAIL_BYTES = 1500
_UNWANTED = "not wanted any more"
_KILLED = -9
# As a module it would be there twice.
_PROGRAM = "import sys; from benchmark.execution.apart import main; main(int(sys.argv[1]))"


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
    results = run_in_turn(function, [argument], threads, environment=environment, is_wanted=is_wanted)
    with closing(results):
        result = next(results)
    if isinstance(result, JobError):
        raise result
    return result


def run_in_turn(
    function: Function,
    arguments: Sequence[Any],
    threads: int,
    *,
    environment: Mapping[str, str],
    timeout_seconds: float = math.inf,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Generator[Result | JobError]:
    """Run a task with one argument after the other in a new process.

    One that ends the process or takes too long costs no other: a fresh process goes on with the next. The
    process, its children and its temporary files are gone when the caller stops reading.

    Args:
        function: module-level.
        arguments: each picklable by name.
        threads: to use.
        environment: variables of the process beside those of this one.
        timeout_seconds: for each.
        is_wanted: asked again and again; the process is ended, and nothing goes on, when it is not.

    Yields:
        Their results, in order; instead of one, why there is none: with the last that its process said,
        unless TensorFlow's whole log was asked for, which then goes to this process's. What a process said
        whose tasks were all done is seen nowhere else.
    """
    left = list(arguments)
    while left:
        try:
            with (
                _process(environment) as (process, log),
                closing(_Watch(process, is_wanted)) as watch,
            ):
                assert process.stdin is not None
                assert process.stdout is not None
                is_going_on = watch.allow(timeout_seconds)
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(pickle.dumps((function, left, threads)))
                while left and is_going_on:
                    try:
                        result: Result = pickle.load(process.stdout)
                    except (EOFError, pickle.UnpicklingError):
                        break
                    watch.allow(math.inf)  # whoever reads may take any time
                    left.pop(0)
                    yield result
                    # One that was ended for its time just when it was done failed at nothing.
                    is_going_on = watch.allow(timeout_seconds)
                else:
                    continue
                error = JobError(_ending(process, watch, log))
                error.add_note(_said(log))
                time.sleep(_ORPHAN_SECONDS)
        except OSError as reason:
            error = JobError(f"no process could be started: {reason}")
        left.pop(0)
        yield error
        if str(error) == _UNWANTED:
            return


@contextmanager
def _process(environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that waits for its work, and the file of what it says; what it began goes with it."""
    found = os.pathsep.join(path for path in (str(Path(__file__).parents[2]), *sys.path) if path)
    _remove_abandoned()
    own = f"{OF_ONE_PROCESS}{this_process()}."
    with tempfile.TemporaryDirectory(prefix=own, ignore_cleanup_errors=True) as scratch:
        variables = {**os.environ, "PYTHONPATH": found, **environment, "TMPDIR": scratch}
        log = Path(scratch, "said.log")
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if variables.get("TF_CPP_MIN_LOG_LEVEL") == "0" else said,
                env=variables,
                start_new_session=True,  # Ctrl-C is for whoever waits here, and ends it in order
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, log
        finally:
            _end(process)
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()


def _remove_abandoned() -> None:
    """Delete the temporary files of processes that are gone: a killed one leaves them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{OF_ONE_PROCESS}*"):
        if is_abandoned(folder, folder.name.removeprefix(OF_ONE_PROCESS).rpartition(".")[0]):
            shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with its children, and the children of one that has ended by itself."""
    import psutil

    if process.returncode is not None:
        return
    if process.poll() is None:
        children: list[psutil.Process] = []
        with suppress(psutil.Error):
            children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        process.wait()
        psutil.wait_procs(children, timeout=_ORPHAN_SECONDS)
    _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a process began, right after it ended: its number may soon be another one's."""
    if hasattr(os, "killpg"):
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


class _Watch:
    """Ends a process that nobody wants any more, or that takes too long, and says why."""

    def __init__(self, process: subprocess.Popen[bytes], is_wanted: Callable[[], bool]) -> None:
        self.reason = ""
        self._process = process
        self._is_wanted = is_wanted
        self._seconds = self._until = math.inf
        self._deciding = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def allow(self, seconds: float) -> bool:
        """From now on it has so much time, unless it has been ended."""
        with self._deciding:
            self._seconds = seconds
            self._until = time.monotonic() + seconds
            return not self.reason

    def close(self) -> None:
        """Watch no longer."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self.reason and not self._done.wait(_POLL_SECONDS):
            is_wanted = self._is_wanted()
            with self._deciding:
                if time.monotonic() > self._until:
                    self.reason = f"not finished after {self._seconds:g} seconds"
                elif not is_wanted:
                    self.reason = _UNWANTED
            if self.reason:
                _end(self._process)


def _ending(process: subprocess.Popen[bytes], watch: _Watch, log: Path) -> str:
    """Why a process has no more results; it is ended if it does not end by itself."""
    reason = watch.reason
    watch.allow(_LEAVE_SECONDS)
    status = process.wait()
    _end_group(process)
    if reason or watch.reason == _UNWANTED:
        return watch.reason
    ended = f"the process ended with status {status}"
    if watch.reason:
        ended = "the task failed, and its process did not end"
    elif status == _KILLED:
        ended += " (killed; it may need more memory than there is)"
    return f"{ended}: {_tail(log)}".rstrip(": ")


def _said(log: Path) -> str:
    return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")


def _tail(log: Path) -> str:
    lines = [line.strip() for line in _said(log).splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-500:]


def main(parent: int) -> None:
    """The other side: the process that ends with its parent."""
    # It may have become an orphan before it could look who its parent is.
    end_with_parent(parent)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no result
    function, arguments, threads = pickle.load(sys.stdin.buffer)
    with output:
        for argument in arguments:
            output.write(pickle.dumps(function(argument, threads)))
            output.flush()
