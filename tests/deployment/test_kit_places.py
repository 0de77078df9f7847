"""A kit never takes the place of something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.deployment.kit import write_kit
from benchmark.errors import ArgumentError


def test_an_archive_of_the_user_stays(tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"all that I have")
    with pytest.raises(ArgumentError, match="is not the file of a kit"):
        write_kit(tmp_path / "photos", (), data="walls", fingerprint="0" * 64, left_out=())
    assert archive.read_bytes() == b"all that I have"
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]
