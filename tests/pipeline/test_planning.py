"""Which engine and precision "auto" takes: what finishes the whole job sooner, with what the cache holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark.embeddings import EmbeddingStore
from benchmark.engines import EngineRequest
from benchmark.errors import ArgumentError
from benchmark.pipeline import EmbedRequest, Plan, RankRequest, planning
from benchmark.records import Backbone, Engine, Precision

IMAGES = tuple(f"{number:064x}" for number in range(1000))
DIGEST = "ab" * 32
FAST, SLOW = (Engine.OPENVINO, Precision.BFLOAT16), (Engine.TENSORFLOW, Precision.FLOAT32)
Make = Callable[..., RankRequest]


@pytest.fixture
def backbone(tiny: ModuleType) -> Backbone:
    made: Backbone = tiny.tiny_backbone("Tiny8", 8)
    return made


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO in bfloat16 suits jobs of 500 images and more; the weights are known."""

    def planned(request: EngineRequest, images: int) -> tuple[Engine, Precision]:
        engine = request.engine or (FAST[0] if images >= 500 else SLOW[0])
        return engine, request.precision or (FAST if engine is FAST[0] else SLOW)[1]

    monkeypatch.setattr(planning, "plan_engine", planned)
    monkeypatch.setattr(planning, "known_weights_sha256", lambda *_, **__: DIGEST)


@pytest.fixture
def request_here(request_for: Make, tmp_path: Path, backbone: Backbone) -> EmbedRequest:
    return request_for(tmp_path, backbone)


def plan_for(request: EmbedRequest, ids: tuple[str, ...] = IMAGES, planned_images: int | None = None) -> Plan:
    store = EmbeddingStore(request.options.cache)
    return planning.make_plan(request, request.backbones[0], ids, store, planned_images)


def hold(request: EmbedRequest, way: tuple[Engine, Precision], count: int) -> None:
    """Put the first images' rows into the cache."""
    bare = Plan(backbone=request.backbones[0], weights=request.weights, input_size=24)
    key = planning.plan_key(request, replace(bare, engine=way[0], precision=way[1]), DIGEST)
    with EmbeddingStore(request.options.cache).writer(key, 8) as writer:
        ids = np.array([one.encode() for one in IMAGES[:count]], "S64")
        writer.add(ids, np.ones((count, 8), np.float32))


def way_of(plan: Plan) -> tuple[Engine | None, Precision | None]:
    return plan.engine, plan.precision


@pytest.mark.parametrize(
    ("held", "way"), [(0, FAST), (1, FAST), (500, FAST), (610, SLOW), (999, SLOW), (1000, SLOW)]
)
def test_what_is_held_is_used_where_that_finishes_sooner(
    request_here: EmbedRequest, held: int, way: tuple[Engine, Precision]
) -> None:
    if held:
        hold(request_here, SLOW, held)
    plan = plan_for(request_here)
    assert way_of(plan) == way
    assert plan.lacking.sum() == (1000 - held if way == SLOW else 1000)


def test_what_the_suited_engine_holds_counts_for_it(request_here: EmbedRequest) -> None:
    hold(request_here, SLOW, 610)
    hold(request_here, FAST, 300)
    plan = plan_for(request_here)
    assert way_of(plan) == FAST
    assert plan.lacking.sum() == 700


def test_a_step_of_a_large_job_is_planned_for_all_of_it(request_here: EmbedRequest) -> None:
    assert way_of(plan_for(request_here, IMAGES[:60])) == SLOW
    plan = plan_for(request_here, IMAGES[:60], 1000)
    assert way_of(plan) == FAST
    assert np.flatnonzero(plan.lacking).tolist() == list(range(60))


def test_what_is_complete_is_used_without_asking_the_machine(
    request_here: EmbedRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(request: EngineRequest, images: int) -> tuple[Engine, Precision]:
        raise ArgumentError("OpenVINO is not installed")

    monkeypatch.setattr(planning, "plan_engine", absent)
    hold(request_here, FAST, 1000)
    assert plan_for(request_here.but(engine=Engine.OPENVINO)).is_cached


def test_what_this_machine_cannot_compute_is_not_continued(
    request_here: EmbedRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tensorflow_only(request: EngineRequest, images: int) -> tuple[Engine, Precision]:
        if request.engine is Engine.OPENVINO:
            raise ArgumentError("OpenVINO is not installed")
        return Engine.TENSORFLOW, Precision.FLOAT32

    monkeypatch.setattr(planning, "plan_engine", tensorflow_only)
    hold(request_here, FAST, 999)
    assert way_of(plan_for(request_here)) == SLOW


def test_arithmetic_that_is_known_to_disagree_is_not_continued(
    request_here: EmbedRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "plan_engine", lambda *_: (Engine.OPENVINO, Precision.FLOAT32))
    hold(request_here, FAST, 999)
    assert way_of(plan_for(request_here)) == (Engine.OPENVINO, Precision.FLOAT32)


@pytest.mark.parametrize("engine", [Engine.TENSORFLOW, Engine.OPENVINO])
@pytest.mark.parametrize("digest", [None, DIGEST])
def test_what_was_asked_for_is_taken(
    request_here: EmbedRequest, monkeypatch: pytest.MonkeyPatch, engine: Engine, digest: str | None
) -> None:
    """Whatever suits the job, and whether or not the weights were ever loaded."""
    monkeypatch.setattr(planning, "known_weights_sha256", lambda *_, **__: digest)
    for count in (10, 1000):
        plan = plan_for(request_here.but(engine=engine), IMAGES[:count])
        assert plan.engine is engine
        plan = plan_for(request_here.but(engine=engine, precision=Precision.BFLOAT16), IMAGES[:count])
        assert plan.precision is Precision.BFLOAT16
