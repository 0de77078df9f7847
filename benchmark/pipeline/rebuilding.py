"""A board again from stored outcomes: nothing is embedded, nothing is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data import load_images, regroup
from benchmark.errors import CacheDamaged, DataError
from benchmark.pipeline.boards import Ranked, Remarks, assemble_board
from benchmark.pipeline.heads import HeadJob, outcome_digest
from benchmark.pipeline.outputs import write_outputs
from benchmark.pipeline.places import stored_folders
from benchmark.pipeline.ranking import head_job
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.runs import Run
from benchmark.ranking import load_outcome, outcome_path
from benchmark.records import ImageSet, Outcome, Status
from benchmark.reporting import RunRecord, read_board, read_image_list, read_run_record
from benchmark.storage import place

_COSTS = ("images_per_second", "latency_ms", "latency_p95_ms", "embed_seconds", "images_embedded")
_AGAIN = "Run 'backbones rank' again: what is cached is not computed twice."


def rebuild_report(request: RankRequest, dataset: str) -> Ranked:
    """Tables, pages and plots of the latest run, from its stored outcomes.

    Args:
        request: as the run was asked for; embedding and training play no part.
        dataset: the data set's name.

    Raises:
        DataError: there is no run, or the images are not those that it saw.
        CacheDamaged: an outcome is gone or damaged.
    """
    started = time.time()
    folder = stored_folders(request.results, dataset, request.embed.data)[0]
    record = read_run_record(folder)
    images = _images_of(request, record, place(folder, "runs", record.identifier))
    run = Run(folder, request.results)
    try:
        return _rebuild(request, record, images, run, started)
    finally:
        run.close()


def _rebuild(request: RankRequest, record: RunRecord, images: ImageSet, run: Run, started: float) -> Ranked:
    job = head_job(request, images, run)
    old = {row["backbone"]: row for row in read_board(run.folder / "leaderboard.json").rows}
    outcomes = tuple(_outcome(job, record, name, old[name]) for name in record.backbones)
    ungrouped: tuple[Outcome, ...] = ()
    if images.groups is not None:
        alone = replace(job, images=replace(images, groups=None))
        ungrouped = tuple(
            _outcome(alone, record, one.backbone, old[one.backbone])
            for one in outcomes
            if one.status is Status.SCORED
        )
    stored = record.options.get("remarks", {})
    remarks = Remarks(notes=tuple(stored.get("notes", ())), statements=tuple(stored.get("statements", ())))
    ranked = Ranked(
        board=assemble_board(request, images, outcomes, ungrouped, remarks),
        outcomes=outcomes,
        images=images,
        report=None,
        remarks=remarks,
        folder=run.folder,
        run=run.path,
    )
    return write_outputs(run, request, ranked, job, started)


def _images_of(request: RankRequest, record: RunRecord, run: Path) -> ImageSet:
    """The images as the run saw them, its groups included."""
    embed = request.embed
    images = load_images(embed.data, cache=embed.cache, options=embed.options)
    listed = read_image_list(run)
    if request.auto_groups and set(listed) == set(images.image_ids):
        groups = np.array([int(listed[image_id]["group"]) for image_id in images.image_ids], np.int64)
        images = regroup(images, groups, seed=embed.options.seed)
    if images.fingerprint() != record.data.fingerprint:
        raise DataError(
            "the images, labels or parts are not those of the latest run",
            where=embed.data,
            expected=f"fingerprint {record.data.fingerprint[:16]}",
            got=images.fingerprint()[:16],
            next_step=_AGAIN,
        )
    return images


def _outcome(job: HeadJob, record: RunRecord, name: str, row: Mapping[str, Any]) -> Outcome:
    stored = record.backbones[name]
    if stored.status != Status.SCORED:
        return Outcome(
            backbone=name,
            family=str(row["family"]),
            source=str(row["source"]),
            status=Status(stored.status),
            reason=str(row["reason"]),
            params=int(row["params"] or 0),
            embedding_dim=int(row["embedding_dim"] or 0),
            input_size=stored.input_size,
            weights=stored.weights,
            weights_sha256=stored.weights_sha256,
        )
    digest = outcome_digest(stored.key_digest, job.images, job.protocol)
    path = outcome_path(job.folder, name.partition("@")[0], digest)
    try:
        outcome = load_outcome(path)
    except FileNotFoundError as error:
        raise CacheDamaged("a stored outcome is gone", where=path, next_step=_AGAIN) from error
    costs = {cost: row[cost] for cost in _COSTS if row.get(cost) is not None}
    return replace(outcome, backbone=name, weights=stored.weights, **costs)
