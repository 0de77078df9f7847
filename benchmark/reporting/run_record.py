"""What a run was: enough to repeat it, and to say what changed when another run finds other numbers.

``run.json`` holds everything but the list of images, which stands beside it in ``images.csv``.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.cells import cell_text, csv_bytes
from benchmark.errors import DataError
from benchmark.locations import as_given
from benchmark.records import HeadProtocol, ImageSet, Status
from benchmark.reporting.board_files import json_value
from benchmark.storage import (
    MOST_LIST_BYTES,
    MOST_SMALL_BYTES,
    is_sha256,
    parse_json,
    parse_record,
    path_part,
    read_small,
    write_whole,
)

RUN_FILE = "run.json"
IMAGES_FILE = "images.csv"
_IMAGE_COLUMNS = ("id", "label", "part", "group", "path")
_SCHEMA = 2
_LARGEST_SIDE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """The data of a run.

    Attributes:
        source: folder or CSV as given.
        name: of the data set.
        fingerprint: ``ImageSet.fingerprint()``.
        images: number of distinct images.
        classes: class names.
        positive: name of the positive class; empty when there is none.
        bit_depth: 12 or 16: bits that the greys of 16-bit files were read with.
    """

    source: str
    name: str
    fingerprint: str
    images: int
    classes: tuple[str, ...]
    positive: str = ""
    bit_depth: int = 16

    @classmethod
    def of(cls, images: ImageSet, source: Path) -> DataRecord:
        """The record of a data set."""
        return cls(
            source=as_given(source),
            name=images.name,
            fingerprint=images.fingerprint(),
            images=len(images),
            classes=images.classes,
            positive="" if images.positive is None else images.classes[images.positive],
            bit_depth=images.bit_depth,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRecord:
    """One backbone of a run.

    Attributes:
        status: scored, pruned, skipped or failed.
        weights: text of the weights source.
        weights_sha256: of the weights really loaded; empty when none were.
        key_digest: of the EmbeddingKey; empty when nothing ran.
        engine: ``tensorflow`` or ``openvino``; empty when nothing ran.
        precision: ``float32`` or ``bfloat16``; empty when nothing ran.
        input_size: side in pixels.
    """

    status: str
    weights: str = ""
    weights_sha256: str = ""
    key_digest: str = ""
    engine: str = ""
    precision: str = ""
    input_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run: ``run.json``.

    Attributes:
        identifier: name of the run's folder.
        started: ISO 8601 time.
        options: every option of the command with its value; ``backbones rank --from`` takes them again.
        protocol: how heads were trained, all that was left open decided.
        versions: package name -> version; ``python`` among them.
        hardware: facts such as ``processor``, ``cores``, ``memory_bytes``, ``gpu``, ``platform``.
        data: the images.
        seeds: what -> seed.
        backbones: name on the board -> what ran.
        timings: what -> seconds.
        board_digest: SHA-256 of what a reader of the board sees; empty where a picture could not be drawn.
        schema: version of this format.
    """

    identifier: str
    started: str
    options: Mapping[str, Any]
    protocol: HeadProtocol
    versions: Mapping[str, str]
    hardware: Mapping[str, Any] = field(default_factory=dict)
    data: DataRecord
    seeds: Mapping[str, int] = field(default_factory=dict)
    backbones: Mapping[str, BackboneRecord]
    timings: Mapping[str, float] = field(default_factory=dict)
    board_digest: str = ""
    schema: int = _SCHEMA

    def to_json(self) -> str:
        """Strict JSON, one field per line."""
        return json.dumps(json_value(dataclasses.asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: str) -> RunRecord:
        """Read what ``to_json`` wrote.

        Raises:
            DataError: not the record of a run, or of another schema.
        """
        try:
            stored = parse_json(content)
            record = parse_record(cls, content)
            _check_record(record, stored)
        except ValueError as error:
            raise DataError(
                "not the record of a run",
                where=RUN_FILE,
                got=error,
                next_step="Give the run.json, or the folder, of a run that this version wrote, or run "
                "'backbones rank' again: what is cached is not computed twice.",
            ) from error
        return record

    def write(self, folder: Path) -> None:
        """Write ``run.json``.

        Raises:
            StorageError: the folder cannot be written.
        """
        write_whole(folder / RUN_FILE, self.to_json().encode(), root=folder)

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read ``run.json``, given it or its folder.

        Raises:
            DataError: not there, not readable, not such a record.
        """
        file = path / RUN_FILE if path.is_dir() else path
        return cls.from_json(_read(file, MOST_SMALL_BYTES))


def _check_record(record: RunRecord, stored: dict[str, Any]) -> None:
    """See that values of the right type make sense, and that no part has unknown keys.

    Raises:
        ValueError: the first that does not.
    """
    kinds: list[tuple[str, dict[str, Any], type]] = [("data", stored["data"], DataRecord)]
    kinds += [(name, facts, BackboneRecord) for name, facts in stored["backbones"].items()]
    for name, facts, kind in kinds:
        unknown = sorted(set(facts) - {each.name for each in dataclasses.fields(kind)})
        if unknown:
            raise ValueError(f"{name}: unknown keys: {', '.join(unknown)[:200]}")
    ran = record.backbones.values()
    digests = (digest for one in ran for digest in (one.weights_sha256, one.key_digest))
    wrong = {
        f"schema {record.schema}, expected {_SCHEMA}": record.schema != _SCHEMA,
        "identifier: not the name of a run": path_part(record.identifier) != record.identifier,
        "data: a negative number of images": record.data.images < 0,
        "data: the positive class is none of the classes": record.data.positive
        not in {"", *record.data.classes},
        "backbones: not a digest": not all(is_sha256(digest) for digest in digests if digest),
        "backbones: an impossible input size": not all(0 <= one.input_size <= _LARGEST_SIDE for one in ran),
        "backbones: an unknown status": not all(one.status in set(Status) for one in ran),
    }
    for complaint, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(complaint)


def write_image_list(images: ImageSet, folder: Path) -> None:
    """Write ``images.csv``: id, label, part, group and path of each image.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_whole(folder / IMAGES_FILE, _image_list_bytes(images), root=folder)


def _image_list_bytes(images: ImageSet) -> bytes:
    parts = images.part_names()
    rows = (
        {
            "id": image_id,
            "label": images.label_of(row),
            "part": parts[row],
            "group": None if images.groups is None else int(images.groups[row]),
            "path": images.paths[row],
        }
        for row, image_id in enumerate(images.image_ids)
    )
    return csv_bytes(_IMAGE_COLUMNS, rows)


def image_list(images: ImageSet) -> dict[str, dict[str, str]]:
    """What ``read_image_list`` would read of a data set, to compare with what it has read of a run."""
    return _listed(_image_list_bytes(images).decode())


def read_image_list(folder: Path) -> dict[str, dict[str, str]]:
    """Read ``images.csv``: image id -> its label, part, group and path as text.

    Raises:
        DataError: not there, or not such a list.
    """
    try:
        return _listed(_read(folder / IMAGES_FILE, MOST_LIST_BYTES))
    except (ValueError, csv.Error) as error:
        raise DataError(
            "not the image list of a run",
            where=folder / IMAGES_FILE,
            expected=f"columns {', '.join(_IMAGE_COLUMNS)}",
            got=error,
            next_step="Give the folder of a run that this program wrote.",
        ) from error


def _listed(content: str) -> dict[str, dict[str, str]]:
    lines: Sequence[dict[str, str]] = list(csv.DictReader(io.StringIO(content)))
    if lines and set(lines[0]) != set(_IMAGE_COLUMNS):
        raise ValueError(", ".join(map(str, lines[0])))
    return {line["id"]: {key: cell_text(line[key] or "") for key in _IMAGE_COLUMNS[1:]} for line in lines}


def _read(path: Path, most_bytes: int) -> str:
    try:
        return read_small(path, most_bytes=most_bytes).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(
            "cannot be read",
            where=path,
            got=reason,
            next_step="Give the folder of a finished run, results/<dataset>/runs/<id>.",
        ) from error
