"""No command opens a socket or writes anything outside of the documented places; nor does ``example.py``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

GUARD = Path(__file__).with_name("no_network.py")
# docs/security.md: Keras's settings and weights, Matplotlib's list of fonts.
DOCUMENTED = (".keras", ".cache/matplotlib", ".config/matplotlib")
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def python(home: Path, work: Path) -> Command:
    """Runs Python where any use of the network ends the process or is reported."""
    guard = work / "guard"
    guard.mkdir()
    shutil.copy(GUARD, guard / "sitecustomize.py")
    report = work / "report.txt"

    def run(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=work,
            env={**kept, "HOME": str(home), "PYTHONPATH": str(guard), "NETWORK_REPORT": str(report)},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert not report.exists(), report.read_text()
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done

    return run


def outside(home: Path) -> list[str]:
    """What lies in the home folder and is not documented."""
    files = (path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir())
    return [file for file in files if not file.startswith(DOCUMENTED)]


def test_the_guard_guards(python: Command, work: Path) -> None:
    looks_up = "import socket; socket.getaddrinfo('localhost', 80)"
    with pytest.raises(AssertionError, match="getaddrinfo"):
        python("-c", looks_up)
    (work / "report.txt").unlink()
    if sys.platform == "linux":
        opens = "import ctypes; ctypes.CDLL(None).socket(2, 1, 0)"
        with pytest.raises(AssertionError, match=r"-31"):
            python("-c", opens)
    python("-c", "import socket; socket.socketpair()")


def test_runtimes_report_nothing_to_their_makers(python: Command, home: Path) -> None:
    python("-c", "import benchmark, openvino, openvino.tools.ovc, onnxruntime, time; time.sleep(2)")
    assert outside(home) == []


def test_workers_with_openvino_use_no_network(python: Command, home: Path, work: Path) -> None:
    python("-m", "benchmark", "demo", work / "few", "--count", 12, "--quiet")
    small = ("--weights", "random", "--backbones", "MobileNet_0.25", "--size", 32, "--cache", work / "own")
    openvino = ("--engine", "openvino", "--precision", "float32", "--jobs", 2)
    python("-m", "benchmark", "embed", work / "few", *small, *openvino, "--quiet")
    assert outside(home) == []
    shutil.rmtree(work / "few")
    shutil.rmtree(work / "own")


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.faults("no network, an empty home")
def test_every_command_works_without_a_network_and_with_an_empty_home(
    python: Command, home: Path, work: Path
) -> None:
    def backbones(*words: object, status: int = 0) -> None:
        python("-m", "benchmark", *words, status=status)
        assert outside(home) == []

    places = ("--cache", work / "cache", "--results", work / "results")
    small = ("--weights", "random", "--backbones", "MobileNet_0.25", "--size", 32)
    data = work / "walls"
    backbones("demo", data, "--count", 40, "--quiet")
    backbones("list")
    backbones("recipes")
    backbones("audit", data, *places, "--quiet")
    openvino = ("--engine", "openvino", "--precision", "float32")
    backbones("embed", data, *small, *openvino, "--cache", work / "cache", "--jobs", 2, "--quiet")
    backbones("rank", data, *small, *openvino, *places, "--repeats", 1, "--epochs", 2, "--quiet")
    backbones("report", data, *places)
    backbones("cache", "list", "--cache", work / "cache")
    backbones("cache", "verify", "--cache", work / "cache")
    model = work / "results" / "walls" / "finetune" / "MobileNet_0.25" / "two-phase-f1"
    tuned = ("--recipe", "two-phase-f1", "--winner", "MobileNet_0.25", "--weights", "random")
    backbones("finetune", data, *tuned, "--image-size", 32, "--epochs", "1,0", *places, "--quiet")
    # Random weights may miss the tolerance of integers, which is status 1 and no matter here.
    targets = "keras,savedmodel,tflite-float32,onnx,openvino"
    backbones("export", model, "--to", targets, "--quiet")
    photo = next((data / "Positive").glob("*.jpg"))
    backbones("predict", model, photo)
    backbones("predict", model, photo, "--heatmaps", work / "maps")
    backbones("evaluate", model, data, *places, "--quiet")
    for target in targets.split(","):
        backbones("predict", model / "export" / target, photo)
        python(model / "export" / target / "example.py", photo)
        assert outside(home) == []
    written = {path.name for path in work.iterdir()}
    assert written == {"guard", "walls", "cache", "results", "maps"}


def test_a_download_is_the_one_use_of_the_network(python: Command, home: Path, work: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)getaddrinfo.*benchmark/backbones/downloads.py"):
        python("-m", "benchmark", "weights", "fetch", "--backbones", "MobileNet_0.25", status=1)
    (work / "report.txt").unlink()
    assert outside(home) == []
