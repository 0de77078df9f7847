"""Halving on real pixels: it finds what an exhaustive search finds, and keeps to the same limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmark.pipeline import RankRequest, rank_backbones
from benchmark.pipeline.measurements import Measurement
from benchmark.records import Backbone, Search, WeightsSource

Make = Callable[..., RankRequest]


@pytest.fixture(scope="module")
def many(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 cracked and 120 sound drawings."""
    folder: Path = tiny.draw_photos(tmp_path_factory.mktemp("many") / "walls", 120)
    return folder


@pytest.fixture(scope="module")
def field(tiny: ModuleType) -> tuple[Backbone, ...]:
    return tuple(tiny.tiny_backbone(f"Tiny{filters}", filters) for filters in (2, 8, 16))


def halving(request: RankRequest, **changes: Any) -> RankRequest:  # noqa: ANN401
    return request.but(search=Search.HALVING, **changes)


def by_name(request: RankRequest) -> dict[str, dict[str, Any]]:
    return {row["backbone"]: row for row in rank_backbones(request).board.rows}


def test_halving_finds_what_everything_finds(
    many: Path, request_for: Make, field: tuple[Backbone, ...]
) -> None:
    request = request_for(many, *field)
    everything = rank_backbones(request.but(audit_search=True))
    assert any("the same winner" in line for line in everything.board.statements)
    found = rank_backbones(halving(request, results=request.options.results / "halving"))
    assert found.board.winner == everything.board.winner
    assert any("images x FLOPs" in line for line in found.board.statements)


def test_an_audit_draws_the_subsets_that_halving_draws(
    many: Path, request_for: Make, field: tuple[Backbone, ...]
) -> None:
    """Also where only the validation part is validated: the heads of a subset need its training images."""
    request = request_for(many, *field[:2], protocol="holdout", audit_search=True)
    statements = rank_backbones(request).board.statements
    assert any("Halving over subsets of 96, 192 images" in line for line in statements)


def test_a_backbone_that_is_too_slow_leaves_before_it_can_prune_others(
    many: Path, request_for: Make, field: tuple[Backbone, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_at_two(cache: Path, key: Any, *, anywhere: bool) -> Measurement:  # noqa: ANN401
        return replace(Measurement(), latency_ms=50.0 if "2" in key.backbone else 1.0)

    monkeypatch.setattr("benchmark.pipeline.limits.load_measurement", slow_at_two)
    rows = by_name(halving(request_for(many, *field), max_latency_ms=10.0))
    assert rows["Tiny2"]["status"] == "skipped"
    assert "50.0 ms" in rows["Tiny2"]["reason"]
    assert "Tiny2" not in " ".join(row["reason"] for name, row in rows.items() if name != "Tiny2")
    assert "scored" in {row["status"] for row in rows.values()}


def test_the_fallback_is_decided_once_for_all(
    many: Path, request_for: Make, field: tuple[Backbone, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.errors import WeightsError

    asked: list[str] = []

    def absent(backbone: Backbone, source: WeightsSource) -> Path:
        asked.append(backbone.name)
        raise WeightsError("no network")

    monkeypatch.setattr("benchmark.pipeline.embedding.weights_file", absent)
    request = request_for(many, *field)
    ranked = rank_backbones(halving(request, weights="imagenet", fallback_random=True))
    assert {row["weights"] for row in ranked.board.rows} == {"random"}
    assert "RANDOM" in ranked.board.notes[0]
    assert len(asked) == 1
