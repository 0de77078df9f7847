"""A real sshd of this machine's own, on a port of its own, with keys and known hosts of its own."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
# The folder that sshd of root gives up its rights in; a service makes it at its start. Where tests made it, a
# file in it says so, which every process of tests with an sshd of its own holds locked.
RIGHTLESS = Path("/run/sshd")
MADE = RIGHTLESS / "made-by-tests"
TOOLS = (SSHD, shutil.which("ssh"), shutil.which("ssh-keygen"))


@dataclass(frozen=True)
class Loopback:
    """What a test needs of it.

    Attributes:
        bin: folder of an ``ssh`` that reads the configuration of this device alone; for ``PATH``.
        there: the folder of temporary files of whatever runs at the other end.
        process: sshd.
        lock: descriptor of ``MADE``; None where the system has the folder of its own.
    """

    bin: Path
    there: Path
    process: subprocess.Popen[bytes]
    lock: int | None

    @property
    def path(self) -> str:
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def left(self, seconds: float = 20.0) -> list[Path]:
        """What lies at the other end, when it had time to go away."""
        end = time.monotonic() + seconds
        while (found := list(self.there.iterdir())) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def stop(self) -> None:
        """End it; the last one removes what tests have made of the system's."""
        self.process.terminate()
        self.process.wait(10)
        if self.lock is not None:
            _leave(self.lock)


def _enter() -> int | None:
    """See that sshd has its folder."""
    if os.getuid() != 0 or (RIGHTLESS.exists() and not MADE.exists()):
        return None
    RIGHTLESS.mkdir(mode=0o755, exist_ok=True)
    lock = os.open(MADE, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _leave(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        MADE.unlink()
        RIGHTLESS.rmdir()
    except OSError:  # another one needs it
        pass
    finally:
        os.close(lock)


def start(folder: Path) -> Loopback:
    """Start sshd and wait until it lets us in.

    Raises:
        RuntimeError: it does not, on this machine.
    """
    for name in ("host", "user", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True
        )
    there, own = folder / "there", folder / "bin"
    there.mkdir()
    own.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    user = pwd.getpwuid(os.getuid()).pw_name
    lock = _enter()
    lines = (
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'user.pub'}",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        f"SetEnv TMPDIR={there}",
    )
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    for known, key in (("known", "host"), ("others", "stranger")):
        line = f"[127.0.0.1]:{port} {(folder / f'{key}.pub').read_text()}"
        (folder / known).write_text(line)
    hosts = {"device": (port, "known"), "deaf": (closed, "known"), "impostor": (port, "others")}
    (folder / "none").touch()
    hosts["unknown"] = (port, "none")
    client = "".join(
        f"Host {name}\n Port {number}\n UserKnownHostsFile {folder / known}\n"
        for name, (number, known) in hosts.items()
    )
    common = (
        f"Host {' '.join(hosts)}\n HostName 127.0.0.1\n User {user}\n IdentityFile {folder / 'user'}\n"
        " IdentitiesOnly yes\n GlobalKnownHostsFile none\n"
    )
    (folder / "client").write_text(client + common)
    (own / "ssh").write_text(f'#!/bin/sh\nexec {TOOLS[1]} -F {folder / "client"} "$@"\n')
    (own / "ssh").chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log
        )
    found = Loopback(own, there, process, lock)
    for _ in range(60):
        answer = subprocess.run(
            [str(own / "ssh"), "-o", "BatchMode=yes", "device", "true"], capture_output=True, check=False
        )
        if answer.returncode == 0:
            return found
        time.sleep(0.25)
    found.stop()
    raise RuntimeError(answer.stderr.decode() + (folder / "log").read_text()[-500:])
