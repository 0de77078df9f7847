"""The device kit: the first of a board with their heads, exported and packed; and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data import dataset_name
from benchmark.deployment import KitEntry, answers_of, check_place, export_model, kit_targets, write_kit
from benchmark.errors import ArgumentError, DataError, NothingScored
from benchmark.execution import failure
from benchmark.finetuning import FineTuned
from benchmark.options import DeviceOptions, FinetuneOptions, RankOptions
from benchmark.pipeline.adopting import BOARD_FILE
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.devices import keep_device, read_measured
from benchmark.pipeline.finetuning import FinetuneJob, finetune_backbones
from benchmark.pipeline.places import stored_folders
from benchmark.pipeline.ranking import head_job
from benchmark.pipeline.rebuilding import LatestRun, latest_run, rebuild_report, scored_outcome
from benchmark.ranking import DeviceRecord, exported_f1
from benchmark.records import Float32, ImageSet, Observer, Silent, Status, Targets
from benchmark.reporting import RunRecord, read_board
from benchmark.statistics import Interval
from benchmark.storage import place

_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """A finished kit.

    Attributes:
        folder: of it.
        packed: the same as a zip file.
        rows: one for each export, those that are left out included.
    """

    folder: Path
    packed: Path
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A device beside a board.

    Attributes:
        path: where it is kept.
        ranked: the board, with its columns.
    """

    path: Path
    ranked: Ranked


def make_kit(options: DeviceOptions, observer: Observer | None = None) -> Kit:
    """Give the first backbones of a board their heads, export them, and pack what passed for a device.

    A backbone that cannot be shipped, and an export outside its tolerance, are left out with their reason.

    Args:
        options: of the command.
        observer: told of the progress.

    Raises:
        ArgumentError: a target that a kit cannot have, or a folder that holds something else.
        DataError: nothing was ranked, or there are other images now.
        NothingScored: nothing is left to measure.
        StorageError: the kit cannot be written.
    """
    told = observer or Silent()
    targets = kit_targets(options.to)
    latest, images = latest_run(options.source, options.results, options.cache, told)
    folder = options.output or place(latest.folder, "device_kit")
    check_place(folder)  # before minutes of work
    board = read_board(latest.path / BOARD_FILE)
    first = [row for row in board.rows if row["status"] == Status.SCORED][: options.top]
    if not first:
        raise DataError("nothing on the board was scored", where=latest.folder / BOARD_FILE)
    entries, left_out = [], []
    for row in first:
        try:
            for one in _exports(options, targets, latest, images, row, told):
                if isinstance(one, KitEntry):
                    entries.append(one)
                else:
                    left_out.append(one)
        except Exception as error:
            left_out.append(
                {"backbone": str(row["backbone"]), "target": "", "reason": failure(error)["error"]}
            )
    if not entries:
        reasons = "; ".join(dict.fromkeys(one["reason"] for one in left_out))
        raise NothingScored("no export of the board can be measured on a device", got=reasons)
    left_out = [one | {"reason": " ".join(one["reason"].split())[:_LONGEST_REASON]} for one in left_out]
    packed = write_kit(folder, entries, data=images.name, fingerprint=images.fingerprint(), left_out=left_out)
    return Kit(folder=folder, packed=packed, rows=(*map(_row, entries), *map(_left_out_row, left_out)))


def add_device(options: DeviceOptions, observer: Observer | None = None) -> Added:
    """Put what ``measure.py`` wrote beside the board that its kit was made from, and show it there.

    Args:
        options: of the command; ``source`` is the ``device.json``.
        observer: told of the reading.

    Raises:
        ArgumentError: no name for the device.
        DataError: no such file, or there is no board of the images that its kit was made from.
        StorageError: it cannot be kept.
    """
    if options.name is None:
        raise ArgumentError(
            "is needed", where="`name`", expected="what the device is called, for example pi5"
        )
    device = read_measured(options.source, options.name)
    folder, data = _board_of(device.record, options)
    path = keep_device(device, folder)
    (observer or Silent()).message(f"Kept in {path}")
    ranked = rebuild_report(
        data, results=options.results, cache=options.cache, observer=observer, device=options.name
    )
    return Added(path=path, ranked=ranked)


def _board_of(record: DeviceRecord, options: DeviceOptions) -> tuple[Path, Path]:
    """The folder of the board of the images that a kit was made from, and where those lie."""
    name = record.data if options.data is None else dataset_name(options.data)
    others = []
    for folder in stored_folders(options.results, name, options.data or Path(name)):
        with suppress(DataError):
            run = RunRecord.read(folder)
            if run.data.fingerprint == record.fingerprint:
                return folder, options.data or RankOptions.check({"data": run.options["data"]}).data
            others.append(f"{run.data.fingerprint[:16]} in {folder}")
    raise DataError(
        "its kit was made from other images, labels or parts than were ranked",
        where=options.source,
        expected=", ".join(others) or f"a board of {name} in {options.results}",
        got=f"fingerprint {record.fingerprint[:16]} of {record.data}",
        next_step="Make a kit of this board: backbones device kit DATA.",
    )


def _exports(
    options: DeviceOptions,
    targets: tuple[str, ...],
    latest: LatestRun,
    images: ImageSet,
    row: Mapping[str, Any],
    observer: Observer,
) -> Iterator[KitEntry | dict[str, str]]:
    """The exports of one backbone; why not, of those that are outside their tolerance."""
    name = str(row["backbone"])
    places = {"data": options.source, "cache": options.cache, "results": options.results}
    job = FinetuneJob.of(FinetuneOptions.check({**places, "recipe": "frozen", "winner": name}))
    (model,) = finetune_backbones(job, observer).models
    results = export_model(model.model_dir, targets, data=options.source, observer=observer)
    passed = {one.target: one for one in results if one.passed}
    answers = answers_of(model.model_dir, tuple(passed), options.source) if passed else None
    for result in results:
        if answers is None or result.folder is None or not result.passed:
            yield {"backbone": name, "target": result.target, "reason": result.reason}
            continue
        after = answers.after[result.target]
        f1 = _f1(latest, images, model, answers.image_ids, answers.before, after)
        yield KitEntry(
            backbone=name,
            weights_sha256=str(row["weights_sha256"]),
            target=result.target,
            export=result.folder,
            size_bytes=result.size_bytes,
            f1=(f1.value, f1.low, f1.high),
            f1_images=len(answers.image_ids),
            pixels=answers.pixels,
            expected=after[answers.sampled],
        )


def _f1(
    latest: LatestRun,
    images: ImageSet,
    model: FineTuned,
    ids: tuple[str, ...],
    before: Float32,
    after: Float32,
) -> Interval:
    """F1 of an export as the board counts it."""
    job = head_job(latest.request, images, latest.folder)
    outcome = scored_outcome(job, model.backbone, latest.record.backbones[model.backbone])
    where = {image_id: position for position, image_id in enumerate(images.image_ids)}
    gone = [image_id for image_id in ids if image_id not in where]
    if gone:
        raise DataError(
            f"{len(gone):,} of the images that the model is compared on are not in the data any more",
            where=images.root,
            next_step="Rank them again.",
        )
    return exported_f1(
        outcome,
        Targets.of(images),
        np.array([where[image_id] for image_id in ids]),
        before,
        after,
        temperature=model.manifest.temperature,
        average=job.protocol.average,
        seed=job.protocol.seed,
    )


def _row(entry: KitEntry) -> dict[str, Any]:
    value, low, high = (round(number, 4) for number in entry.f1)
    return {
        "backbone": entry.backbone,
        "target": entry.target,
        "size_bytes": entry.size_bytes,
        "f1": value,
        "f1_low": low,
        "f1_high": high,
        "reason": "",
    }


def _left_out_row(one: Mapping[str, str]) -> dict[str, Any]:
    unknown = dict.fromkeys(("f1", "f1_low", "f1_high"), float("nan"))
    return {
        "backbone": one["backbone"],
        "target": one["target"],
        "size_bytes": None,
        **unknown,
        "reason": f"left out: {one['reason']}",
    }
