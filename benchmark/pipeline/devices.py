"""Devices beside a board: ``results/<dataset>/devices/<name>.json``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from benchmark.errors import ArgumentError, DataError
from benchmark.ranking import MeasuredDevice, read_device
from benchmark.storage import place, read_small, write_whole

MOST_BYTES = 4 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


def device_path(folder: Path, name: str) -> Path:
    """Where a device of this name is kept.

    Raises:
        ArgumentError: no name for a device.
    """
    if not _NAME.fullmatch(name) or name == "none":
        raise ArgumentError(
            "no name for a device", expected="letters, digits, . _ -, for example pi5", got=repr(name)
        )
    return place(folder, "devices", f"{name}.json")


def measured_device(asked: str | None, folder: Path) -> MeasuredDevice | None:
    """The device that ``NAME`` or ``NAME:TARGET`` asks for; None where nothing is asked for.

    Args:
        asked: the option.
        folder: ``results/<dataset>``.

    Raises:
        ArgumentError: nobody has added such a device, or it has no such target.
        DataError: its file is not what ``device add`` wrote.
    """
    if asked is None:
        return None
    name, _, target = asked.partition(":")
    path = device_path(folder, name)
    if not path.exists():
        known = sorted(file.stem for file in path.parent.glob("*.json"))
        raise ArgumentError(
            "no such device was added to this board",
            where=f"`device={asked}`",
            expected=", ".join(known),
            next_step="See 'backbones device --help'.",
        )
    device = read_measured(path, name)
    targets = sorted({one.target for one in device.record.exports})
    if target and target not in targets:
        raise ArgumentError(
            "nothing of this format was measured there",
            where=f"`device={asked}`",
            expected=", ".join(targets),
            got=target,
        )
    return MeasuredDevice(name=name, record=device.record, target=target or None)


def read_measured(path: Path, name: str) -> MeasuredDevice:
    """What a ``device.json`` says.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        content = read_small(path, most_bytes=MOST_BYTES)
    except (OSError, ValueError) as error:
        raise _not_measured(path, error.strerror if isinstance(error, OSError) else error) from error
    return understood(content, name, where=path)


def understood(content: bytes, name: str, *, where: object) -> MeasuredDevice:
    """What the content of a ``device.json`` says.

    Args:
        content: the bytes.
        name: of the device.
        where: they come from, for the reader.

    Raises:
        DataError: it is something else.
    """
    try:
        return MeasuredDevice(name=name, record=read_device(content))
    except ValueError as error:
        raise _not_measured(where, error) from error


def _not_measured(where: object, reason: object) -> DataError:
    return DataError(
        "is not what measure.py writes",
        where=where,
        got=reason,
        next_step="Run measure.py of the kit on the device again.",
    )


def keep_device(device: MeasuredDevice, folder: Path) -> Path:
    """Write a device beside a board; nothing but what was understood is kept.

    Raises:
        ArgumentError: no name for a device.
        StorageError: the folder cannot be written.
    """
    path = device_path(folder, device.name)
    content = json.dumps(asdict(device.record), indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(path, content.encode() + b"\n", root=folder)
    return path
