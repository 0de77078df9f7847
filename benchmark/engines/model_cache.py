"""Converted models on the disk: whole, checksummed, the least recently used first to go.

One folder per model, ``<cache>/models/<name>-<digest>/``, with ``model.xml``, ``model.bin``, ``meta.json``
(checksums of both, what was converted, how well it agrees with its own library) and ``last-used``, whose
modification time is the last use. ``meta.json`` is written last: a folder without it is not a model.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark.backbones import versions_of
from benchmark.errors import CacheDamaged, StorageError
from benchmark.machine import instruction_set
from benchmark.records import Backbone
from benchmark.storage import (
    Stored,
    check_inside,
    is_temporary,
    json_digest,
    load_json,
    parse_record,
    path_part,
    set_aside,
    sha256_file,
    storage_error,
    sync_folder,
    temporary_beside,
    write_json,
)

SCHEMA = 1
XML, BIN, META = "model.xml", "model.bin", "meta.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well an engine's embeddings agree with those of the backbone's own library in float32.

    Attributes:
        cosine: lowest cosine of an image's batch-centred embedding with its counterpart; -1 where not finite.
        images: how many real images were compared.
        passed: whether the arithmetic may be used.
    """

    cosine: float
    images: int
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeta:
    """What is known of a converted model.

    Attributes:
        identity: everything that decides the conversion; its digest names the folder.
        files: file name -> SHA-256.
        agreement: precision -> how well it agrees with the own library in float32.
    """

    identity: dict[str, Any]
    files: dict[str, str]
    agreement: dict[str, Agreement] = field(default_factory=dict)


def identity_of(backbone: Backbone, weights_sha256: str, input_size: int) -> dict[str, Any]:
    """Everything that decides what a conversion yields; nothing heavy is imported."""
    return {
        "schema": SCHEMA,
        "backbone": backbone.architecture,
        "arguments": dict(backbone.arguments),
        "preprocessing": str(backbone.preprocessing),
        "weights_sha256": weights_sha256,
        "input_size": input_size,
        **versions_of(backbone),
        "openvino": metadata.version("openvino"),
        # The conversion is the same everywhere, how well it agrees is not.
        "instructions": instruction_set(),
    }


def model_folder(cache: Path, identity: dict[str, Any]) -> Path:
    """The folder of a converted model."""
    return cache / "models" / f"{path_part(identity['backbone'])}-{json_digest(identity)[:16]}"


def read_meta(folder: Path, identity: dict[str, Any]) -> ModelMeta | None:
    """What is known of a converted model, or None where there is none that can be used.

    A folder with a damaged, foreign or missing ``meta.json`` is moved aside.
    """
    try:
        meta = _parse_meta(folder / META)
    except FileNotFoundError:
        meta = None
        if not folder.is_dir():
            return None
    except (OSError, ValueError):
        meta = None
    if meta is None or meta.identity != identity or set(meta.files) != {XML, BIN}:
        _out_of_the_way(folder)
        return None
    return meta


def _parse_meta(path: Path) -> ModelMeta:
    return parse_record(ModelMeta, json.dumps(load_json(path)))


def _out_of_the_way(folder: Path) -> None:
    """Move a folder that cannot be used aside.

    Raises:
        StorageError: that is not possible, so that a good one could not take its place.
    """
    if set_aside(folder, folder.parents[1]) is None and folder.exists():
        raise StorageError(
            "a damaged converted model cannot be moved aside",
            where=folder,
            next_step="Remove the folder, or name another cache.",
        )


def check_files(folder: Path, meta: ModelMeta) -> None:
    """Compare a model's files with their checksums.

    Raises:
        CacheDamaged: they differ or are missing; the folder was moved aside.
    """
    try:
        wrong = [name for name, digest in meta.files.items() if sha256_file(folder / name) != digest]
    except OSError:
        wrong = ["a missing or unreadable file"]
    if wrong:
        _out_of_the_way(folder)
        raise CacheDamaged(
            "a converted model is damaged",
            where=folder,
            got=", ".join(wrong),
            next_step="It was moved aside and will be converted again.",
        )


def new_folder(cache: Path) -> Path:
    """A temporary folder beside the models, for a model that is being made.

    Raises:
        StorageError: it cannot be made.
    """
    folder = temporary_beside(cache / "models" / "model")
    check_inside(folder, cache)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    return folder


def publish(temporary: Path, target: Path, identity: dict[str, Any]) -> ModelMeta:
    """Give a finished model its name; where another process was faster, its model stays.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        files = {name: sha256_file(temporary / name) for name in (XML, BIN)}
        meta = ModelMeta(identity=identity, files=files)
        for name in (XML, BIN):
            _flush(temporary / name)
        write_meta(temporary, meta)
        temporary.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        if not (target / META).exists():
            raise storage_error(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_meta(target, identity) or meta


def write_meta(folder: Path, meta: ModelMeta) -> None:
    """Write a model's ``meta.json``.

    Raises:
        StorageError: it cannot be written.
    """
    write_json(folder / META, asdict(meta), root=folder.parents[1])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def model_cache_entries(cache: Path) -> tuple[Stored, ...]:
    """Every converted model, the least recently used first."""
    folders = [path for path in (cache / "models").glob("*") if path.is_dir() and not is_temporary(path.name)]
    return tuple(sorted(map(Stored.of, folders), key=lambda item: item.last_used))


def verify_model(folder: Path) -> bool:
    """Whether a converted model is what its checksums say; a damaged one is moved aside."""
    try:
        meta = read_meta(folder, _parse_meta(folder / META).identity)
        if meta is not None:
            check_files(folder, meta)
    except CacheDamaged:
        return False
    except (OSError, ValueError):
        _out_of_the_way(folder)
        return False
    return meta is not None
