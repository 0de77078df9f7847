"""Several backbones fine-tuned side by side: what one after the other would have made."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark.backbones import select
from benchmark.finetuning import FineTuned, FinetuneRequest, Recipe
from benchmark.options import FinetuneOptions, RecipeChanges
from benchmark.pipeline import FinetuneJob, RankRequest, finetune_backbones, rank_backbones
from benchmark.pipeline.finetuning import FinetuneResult
from benchmark.pipeline.tuning import most_side_by_side, training_bytes
from benchmark.records import Backbone

pytestmark = [
    # Keras converts variables without NumPy 2's copy keyword.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.timeout(900),
]
Finetune = Callable[..., FinetuneResult]


@pytest.fixture(scope="module")
def pair(tiny: ModuleType) -> tuple[Backbone, ...]:
    return tuple(tiny.tiny_backbone(f"Tiny{width}", width) for width in (8, 12))


@pytest.fixture
def fine_tuned(
    tmp_path: Path,
    tiny: ModuleType,
    photos: Path,
    request_for: Callable[..., RankRequest],
    pair: tuple[Backbone, ...],
) -> Finetune:
    """Fine-tunes all of a board in results of its own."""

    def finetune(name: str, *backbones: Backbone, **options: object) -> FinetuneResult:
        results = tmp_path / name
        rank_backbones(request_for(photos, *pair, results=results))
        places = {"data": photos, "weights": "random", "cache": tmp_path / "cache", "results": results}
        asked = FinetuneOptions.check({**places, "top": len(pair), **options})
        changes = RecipeChanges(image_size=tiny.SIZE, batch_size=16, epochs=(1, 1))
        recipe = Recipe.load().changed(changes)
        return finetune_backbones(FinetuneJob(options=asked, recipe=recipe, known=(*backbones, *pair)))

    return finetune


def content(model: FineTuned) -> dict[str, object]:
    """What does not depend on place or clock."""
    manifest = replace(model.manifest, files={})
    tables = {name: (model.model_dir / name).read_bytes() for name in ("predictions.csv", "split.csv")}
    return {"phases": model.phases, "manifest": manifest, "notes": model.notes, **tables}


def top(result: FinetuneResult) -> list[dict[str, str]]:
    path = result.models[0].model_dir.parents[1] / "top.csv"
    return list(csv.DictReader(path.read_text().splitlines()))


def same(one: FinetuneResult, other: FinetuneResult) -> None:
    for left, right in zip(one.models, other.models, strict=True):
        np.testing.assert_equal(content(left), content(right))
        assert (right.model_dir / "report.html").exists()
        assert (right.model_dir / "model.keras").exists()
    assert top(one) == top(other)
    assert (one.regret, one.left_out, one.failed) == (other.regret, other.left_out, other.failed)


def test_side_by_side_is_one_after_the_other(fine_tuned: Finetune) -> None:
    """Also in rounds, of which the second takes up what the first one found."""
    same(fine_tuned("one", halving=True), fine_tuned("two", halving=True, jobs=2))


def test_as_many_side_by_side_as_find_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.pipeline.tuning.available_memory", lambda: 10e9)
    assert [most_side_by_side(jobs, [2e9, 4e9, 1e9]) for jobs in (0, 1, 2, 8)] == [1, 1, 2, 2]
    assert most_side_by_side(8, [20e9, 1e9]) == 1
    assert most_side_by_side(8, []) == 1


@pytest.mark.parametrize(
    ("name", "size", "measured"),
    [("MobileNet_0.25", 64, 0.87e9), ("MobileNetV2", 224, 2.31e9), ("ResNet50", 224, 4.29e9)],
)
def test_what_training_takes_is_not_underrated(name: str, size: int, measured: float) -> None:
    (backbone,) = select(name)
    recipe = Recipe.load().changed(RecipeChanges(image_size=size, batch_size=32))
    options = FinetuneOptions(data=Path("photos"))
    request = FinetuneRequest(backbone=backbone, recipe=recipe, out=Path("model"), options=options)
    found = training_bytes(request)
    assert measured < found < 1.5 * measured
