"""A model that a worker trained reaches a command that shares nothing with it but a bucket."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from s3_server import S3Server

from benchmark.locations import Kind, folder_of
from benchmark.pipeline.tuning import hand_over_model, taken_over
from benchmark.storage import take_back

FILES = {"model.keras": bytes(300_000), "tensorboard/train/events.1": b"events", "run.json": b"{}"}


def test_every_file_arrives_and_nothing_stays(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "worker" / "two-phase"
    for name, content in FILES.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    url = f"s3://bench/{tmp_path.name}/cache"

    def handed() -> Path:
        return folder_of(url, Kind.CACHE) / ".tmp-run"

    told = hand_over_model(made, handed())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "command"))
    s3.fault("500", method="GET", match="model.keras", times=2)
    folder = taken_over(told, handed())
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    take_back(folder)
    assert not fsspec.filesystem("s3", use_listings_cache=False).find(url)
