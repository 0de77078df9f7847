"""What only a process of its own can show: imports, signals, a second run beside the first, permissions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from command_places import QUICK, SMALL, Place, Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and permissions as on POSIX")

Spawn = Callable[..., "subprocess.Popen[str]"]

# Prints which of the heavy packages a command imported.
HEAVY = (
    *("tensorflow", "keras", "openvino", "sklearn", "pandas", "matplotlib", "scipy", "h5py"),
    *("joblib", "benchmark.pipeline"),
)
SPY = f"""
import json, sys
from benchmark.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as left:
    status = left.code
print(json.dumps([status, [name for name in {HEAVY!r} if name in sys.modules]]), file=sys.stderr)
"""


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def spied(*words: object) -> tuple[int, set[str]]:
    """Exit status of a command, and the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", SPY, *map(str, words)], capture_output=True, text=True, timeout=120, check=True
    )
    status, names = json.loads(done.stderr.splitlines()[-1])
    return status, set(names)


@pytest.mark.parametrize(
    "words",
    [
        ("rank", "{data}", "--backbones", "MobilNetV2"),
        ("embed", "{data}", "--backbones", "MobilNetV2"),
        ("audit", "{data}", "--backbones", "family:mobilnet"),
        ("rank", "{data}", "--weights", "nowhere"),
        ("rank", "{data}x"),
        ("rank", "{data}", "--size", "big"),
        ("finetune", "{data}", "--winner", "MobilNetV2"),
        ("weights", "fetch", "--backbones", "MobilNetV2"),
        ("cache", "clean", "--backbones", "MobilNetV2"),
    ],
    ids=" ".join,
)
def test_a_mistyped_argument_is_told_before_anything_large_is_loaded(
    place: Place, words: tuple[str, ...]
) -> None:
    status, imported = spied(*(word.format(data=place.data) for word in words))
    assert (status, imported) == (2, set())


@pytest.mark.parametrize("words", [("--help",), ("rank", "--help"), ("list",), ("recipes",)], ids=" ".join)
def test_quick_commands_import_nothing_heavy(words: tuple[str, ...]) -> None:
    assert spied(*words) == (0, set())


def test_a_cached_ranking_runs_without_tensorflow(ranked: Place) -> None:
    status, imported = spied("rank", ranked.data, *SMALL, *QUICK, *ranked.folders, "--quiet")
    assert status == 0
    assert not imported & {"tensorflow", "keras", "openvino"}


@pytest.mark.parametrize("more", [(), ("--images", "1000000", "--workers", "64")], ids=["cached", "many"])
def test_a_plan_runs_without_tensorflow(ranked: Place, more: tuple[str, ...]) -> None:
    status, imported = spied("plan", ranked.data, *SMALL, *ranked.folders, *more, "--quiet")
    assert status == 0
    assert not imported & {"tensorflow", "keras", "openvino"}


def test_new_heads_on_cached_embeddings_need_no_tensorflow(ranked: Place) -> None:
    status, imported = spied(
        "rank", ranked.data, *SMALL, "--repeats", 1, "--epochs", 2, *ranked.folders, "--quiet"
    )
    assert status == 0
    assert not imported & {"tensorflow", "keras", "openvino"}


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


_USUAL_SECONDS = 8.0  # to the first part of a cache


def busy() -> float:
    """How many processes want each core, at least 1: what a promise in seconds is stretched by."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def parts_of(cache: Path) -> list[Path]:
    return [*cache.glob("*/part-*.h5")]


@pytest.mark.parametrize(
    ("number", "status", "word", "jobs"),
    [(signal.SIGINT, 130, "Interrupted", 2), (signal.SIGTERM, 143, "Terminated", 1)],
    ids=["Ctrl-C", "SIGTERM"],
)
@pytest.mark.faults("Ctrl-C and SIGTERM")
def test_a_signal_ends_a_run_orderly(
    place: Place, spawn: Spawn, backbones: Run, number: signal.Signals, status: int, word: str, jobs: int
) -> None:
    """Between two backbones: within five seconds, nothing left behind, what was finished is kept."""
    options = ["--weights", "random", "--size", "32", "--cache", place.cache]
    names = "MobileNet_0.25,MobileNet_0.5,MobileNet_0.75"
    begun = time.monotonic()
    process = spawn("embed", place.data, "--backbones", names, *options, "--jobs", jobs, cwd=place.root)
    wait_for(lambda: bool(parts_of(place.cache)), process)
    members = family(process)
    before = time.monotonic()
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=120)
    seconds = time.monotonic() - before
    assert process.returncode == status, errors
    assert word in errors
    assert "Traceback" not in errors
    assert seconds < 5 * max(busy(), (before - begun) / _USUAL_SECONDS)
    _, left = psutil.wait_procs(members, timeout=30)
    assert not [one for one in left if is_alive(one)]
    assert backbones("cache", "clean", "--cache", place.cache).status == 0
    assert backbones("cache", "verify", "--cache", place.cache).status == 0
    assert not list(place.cache.rglob(".tmp-*"))
    assert not list((place.cache / "scratch").glob("*"))
    kept = backbones("cache", "list", "--cache", place.cache, "--format", "json").rows
    whole = ",".join(row["backbone"] for row in kept if row["rows"] == 40)
    again = backbones("embed", place.data, "--backbones", whole, *options, "--format", "json", "--quiet").rows
    assert again
    assert {row["computed"] for row in again} == {0}


def test_two_runs_beside_each_other_share_one_cache(place: Place, spawn: Spawn, backbones: Run) -> None:
    words = ("embed", place.data, *SMALL, "--cache", place.cache, "--format", "json", "--quiet")
    runs = [spawn(*words, cwd=place.root) for _ in range(2)]
    computed = []
    for run in runs:
        out, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
        (row,) = json.loads(out)
        assert row["status"] == "embedded"
        computed.append(row["computed"])
    assert sum(computed) == 40, "the second waits for the first"
    (entry,) = backbones("cache", "list", "--cache", place.cache, "--format", "json").rows
    assert entry["rows"] == 40
    assert backbones("cache", "verify", "--cache", place.cache).status == 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user may not write to; the administrator needs a file system for that."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this administrator may not mount a read-only file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults("read-only folders")
def test_read_only_results_are_one_line_that_says_what_to_do(
    read_only: Path, ranked: Place, backbones: Run
) -> None:
    answer = backbones("rank", ranked.data, *SMALL, *QUICK, "--cache", ranked.cache, "--results", read_only)
    assert answer.status == 1
    assert "cannot be written" in answer.said
    assert "--results" in answer.said


@pytest.mark.faults("read-only folders")
def test_a_read_only_empty_cache_is_one_line_that_says_what_to_do(
    read_only: Path, place: Place, backbones: Run
) -> None:
    answer = backbones("embed", place.data, *SMALL, "--cache", read_only)
    assert answer.status == 1
    assert "cannot be written" in answer.said
    assert "--cache" in answer.said


def test_a_reader_that_leaves_early_is_no_error(spawn: Spawn, tmp_path: Path) -> None:
    with spawn("list", "--format", "json", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == ""


@pytest.mark.parametrize(
    ("name", "status", "word"), [("SIGTERM", 143, "Terminated"), ("SIGINT", 130, "Interrupted")]
)
def test_a_signal_that_a_library_swallows_comes_again(name: str, status: int, word: str) -> None:
    """Once it is on its way out, no repetition disturbs what is being closed."""
    code = (
        "import os, signal, sys, time; from unittest import mock; from benchmark.cli import main\n"
        "def swallow(*_):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{name}); time.sleep(5)\n"
        "    except BaseException: pass\n"
        "    try: time.sleep(60)\n"
        "    finally: time.sleep(2.5); print('closed in order')\n"
        "with mock.patch('benchmark.cli.commands.list_command', swallow): status = main(['list'])\n"
        "time.sleep(1.5)  # nothing comes after the end\n"
        "sys.exit(status)"
    )
    done = run_code(code)
    assert done.returncode == status, done.stderr
    assert "closed in order" in done.stdout
    assert word in done.stderr


@pytest.mark.parametrize(
    ("name", "status", "word"), [("SIGTERM", 143, "Terminated"), ("SIGINT", 130, "Interrupted")]
)
def test_a_signal_that_a_destructor_swallows_comes_again_and_nobody_reads_of_it(
    name: str, status: int, word: str
) -> None:
    code = (
        "import os, signal, sys, time; from unittest import mock; from benchmark.cli import main\n"
        "class Swallows:\n"
        f"    def __del__(self): os.kill(os.getpid(), signal.{name}); time.sleep(0.2)\n"
        "class Odd:\n"
        "    def __del__(self): raise ValueError('of its own')\n"
        "def swallow(*_): Odd(); Swallows(); time.sleep(60)\n"
        "with mock.patch('benchmark.cli.commands.list_command', swallow): status = main(['list'])\n"
        "Odd(); sys.exit(status)"
    )
    done = run_code(code)
    assert done.returncode == status, done.stderr
    assert word in done.stderr
    assert done.stderr.count("of its own") == 2  # errors of other objects are told as ever
    assert "Error" not in done.stderr.replace("ValueError: of its own", "")


def test_a_second_ctrl_c_does_not_wait_for_the_closing() -> None:
    code = (
        "import os, signal, sys, time; from unittest import mock; from benchmark.cli import main\n"
        "def closes_slowly(*_):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "    finally: os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
        "with mock.patch('benchmark.cli.commands.list_command', closes_slowly): sys.exit(main(['list']))"
    )
    done = run_code(code)
    assert done.returncode == 130, done.stderr


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    """As under ``nohup``, or in the background of a script."""
    code = (
        "import os, signal, sys; from unittest import mock; from benchmark.cli import main\n"
        "def goes_on(*_): os.kill(os.getpid(), signal.SIGINT); return 0\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with mock.patch('benchmark.cli.commands.list_command', goes_on): sys.exit(main(['list']))"
    )
    assert run_code(code).returncode == 0


def test_ctrl_c_after_the_last_word_prints_no_traceback(place: Place, spawn: Spawn) -> None:
    """There is nothing left to interrupt in order."""
    names = "MobileNet_0.25,MobileNet_0.5"
    options = ["--weights", "random", "--size", "32", "--cache", place.cache, "--jobs", 2, "--format", "json"]
    process = spawn("embed", place.data, "--backbones", names, *options, cwd=place.root)
    assert process.stdout is not None
    while not (line := process.stdout.readline()).rstrip().endswith("]"):
        assert line, "it said nothing more"
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors


def test_a_command_leaves_no_workers_to_wait_for() -> None:
    """Left to themselves, idle workers hold up the end by a second."""
    code = (
        "import sys; from unittest import mock; from benchmark.cli import entry\n"
        "from benchmark.execution import Call, LocalRunner\n"
        "import psutil\n"
        "def work(*_):\n"
        "    list(LocalRunner(2).run(pow, [Call(name='square', argument=2)] * 2)); return 0\n"
        "with mock.patch('benchmark.cli.commands.list_command', work):\n"
        "    sys.argv = ['backbones', 'list', '--debug']\n"
        "    status = entry()\n"
        "names = [' '.join(one.cmdline()) for one in psutil.Process().children(recursive=True)]\n"
        "print(status, sum('LokyProcess' in name for name in names))"
    )
    done = run_code(code)
    assert done.stdout.split() == ["0", "0"], done.stderr
