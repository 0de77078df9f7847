"""What docs/cluster.md tells to type is typed here: by hand, as Kubernetes would, with TLS, under Slurm."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from benchmark.cli import main
from benchmark.cli.parser import make_parser
from benchmark.errors import JobError
from benchmark.execution import Call, open_runner

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
import yaml
from cluster_tasks import describe, times
from clusters import HERE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="a shell as on POSIX"),
]


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The commands of the shell blocks of a section."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Shells:
    """Runs the page's commands on this machine, under another address, port and folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment: dict[str, str] = {}
        self._stack = stack

    def here(self, words: Sequence[str]) -> list[str]:
        text = "\0".join(words).replace("10.0.0.5", "127.0.0.1").replace("backbones-scheduler", "127.0.0.1")
        text = text.replace("8786", str(self.port)).replace("/data/", f"{self.folder}/")
        return re.sub(r"\b(ca|node)\.(pem|key)", rf"{self.folder}/\1.\2", text).split("\0")

    def start(self, words: Sequence[str], *more: str) -> None:
        """A scheduler or a worker, ended with the test."""
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        log = self._stack.enter_context((self.folder / f"{words[1]}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", *self.here(words), *more],
            env={**os.environ, "PYTHONPATH": paths, "HOME": str(self.folder), **self.environment},
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        self._stack.callback(_end, process)
        if words[1] == "scheduler":
            deadline = time.monotonic() + 240
            while not _answers(self.port):
                assert process.poll() is None, (self.folder / "scheduler.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        for one in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.kill()
    process.wait()


@contextmanager
def shells(folder: Path) -> Iterator[Shells]:
    with ExitStack() as stack:
        yield Shells(folder, stack)


def work_on(address: str, folder: Path) -> None:
    with open_runner(address, 0, shared=folder, describe=describe, tell=print) as runner:
        results = dict(runner.run(times, [Call(name="call", argument=0.5)] * 2))
    assert all(one and one["pid"] != os.getpid() for one in results.values())


def test_by_hand_in_three_shells(tmp_path: Path) -> None:
    export, scheduler, worker, rank = commands(section("By hand"))
    assert main(["demo", str(tmp_path / "photos"), "--count", "40", "--quiet"]) == 0
    with shells(tmp_path) as typed:
        typed.environment |= dict([export[1].split("=")])
        typed.start(scheduler)
        typed.start(worker)
        small = ["--weights", "random", "--backbones", "MobileNet_0.25", "--size", "32", "--groups", "none"]
        quick = ["--repeats", "1", "--epochs", "2", "--quiet"]
        results = str(tmp_path / "results")
        words = [results if word == "results" else word for word in typed.here(rank)[1:]]
        assert main([*words, *small, *quick]) == 0
    assert (tmp_path / "results" / "photos" / "leaderboard.csv").exists()
    assert not (tmp_path / ".config" / "dask").exists()


def test_the_containers_of_the_manifest(tmp_path: Path) -> None:
    (manifest,) = re.findall(r"^```yaml\n(.*?)^```", section("Kubernetes"), flags=re.DOTALL | re.MULTILINE)
    documents = list(yaml.safe_load_all(manifest))
    words = {
        container["name"]: container["command"]
        for document in documents
        for container in document["spec"].get("template", {}).get("spec", {}).get("containers", ())
    }
    assert make_parser().parse_args(words["rank"][1:]).command == "rank"
    with shells(tmp_path) as typed:
        typed.start(words["scheduler"], "--host", "127.0.0.1")
        typed.start(words["worker"], "--host", "127.0.0.1")
        work_on(f"tcp://127.0.0.1:{typed.port}", tmp_path)


def setting(variable: str) -> str:
    """The name that Dask gives to what a variable sets."""
    return variable.removeprefix("DASK_").lower().replace("__", ".").replace("_", "-")


def test_with_tls_nobody_connects_without_a_certificate(tmp_path: Path) -> None:
    from dask import config

    certificate = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cluster"]
    files = ["-keyout", str(tmp_path / "node.key"), "-out", str(tmp_path / "node.pem")]
    try:
        subprocess.run(["openssl", *certificate, *files], check=True, capture_output=True)
    except OSError:
        pytest.skip("openssl is not installed")
    (tmp_path / "ca.pem").write_bytes((tmp_path / "node.pem").read_bytes())  # its own authority
    scheduler, worker, *exports, rank = commands(section("Security"))
    assert make_parser().parse_args(rank[1:]).command == "rank"
    with shells(tmp_path) as typed:
        typed.start(scheduler)
        typed.start(worker)
        address = f"tls://127.0.0.1:{typed.port}"
        settings = dict(word.split("=") for line in exports for word in typed.here(line[1:]))
        with config.set({setting(name): value for name, value in settings.items()}):
            work_on(address, tmp_path)
        with (
            pytest.raises(JobError, match="no Dask scheduler answers"),
            open_runner(address.replace("tls", "tcp"), 0, shared=tmp_path, describe=describe, tell=print),
        ):
            pass


def test_slurm_starts_what_is_started_by_hand(tmp_path: Path) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    (script,) = re.findall(r"^```python\n(.*?)^```", section("Slurm"), flags=re.DOTALL | re.MULTILINE)
    asked = dict(re.findall(r"^        (\w+)=(.*),$", script, flags=re.MULTILINE))
    options = {name: eval(value) for name, value in asked.items()}  # of our own page
    with jobqueue.SLURMCluster(**options, local_directory=str(tmp_path)) as cluster:
        job = cluster.job_script()
    assert re.search("dask[_ ]worker tcp://", job)
    assert "--memory-limit 0" in job
