"""Runs on a device at the other end of ssh: a kit comes in, device.json goes out, nothing stays.

Python 3.9 or later, its standard library alone; whoever sends it sees to that, for an older one does not
even read it. It is sent as text, this file as it is. Standard input then brings one line of JSON (``bytes``
of the zip file, ``mark``), the zip file, and nothing more: when it ends, whoever asked is gone, and the work
is given up. What ``measure.py`` prints goes to standard error; to standard output go the mark and the
content of ``device.json``. The folder of the kit is removed however this ends, SIGKILL and power failures
apart.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

# Above what measure.py and Python return, below what shells and ssh do.
TOO_OLD, NO_ROOM, GIVEN_UP, DAMAGED = 40, 41, 42, 43
_BLOCK = 1 << 16
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main() -> int:
    """The status of measure.py, or one of those above."""
    for number in _SIGNALS:
        signal.signal(number, _give_up)
    asked = json.loads(sys.stdin.buffer.readline())
    # Named before it is made: a signal may come as soon as it is there.
    folder = Path(tempfile.gettempdir()) / f"backbones-kit-{secrets.token_hex(8)}"
    try:
        try:
            folder.mkdir(mode=0o700)
            (folder / "kit").mkdir()
            if not _receive(folder / "kit.zip", asked["bytes"]):
                return DAMAGED
            with zipfile.ZipFile(folder / "kit.zip") as archive:
                archive.extractall(folder / "kit")
            (folder / "kit.zip").unlink()
            status, found = _measure(folder / "kit")
        finally:
            _hear_nothing()
    except (OSError, zipfile.BadZipFile) as error:
        print(error, file=sys.stderr)
        return DAMAGED if isinstance(error, zipfile.BadZipFile) else NO_ROOM
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
    if found:
        sys.stdout.buffer.write(asked["mark"].encode() + found)
        sys.stdout.buffer.flush()
    return status


def _give_up(*_: object) -> None:
    """End the work; a lost connection and whoever ends it may both say so, and the first one is enough."""
    _hear_nothing()
    sys.exit(GIVEN_UP)


def _hear_nothing() -> None:
    """From now on no signal disturbs the removal of the folder."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # Python, as it ends, takes back handlers of its own


def _receive(path: Path, left: int) -> bool:
    """Take the zip file from standard input; False where that ends too early."""
    with path.open("wb") as file:
        while left:
            block = sys.stdin.buffer.read(min(left, _BLOCK))
            if not block:
                return False
            left -= len(block)
            file.write(block)
    return True


def _measure(kit: Path) -> tuple[int, bytes]:
    """Run measure.py until it is done, or whoever asked is gone; its status, and device.json."""
    file = kit / "device.json"
    if file.exists():  # of a measurement where the kit was made
        file.unlink()
    # Held back until the process has a name here, without which nobody could end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    process = subprocess.Popen(
        [sys.executable, "-u", "measure.py"],
        cwd=str(kit),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
    )
    left = threading.Event()

    def watch() -> None:
        # The raw descriptor: a thread that waits in a buffered reader would keep Python from ending.
        while os.read(sys.stdin.fileno(), 1):
            pass
        left.set()
        _end(process)

    threading.Thread(target=watch, daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        status = process.wait()
    finally:
        _end(process)
    if left.is_set():
        return GIVEN_UP, b""
    return status, file.read_bytes() if file.exists() else b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End measure.py and the process of the model that it measures."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
