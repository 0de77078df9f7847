"""Measuring a kit at the other end of ssh: the system's own, with the user's keys, configuration and hosts.

One connection. Its standard input brings the program (``visit.py``), then the kit, and stays open: the device
sees it end when this process is gone, whatever the reason, and removes what it was given.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from benchmark.deployment import visit
from benchmark.deployment.kit import kit_origin, pack
from benchmark.errors import ArgumentError, ExportError
from benchmark.storage import read_small, storage_error

# No prompts: nobody might sit there. An unknown host is refused, as ssh does when it cannot ask. A shared
# connection that somebody's configuration opens here would outlive this one, and hold its streams.
_SETTINGS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ControlMaster=no")
_OPTIONS = ("-T", *(word for setting in _SETTINGS for word in ("-o", setting)))
# A connection that somebody shares with others outlives ssh, and may hold its streams.
_LEAVE_SECONDS, _POLL_SECONDS = 5.0, 0.1
_DESTINATION = re.compile(
    r"(?P<url>ssh://)?((?P<user>[A-Za-z0-9_][\w.+-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][\w.-]*|\[(?P<inner>[0-9A-Fa-f:.]+(%[\w.-]+)?)\]|[0-9A-Fa-f:.]+(%[\w.-]+)?)"
    r"(:(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_PYTHON = re.compile(r"[A-Za-z0-9_./][\w./+ -]*", re.ASCII)
# Reads a length, then a program of that length, and runs it: what follows on standard input is the program's.
# Its own syntax is newer than some Pythons, so that their age is looked at first.
_START = (
    "import sys; v = sys.version_info; v < (3, 9) and (sys.stderr.write("
    f"'Python %d.%d is too old: 3.9 or later is needed\\n' % v[:2]), sys.exit({visit.TOO_OLD})); "
    "i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), 'visit.py', 'exec'))"
)
_MOST_ANSWER = 4 * 2**20
_SSH_FAILED, _NOT_FOUND, _NOT_EXECUTABLE = 255, 127, 126


def check_destination(text: str) -> str:
    """See that this is a destination of ssh: a host, ``user@host`` or ``ssh://user@host:port``.

    Returns:
        The name of the host alone; an IPv6 address without brackets.

    Raises:
        ArgumentError: it could be read as something else, an option for example.
    """
    return _destination(text)[0]


def _destination(text: str) -> tuple[str, list[str]]:
    """The host alone, and the words that ssh is given: it takes brackets nowhere, and ports as an option."""
    found = _DESTINATION.fullmatch(text)
    if found is None or (found["port"] and not found["url"]) or not _is_host(found):
        raise ArgumentError(
            "no host as ssh takes it",
            where="`ssh`",
            expected="a host, user@host or ssh://user@host:port; an IPv6 address in brackets or as it is",
            got=repr(text),
        )
    host = found["inner"] or found["host"]
    port = ["-p", found["port"]] if found["port"] else []
    return host, [*port, "--", f"{found['user']}@{host}" if found["user"] else host]


def _is_host(found: re.Match[str]) -> bool:
    """Whether what looks like an IPv6 address is one; in a URL, its port could not be told from it."""
    host = found["inner"] or found["host"]
    if ":" not in host:
        return found["inner"] is None
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return found["inner"] is not None or not found["url"]


def measure_over_ssh(
    kit: Path, destination: str, *, python: str, timeout_seconds: float, tell: Callable[[str], None]
) -> bytes:
    """Copy a kit to a device, measure it there, and bring ``device.json`` back; nothing stays there.

    Args:
        kit: its folder.
        destination: as ``check_destination`` takes it.
        python: the device's interpreter, a path or a name that its shell finds.
        timeout_seconds: for all of it.
        tell: told what the device prints, line by line.

    Returns:
        The content of ``device.json``: from another machine, to be checked like any foreign file.

    Raises:
        ArgumentError: no host, or no interpreter.
        DataError: no kit.
        ExportError: the device cannot be reached, or has not measured anything.
        StorageError: no room here for the kit as one file.
    """
    _, words = _destination(destination)
    if not _PYTHON.fullmatch(python):
        raise ArgumentError(
            "no name of an interpreter", where="`python`", expected="for example python3", got=repr(python)
        )
    kit_origin(kit)
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ExportError(
            "there is no ssh on this machine",
            where="`ssh`",
            next_step="Install OpenSSH's client, or copy the kit by hand and run measure.py there.",
        )
    command = [ssh, *_OPTIONS, *words, f"{shlex.quote(python)} -c {shlex.quote(_START)}"]
    with tempfile.TemporaryDirectory(prefix="backbones-kit-") as scratch:
        packed = Path(scratch) / "kit.zip"
        try:
            pack(kit, "", packed)
        except OSError as error:
            raise storage_error(error, packed) from error
        visited = _Visit(command, packed, tell)
        status = visited.run(timeout_seconds)
    where = destination
    if visited.late:
        raise ExportError(
            "the device was not done in time",
            where=where,
            got=f"{timeout_seconds:g} seconds",
            next_step="Give it longer (`timeout`), or make a smaller kit.",
        )
    if not visited.answer:
        by_hand = shlex.join(["ssh", *(word for word in words if word != "--")])
        raise _failed(where, python, status, visited.last_words, by_hand)
    return visited.answer


class _Visit:
    """One connection, from the first byte to the last."""

    def __init__(self, command: list[str], packed: Path, tell: Callable[[str], None]) -> None:
        self._command = command
        self._packed = packed
        self._tell = tell
        self._mark = f"device.json {secrets.token_hex(16)}\n"
        self._said: list[str] = []
        self._heard: SimpleQueue[bytes | None] = SimpleQueue()
        self.late = False
        self.answer = b""

    @property
    def last_words(self) -> str:
        return " | ".join(self._said[-3:])[-500:]

    def run(self, timeout_seconds: float) -> int:
        """Carry it out; the status of ssh."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        timer = threading.Timer(timeout_seconds, self._out_of_time, [process])
        works = {self._send: process.stdin, self._listen: process.stdout, self._hear: process.stderr}
        threads = [threading.Thread(target=work, args=[process], daemon=True) for work in works]
        try:
            timer.start()
            for thread in threads:
                thread.start()
            self._tell_until(process)
            threads[1].join(_LEAVE_SECONDS)
            return process.wait()
        finally:
            timer.cancel()
            _end(process)  # the device sees its standard input end
            process.wait()
            for thread, stream in zip(threads, works.values(), strict=True):
                thread.join(_LEAVE_SECONDS)
                with suppress(OSError):
                    assert stream is not None
                    if not thread.is_alive():  # else somebody who outlives ssh holds the other end
                        stream.close()

    def _out_of_time(self, process: subprocess.Popen[bytes]) -> None:
        self.late = True
        _end(process)

    def _tell_until(self, process: subprocess.Popen[bytes]) -> None:
        """Tell what is heard, until its stream or soon after that ssh has ended."""
        last_seconds = _LEAVE_SECONDS
        while last_seconds > 0:
            try:
                line = self._heard.get(timeout=_POLL_SECONDS)
            except Empty:
                last_seconds -= _POLL_SECONDS if process.poll() is not None else 0
                continue
            if line is None:
                return
            if text := line.decode(errors="replace").strip():
                self._said.append(text)
                self._tell(text)

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._heard.put(line)
        self._heard.put(None)

    def _send(self, process: subprocess.Popen[bytes]) -> None:
        """The program and the kit; standard input is left open."""
        program = read_small(Path(visit.__file__))
        asked = json.dumps({"bytes": self._packed.stat().st_size, "mark": self._mark}).encode()
        assert process.stdin is not None
        with suppress(OSError):  # ssh ended; its status says why
            process.stdin.write(b"%d\n" % len(program) + program + asked + b"\n")
            with self._packed.open("rb") as file:
                shutil.copyfileobj(file, process.stdin, 1 << 16)
            process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """What stands behind the mark; what a shell prints when it starts stands before it."""
        assert process.stdout is not None
        with process.stdout:
            found = process.stdout.read(_MOST_ANSWER)
            while process.stdout.read(1 << 16):
                pass
        self.answer = found.partition(self._mark.encode())[2]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End ssh, and the proxy that it may have started, which would hold its streams open."""
    if process.returncode is None:  # not waited for: its number is still its own, also when it has ended
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _failed(where: str, python: str, status: int, said: str, by_hand: str) -> ExportError:
    """Why nothing came back."""
    if status == _SSH_FAILED:
        return ExportError(
            "ssh could not connect, or lost the connection",
            where=where,
            got=said,
            next_step=f"Connect by hand once, which settles keys and the host's name: {by_hand}.",
        )
    if status in (_NOT_FOUND, _NOT_EXECUTABLE):
        return ExportError(
            f"there is no {python} on the device",
            where=where,
            got=said,
            next_step="Name its interpreter (`python`), 3.9 or later with numpy and ai-edge-litert or "
            "onnxruntime.",
        )
    what = {
        visit.TOO_OLD: "its Python is too old",
        visit.NO_ROOM: "the kit could not be written there",
        visit.GIVEN_UP: "the measurement was ended there",
        visit.DAMAGED: "the kit did not arrive whole",
    }
    return ExportError(what.get(status, f"measure.py ended with status {status}"), where=where, got=said)
