"""A server that takes a connection and never says a word is not waited for, whatever a library waits for."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from s3_server import S3Server

from benchmark.locations import Kind, folder_of
from benchmark.storage import RemoteStorage


@pytest.mark.faults("answers of a server")
@pytest.mark.parametrize("call", [("pipe_file", b"x" * 100_000), ("cat_file",), ("ls",), ("info",)])
def test_a_call_ends(s3: S3Server, monkeypatch: pytest.MonkeyPatch, call: tuple[object, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        remote = RemoteStorage(folder_of("s3://bench/cache", Kind.CACHE))
        remote._files.clear_instance_cache()
        method, *content = call
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            remote._ask(str(method), "bench/cache/part", *content, seconds=2.0)
        assert time.monotonic() - begun < 20
        remote._files.clear_instance_cache()


def test_the_seconds_grow_with_the_bytes(tmp_path: Path) -> None:
    from benchmark.storage.remote import _seconds_for

    assert 60 < _seconds_for(0) < 90
    assert _seconds_for(64 * 2**20) > 300
