"""Weights for machines without a network: fetched, bundled, verified; one failure never ends the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.backbones import BundleState, bundle_weights, fetch_weights, verify_bundle
from benchmark.errors import BenchmarkError
from benchmark.records import Backbone, Observer, Silent

_TASK = "weights"


def collect_weights(
    backbones: Sequence[Backbone], folder: Path | None, *, cache: Path, observer: Observer | None = None
) -> list[dict[str, Any]]:
    """Download published weights into their libraries' own folders, or write them into a bundle.

    Args:
        backbones: whose weights.
        folder: of the bundle, which holds a file of each and their checksums; None writes none.
        cache: folder that remembers digests.
        observer: told of each.

    Returns:
        One row per backbone: name, status (ready or failed), where or why not.
    """
    watch = observer or Silent()
    watch.started(_TASK, len(backbones))
    rows = []
    for done, one in enumerate(backbones, start=1):
        try:
            path = fetch_weights(one) if folder is None else bundle_weights(one, folder, cache=cache)
            rows.append({"name": one.name, "status": "ready", "detail": str(path)})
        except BenchmarkError as error:
            rows.append({"name": one.name, "status": "failed", "detail": str(error)})
        watch.advanced(_TASK, done, one.name)
    watch.finished(_TASK)
    return rows


def check_bundle(folder: Path) -> list[dict[str, Any]]:
    """Compare every file of a bundle with its checksum.

    Returns:
        One row per file: name, status (ready or failed), state.

    Raises:
        WeightsError: there is no checksum list.
    """
    return [
        {"name": name, "status": "ready" if state is BundleState.INTACT else "failed", "detail": state.value}
        for name, state in verify_bundle(folder).items()
    ]
