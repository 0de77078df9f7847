"""The baselines beside a board; what they need of pixels is kept, so that a repeated run computes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.data import load_pixels
from benchmark.errors import BenchmarkError, DataError
from benchmark.finetuning import load_manifest
from benchmark.pipeline.heads import HEAD_VERSION, HeadJob, setting_of
from benchmark.pipeline.workers import quiet_environment, run_tasks
from benchmark.ranking import (
    SanityRow,
    SelectionScores,
    Yardstick,
    baselines_table,
    colour_histograms,
    sanity_rows,
)
from benchmark.records import ImageSet, Outcome, Status, UInt8
from benchmark.storage import write_whole

_THUMBNAIL_SIDE = 64


def baseline_rows(
    job: HeadJob, outcomes: Mapping[str, Outcome], val_f1: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Rows of ``baselines.csv``.

    Args:
        job: images, protocol and the folder of stored outcomes.
        outcomes: by backbone; only scored ones take part.
        val_f1: the board's validation F1 by backbone.
    """
    scored = {name: outcome for name, outcome in outcomes.items() if outcome.status is Status.SCORED}
    scores = [SelectionScores(backbone=name, **outcome.baselines) for name, outcome in scored.items()]
    known = Yardstick(val_f1=val_f1, fine_tuned=_fine_tuned(job))
    rows = baselines_table(scores, _sanity(job), known).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _fine_tuned(job: HeadJob) -> dict[str, float]:
    """Validation F1 of the models that were fine-tuned on these very images."""
    found: dict[str, float] = {}
    for path in sorted((job.folder.parent / "finetune").glob("*/*/manifest.json")):
        try:
            manifest = load_manifest(path.parent)
        except BenchmarkError:
            continue
        if manifest.data_fingerprint == job.images.fingerprint() and "val" in manifest.metrics:
            best = max(found.get(manifest.backbone, 0.0), manifest.metrics["val"]["f1"])
            found[manifest.backbone] = best
    return found


def _sanity(job: HeadJob) -> tuple[SanityRow, ...]:
    """From their file, else computed in a worker, which imports scikit-learn."""
    path = _sanity_path(job)
    stored = _read_sanity(path)
    if stored is None:
        for _, result in run_tasks(_sanity_task, [job], 2):
            if not result or "rows" not in result:
                return ()
            write_whole(path, json.dumps(result["rows"], indent=1).encode())
            stored = _read_sanity(path)
    return stored or ()


def _sanity_task(job: HeadJob) -> dict[str, Any]:
    quiet_environment(1)
    try:
        histograms = colour_histograms(_thumbnails(job.images))
    except (DataError, OSError):  # an image went away since it was listed
        histograms = None
    return {"rows": [asdict(row) for row in sanity_rows(setting_of(job.images, job.protocol), histograms)]}


def _thumbnails(images: ImageSet) -> Iterator[UInt8]:
    for path in images.paths:
        yield load_pixels(images.root / path, _THUMBNAIL_SIDE)[None]


def _sanity_path(job: HeadJob) -> Path:
    parts = [job.images.fingerprint(), asdict(job.protocol), HEAD_VERSION]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return job.folder / f"sanity-{digest[:16]}.json"


def _read_sanity(path: Path) -> tuple[SanityRow, ...] | None:
    try:
        return tuple(SanityRow(**row) for row in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
