"""The page and the card of a model that was really trained; what is in their way costs nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.deployment import Deployment
from benchmark.finetuning import FineTuned, FinetuneRequest, finetune
from benchmark.pipeline.model_reports import report_exports, report_model
from benchmark.records import Backbone, ImageSet, Silent, UInt8

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
Request = Callable[..., FinetuneRequest]


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def write(model: FineTuned, images: ImageSet, tiny: Backbone) -> tuple[str, str, list[str]]:
    told = Told()
    report_model(model, images, tiny, told)
    page, card = (model.model_dir / name for name in ("report.html", "README.md"))
    return page.read_text(), card.read_text(), told.lines


@pytest.mark.parametrize("data", ["binary", "three", "labelled", "without_test"])
def test_every_kind_of_model_has_a_page(
    data: str, request: pytest.FixtureRequest, request_for: Request, tiny: Backbone
) -> None:
    images: ImageSet = request.getfixturevalue(data)
    model = finetune(request_for(overrides={"epochs": (2, 1)}), images)
    page, card, told = write(model, images, tiny)
    assert told == []
    part = "test part" if len(images.split.test) else "validation part"
    assert f"How good, on the {part}" in page
    assert page.count('alt="changed by the augmentation"') == 3 * 5
    wrong = page.count('alt="what the answer rests on"')
    assert 0 < wrong <= 12, "a network after three epochs errs, and says why"
    assert re.findall(r'class="k-(main|other)"', page), "curves"
    found = model.manifest.metrics["test" if part.startswith("test") else "val"]
    assert f"{found['f1']:.3f}" in page
    assert card.startswith('---\nlibrary_name: "keras"\n')
    assert str(images.root) not in card, "a card goes to other people"
    assert str(model.model_dir) not in card
    if data == "without_test":
        assert "There is no test part" in page


def test_photographs_that_training_accepted_are_shown_however_large(
    binary: ImageSet, request_for: Request, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = finetune(request_for(overrides={"epochs": (2, 0)}), binary)
    seen: list[int] = []
    plain = Deployment.pixels_of

    def pixels_of(self: Deployment, path: Path, *, max_pixels: int) -> UInt8:
        seen.append(max_pixels)
        return plain(self, path, max_pixels=max_pixels)

    monkeypatch.setattr(Deployment, "pixels_of", pixels_of)
    assert write(model, binary, tiny)[2] == []
    assert min(seen) > 10**12


def test_what_is_in_the_way_of_a_page_costs_nothing(
    binary: ImageSet, request_for: Request, tiny: Backbone, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(binary.root, tmp_path / "moved"))
    images = replace(binary, root=moved)
    model = finetune(request_for(overrides={"epochs": (2, 0)}), images)
    for row in images.split.test:
        (moved / images.paths[row]).unlink()
    page, _, told = write(model, images, tiny)
    assert told == []
    assert "what the answer rests on" not in page, "photographs that are gone are not shown"
    (model.model_dir / "report.html").unlink()
    (model.model_dir / "metrics.json").write_text("{")
    told = Told()
    report_model(model, images, tiny, told)
    report_exports(model.model_dir, told)
    assert not (model.model_dir / "report.html").exists()
    assert len(told.lines) == 1
    assert told.lines[0].startswith("report.html could not be made (")
