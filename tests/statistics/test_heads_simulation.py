"""Heads on few images against the reference, on fresh ones."""

from __future__ import annotations

import pytest
from photographs import read_photographs, watch_photographs
from simulation import watch_heads

# Mean F1 that heads may lack to scikit-learn's LogisticRegressionCV on fresh images.
ALLOWED = 0.005


@pytest.mark.parametrize(("kind", "images"), [("sparse", 100), ("dense", 60), ("wide", 100)])
def test_few_images_are_learnt_as_well_as_by_cross_validated_logistic_regression(
    kind: str, images: int
) -> None:
    """The short form of a table in docs/statistics.md."""
    seen = watch_heads(kind, images, trials=5)
    assert seen.reference > 0.9
    assert seen.heads > seen.reference - ALLOWED


@pytest.mark.parametrize("grouped", [False, True])
def test_photographs_are_learnt_as_well(grouped: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cell of each kind of another table there."""
    name = "MobileNetV3Small_0.75"
    found = read_photographs(tmp_path_factory.getbasetemp() / "photographs", [name])
    if found is None:
        pytest.skip("the shared photographs are not here")
    gap, _ = watch_photographs(found.features[name], found.targets, 200, grouped=grouped, trials=8, seed=1)
    assert gap.heads > 0.85
    # With groups one draw is unlike the next: the allowance, and what the draws themselves leave open.
    assert gap.mean > -ALLOWED - (gap.error if grouped else 0)
