"""What a worker trains reaches machines that share nothing with it but a bucket."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
from s3_server import S3Server

from benchmark.finetuning.model_directory import ModelDirectory
from benchmark.finetuning.progress import Progress
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


def test_a_training_is_taken_up_where_its_last_epoch_ended(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a worker was thought lost, and was not; what arrives damaged is not believed."""
    url, digest = f"s3://bench/{tmp_path.name}/cache", "ab" * 32

    def on(machine: str) -> ModelDirectory:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return ModelDirectory(tmp_path / machine / "model", folder_of(url, Kind.CACHE) / ".tmp-run")

    for epoch in (1, 2):
        weights = [np.full(9, epoch, np.float32)]
        Progress(epoch=epoch, current=weights, weights_sha256="cd").save(on("first").state(digest))
        after = Progress.load(on("second").state(digest))
        assert after is not None
        assert (after.epoch, after.weights_sha256) == (epoch, "cd")
        np.testing.assert_array_equal(after.current, weights)
    bucket = fsspec.filesystem("s3", use_listings_cache=False)
    (there,) = bucket.find(url)
    content = bytearray(bucket.cat_file(there))
    content[len(content) // 2] ^= 1
    bucket.pipe_file(there, bytes(content))
    assert Progress.load(on("third").state(digest)) is None
    directory = on("second")
    directory.finish(digest)
    assert bucket.find(url), "its model has not been handed over yet"
    take_back(directory.state(digest).parent)
    assert not bucket.find(url)


def test_an_outage_between_two_epochs_ends_no_training(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others take up is the latest state that arrived."""
    url = f"s3://bench/{tmp_path.name}/cache"

    def on(machine: str) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return folder_of(url, Kind.CACHE) / ".tmp-run" / "state.npz"

    def epoch_on(machine: str) -> int | None:
        after = Progress.load(on(machine))
        return None if after is None else after.epoch

    Progress(epoch=1).save(on("first"))
    s3.fault("403", method="PUT")
    Progress(epoch=2).save(on("first"))
    assert epoch_on("second") == 1
    s3.fault("403", times=100)
    assert [epoch_on("first"), epoch_on("third")] == [2, None]
    s3.heal()
    Progress(epoch=3).save(on("first"))
    assert epoch_on("third") == 3
