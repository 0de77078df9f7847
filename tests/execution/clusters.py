"""Real scheduler and worker processes on loopback, started, killed and joined by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent


@dataclass
class Cluster:
    """A scheduler and its workers, each a process of its own without a nanny, so that the dead stay dead.

    Attributes:
        folder: of logs and of what workers write.
        patience: seconds without a heartbeat after which a worker is lost; on a busy machine, imports alone
            keep it silent for half a minute.
    """

    folder: Path
    patience: int = 120
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        contact = self.folder / "scheduler.json"
        words = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        self.scheduler = self._spawn(*words, "--scheduler-file", str(contact))
        deadline = time.monotonic() + 240
        while not contact.exists() or not contact.read_text().strip():
            assert self.scheduler.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        time.sleep(0.2)
        import json

        self.address = json.loads(contact.read_text())["address"]

    def add(
        self,
        *more: str,
        nanny: bool = False,
        port: str = "0",
        limit: Callable[[], None] | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """One more worker.

        Args:
            more: options; of one that is given twice the last counts.
            nanny: a second process that starts the worker again when it dies.
            port: of the worker; 0 takes a free one.
            limit: called in the new process before anything else.
            environment: variables added to this process's.
        """
        words = ["worker", self.address, "--host", "127.0.0.1", "--nthreads", "1"]
        words += ["--dashboard-address", "127.0.0.1:0"]
        words += ["--nanny" if nanny else "--no-nanny", "--memory-limit", "0", "--death-timeout", "120"]
        words += ["--worker-port", port, "--local-directory", str(self.folder)]
        worker = self._spawn(*words, *more, limit=limit, **environment)
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        for process in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
                for one in (*children, psutil.Process(process.pid)):
                    with suppress(psutil.NoSuchProcess):
                        one.send_signal(signal.SIGCONT)
                        one.kill()
            process.wait()

    def said(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))

    def _spawn(
        self, *words: str, limit: Callable[[], None] | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = {
            "PYTHONPATH": paths,
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{self.patience}s",
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder),
        }
        with (self.folder / f"{words[0]}-{time.monotonic_ns()}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{words[0]}", *words[1:]],
                env={**os.environ, **settings, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=limit,
            )


@contextmanager
def cluster(folder: Path, workers: int, patience: int = 120) -> Iterator[Cluster]:
    """A cluster with some workers, ended with the context."""
    made = Cluster(folder, patience)
    try:
        made.start()
        for _ in range(workers):
            made.add()
        yield made
    finally:
        made.stop()
