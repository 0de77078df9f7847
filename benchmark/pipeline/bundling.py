"""Weights for machines without a network: fetched, bundled, verified; one failure never ends the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.backbones import BundleState, bundle_weights, fetch_weights, verify_bundle
from benchmark.errors import BenchmarkError
from benchmark.pipeline.progress import OneAtATime
from benchmark.records import Backbone, Observer, Silent

_TASK = "weights"


def fetch_backbones(backbones: Sequence[Backbone], observer: Observer | None = None) -> list[dict[str, Any]]:
    """Download ImageNet weights into Keras's own folder.

    Returns:
        One row per backbone: name, status (ready or failed), where or why not.
    """
    return _each(backbones, lambda backbone: fetch_weights(backbone), observer)


def bundle_backbones(
    backbones: Sequence[Backbone], folder: Path, *, cache: Path, observer: Observer | None = None
) -> list[dict[str, Any]]:
    """Write ``<backbone>.weights.h5`` files and their checksums into a folder.

    Returns:
        One row per backbone: name, status (ready or failed), where or why not.
    """
    return _each(backbones, lambda backbone: bundle_weights(backbone, folder, cache=cache), observer)


def check_bundle(folder: Path) -> list[dict[str, Any]]:
    """Compare every file of a bundle with its checksum.

    Returns:
        One row per file: name, status (ready or failed), state.

    Raises:
        WeightsError: there is no checksum list.
    """
    return [
        {
            "name": check.file,
            "status": "ready" if check.state is BundleState.INTACT else "failed",
            "detail": check.state.value,
        }
        for check in verify_bundle(folder)
    ]


def _each(
    backbones: Sequence[Backbone], action: Callable[[Backbone], Path], observer: Observer | None
) -> list[dict[str, Any]]:
    watch = OneAtATime(observer or Silent())
    watch.started(_TASK, len(backbones))
    rows = []
    for done, backbone in enumerate(backbones, start=1):
        rows.append(_row(backbone, action))
        watch.advanced(_TASK, done, backbone.name)
    watch.finished(_TASK)
    return rows


def _row(backbone: Backbone, action: Callable[[Backbone], Path]) -> dict[str, Any]:
    try:
        return {"name": backbone.name, "status": "ready", "detail": str(action(backbone))}
    except BenchmarkError as error:
        return {"name": backbone.name, "status": "failed", "detail": str(error)}
