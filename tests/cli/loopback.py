"""A real sshd of this machine's own, on a port of its own, with keys and known hosts of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
TOOLS = (SSHD, shutil.which("ssh"), shutil.which("ssh-keygen"))


@dataclass(frozen=True)
class Loopback:
    """What a test needs of it.

    Attributes:
        bin: folder of an ``ssh`` that reads the configuration of this device alone; for ``PATH``.
        there: the folder of temporary files of whatever runs at the other end.
        process: sshd.
    """

    bin: Path
    there: Path
    process: subprocess.Popen[bytes]

    @property
    def path(self) -> str:
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def left(self, seconds: float = 20.0) -> list[Path]:
        """What lies at the other end, when it had time to go away."""
        end = time.monotonic() + seconds
        while (found := list(self.there.iterdir())) and time.monotonic() < end:
            time.sleep(0.1)
        return found


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
    if os.getuid() == 0:  # the folder that sshd gives up its rights in; a service makes it at its start
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
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
    found = Loopback(own, there, process)
    for _ in range(60):
        answer = subprocess.run(
            [str(own / "ssh"), "-o", "BatchMode=yes", "device", "true"], capture_output=True, check=False
        )
        if answer.returncode == 0:
            return found
        time.sleep(0.25)
    process.kill()
    process.wait()
    raise RuntimeError(answer.stderr.decode() + (folder / "log").read_text()[-500:])
