"""A board's files again from what its run stored: nothing is embedded, trained or decided anew."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from benchmark.data import dataset_name, load_images
from benchmark.errors import CacheDamaged, DataError
from benchmark.pipeline.auditing import with_groups_of
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.devices import measured_device
from benchmark.pipeline.heads import HeadJob, head_job, outcome_digests, stored_outcome
from benchmark.pipeline.outputs import publish_again
from benchmark.pipeline.places import stored_folders
from benchmark.pipeline.runs import Run
from benchmark.pipeline.stored import StoredRanking
from benchmark.ranking import with_device
from benchmark.records import ImageSet, Observer, Scored, Silent, Status
from benchmark.reporting import BackboneRecord, read_image_list, read_rejected

_NO_DEVICE = "none"
_AGAIN = "Run 'backbones rank' again: what is cached is not computed twice."


def rebuild_report(
    data: Path,
    *,
    results: Path,
    cache: Path,
    observer: Observer | None = None,
    device: str | None = None,
) -> Ranked:
    """Tables, pages and plots of the latest run on some data, as the run stored its board and its outcomes.

    The board stays what it was published as, its notes, its unscored rows and its measurements included.

    Args:
        data: folder or CSV.
        results: folder of all results.
        cache: embedding cache; what it remembers of the images spares reading them.
        observer: told of the reading.
        device: whose measurements to show, ``NAME`` or ``NAME:TARGET``; ``none`` for none, None for those
            that the board shows.

    Raises:
        DataError: there is no run, or the images are not those that it saw.
        CacheDamaged: an outcome is gone or damaged.
    """
    started = time.time()
    stored, images = latest_run(data, results, cache, observer or Silent())
    run = Run(stored.folder, results)
    try:
        run.log(f"rebuilt from run {stored.record.identifier}")
        return _rebuild(_showing(stored, device), images, run, started)
    finally:
        run.close()


def latest_run(data: Path, results: Path, cache: Path, observer: Observer) -> tuple[StoredRanking, ImageSet]:
    """The latest run on these images, and the images as it saw them."""
    refused: DataError | None = None
    for folder in stored_folders(results, dataset_name(data), data):
        try:
            stored = StoredRanking.read(folder, data=data, results=results, cache=cache)
            return stored, images_as_ranked(stored, observer)
        except DataError as error:  # of another data set of this name, perhaps
            refused = refused or error
    assert refused is not None, "there is always a folder to look into"
    raise refused


def images_as_ranked(stored: StoredRanking, observer: Observer) -> ImageSet:
    """The images as a run saw them, its groups and its list of rejected files included.

    Raises:
        DataError: there are other images, labels or parts now.
    """
    options = stored.request.options
    images = load_images(options.data, cache=options.cache, options=options, observer=observer)
    if options.auto_groups:
        images = with_groups_of(read_image_list(stored.path), images, seed=options.seed)
    if images.fingerprint() != stored.record.data.fingerprint:
        raise DataError(
            "the images, labels or parts are not those of the latest run",
            where=options.data,
            expected=f"fingerprint {stored.record.data.fingerprint[:16]}",
            got=images.fingerprint()[:16],
            next_step=_AGAIN,
        )
    return replace(images, rejected=read_rejected(stored.path))


def _showing(stored: StoredRanking, device: str | None) -> StoredRanking:
    """The run with another device; its board is then another one than a later run could take over."""
    if device is None:
        return stored
    shown = None if device == _NO_DEVICE else device
    record = replace(stored.record, options={**stored.record.options, "device": shown}, board_digest="")
    return replace(stored, record=record, request=stored.request.but(device=shown))


def _rebuild(stored: StoredRanking, images: ImageSet, run: Run, started: float) -> Ranked:
    job = head_job(stored.request, images, run.folder)
    device = measured_device(stored.request.options.device, run.folder)
    outcomes = tuple(
        scored_outcome(job, name, one)
        for name, one in stored.record.backbones.items()
        if one.status == Status.SCORED  # pages know the others from the board
    )
    ranked = Ranked(
        board=with_device(stored.board, device, outcome_digests(job, outcomes)),
        outcomes=outcomes,
        images=images,
        report=None,
        folder=run.folder,
        run=run.path,
    )
    return publish_again(run, stored.record, stored.path, ranked, job, started)


def scored_outcome(job: HeadJob, name: str, stored: BackboneRecord) -> Scored:
    """What a run stored of a backbone that it scored.

    Raises:
        CacheDamaged: it is gone.
    """
    outcome = stored_outcome(job, stored.key_digest)
    if outcome is None:
        raise CacheDamaged("a stored outcome is gone", where=job.folder, got=name, next_step=_AGAIN)
    return replace(outcome, backbone=name, weights=stored.weights)
