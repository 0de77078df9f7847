"""A server that speaks S3 on loopback, as a process of its own, with faults on order.

``POST /_faults`` takes a list of faults: ``{"method", "match", "what", "times"}``. A request whose method and
path (with its query) match has the fault, so many times. ``GET /_requests`` lists what was asked for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

KEY_ID, SECRET = "AKIAPLANTED0KEY0ID00", "planted/secret+of/the/environment0000000"
_ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0}, {1}</Message></Error>"
_CODES = {"500": "500 InternalError", "503": "503 SlowDown", "403": "403 AccessDenied"}
_HANG_SECONDS = 600


@dataclass
class S3Server:
    """A running server.

    Attributes:
        url: of its endpoint.
        process: its own.
    """

    url: str
    process: subprocess.Popen[bytes]
    environment: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, *, method: str = "", match: str = "", times: int = 1) -> None:
        """Let the next requests that match fail: 500, 503, 403, hang, cut, slow or flip."""
        self._post([{"method": method, "match": match, "what": what, "times": times}])

    def heal(self) -> None:
        """No faults from now on."""
        self._post([])

    def requests(self) -> list[str]:
        """Method and path of all that was asked for since the last call."""
        with urllib.request.urlopen(f"{self.url}/_requests", timeout=30) as answer:
            found: list[str] = json.load(answer)
        return found

    def _post(self, faults: list[dict[str, Any]]) -> None:
        request = urllib.request.Request(f"{self.url}/_faults", json.dumps(faults).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with the bucket ``bench``, ended with the context."""
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "AWS_ACCESS_KEY_ID": "server", "AWS_SECRET_ACCESS_KEY": "server"},
        )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline() or b"0")
        assert port, (folder / "s3.log").read_text()
        url = f"http://127.0.0.1:{port}"
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield S3Server(url, process, environment)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def reached(server: S3Server, home: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process and those it starts ask this server, and keep their copies in a home of theirs.

    fsspec keeps what it made: a file system of a test before would go on asking that test's server.
    """
    import fsspec

    patch.setenv("XDG_CACHE_HOME", str(home))
    for name, value in server.environment.items():
        patch.setenv(name, value)
    kept = fsspec.get_filesystem_class("s3")
    kept.clear_instance_cache()
    yield
    kept.clear_instance_cache()


class _Faulty:
    """A WSGI application that misbehaves on order."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._faults: list[dict[str, Any]] = []
        self._seen: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/_faults":
            faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            with self._lock:
                self._faults = [*self._faults, *faults] if faults else []
            return _answer(start, "200 OK", b"")
        if path == "/_requests":
            with self._lock:
                seen, self._seen = self._seen, []
            return _answer(start, "200 OK", json.dumps(seen).encode())
        asked = f"{path}?{environ.get('QUERY_STRING', '')}"
        what = self._next(method, asked)
        if what in _CODES:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            # A careless server repeats what it was sent.
            body = _ERROR.format(_CODES[what][4:], environ.get("HTTP_AUTHORIZATION", "")).encode()
            return _answer(start, _CODES[what], body)
        if what == "hang":
            time.sleep(_HANG_SECONDS)
        if what == "slow":
            time.sleep(2)
        body = self._application(environ, start)
        if what in {"cut", "flip"}:
            content = b"".join(body)
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            return [content[:middle] if what == "cut" else flipped]
        return body

    def _next(self, method: str, asked: str) -> str:
        with self._lock:
            self._seen.append(f"{method} {asked}")
            for fault in self._faults:
                if fault["times"] and fault["method"] in {"", method} and fault["match"] in asked:
                    fault["times"] -= 1
                    return str(fault["what"])
        return ""


def _answer(start: Callable[..., Any], status: str, body: bytes) -> list[bytes]:
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def main() -> None:
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = _Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="bench")
    print(server.server_port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
