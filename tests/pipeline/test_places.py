"""Two data sets of one name share no results; one that moved, grew or was split otherwise keeps its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from benchmark.pipeline import RankRequest, audit_data, rank_backbones, rebuild_report

pytestmark = pytest.mark.faults("namesakes and boards that would be overwritten")
Make = Callable[..., RankRequest]


class Messages:
    """An observer that writes messages down."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def started(self, task: str, total: int) -> None: ...

    def advanced(self, task: str, done: int, note: str = "") -> None: ...

    def finished(self, task: str, note: str = "") -> None: ...

    def message(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def other(tiny: ModuleType, tmp_path: Path) -> Path:
    """Other images in a folder of the same name."""
    folder: Path = tiny.draw_photos(tmp_path / "other" / "walls", seed=1)
    return folder


def test_two_data_sets_of_one_name(photos: Path, other: Path, request_for: Make, tiny: ModuleType) -> None:
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    first = rank_backbones(request)
    board = (first.folder / "leaderboard.csv").read_bytes()
    second_request = request.but(data=other)
    watch = Messages()
    second = rank_backbones(second_request, watch)
    assert first.folder.name == "walls"
    assert second.folder.name == f"walls-{second.images.fingerprint()[:8]}"
    (said,) = [text for text in watch.said if "other images" in text]
    assert str(first.folder) in said
    assert str(second.folder) in said
    assert said in (second.run / "run.log").read_text()
    assert (first.folder / "leaderboard.csv").read_bytes() == board
    owner = json.loads((second.folder / "dataset.json").read_text())
    assert (owner["source"], owner["images"]) == (str(other), 60)
    assert owner["fingerprint"] == second.images.fingerprint()
    # Both stay where they are, whatever is asked of them.
    assert rank_backbones(second_request).folder == second.folder
    for data, folder in ((other, second.folder), (photos, first.folder)):
        rebuilt = rebuild_report(data, results=request.options.results, cache=request.options.cache)
        assert rebuilt.folder == folder
    assert audit_data(second_request)[1].parent == second.folder


def test_a_data_set_keeps_its_results(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(photos, tmp_path / "here" / "walls"))
    request = request_for(data, tiny.tiny_backbone("Tiny8", 8))
    first = rank_backbones(request)
    tiny.draw_photos(data, count=5, seed=2)
    moved = Path(shutil.move(data, tmp_path / "walls"))
    watch = Messages()
    for options in (
        {},
        {"seed": 3},
        {"limit": 20},
        {"groups": r"(\d+)\.png"},
    ):
        changed = request.but(data=moved, **options)
        assert rank_backbones(changed, watch).folder == first.folder
    assert not any("other images" in text for text in watch.said if "go to" in text)


def test_a_folder_whose_name_only_begins_alike_is_not_taken(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "walls-2"))
    request = request_for(copy, tiny.tiny_backbone("Tiny8", 8))
    assert rank_backbones(request).folder.name == "walls-2"
    plain = request.but(data=photos)
    assert rank_backbones(plain).folder.name == "walls"


def test_a_smaller_board_says_where_the_larger_one_is(
    photos: Path, request_for: Make, tiny: ModuleType
) -> None:
    pair = tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)
    request = request_for(photos, *pair)
    both = rank_backbones(request)
    assert both.replaced == ""
    one = rank_backbones(replace(request, backbones=pair[:1]))
    assert one.folder == both.folder
    assert str(both.run) in one.replaced
    assert "2 backbones" in one.replaced
    assert one.replaced in (one.run / "run.log").read_text()
    assert "Tiny16" in (both.run / "leaderboard.csv").read_text()
    assert rank_backbones(request).replaced == "", "nothing is missing from it"


def test_a_board_of_images_that_changed_is_kept_and_said_to_be(
    photos: Path, request_for: Make, tiny: ModuleType, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(photos, tmp_path / "walls"))
    request = request_for(data, tiny.tiny_backbone("Tiny8", 8))
    first = rank_backbones(request)
    tiny.draw_photos(data, count=5, seed=2)
    second = rank_backbones(request)
    assert str(first.run) in second.replaced
    assert "other images" in second.replaced
