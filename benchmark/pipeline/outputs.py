"""Everything that a ranking leaves in ``results/<dataset>/``."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import __version__
from benchmark.audit import AUDIT_FILES, write_audit, write_pair_sheet
from benchmark.backbones import keras_version
from benchmark.errors import DataError
from benchmark.machine import cores, processor_name
from benchmark.pipeline.baselines import are_settled, fine_tuned
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.cosmetics import Cosmetics, is_failure
from benchmark.pipeline.curves import stored_curves
from benchmark.pipeline.heads import HeadJob
from benchmark.pipeline.labels import LABEL_FILES, judged, write_labels
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.runs import Run
from benchmark.pipeline.stored import portable_options
from benchmark.records import ImageSet, Leaderboard, Outcome, ProtocolName, Targets
from benchmark.reporting import (
    BOARD_FILES,
    BackboneRecord,
    DataRecord,
    Extras,
    Plot,
    RunRecord,
    class_scores,
    pick_errors,
    plot_makers,
    remove_files,
    write_board,
    write_image_list,
    write_page,
)
from benchmark.statistics import METRICS
from benchmark.storage import MOST_LIST_BYTES, check_inside, place, read_small, write_whole

_PACKAGES = (
    "tensorflow",
    "openvino",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "h5py",
    "pillow",
    "matplotlib",
)
PAIR_SHEET = "audit_pairs.png"
_SHEETS = (
    (
        LABEL_FILES[-1],
        "Suspicious labels",
        "Images whose label most good backbones deny, the surest first: look at them before you train again.",
    ),
    (PAIR_SHEET, "Related images", "Pairs that the audit found: copies, or pictures of one scene."),
)


def write_outputs(
    run: Run,
    request: RankRequest,
    ranked: Ranked,
    job: HeadJob,
    started: float,
    timings: Callable[[], Mapping[str, float]],
) -> Ranked:
    """Write a board and all that belongs to it into the run's folder, then make the run the latest.

    Where nothing that a reader sees has changed since the latest run, its pages and plots are taken over.
    What an earlier run left at the top level and this one does not have, a list of rejected files for
    example, goes.

    Args:
        run: takes the files.
        request: as carried out.
        ranked: the ranking.
        job: its heads.
        started: when this began, in seconds.
        timings: asked at the end for what else took how long, in seconds.

    Returns:
        The ranking, with what became of the board that stood there.

    Raises:
        StorageError: no room, or no permission.
    """
    record = _record(run, request, ranked, job, started)
    if not (are_settled(job, ranked.best) and _take_over(run, record.board_digest)):
        notes = _write_pages(run, ranked, job, record)
        if notes:  # the next run shall try again
            ranked = replace(ranked, board=_with_notes(ranked.board, notes))
            record = replace(record, board_digest="")
    took = {**record.timings, "wall_seconds": time.time() - started, **timings()}
    record = replace(record, timings=took)
    record.write(run.path)
    replaced = _replaced(run, record)
    if replaced:
        run.log(replaced)
    _publish(run)
    return replace(ranked, replaced=replaced)


def write_again(run: Run, ranked: Ranked, job: HeadJob) -> Ranked:
    """Write the pages of this run's board anew, which was given columns since.

    They become the latest again, unless another run has taken that place meanwhile.

    Args:
        run: with the board as it was.
        ranked: with the board as it is now.
        job: its heads.

    Returns:
        The ranking, its notes on pictures as they are now.

    Raises:
        StorageError: no room, or no permission.
    """
    record = RunRecord.read(run.path)
    notes = _write_pages(run, ranked, job, record)
    ranked = replace(ranked, board=_with_notes(ranked.board, notes))
    digest = "" if notes else board_digest(ranked, job, record)
    replace(record, board_digest=digest).write(run.path)
    return _publish_over(run.identifier, run, ranked)


def publish_again(
    run: Run, record: RunRecord, source: Path, ranked: Ranked, job: HeadJob, started: float
) -> Ranked:
    """Write the pages of a stored board anew; its audit still holds.

    They become the latest, unless another run has taken that place meanwhile.

    Args:
        run: takes the files.
        record: of the run that the board was stored by.
        source: folder of that run.
        ranked: the stored board.
        job: its heads.
        started: when this began, in seconds.

    Returns:
        The ranking, its notes on pictures as they are now.

    Raises:
        StorageError: no room, or no permission.
    """
    # What could not be drawn is tried again.
    notes = tuple(note for note in ranked.board.notes if not is_failure(note) or note.startswith(PAIR_SHEET))
    ranked = replace(ranked, board=replace(ranked.board, notes=notes))
    _link_all(source, run.path, [name for name in AUDIT_FILES if (source / name).is_file()])
    failed = _write_pages(run, ranked, job, record)
    replace(record, identifier=run.identifier, started=_stamp(started)).write(run.path)
    ranked = replace(ranked, board=_with_notes(ranked.board, failed))
    return _publish_over(record.identifier, run, ranked)


def _publish_over(expected: str, run: Run, ranked: Ranked) -> Ranked:
    """Make a run the latest in place of the run that its board is of; a later one of another run stays."""
    try:
        latest = RunRecord.read(run.folder).identifier
    except DataError:  # gone: there is nothing to be kept
        latest = expected
    if latest == expected:
        _publish(run)
        return ranked
    said = f"Another run has made its board the latest meanwhile ({latest}); this one is kept in {run.path}."
    run.log(said)
    return replace(ranked, replaced=said)


def _publish(run: Run) -> None:
    run.publish()
    # Pictures go by the runs that drew them, not by name alone: another version may have drawn others.
    drawn = [f"plots/{picture.name}" for picture in run.folder.glob("runs/*/plots/*.png")]
    ours = (*BOARD_FILES, *LABEL_FILES, *AUDIT_FILES, *drawn)
    remove_files(run.folder, [name for name in ours if not (run.path / name).exists()])


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def _replaced(run: Run, record: RunRecord) -> str:
    """Where the latest board is kept, if this run's is of other images or lacks backbones that it has."""
    try:
        latest = RunRecord.read(run.folder)
    except DataError:
        return ""
    kept = place(run.folder, "runs", latest.identifier)
    missing = latest.backbones.keys() - record.backbones.keys()
    if not kept.is_dir():
        return ""
    if latest.data.fingerprint != record.data.fingerprint:
        return f"The board that stood here is of other images, labels, groups or parts; it is kept in {kept}."
    if not missing:
        return ""
    return (
        f"The board that stood here has {len(latest.backbones)} backbones, this one {len(record.backbones)}; "
        f"that one is kept in {kept}."
    )


def _write_pages(run: Run, ranked: Ranked, job: HeadJob, record: RunRecord) -> list[str]:
    """Write the board, the audit, plots and the page; returns a note for each picture that failed."""
    images, report, targets = ranked.images, ranked.report, Targets.of(ranked.images)
    cosmetics = Cosmetics()
    if report is not None:
        write_audit(report, images, run.path)
        cosmetics.make(PAIR_SHEET, partial(write_pair_sheet, report, images, run.path))
    write_image_list(images, run.path)
    labels = judged(ranked.board, ranked.outcomes, targets)
    if labels is not None:
        write_labels(labels, images, run.path, cosmetics)
    baselines = ranked.baselines(job)
    learning = stored_curves(job, ranked.board, ranked.outcomes)
    makers = plot_makers(ranked.board, class_scores(ranked.outcomes, targets), learning)
    drawn = [cosmetics.make("A plot", maker) for maker in makers]
    plots = tuple(plot for plot in drawn if plot is not None)
    board = _with_notes(ranked.board, cosmetics.notes)
    write_board(
        board,
        ranked.outcomes,
        targets,
        run.path,
        plots=plots,
        baselines=baselines.methods,
        baseline_scores=baselines.backbones,
        learning=learning,
        rejected=images.rejected,
    )
    extras = Extras(
        title=images.name,
        baselines=baselines.methods,
        has_baseline_scores=bool(baselines.backbones),
        rejected=images.rejected,
        errors=cosmetics.make("How the picks err", partial(pick_errors, board, ranked.outcomes, targets))
        or (),
        plots=(*plots, *_sheets(run.path)),
        facts=_facts(record, images, ranked.board),
        source=record.data.source,
        options=record.options,
    )
    cosmetics.make("leaderboard.html", partial(write_page, board, extras, run.path))
    return cosmetics.notes


def _sheets(folder: Path) -> Iterable[Plot]:
    """Photographs that a reader should look at, where there are any."""
    for name, title, caption in _SHEETS:
        path = folder / name
        if path.is_file() and path.stat().st_size <= MOST_LIST_BYTES:
            png = read_small(path, most_bytes=MOST_LIST_BYTES)
            yield Plot(name=path.stem, title=title, caption=caption, png=png, photographs=True)


def _facts(record: RunRecord, images: ImageSet, board: Leaderboard) -> dict[str, str]:
    """What a board was made of: nothing that changes when the same board is made again."""
    protocol = record.protocol
    kept_apart = "" if images.groups is None else f"; {len(np.unique(images.groups)):,} groups kept apart"
    validation = {
        ProtocolName.CV: f"{protocol.folds} folds, {protocol.repeats} times",
        ProtocolName.HOLDOUT: "the validation part",
        ProtocolName.REFERENCE: "the validation part, which also chooses the epoch",
    }
    return {
        "images": f"{len(images):,}",
        "validated on": validation[protocol.name] + kept_apart,
        "ranked by": METRICS[board.metric].title + (f", {average}" if (average := protocol.average) else ""),
        "a winner may give away": f"{record.options['max_loss']:g}",
        "seed": str(record.seeds["heads"]),
        "backbone-benchmark": record.versions["backbone-benchmark"],
        "command, versions, machine, times": "run.json",
    }


def _with_notes(board: Leaderboard, notes: Sequence[str]) -> Leaderboard:
    """The board with more notes."""
    return replace(board, notes=(*board.notes, *notes))


def board_digest(ranked: Ranked, job: HeadJob, record: RunRecord) -> str:
    """SHA-256 over everything on the page, over the data, and over what stands beside it.

    Timings are remembered, not taken anew: they change where a backbone was measured again.
    """
    board, images, report = ranked.board, ranked.images, ranked.report
    rows = [{name: str(value) for name, value in row.items()} for row in board.rows]
    parts = [
        _facts(record, images, board),
        record.data.source,
        None if report is None else [str(one) for one in (*report.findings, *report.pairs)],
        images.fingerprint(),
        list(images.paths),
        images.duplicates,
        [asdict(file) for file in images.rejected],
        fine_tuned(job),
        [asdict(curve) for curve in stored_curves(job, board, ranked.outcomes).values()],
        rows,
        board.summary,
        board.statements,
        board.notes,
        board.winner,
        str(board.loss_bound),
        board.metric,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _take_over(run: Run, digest: str) -> bool:
    """Link the files of the latest run into this one, if it shows the same board."""
    try:
        latest = RunRecord.read(run.folder)
    except DataError:
        return False
    source = place(run.folder, "runs", latest.identifier)
    if latest.board_digest != digest or not (source / "leaderboard.html").exists():
        return False
    shown = [
        str(file.relative_to(source))
        for file in sorted(source.rglob("*"))
        if file.is_file() and file.name not in {"run.log", "run.json"}
    ]
    _link_all(source, run.path, shown)
    return True


def _link_all(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        _link(source / name, target / name, target)


def _link(source: Path, target: Path, root: Path) -> None:
    check_inside(target, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        write_whole(target, read_small(source, most_bytes=MOST_LIST_BYTES), root=root)


def _record(run: Run, request: RankRequest, ranked: Ranked, job: HeadJob, started: float) -> RunRecord:
    record = RunRecord(
        identifier=run.identifier,
        started=_stamp(started),
        options=portable_options(request),
        protocol=job.protocol,
        versions=versions(),
        hardware=hardware(),
        data=DataRecord.of(ranked.images, request.options.data),
        seeds={"data": request.options.seed, "heads": request.protocol.seed},
        backbones={outcome.backbone: _backbone_record(outcome) for outcome in ranked.outcomes},
        timings={
            "embed_seconds": float(np.nansum([outcome.embed_seconds for outcome in ranked.outcomes])),
            "head_seconds": sum(outcome.head_seconds for outcome in ranked.outcomes),
        },
    )
    return replace(record, board_digest=board_digest(ranked, job, record))


def _backbone_record(outcome: Outcome) -> BackboneRecord:
    return BackboneRecord(
        status=outcome.status.value,
        weights=outcome.weights,
        weights_sha256=outcome.weights_sha256,
        key_digest=outcome.key_digest,
        engine=outcome.engine.value if outcome.engine else "",
        precision=outcome.precision.value if outcome.precision else "",
        input_size=outcome.input_size,
    )


def versions() -> dict[str, str]:
    """Versions of everything that can change a number."""
    found = {"python": platform.python_version(), "backbone-benchmark": __version__, "keras": keras_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Facts about this machine."""
    import psutil

    return {
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }
