"""The device kit: the first of a board with their heads, exported and packed; and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data import dataset_name
from benchmark.deployment import (
    KitEntry,
    check_destination,
    check_place,
    check_scored,
    kit_origin,
    kit_targets,
    measure_over_ssh,
    write_kit,
)
from benchmark.errors import ArgumentError, DataError, ExportError, NothingScored
from benchmark.execution import failure
from benchmark.heads import validated_parts
from benchmark.options import DeviceOptions, RankOptions
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.devices import device_path, keep_device, read_measured, understood
from benchmark.pipeline.exporting import ShippedBackbone, ship_all
from benchmark.pipeline.heads import head_job, outcome_digest
from benchmark.pipeline.machines import runner_of
from benchmark.pipeline.places import stored_folders
from benchmark.pipeline.rebuilding import latest_run, rebuild_report, scored_outcome
from benchmark.pipeline.stored import BOARD_FILE, StoredRanking
from benchmark.ranking import MeasuredDevice
from benchmark.records import ImageSet, Observer, Silent, Status
from benchmark.reporting import RunRecord
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
    first = [row for row in latest.board.rows if row["status"] == Status.SCORED][: options.top]
    if not first:
        raise DataError("nothing on the board was scored", where=latest.folder / BOARD_FILE)
    with runner_of(options, told.message) as runner:
        shipped = ship_all(
            [str(row["backbone"]) for row in first],
            targets,
            board=latest,
            parts=validated_parts(head_job(latest.request, images, latest.folder).protocol.name),
            runner=runner,
            observer=told,
        )
    entries, left_out = [], []
    for row in first:
        for one in _exports(shipped[str(row["backbone"])], latest, images, row):
            if isinstance(one, KitEntry):
                entries.append(one)
            else:
                left_out.append(one)
    if not entries:
        reasons = "; ".join(dict.fromkeys(one["reason"] for one in left_out))
        raise NothingScored("no export of the board can be measured on a device", got=reasons)
    left_out = [one | {"reason": " ".join(one["reason"].split())[:_LONGEST_REASON]} for one in left_out]
    packed = write_kit(folder, entries, data=images.name, fingerprint=images.fingerprint(), left_out=left_out)
    return Kit(folder=folder, packed=packed, rows=(*map(_row, entries), *map(_left_out_row, left_out)))


def measure_device(options: DeviceOptions, observer: Observer | None = None) -> Ranked:
    """Measure a kit on a device over ssh, and put what came back on the board that the kit was made from.

    Args:
        options: of the command; ``source`` is the kit's folder.
        observer: told what the device prints.

    Raises:
        ArgumentError: no host, or no name for the device.
        DataError: no kit, or there is no board of the images that it was made from.
        ExportError: the device cannot be reached, or measured nothing.
        StorageError: the record cannot be kept.
    """
    if options.ssh is None:
        raise ArgumentError("is needed", where="`ssh`", expected="the device, for example pi@pi5")
    host = check_destination(options.ssh)
    if options.name is None and ":" in host:
        raise ArgumentError(
            "is needed where the host is an IPv6 address",
            where="`name`",
            expected="what the device is called, for example pi5",
        )
    name = options.name or host
    origin = kit_origin(options.source)
    folder, _ = _board_of(*origin, options)
    device_path(folder, name)  # refused before minutes of work
    told = observer or Silent()
    content = measure_over_ssh(
        options.source,
        options.ssh,
        python=options.python,
        timeout_seconds=options.timeout,
        tell=told.message,
    )
    device = understood(content, name, where=options.ssh)
    if (device.record.data, device.record.fingerprint) != origin:  # else it would choose the board
        raise DataError(
            "measured another kit than it was sent",
            where=options.ssh,
            expected=f"fingerprint {origin[1][:16]} of {origin[0]}",
            got=f"{device.record.fingerprint[:16]} of {device.record.data}",
            next_step="Do not trust this device before you know why.",
        )
    if not any(one.status == "passed" for one in device.record.exports):
        reasons = dict.fromkeys(one.reason for one in device.record.exports)
        raise ExportError("nothing could be measured there", where=options.ssh, got="; ".join(reasons))
    return _added(device, options, told)


def add_device(options: DeviceOptions, observer: Observer | None = None) -> Ranked:
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
    return _added(read_measured(options.source, options.name), options, observer or Silent())


def _added(device: MeasuredDevice, options: DeviceOptions, observer: Observer) -> Ranked:
    folder, data = _board_of(device.record.data, device.record.fingerprint, options)
    observer.message(f"Kept in {keep_device(device, folder)}")
    return rebuild_report(
        data, results=options.results, cache=options.cache, observer=observer, device=device.name
    )


def _board_of(made_from: str, fingerprint: str, options: DeviceOptions) -> tuple[Path, Path]:
    """The folder of the board of the images that a kit was made from, and where those lie."""
    name = made_from if options.data is None else dataset_name(options.data)
    others = []
    for folder in stored_folders(options.results, name, options.data or Path(name)):
        with suppress(DataError):
            run = RunRecord.read(folder)
            if run.data.fingerprint == fingerprint:
                return folder, options.data or RankOptions.check({"data": run.options["data"]}).data
            others.append(f"{run.data.fingerprint[:16]} in {folder}")
    raise DataError(
        "its kit was made from other images, labels or parts than were ranked",
        where=options.source,
        expected=", ".join(others) or f"a board of {name} in {options.results}",
        got=f"fingerprint {fingerprint[:16]} of {made_from}",
        next_step="Make a kit of this board: backbones device kit DATA.",
    )


def _exports(
    shipped: ShippedBackbone | Mapping[str, Any],
    latest: StoredRanking,
    images: ImageSet,
    row: Mapping[str, Any],
) -> Iterator[KitEntry | dict[str, str]]:
    """The exports of one backbone; why not, of those that cannot be in a kit."""
    try:
        if isinstance(shipped, ShippedBackbone):
            yield from _entries(shipped, latest, images, row)
            return
        reason = shipped["error"]
    except Exception as error:
        reason = failure(error)["error"]
    yield {"backbone": str(row["backbone"]), "target": "", "reason": reason}


def _entries(
    shipped: ShippedBackbone, latest: StoredRanking, images: ImageSet, row: Mapping[str, Any]
) -> Iterator[KitEntry | dict[str, str]]:
    name = str(row["backbone"])
    job = head_job(latest.request, images, latest.folder)
    outcome = scored_outcome(job, name, latest.record.backbones[name])
    for result in shipped.results:
        answers = shipped.answers
        if answers is None or result.folder is None or not result.passed:
            yield {"backbone": name, "target": result.target, "reason": result.reason}
            continue
        try:
            after = shipped.probabilities(result.target)
            check_scored(result.folder, result.sha256, of=result.folder)
        except (ExportError, OSError) as error:
            yield {"backbone": name, "target": result.target, "reason": str(failure(error)["error"])}
            continue
        found = shipped.f1(result.target, job, outcome)
        yield KitEntry(
            backbone=name,
            weights_sha256=str(row["weights_sha256"]),
            target=result.target,
            export=result.folder,
            sha256=result.sha256,
            size_bytes=result.size_bytes,
            f1=(found.f1.value, found.f1.low, found.f1.high),
            f1_images=found.images,
            outcome=outcome_digest(outcome.key_digest, job.images, job.protocol),
            pixels=answers.pixels,
            expected=after[answers.sampled],
            bounds=result.bounds,
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
        "reason": "; ".join(entry.bounds),
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
