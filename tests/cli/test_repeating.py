"""The command line that a run's record keeps works from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cli.parser import make_parser
from benchmark.cli.repeating import portable


def stored(*words: str) -> tuple[str, ...]:
    return portable(make_parser().parse_args(words), words)


def test_the_data_folder_is_absolute_however_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for words in (
        ("rank", "photos"),
        ("rank", "photos/"),
        ("rank", "./photos"),
        ("rank", str(tmp_path / "photos")),
    ):
        assert stored(*words) == ("rank", str(tmp_path / "photos"))


def test_data_is_told_from_an_option_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    place = str(tmp_path / "photos")
    assert stored("rank", "--results", "photos", "photos") == ("rank", place, "--results", "photos")
    assert stored("rank", "photos", "--results", "photos") == ("rank", place, "--results", "photos")


def test_only_a_folder_of_weights_becomes_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "imagenet", "weights"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights" / "MobileNet.weights.h5").touch()
    assert "--weights" not in stored("rank", "photos")
    assert stored("rank", "photos", "--weights", "imagenet")[-1] == "imagenet"
    assert stored("rank", "photos", "--weights=weights")[-2:] == ("--weights", str(tmp_path / "weights"))
