from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "torture"))
from s3_server import S3Server, reached, s3_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    for package in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    with s3_server(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture
def s3(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, healthy, reached by this process, whose copies lie in a folder of the test."""
    server.heal()
    server.requests()
    with reached(server, tmp_path / "machine", monkeypatch):
        yield server
    server.heal()


@pytest.fixture(scope="session")
def gcs_address() -> Iterator[str]:
    """A server that speaks Google Cloud Storage's JSON, with the bucket ``bench``."""
    # Read when it is imported; else it asks another server what kind of bucket this is.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bench")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def gcs(gcs_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That server, reached by this process, whose copies lie in a folder of the test."""
    import gcsfs

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    gcsfs.GCSFileSystem.clear_instance_cache()
