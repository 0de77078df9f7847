"""What was measured on a user's device, and the columns that it adds to a board."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from benchmark.cells import figure
from benchmark.ranking.columns import COLUMNS
from benchmark.records import Leaderboard, Status
from benchmark.statistics import listed
from benchmark.storage import parse_record

SCHEMA = 1
_SAID = "On device "
_MOST_EXPORTS = 2000
_COLUMNS = tuple(each.name for each in COLUMNS if each.name.split("_")[0] == "device")
# What a record may say: it comes from another machine. What a clock measures is never 0.
_Text = Annotated[str, Field(max_length=500)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Share = Annotated[float, Field(ge=0, le=1)]
_Milliseconds = Annotated[float, Field(ge=1e-6, le=1e7)]
_Bytes = Annotated[int, Field(ge=0, le=2**50)]
_Celsius = Annotated[float, Field(ge=-100, le=250)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMachine:
    """The device, as its system describes it; texts are empty and numbers None where it does not say."""

    model: _Text
    system: _Text
    architecture: _Text
    processor: _Text
    cores: Annotated[int, Field(ge=1, lt=100_000)]
    memory_bytes: _Bytes | None
    governor: _Text
    python: _Text
    runtimes: Annotated[Mapping[_Text, _Text], Field(max_length=_MOST_EXPORTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceExport:
    """One export on a device; figures are None where it was not measured, or the system does not say.

    Attributes:
        backbone: its name on the board.
        weights_sha256: of the weights on that board.
        input_size: side in pixels.
        target: the format.
        size_bytes: of the model's file.
        f1: what ``val_f1`` of the board becomes with this export, found where the kit was made.
        f1_low: lower end of its 95 % interval.
        f1_high: upper end.
        f1_images: images that it was found on.
        outcome: digest of what decided that ``val_f1``; None of a kit that was made before kits said so.
        status: passed: its outputs are those expected; skipped: it could not be run there.
        reason: why it has not passed.
        max_difference: largest difference of a probability from what was expected.
        mean_difference: mean of the same.
        label_agreement: share of the images with the label that was expected.
        load_ms: from the file to a model that can be run.
        first_ms: of the first image.
        latency_p50_ms: median of single images after a warm-up.
        latency_p95_ms: 95th percentile of the same.
        runs: images that were timed.
        slowdown: median of the last quarter by that of the first.
        memory_bytes: what loading and running it added to the process.
        process_bytes: peak of the process.
        temperature_before: degrees Celsius.
        temperature_after: the same when it had been timed.
        megahertz: of the fastest processor then.
        throttled: whether heat or a weak power supply slowed the device down.
    """

    backbone: _Text
    weights_sha256: _Digest
    input_size: Annotated[int, Field(ge=1, le=8192)]
    target: _Text
    size_bytes: _Bytes
    f1: _Share
    f1_low: _Share
    f1_high: _Share
    f1_images: Annotated[int, Field(ge=1, le=2**40)]
    status: Literal["passed", "failed", "skipped"]
    reason: _Text
    outcome: _Digest | None = None
    max_difference: _Share | None = None
    mean_difference: _Share | None = None
    label_agreement: _Share | None = None
    load_ms: _Milliseconds | None = None
    first_ms: _Milliseconds | None = None
    latency_p50_ms: _Milliseconds | None = None
    latency_p95_ms: _Milliseconds | None = None
    runs: Annotated[int, Field(ge=1, le=10**9)] | None = None
    slowdown: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    memory_bytes: _Bytes | None = None
    process_bytes: _Bytes | None = None
    temperature_before: _Celsius | None = None
    temperature_after: _Celsius | None = None
    megahertz: Annotated[float, Field(ge=1e-3, le=1e6)] | None = None
    throttled: bool | None = None

    @property
    def latency_ms(self) -> float:
        """The median time of a single image; infinite where it was not measured."""
        return math.inf if self.latency_p50_ms is None else self.latency_p50_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An export that its kit does not hold, and why; an empty target stands for all of a backbone."""

    backbone: _Text
    target: _Text
    reason: _Text


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """The content of ``device.json``.

    Attributes:
        schema: version of this format.
        data: name of the data set.
        fingerprint: of its images, labels and parts, ``ImageSet.fingerprint()``.
        kit: SHA-256 of the kit's ``kit.json``.
        machine: the device.
        threads: of a model.
        interrupted: whether somebody stopped it.
        exports: what became of each.
        left_out: those that the kit could not hold.
    """

    schema: int
    data: _Text
    fingerprint: _Digest
    kit: _Digest
    machine: DeviceMachine
    threads: Annotated[int, Field(ge=1, lt=10_000)]
    interrupted: bool
    exports: Annotated[tuple[DeviceExport, ...], Field(max_length=_MOST_EXPORTS)]
    left_out: Annotated[tuple[LeftOut, ...], Field(max_length=_MOST_EXPORTS)] = ()


def read_device(content: bytes) -> DeviceRecord:
    """A ``device.json``, which comes from another machine: every value of its type, finite and possible.

    Raises:
        ValueError: it is something else; the message names the first field that is wrong.
    """
    record = parse_record(DeviceRecord, content)
    wrong = next(_mistakes(record), None)
    if wrong is not None:
        raise ValueError(wrong)
    return record


def _mistakes(record: DeviceRecord) -> Iterator[str]:
    if record.schema != SCHEMA:
        yield f"schema: {record.schema}, expected {SCHEMA}"
    names = [(one.backbone, one.target) for one in record.exports]
    if len(set(names)) != len(names):
        yield "exports: two of one backbone and target"
    for position, one in enumerate(record.exports):
        for complaint in _impossible(one):
            yield f"exports.{position}.{complaint}"


def _impossible(one: DeviceExport) -> Iterator[str]:
    """Figures that are possible each, and not together."""
    if not one.f1_low <= one.f1 <= one.f1_high:
        yield "f1: outside of its interval"
    if one.status == "passed":
        p50, p95 = one.latency_p50_ms, one.latency_p95_ms
        if p50 is None or p95 is None or one.load_ms is None or one.runs is None:
            yield "status: passed without having been timed"
        elif p50 > p95:
            yield "latency_p50_ms: above latency_p95_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevice:
    """A device that was put beside a board.

    Attributes:
        name: what its owner calls it.
        record: what was measured.
        target: the only format to look at; None takes the fastest export of each backbone.
    """

    name: str
    record: DeviceRecord
    target: str | None = None

    def exports(self, backbone: str, weights_sha256: str, input_size: int | None) -> list[DeviceExport]:
        """What was measured of a backbone with these weights at this size, whatever became of it."""
        return [
            one
            for one in self.record.exports
            if (one.backbone, one.weights_sha256, one.input_size) == (backbone, weights_sha256, input_size)
            and self.target in (None, one.target)
        ]

    def fastest(self, backbone: str, weights_sha256: str, input_size: int | None) -> DeviceExport | None:
        """The fastest export of a backbone that passed; None where there is none."""
        found = self.exports(backbone, weights_sha256, input_size)
        passed = [one for one in found if one.status == "passed"]
        return min(passed, key=lambda one: (one.latency_ms, one.size_bytes), default=None)


def with_device(
    board: Leaderboard, device: MeasuredDevice | None, outcomes: Mapping[str, str]
) -> Leaderboard:
    """A board with the columns and sentences of a device, instead of those of another.

    Args:
        board: the board.
        device: what was measured; None shows no device.
        outcomes: backbone -> digest of what decided its scores on the board, of those that have any. F1 that
            a kit found for other scores is left out.
    """
    columns = tuple(name for name in board.columns if name not in _COLUMNS)
    rows = [{name: row[name] for name in columns} for row in board.rows]
    said = tuple(text for text in board.statements if not text.startswith(_SAID))
    if device is None:
        return replace(board, columns=columns, rows=tuple(rows), statements=said)
    cells = [_cells(device, row, outcomes) for row in rows]
    return replace(
        board,
        columns=(*columns, *_COLUMNS),
        rows=tuple({**row, **own} for row, own in zip(rows, cells, strict=True)),
        statements=(*said, *_sentences(board, device, outcomes)),
    )


def _found(device: MeasuredDevice, row: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return str(row["backbone"]), str(row["weights_sha256"]), row["input_size"]


def _is_of(one: DeviceExport, outcomes: Mapping[str, str]) -> bool:
    """Whether F1 of an export is what ``val_f1`` of this board becomes with it."""
    return one.outcome is not None and one.outcome == outcomes.get(one.backbone)


def _cells(device: MeasuredDevice, row: Mapping[str, Any], outcomes: Mapping[str, str]) -> dict[str, object]:
    one = device.fastest(*_found(device, row))
    blank = {each.name: each.blank for each in COLUMNS if each.name in _COLUMNS}
    if one is None:
        return blank
    values = {
        "device": device.name,
        "device_target": one.target,
        "device_latency_ms": one.latency_p50_ms,
        "device_latency_p95_ms": one.latency_p95_ms,
        "device_memory_bytes": one.memory_bytes,
    }
    if _is_of(one, outcomes):
        values |= {"device_f1": one.f1, "device_f1_low": one.f1_low, "device_f1_high": one.f1_high}
    return blank | values


def _sentences(board: Leaderboard, device: MeasuredDevice, outcomes: Mapping[str, str]) -> Iterator[str]:
    """What was measured of the winner (or the first), and of whom nothing was."""
    machine, record = device.record.machine, device.record
    what = machine.model or machine.processor or machine.architecture
    threads = f"{record.threads} thread{'s' * (record.threads > 1)}"
    start = f"{_SAID}{device.name} ({', '.join(filter(None, [what, threads]))})"
    scored = [row for row in board.rows if row["status"] == Status.SCORED]
    ordered = sorted(scored, key=lambda row: row["backbone"] != board.winner)
    fastest = {str(row["backbone"]): device.fastest(*_found(device, row)) for row in ordered}
    for name, one in list(fastest.items()):
        if one is not None:
            memory = "" if one.memory_bytes is None else f", {figure(one.memory_bytes / 1e6)} MB of memory"
            shown = f", F1 {one.f1:.3f} [{one.f1_low:.3f}, {one.f1_high:.3f}]"
            f1 = shown if _is_of(one, outcomes) else ""
            yield (
                f"{start}, {name} takes {figure(one.latency_ms)} ms an image as {one.target}"
                f" (19 of 20 at most {figure(one.latency_p95_ms or 0.0)} ms){memory}{f1}."
            )
            break
    for row in ordered:
        for one in device.exports(*_found(device, row)):
            if one.status == "failed":
                yield f"{start}, {one.backbone} failed as {one.target}: {one.reason}."
    for gone in record.left_out:
        if gone.backbone in fastest and (device.target in (None, gone.target) or not gone.target):
            how = f" as {gone.target}" if gone.target else ""
            yield f"{start}, {gone.backbone}{how} was not tried: {gone.reason.rstrip('.')}."
    missing = [name for name, one in fastest.items() if one is None]
    if missing:
        yield f"{start}, nothing was measured of {listed(missing)}."
    slowed = [one for one in fastest.values() if one is not None and one.throttled]
    if slowed:
        names = listed([f"{one.backbone} as {one.target}" for one in slowed])
        yield f"{start}, heat or a weak power supply slowed the processor down while {names} ran."
    others = [one for one in fastest.values() if one is not None and not _is_of(one, outcomes)]
    reasons = {
        False: "was made for other scores (of other images, other embeddings or heads trained otherwise)",
        True: "does not say for which scores it was made, as a new one does",
    }
    for is_silent, why in reasons.items():
        theirs = [one.backbone for one in others if (one.outcome is None) is is_silent]
        if theirs:
            yield f"{start}, F1 of {listed(theirs)} is not shown: the kit {why}."
