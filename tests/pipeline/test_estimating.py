"""What a job is expected to take: monotone, nothing for what is there, corrected by what happened."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.backbones import select
from benchmark.embeddings import VIEWS
from benchmark.options import PlanOptions
from benchmark.pipeline import costs, estimate_costs, estimating
from benchmark.pipeline.costs import CostModel, WorkKind, remember_ratio, remember_self_test
from benchmark.pipeline.estimating import _makespan
from benchmark.records import HeadProtocol, ProtocolName, Silent

CACHE = Path("no cache")


@pytest.fixture(autouse=True)
def same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "self_test", lambda cache: {})
    # What is free changes between two estimates.
    monkeypatch.setattr("benchmark.execution.scheduling.available_memory", lambda: 64e9)
    monkeypatch.setattr(estimating, "buffer_bytes", lambda *_: 1 << 30)


def options(**changes: object) -> PlanOptions:
    usual = {"images": 10_000, "backbones": "MobileNet_0.25,ResNet50", "weights": "random", "cache": CACHE}
    return PlanOptions.check({**usual, **changes})


@given(images=st.integers(1, 10**7), more=st.integers(1, 10**7))
def test_more_images_never_take_less(images: int, more: int) -> None:
    few, many = (estimate_costs(options(images=count)) for count in (images, images + more))
    assert many.storage_bytes >= few.storage_bytes
    assert many.memory_bytes >= few.memory_bytes
    # Where more images make a conversion worth while, a step down of a few seconds is right.
    assert many.seconds >= few.seconds - 30


def test_each_backbone_adds_and_the_parts_make_the_whole() -> None:
    estimate = estimate_costs(options(price_per_hour=0.5, workers=4))
    *parts, whole = estimate.rows()
    assert [row["backbone"] for row in parts] == ["MobileNet_0.25", "ResNet50"]
    assert whole["backbone"] == "all"
    assert sum(row["seconds"] for row in parts) == pytest.approx(whole["seconds"], rel=1e-3)
    assert sum(row["cost"] for row in parts) == pytest.approx(whole["cost"], rel=1e-2)
    assert whole["cost"] == pytest.approx(whole["seconds"] / 3600 * 4 * 0.5, rel=1e-3)
    assert whole["memory_bytes"] == max(row["memory_bytes"] for row in parts)
    assert parts[1]["seconds"] > parts[0]["seconds"]
    assert "cost" not in estimate_costs(options()).rows()[0]


def test_machines_share_the_work_until_something_cannot_be_shared() -> None:
    seconds = [
        estimate_costs(options(images=10**6, workers=workers)).embed_seconds for workers in (1, 8, 64, 4096)
    ]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] / seconds[1] > 6
    assert seconds[3] > 60, "the largest piece stays"


def test_what_will_not_run_costs_nothing_and_says_why() -> None:
    small, large, whole = estimate_costs(options(max_size_mb=5)).rows()
    assert (small["status"], large["status"]) == ("to embed", "skipped")
    assert "max_size_mb" in large["reason"]
    assert large["seconds"] == large["storage_bytes"] == 0
    assert whole["storage_bytes"] == small["storage_bytes"]


def test_views_for_the_audit_are_planned_for_images_that_nobody_has_read(
    photos: Path, tmp_path: Path
) -> None:
    usual = {"weights": "imagenet", "results": tmp_path, "cache": tmp_path / "cache"}
    for data in (None, photos):
        without, looking = (
            estimate_costs(options(data=data, groups=groups, **usual)) for groups in ("none", "auto")
        )
        assert looking.embed_seconds > without.embed_seconds
        cheapest, other = looking.backbones
        assert (cheapest.backbone, other.storage_bytes) == (
            "MobileNet_0.25",
            without.backbones[1].storage_bytes,
        )
        extra = cheapest.storage_bytes - without.backbones[0].storage_bytes
        assert extra > VIEWS * 10_000 * 256 * 4


def test_heads_of_many_images_need_more_memory_than_embedding_them() -> None:
    (row, _) = estimate_costs(options(backbones="ResNet50", images=10**7)).rows()
    assert row["memory_bytes"] == costs.head_memory_bytes(10**7, 2048)


def test_given_parts_take_the_heads_of_one_fold_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their related images keep their parts: nothing is trained without groups for comparison."""
    asked: list[HeadProtocol] = []

    def counted(_: CostModel, protocol: HeadProtocol, *__: int) -> float:
        asked.append(protocol)
        return 1.0

    monkeypatch.setattr(CostModel, "heads", counted)
    parts = Path(shutil.copytree(photos, tmp_path / "train")).parent
    for number, photo in enumerate(sorted((parts / "train").glob("*/*.png"))):
        if number % 3 == 0:
            val = parts / "val" / photo.parent.name
            val.mkdir(parents=True, exist_ok=True)
            photo.rename(val / photo.name)
    changes = {"images": None, "backbones": "MobileNet_0.25", "cache": tmp_path / "cache"}
    for data, protocol, passes in ((photos, ProtocolName.CV, 2), (parts, ProtocolName.HOLDOUT, 1)):
        (one,) = estimate_costs(options(data=data, results=tmp_path / "results", **changes)).backbones
        assert asked.pop().name is protocol
        assert one.head_seconds == passes


def test_runs_correct_the_next_prediction_and_outlive_a_self_test(tmp_path: Path) -> None:
    remember_self_test(tmp_path, {WorkKind.HEADS: 3.0, WorkKind.PREPARE: 3.0})
    tested = CostModel.load(tmp_path)
    assert (tested.factor(WorkKind.HEADS), tested.source) == (3.0, "a self-test")
    for seconds in (10.0, 20.0, 90.0):  # one of them on a busy machine
        remember_ratio(tmp_path, WorkKind.HEADS, 10.0, seconds)
    remember_ratio(tmp_path, WorkKind.HEADS, 10.0, 0.01)  # too short to tell
    model = CostModel.load(tmp_path)
    assert (model.factor(WorkKind.HEADS), model.factor(WorkKind.PREPARE)) == (2.0, 3.0)
    assert model.source == "3 earlier runs here, a self-test"
    assert model.bare.factor(WorkKind.HEADS) == 1.0
    protocol = HeadProtocol()
    assert model.heads(protocol, 500, 256, 1) == pytest.approx(2 * model.bare.heads(protocol, 500, 256, 1))


def test_a_self_test_counts_where_the_cache_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    usual = estimate_costs(options(cache=cache))
    monkeypatch.setattr(estimating, "self_test", lambda cache: {WorkKind.HEADS: 3.0})
    tested = estimate_costs(options(cache=cache))
    assert tested.source == "a self-test"
    assert tested.head_seconds == pytest.approx(3 * usual.head_seconds)
    remember_ratio(tmp_path, WorkKind.HEADS, 10.0, 20.0)
    assert CostModel.load(tmp_path, {WorkKind.HEADS: 3.0}).factor(WorkKind.HEADS) == 2.0


@pytest.mark.parametrize("content", [b"", b"[]", b'{"ratios": {"heads": ["1"]}}', b"\xff"])
def test_damaged_or_foreign_ratios_are_none(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_ratio(tmp_path, WorkKind.HEADS, 10.0, 20.0)
    (file,) = (tmp_path / "costs").iterdir()
    assert CostModel.load(tmp_path).factor(WorkKind.HEADS) == 2.0
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(costs, "here", lambda: ("Abacus 9000", 1))
        assert CostModel.load(tmp_path) == CostModel()
    file.write_bytes(content)
    assert CostModel.load(tmp_path) == CostModel()


@given(st.lists(st.floats(0.1, 100), max_size=20), st.integers(1, 8))
def test_tasks_are_done_no_sooner_than_they_can_and_no_later_than_one_by_one(
    seconds: list[float], slots: int
) -> None:
    done = _makespan(seconds, slots)
    assert max([sum(seconds) / slots, *seconds]) <= done + 1e-6
    assert done <= sum(seconds) / slots + max(seconds, default=0.0) + 1e-6


def test_progress_and_plan_ask_one_model() -> None:
    """The order of backbones by cost is that of their arithmetic where they are of one kind."""
    model = CostModel()
    prices = [model.heads(HeadProtocol(), 500, one.embedding_dim, 1) for one in select("MobileNet_0.*")]
    assert prices == sorted(prices)


def test_what_happens_inside_another_task_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit embeds views: that is embedding, and the audit's own time is the rest."""
    moments = iter(range(100))
    monkeypatch.setattr(estimating._Moment, "now", lambda: estimating._Moment(clock=float(next(moments))))
    forecast = estimating.Forecast(estimate_costs(options()), CostModel(), Silent())  # 0
    forecast.started("audit", 1)  # 1
    forecast.started("backbones", 1)  # 2
    forecast.started("MobileNet_0.25", 1)
    forecast.finished("MobileNet_0.25")
    forecast.finished("backbones")  # 3
    forecast.finished("audit")  # 4
    forecast.started("heads", 1)  # 5
    forecast.finished("heads")  # 6
    took = forecast.timings()  # 7
    assert (took["audit_seconds"], took["embedding_seconds"], took["heads_seconds"]) == (2, 1, 1)
    assert (took["board_seconds"], took["all_seconds"]) == (3, 7)


def test_what_a_cluster_took_says_nothing_of_this_machine(tmp_path: Path) -> None:
    forecast = estimating.Forecast(estimate_costs(options()), CostModel(), Silent(), is_local=False)
    assert forecast.over(tmp_path).startswith("Predicted ")
    assert CostModel.load(tmp_path) == CostModel()
