"""A manifest of a tiny model for two classes, as fine-tuning writes one beside it."""

from __future__ import annotations

from typing import Any

from benchmark.records import Manifest, Resize, Task

SHA = "0" * 64


def a_manifest(**own: object) -> Manifest:
    """The manifest with some fields as a test wants them."""
    usual: dict[str, Any] = {
        "schema": 1,
        "backbone": "Tiny",
        "family": "tiny",
        "recipe": "two-phase-f1",
        "task": Task.BINARY,
        "classes": ("crack", "sound"),
        "positive": 0,
        "threshold": 0.5,
        "input_size": 32,
        "resize": Resize.BILINEAR,
        "preprocessing": "tf",
        "weights": "random",
        "weights_sha256": SHA,
        "data": "photos",
        "data_fingerprint": SHA,
        "seed": 0,
        "metrics": {},
        "versions": {},
        "files": {},
    }
    return Manifest(**(usual | own))
