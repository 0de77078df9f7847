"""Measuring over ssh: whatever happens on the way, nothing stays on the device, and the reason is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import loopback
import pytest
from loopback import Loopback

from benchmark.deployment import check_destination, measure_over_ssh, visit
from benchmark.deployment.kit import pack
from benchmark.errors import ArgumentError, BenchmarkError, DataError, ExportError

PYTHON = sys.executable
MEASURED = b'{"schema": 1}'
ANSWERS = f"""
print("model a: 1 ms", flush=True)
open("device.json", "wb").write({MEASURED!r})
"""
SLOW = """
import os, time
open(os.environ["TMPDIR"] + "/../pid", "w").write(str(os.getpid()))
print("model a: 1 ms", flush=True)
time.sleep(200)
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A real sshd on loopback; skips where there is none."""
    if not all(loopback.TOOLS):
        pytest.skip("no sshd, ssh or ssh-keygen")
    try:
        found = loopback.start(tmp_path_factory.mktemp("sshd"))
    except RuntimeError as error:
        pytest.skip(f"sshd lets nobody in: {error}")
    yield found
    found.stop()


@pytest.fixture
def reached(device: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """The device, found by the ssh of this process; nothing lies there afterwards."""
    monkeypatch.setenv("PATH", device.path)
    (device.there.parent / "pid").unlink(missing_ok=True)
    yield device
    assert device.left() == [], "something stays on the device"


def kit(folder: Path, program: str) -> Path:
    """A kit with a program of one's own instead of models."""
    made = folder / "kit"
    made.mkdir()
    (made / "kit.json").write_text(json.dumps({"data": "photos", "fingerprint": "0" * 64}))
    (made / "measure.py").write_text(program)
    return made


def measure(folder: Path, host: str = "device", python: str = PYTHON, seconds: float = 60) -> bytes:
    return measure_over_ssh(folder, host, python=python, timeout_seconds=seconds, tell=lambda _: None)


def test_a_kit_goes_there_and_its_answer_comes_back(tmp_path: Path, reached: Loopback) -> None:
    told: list[str] = []
    made = kit(tmp_path, ANSWERS)
    (made / "device.json").write_text("of another device")
    (made / "large.bin").write_bytes(os.urandom(3_000_000))
    found = measure_over_ssh(made, "device", python=PYTHON, timeout_seconds=60, tell=told.append)
    assert found == MEASURED
    assert told == ["model a: 1 ms"]


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("deaf", "refused"),
        ("unknown", "Host key verification failed"),
        ("impostor", "IDENTIFICATION HAS CHANGED|Host key verification failed"),
        ("no.such.host.invalid", "resolve"),
    ],
)
def test_hosts_that_are_not_reached_or_not_trusted(
    tmp_path: Path, reached: Loopback, host: str, said: str
) -> None:
    with pytest.raises(ExportError, match=said) as caught:
        measure(kit(tmp_path, ANSWERS), host, seconds=200)  # no name server answers soon everywhere
    assert "ssh could not connect" in str(caught.value)
    assert f"ssh {host}" in caught.value.next_step


def test_what_the_device_lacks_is_said(tmp_path: Path, reached: Loopback) -> None:
    made = kit(tmp_path, ANSWERS)
    with pytest.raises(ExportError, match="there is no python9 on the device"):
        measure(made, python="python9")
    full = tmp_path / "full"
    full.write_text(f'#!/bin/sh\nulimit -f 8\nexec {PYTHON} "$@"\n')  # no file of more than a few kB
    full.chmod(0o755)
    (made / "large.bin").write_bytes(os.urandom(200_000))
    with pytest.raises(ExportError, match=r"the kit could not be written there.*File too large"):
        measure(made, python=str(full))
    old = tmp_path / "old"
    # Python 3.6 stops at the first import of the program that it is sent.
    older = (
        "import sys\nsys.version_info = (3, 6, 1)\n"
        "def compile(*_):\n    raise SyntaxError('future feature annotations is not defined')\n"
        "exec(sys.argv[2], {'__name__': '__main__', 'compile': compile})\n"
    )
    old.write_text(f"#!{PYTHON}\n{older}")
    old.chmod(0o755)
    with pytest.raises(ExportError, match=r"its Python is too old.*Python 3\.6 is too old: 3\.9 or later"):
        measure(made, python=str(old))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit(2)", "measure.py ended with status 2"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "measure.py ended with status"),
        ("raise ValueError('no numpy')", "ValueError: no numpy"),
    ],
)
def test_a_measurement_that_fails_says_why(
    tmp_path: Path, reached: Loopback, program: str, said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        measure(kit(tmp_path, program))


def is_gone(device: Loopback) -> bool:
    """Whether what was started there has ended, in a while."""
    pid = int((device.there.parent / "pid").read_text())
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_device_that_takes_too_long_is_given_up(tmp_path: Path, reached: Loopback) -> None:
    made, pid = kit(tmp_path, SLOW), reached.there.parent / "pid"
    for seconds in (6, 24, 96):  # until it has begun: a busy machine may need longer to get there
        with pytest.raises(ExportError, match=f"not done in time; got {seconds} seconds"):
            measure(made, seconds=seconds)
        if pid.is_file() and pid.read_text():
            break
    assert is_gone(reached)


def test_a_proxy_that_outlives_ssh_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh, lasted = tmp_path / "bin" / "ssh", tmp_path / "lasted"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\n(sleep 60; touch {lasted}) &\nsleep 60\n")  # the streams are the proxy's, too
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ExportError, match="not done in time"):
        measure(kit(tmp_path, ANSWERS), seconds=1)
    assert not lasted.exists(), "it was not waited for"


def test_who_holds_the_streams_of_ssh_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the master of a shared connection does, when the device is gone."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\necho working >&2\nsetsid sleep 30 &\nsleep 60\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    told: list[str] = []
    begun = time.monotonic()
    with pytest.raises(ExportError, match="not done in time"):
        measure_over_ssh(kit(tmp_path, "pass"), "device", python=PYTHON, timeout_seconds=5, tell=told.append)
    assert time.monotonic() - begun < 50
    assert told == ["working"]


@pytest.mark.parametrize("seconds", [0.0, 0.002, 0.01, 0.05])
def test_two_signals_leave_nothing_on_the_device(tmp_path: Path, seconds: float) -> None:
    there, made = tmp_path / "there", kit(tmp_path, SLOW)
    there.mkdir()
    for number in range(2000):  # removing them takes a while
        (made / f"{number}.npy").touch()
    pack(made, "", tmp_path / "kit.zip")
    packed, program = (tmp_path / "kit.zip").read_bytes(), Path(visit.__file__).read_bytes()
    asked = json.dumps({"bytes": len(packed), "mark": "mark\n"}).encode()
    process = subprocess.Popen(
        [PYTHON, "-c", program.decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(there)},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(asked + b"\n" + packed)
    process.stdin.flush()
    assert process.stderr.readline() == b"model a: 1 ms\n"
    assert list(there.iterdir())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
        time.sleep(seconds)
    assert process.wait(60) == visit.GIVEN_UP
    assert not list(there.iterdir())
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_when_this_end_is_ended(
    tmp_path: Path, reached: Loopback, number: signal.Signals
) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmark.deployment import measure_over_ssh\n"
        "measure_over_ssh(Path(sys.argv[1]), 'device', python=sys.executable, timeout_seconds=99, "
        "tell=lambda text: print(text, flush=True))"
    )
    process = subprocess.Popen(
        [PYTHON, "-c", code, str(kit(tmp_path, SLOW))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "model a: 1 ms\n"
    assert list(reached.there.iterdir()), "it is there while it runs"
    process.send_signal(number)
    assert process.wait(30) != 0
    process.stdout.close()
    assert is_gone(reached)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-oProxyCommand=touch x", "pi@-oProxyCommand=x", "-l", "pi@pi5 -v", " pi5", "pi5\n", "pi5\0"),
        *(
            "pi5:22",
            "pi@pi5;reboot",
            "$(id)@pi5",
            "pi5`id`",
            "ssh://pi@pi5:22/x",
            "ssh://-x",
            "user@",
            "ü@pi5",
            "[pi5]",
            "pi@[::1",
            "fe80::x",
            "1:2:3",
            "ssh://fe80::1:22",
            "[fe80::1%eth0;id]",
            "[::1]:22",
        ),
    ],
)
def test_what_is_no_host_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArgumentError, match="no host as ssh takes it"):
        measure(kit(tmp_path, ANSWERS), text)


def test_hosts_and_interpreters_as_people_write_them(tmp_path: Path) -> None:
    hosts = {
        "pi5": "pi5",
        "pi@pi5.local": "pi5.local",
        "192.168.1.7": "192.168.1.7",
        "ssh://pi@pi5:2222": "pi5",
        "pi@[fe80::1]": "fe80::1",
        "[::1]": "::1",
        "pi@::1": "::1",
        "ssh://pi@[::1]:22": "::1",
        "fe80::1%eth0": "fe80::1%eth0",
        "pi@[fe80::1%wlan0.1]": "fe80::1%wlan0.1",
        "::ffff:192.168.1.7": "::ffff:192.168.1.7",
        "build-user@my-board_2": "my-board_2",
    }
    assert {text: check_destination(text) for text in hosts} == hosts
    made = kit(tmp_path, ANSWERS)
    for python in ("", "-m", "python3; reboot", "$(id)", "a\nb"):
        with pytest.raises(ArgumentError, match="no name of an interpreter"):
            measure(made, python=python)


@pytest.mark.parametrize(
    ("text", "host", "port", "user"),
    [
        ("pi@[::1]", "::1", "22", "pi"),
        ("ssh://pi@[::1]:2222", "::1", "2222", "pi"),
        ("ssh://pi@pi5:2222", "pi5", "2222", "pi"),
        ("fe80::1%eth0", "fe80::1%eth0", "22", ""),
    ],
)
@pytest.mark.skipif(not loopback.TOOLS[1], reason="no ssh")
def test_ssh_understands_the_host_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, host: str, port: str, user: str
) -> None:
    asked, ssh = tmp_path / "asked", tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\n{loopback.TOOLS[1]} -F none -G "$@" > {asked} 2>&1\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ExportError) as caught:
        measure(kit(tmp_path, ANSWERS), text)
    found = dict(line.split(" ", 1) for line in asked.read_text().splitlines() if " " in line)
    assert (found["hostname"], found["port"]) == (host, port)
    assert not user or found["user"] == user
    option = "" if port == "22" else f"-p {port} "
    assert f"ssh {option}{user}@{host}" in caught.value.next_step or not user


def test_what_is_no_kit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kit.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="is not the folder of a kit"):
            measure(folder)


def test_there_may_be_no_ssh_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("ssh") is None
    with pytest.raises(BenchmarkError, match="there is no ssh on this machine"):
        measure(kit(tmp_path, ANSWERS))
