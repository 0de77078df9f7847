"""Blocks of images: every missing row once, a task for everybody, and the vectors of one process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data import fingerprint, load_images
from benchmark.embeddings import EmbeddingStore
from benchmark.execution import Call, Machine
from benchmark.execution.runner import Result, dead
from benchmark.pipeline import RankRequest
from benchmark.pipeline.blocks import blocks_of
from benchmark.pipeline.costs import EmbeddingCost
from benchmark.pipeline.embedding import embed_images
from benchmark.pipeline.tasks import BlockTask, block_task
from benchmark.records import Engine, ImageSet

Make = Callable[..., RankRequest]


@given(
    counts=st.lists(st.integers(1, 6000), min_size=1, max_size=8),
    each=st.lists(st.floats(1e-4, 1.0), min_size=8, max_size=8),
    workers=st.integers(1, 200),
    first=st.integers(0, 3),
)
def test_every_missing_row_is_embedded_once(
    counts: list[int], each: list[float], workers: int, first: int
) -> None:
    images = max(counts)
    lacking = {one: np.arange(images) < count for one, count in enumerate(counts)}
    costs = {one: EmbeddingCost(prepare=3.0, inference=each[one]) for one in lacking}
    blocks = blocks_of(lacking, costs, workers, first=first)
    for one in lacking:
        rows = np.concatenate([block.rows for block in blocks if one in block.positions])
        assert set(np.flatnonzero(lacking[one])) <= set(rows.tolist())
        assert len(rows) == len(set(rows.tolist()))
    for place, block in enumerate(blocks, start=first):
        assert len(block.rows) <= 2112  # a block, and its share of the first, small one
        if block.after is not None:
            assert first <= block.after < place
            assert blocks[block.after - first].positions == block.positions


def test_nobody_is_idle_for_the_sake_of_larger_tasks() -> None:
    lacking = {one: np.ones(100, bool) for one in range(8)}
    costs = {one: EmbeddingCost(prepare=0.5, inference=0.001) for one in lacking}
    assert len(blocks_of(lacking, costs, 8)) == 8
    assert len(blocks_of(lacking, costs, 1)) == 1


class Far:
    """A runner whose workers are not this machine, though they are."""

    is_local = False
    workers = 2

    def __init__(self, *, alike: bool = True, dying: int = 0) -> None:
        self.alike = alike
        self.dying = dying
        self.calls: list[Call] = []

    def computes_as(self, machine: Machine) -> bool:
        return self.alike

    def run(
        self, function: Callable[[Any, int], Any], calls: Sequence[Call], **_: object
    ) -> Iterator[tuple[int, Result]]:
        for place, call in enumerate(calls):
            self.calls.append(call)
            self.dying -= 1
            yield place, dead() if self.dying >= 0 else function(call.argument, 1)


def vectors(request: RankRequest, images: ImageSet, names: Sequence[Any]) -> dict[str, bytes]:
    done = embed_images(request, images)
    store = EmbeddingStore(request.options.cache)
    assert [plan.backbone.name for plan in done.embedded] == [one.name for one in names]
    found = {}
    for plan in done.embedded:
        assert plan.key is not None
        found[plan.backbone.name] = store.read(plan.key, images.image_ids).features.tobytes()
    return found


def test_workers_that_decode_for_themselves_give_the_same_bits(
    photos: Path, tiny: ModuleType, request_for: Make, tmp_path: Path
) -> None:
    backbones = [tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)]
    images = load_images(photos, cache=tmp_path / "cache")
    here = vectors(request_for(photos, *backbones), images, backbones)
    request = request_for(photos, *backbones, cache=tmp_path / "other")
    far = Far()
    assert vectors(replace(request, runner=far), images, backbones) == here
    assert all(isinstance(call.argument, BlockTask) for call in far.calls if call.name.startswith("embed"))


def test_workers_of_another_kind_choose_engine_and_precision(
    photos: Path, tiny: ModuleType, request_for: Make, tmp_path: Path
) -> None:
    backbone = tiny.tiny_backbone("Tiny8", 8)
    images = load_images(photos, cache=tmp_path / "cache")
    far = Far(alike=False)
    vectors(replace(request_for(photos, backbone), runner=far), images, [backbone])
    assert far.calls[0].argument.wanted[0].engine.engine is None
    asked = request_for(photos, backbone, engine=Engine.TENSORFLOW, cache=tmp_path / "other")
    far = Far(alike=False)
    vectors(replace(asked, runner=far), images, [backbone])
    assert far.calls[0].argument.wanted[0].engine.engine is Engine.TENSORFLOW


def test_a_bundle_that_cost_three_workers_is_tried_one_by_one(
    photos: Path, tiny: ModuleType, request_for: Make, tmp_path: Path
) -> None:
    backbones = [tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)]
    images = load_images(photos, cache=tmp_path / "cache")
    far = Far(dying=1)
    far.workers = 1
    vectors(replace(request_for(photos, *backbones), runner=far), images, backbones)
    assert [len(call.argument.wanted) for call in far.calls[:3]] == [2, 1, 1]


def test_tasks_are_small(photos: Path, tiny: ModuleType, request_for: Make, tmp_path: Path) -> None:
    backbone = tiny.tiny_backbone("Tiny8", 8)
    images = load_images(photos, cache=tmp_path / "cache")
    far = Far()
    embed_images(replace(request_for(photos, backbone), runner=far), images)
    task = far.calls[0].argument
    assert len(pickle.dumps((task.images, task.sample))) < 300 * len(images)


def test_vectors_are_kept_under_the_decoder_that_made_them(
    photos: Path, tiny: ModuleType, request_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers agree among themselves, but not always with the machine that the command runs on."""
    images = load_images(photos, cache=tmp_path / "cache")
    request = replace(request_for(photos, tiny.tiny_backbone("Tiny8", 8)), runner=Far(alike=False))
    monkeypatch.setattr("benchmark.pipeline.tasks.decoder_name", lambda *_, **__: "pixels-theirs")
    (plan,) = embed_images(request, images).embedded
    assert plan.is_cached
    assert plan.key is not None
    assert plan.key.decoder == "pixels-theirs"


def test_images_that_a_worker_decodes_otherwise_than_the_command_go_elsewhere(
    photos: Path, tiny: ModuleType, request_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, far = load_images(photos, cache=tmp_path / "cache"), Far()
    request = replace(request_for(photos, tiny.tiny_backbone("Tiny8", 8)), runner=far)
    embed_images(replace(request, formats=frozenset({"avif"})), images)
    task = far.calls[0].argument
    assert not block_task(task, 1)["elsewhere"]
    monkeypatch.setattr(fingerprint, "_optional_digest", lambda _: "0" * 16)
    told = block_task(task, 1)
    assert told["elsewhere"]
    assert "images of avif: are decoded otherwise by this worker" in told["each"][0]["error"]
