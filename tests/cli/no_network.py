"""Made ``sitecustomize`` of every Python that a test starts: no process may look up or reach an address.

Python code that tries is written to the file ``NETWORK_REPORT`` and refused; native code that asks the kernel
for an IPv4 socket or for any connection is ended by it (seccomp, on Linux on the usual processors). The one
thing let through is urllib3, which Keras imports: it binds a socket to ::1 to see whether there is IPv6.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import traceback
from pathlib import Path

_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostby", "socket.sendto")
# Architecture, and the numbers of the system calls socket and connect.
_CALLS = {"x86_64": (0xC000003E, 41, 42), "aarch64": (0xC00000B7, 198, 203)}
_HAS_IPV6 = "('::1', 0)"
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(_EVENTS) and not (
        event == "socket.bind" and repr(arguments).endswith(f"{_HAS_IPV6})")
    ):
        text = f"{event} {arguments!r}\n{''.join(traceback.format_stack()[:-1])}\n"
        with Path(os.environ["NETWORK_REPORT"]).open("a") as report:
            report.write(text)
        raise PermissionError(f"no network: {event}")


def _forbid_sockets() -> None:
    """Let the kernel end whoever asks for an IPv4 socket or a connection."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return
    architecture, socket, connect = _CALLS[platform.machine()]
    program = [
        (_LOAD, 0, 0, 4),  # the architecture of the call
        (_JUMP_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, 0),  # its number
        (_JUMP_EQUAL, 3, 0, connect),
        (_JUMP_EQUAL, 0, 3, socket),
        (_LOAD, 0, 0, 16),  # its first argument: the family of addresses
        (_JUMP_EQUAL, 0, 1, 2),
        (_RETURN, 0, 0, _KILL),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in program))
    filters = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, filters, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


sys.addaudithook(_refuse)
_forbid_sockets()
