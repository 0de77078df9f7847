"""Tasks that workers of a test cluster import by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.errors import StorageError
from benchmark.execution import Machine, failure, run_in_turn


def describe() -> Machine:
    """Workers that tests start with another ARITHMETIC compute otherwise."""
    return (("instructions", os.environ.get("ARITHMETIC", "usual")),)


class DiesWhenFetched(str):
    """A text that kills the first process that is asked for it: a result that never arrives."""

    def __reduce__(self) -> tuple[object, ...]:
        with suppress(FileExistsError):
            Path(os.environ["DIED"]).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return str, (str(self),)


def describe_and_die_when_fetched() -> Machine:
    return (("instructions", DiesWhenFetched("usual")),)


def dies_when_fetched(_: object, __: int) -> dict[str, Any]:
    return {"text": DiesWhenFetched("told")}


class CannotBeRead:
    def __reduce__(self) -> tuple[object, ...]:
        return {}.__getitem__, ("cannot be read",)


def answers_what_cannot_be_read(_: object, __: int) -> dict[str, Any]:
    return {"answer": CannotBeRead()}


def times(seconds: float, threads: int) -> dict[str, Any]:
    begun = time.monotonic()  # one clock of all processes of a machine
    time.sleep(seconds)
    return {"begun": begun, "ended": time.monotonic(), "pid": os.getpid(), "threads": threads}


def dies(asked: tuple[str, int], _: int) -> dict[str, Any]:
    """Kill the own process so many times; each time leaves a file."""
    folder, deaths = Path(asked[0]), asked[1]
    tried = len(list(folder.iterdir()))
    (folder / f"{tried}-{os.getpid()}").touch()
    if tried < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"tried": tried + 1}


def hangs_once(folder: str, _: int) -> dict[str, Any]:
    """Stop the own process the first time, so that no heartbeat comes any more."""
    path = Path(folder) / "stopped"
    if not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    return {"pid": os.getpid()}


def needs_room(_: object, threads: int) -> dict[str, Any]:
    """Fails where the worker has no room."""
    if os.environ.get("DISK") == "full":
        return failure(StorageError("no room left", where="here"))
    return {"arithmetic": os.environ.get("ARITHMETIC", "usual")}


def sleeps(seconds: float, _: int) -> dict[str, Any]:
    time.sleep(seconds)
    return {"slept": seconds}


def adds_up(asked: dict[str, Any], _: int) -> dict[str, Any]:
    return {"sum": int(asked["numbers"].sum()) + asked["add"]}


def environment_of(name: str, threads: int) -> dict[str, Any]:
    print("A library has something to say.")
    return {"value": os.environ.get(name), "pid": os.getpid(), "threads": threads}


def as_named(name: str, _: int) -> dict[str, Any]:
    """Does what its argument is called."""
    print("working on", name, flush=True)
    if name == "abort":
        os.abort()
    if name == "leave":
        sys.exit(3)
    if name == "raise":
        raise ValueError("what nobody expected")
    if name == "hang":
        time.sleep(600)
    return {"name": name, "pid": os.getpid(), "temporary": tempfile.mkdtemp()}


def has_a_child(_: object, __: int) -> dict[str, Any]:
    return {"pid": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid}


def waits_for_ever(told: str, _: int) -> dict[str, Any]:
    part = Path(f"{told}.part")
    part.write_text(str(os.getpid()))
    part.rename(told)
    while True:
        time.sleep(1)


def waits_inside(told: str, _: int) -> dict[str, Any]:
    """Has the task that waits in a process of its own, as an export has its conversions."""
    return {"answers": list(run_in_turn(waits_for_ever, [told], 1, environment={}))}


def dies_as_a_parent(told: str, _: int) -> dict[str, Any]:
    Path(told).write_text(str(has_a_child(0, 0)["pid"]))
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def raises_while_a_thread_works(_: object, __: int) -> dict[str, Any]:
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise ValueError("what nobody expected")
