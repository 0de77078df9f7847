"""Heads on few images against the reference, on fresh ones."""

from __future__ import annotations

import pytest
from simulation import watch_heads


@pytest.mark.parametrize(("kind", "images"), [("sparse", 100), ("dense", 60)])
def test_few_images_are_learnt_as_well_as_by_cross_validated_logistic_regression(
    kind: str, images: int
) -> None:
    """The short form of a table in docs/statistics.md."""
    seen = watch_heads(kind, images, trials=3)
    assert seen.reference > 0.9
    assert seen.heads > seen.reference - 0.01
