"""Downloads from a server on this machine that misbehaves on request."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.backbones.downloads import Downloads
from benchmark.errors import WeightsError

pytestmark = pytest.mark.faults("downloads that fail, hang or lie")

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Answers with what ``script`` says, one entry per request; the last one repeats."""

    daemon_threads = True
    script: list[str]
    requests: int
    release: threading.Event


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        script = self.server.script
        action = script[min(self.server.requests, len(script) - 1)]
        self.server.requests += 1
        if action == "error" or action.isdecimal():
            self.send_error(500 if action == "error" else int(action))
            return
        body = CONTENT[::-1] if action == "wrong" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if action in ("truncated", "hang"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if action == "hang":
                self.server.release.wait(20)
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.script, server.requests, server.release = ["ok"], 0, threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def published(digest: str = hashlib.md5(CONTENT).hexdigest()) -> dict[str, str]:
    return {"file": "net_notop.h5", "url": "https://weights.invalid/path/net_notop.h5", "hash": digest}


HASHED, BARE = published()["hash"], ""


def downloads(server: Server, folder: Path, timeout_seconds: float = 10.0) -> Downloads:
    return Downloads(
        base=f"http://127.0.0.1:{server.server_port}",
        folder=folder,
        timeout_seconds=timeout_seconds,
    )


def seconds_for(fault: str) -> float:
    """Who hangs is given up soon; whoever else is only slow is not."""
    return 1.0 if fault == "hang" else 10.0


def test_a_download_is_whole_and_happens_once(server: Server, tmp_path: Path) -> None:
    fetcher = downloads(server, tmp_path)
    path = fetcher.fetch(published())
    assert path.read_bytes() == CONTENT
    assert fetcher.fetch(published()) == path
    assert server.requests == 1
    assert [item.name for item in tmp_path.iterdir()] == ["net_notop.h5"]


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_a_download_is_the_users_choice(
    server: Server, tmp_path: Path, mask: int, rights: int
) -> None:
    before = os.umask(mask)
    try:
        path = downloads(server, tmp_path).fetch(published())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == rights


def test_a_download_is_on_the_disk_before_it_has_its_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the bytes, then the name: a file without a hash is taken as it is after a power failure."""
    flushed: list[tuple[int, bool]] = []
    target = tmp_path / "net_notop.h5"
    flush = os.fsync

    def watched(descriptor: int) -> None:
        flush(descriptor)
        flushed.append((os.fstat(descriptor).st_ino, target.exists()))

    monkeypatch.setattr(os, "fsync", watched)
    downloads(server, tmp_path).fetch(published(BARE))
    assert flushed == [(target.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize("fault", ["error", "truncated", "wrong", "hang"])
def test_a_fault_is_retried(server: Server, tmp_path: Path, fault: str) -> None:
    server.script = [fault, "ok"]
    assert downloads(server, tmp_path, seconds_for(fault)).fetch(published()).read_bytes() == CONTENT
    assert server.requests == 2


@pytest.mark.parametrize(
    ("fault", "digest"),
    [
        ("wrong", HASHED),  # without a published hash only the length can be wrong
        *((fault, digest) for fault in ("error", "truncated", "hang") for digest in (HASHED, BARE)),
    ],
)
def test_a_lasting_fault_leaves_nothing_and_names_the_ways_out(
    server: Server, tmp_path: Path, fault: str, digest: str
) -> None:
    server.script = [fault]
    with pytest.raises(WeightsError, match="cannot be downloaded") as caught:
        downloads(server, tmp_path, seconds_for(fault)).fetch(published(digest))
    assert "`weights=DIR`" in caught.value.next_step
    assert "`weights=random`" in caught.value.next_step
    assert "HTTPConnectionPool" not in str(caught.value), "one clean line"
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_is_tried_once_per_run(server: Server, tmp_path: Path) -> None:
    server.script = ["error"]
    fetcher = downloads(server, tmp_path)
    for number in range(5):
        with pytest.raises(WeightsError):
            fetcher.fetch({**published(), "file": f"net{number}.h5"})
    assert server.requests == 3


@pytest.mark.parametrize("status", ["403", "404"])
def test_a_file_that_is_not_there_costs_no_other(server: Server, tmp_path: Path, status: str) -> None:
    server.script = ([status] * 3 + ["ok"]) * 2
    fetcher = downloads(server, tmp_path)
    for half in range(2):
        for file in ("withdrawn.h5", "withdrawn.h5", "gone.h5"):  # however often one is asked for
            with pytest.raises(WeightsError, match=f"HTTP status {status}"):
                fetcher.fetch({**published(), "file": file})
        wanted = {**published(), "file": f"net{half}.h5"}
        assert fetcher.fetch(wanted).read_bytes() == CONTENT
    assert server.requests == 8, "what is not there is asked for once"


@pytest.mark.parametrize(("status", "asked"), [("403", 3), ("404", 3), ("401", 3), ("407", 1)])
def test_who_refuses_everything_is_soon_left_alone(
    server: Server, tmp_path: Path, status: str, asked: int
) -> None:
    server.script = [status]
    fetcher = downloads(server, tmp_path)
    for number in range(5):
        with pytest.raises(WeightsError, match=f"HTTP status {status}"):
            fetcher.fetch({**published(), "file": f"net{number}.h5"})
    assert server.requests == asked


@pytest.mark.parametrize("status", ["408", "429"])
def test_who_is_only_busy_is_asked_again(server: Server, tmp_path: Path, status: str) -> None:
    server.script = [status, status, "ok"]
    assert downloads(server, tmp_path).fetch(published()).read_bytes() == CONTENT


def test_nobody_listens(tmp_path: Path) -> None:
    fetcher = Downloads(base="http://127.0.0.1:9", folder=tmp_path, tries=1)
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1"):
        fetcher.fetch(published())


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net_notop.h5").write_bytes(CONTENT[:1000])
    assert downloads(server, tmp_path).fetch(published()).read_bytes() == CONTENT


def test_several_at_once_all_get_the_whole_file(server: Server, tmp_path: Path) -> None:
    fetchers = [downloads(server, tmp_path, 5.0) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda fetcher: fetcher.fetch(published()), fetchers))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert [item.name for item in tmp_path.iterdir()] == ["net_notop.h5"]


def test_a_download_killed_midway_is_never_used(server: Server, tmp_path: Path) -> None:
    server.script = ["hang", "ok"]
    code = (
        "import sys; from pathlib import Path; from benchmark.backbones.downloads import Downloads;"
        f"Downloads(base='http://127.0.0.1:{server.server_port}', folder=Path(sys.argv[1]))"
        f".fetch({published('')!r})"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    server.release.set()
    assert not (tmp_path / "net_notop.h5").exists()
    assert downloads(server, tmp_path).fetch(published("")).read_bytes() == CONTENT
    assert [item.name for item in tmp_path.iterdir()] == ["net_notop.h5"], "the part that it left is gone"
