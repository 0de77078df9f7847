"""What is found of copies is found once."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from benchmark.options import PlanOptions, RankOptions
from benchmark.pipeline import RankRequest, audit_data, embed, estimate_costs
from benchmark.pipeline.costs import CostModel

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
pytestmark = pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="needs ../shared")


def test_copies_are_found_once_and_again_where_the_images_are_others(tmp_path: Path) -> None:
    data, random = tmp_path / "data", np.random.default_rng(0)
    for path in sorted((SHARED / "data" / "brick_cracks").rglob("*.jpg"))[::25]:
        place = data / path.parent.name / f"{random.bytes(8).hex()}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as photo:
            photo.save(place, quality=95)
            turned = photo.transpose(Image.Transpose.ROTATE_90)
            turned.save(place.with_name(f"{random.bytes(8).hex()}.jpg"), quality=95)
    asked = {"data": data, "backbones": "MobileNet_0.25", "weights": str(SHARED / "weights"), "size": 96}
    places = {"cache": tmp_path / "cache", "results": tmp_path / "results"}
    request = RankRequest.of(RankOptions.check({**asked, **places}))
    embed(request)
    planned = PlanOptions.check({**asked, **places})
    looking, comparing = (CostModel().audit(40, eyes=True, copies=copies) for copies in (False, True))
    before = estimate_costs(planned).audit_seconds
    first = audit_data(request)[0].images.groups
    assert first is not None
    assert len(np.unique(first)) <= len(first) * 0.6, "the turned copies are found"
    assert estimate_costs(planned).audit_seconds == pytest.approx(before - comparing + looking)
    with mock.patch("benchmark.pipeline.auditing.copy_links", side_effect=AssertionError):
        np.testing.assert_array_equal(audit_data(request)[0].images.groups, first)
        next(data.rglob("*.jpg")).unlink()
        assert estimate_costs(planned).audit_seconds > (before + looking) / 2
        with pytest.raises(AssertionError):
            audit_data(request)
