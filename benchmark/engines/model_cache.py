"""Converted models on the disk: whole, checksummed, the least recently used first to go.

One folder per model, ``<cache>/models/<name>-<digest>/``, with ``model.xml``, ``model.bin``, ``meta.json``
(checksums of both, what was converted, how well it agrees with TensorFlow) and ``used``, whose modification
time is the last use. ``meta.json`` is written last: a folder without it is not a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark.backbones import keras_version
from benchmark.errors import CacheDamaged
from benchmark.machine import instruction_set
from benchmark.records import Backbone
from benchmark.storage import (
    check_inside,
    parse_record,
    path_part,
    read_json,
    sha256_file,
    storage_error,
    sync_folder,
    temporary_beside,
    write_whole,
)

SCHEMA = 1
XML, BIN, META, USED = "model.xml", "model.bin", "meta.json", "used"
DAMAGED_PREFIX = "damaged-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well an engine's embeddings agree with TensorFlow's in float32.

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
        agreement: precision -> how well it agrees with TensorFlow in float32.
    """

    identity: dict[str, Any]
    files: dict[str, str]
    agreement: dict[str, Agreement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCacheEntry:
    """One converted model, for looking after the cache.

    Attributes:
        path: its folder.
        backbone: architecture name; empty where ``meta.json`` cannot be read.
        input_size: side in pixels; 0 where unknown.
        bytes: size on the disk.
        last_used: seconds since the epoch.
    """

    path: Path
    backbone: str
    input_size: int
    bytes: int
    last_used: float


def identity_of(backbone: Backbone, weights_sha256: str, input_size: int) -> dict[str, Any]:
    """Everything that decides what a conversion yields; nothing heavy is imported."""
    return {
        "schema": SCHEMA,
        "backbone": backbone.architecture,
        "arguments": dict(backbone.arguments),
        "preprocessing": backbone.preprocessing.value,
        "weights_sha256": weights_sha256,
        "input_size": input_size,
        "keras": keras_version(),
        "tensorflow": metadata.version("tensorflow"),
        "openvino": metadata.version("openvino"),
        # The conversion is the same everywhere, how well it agrees is not.
        "instructions": instruction_set(),
    }


def model_folder(cache: Path, identity: dict[str, Any]) -> Path:
    """The folder of a converted model."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return cache / "models" / f"{path_part(identity['backbone'])}-{digest[:16]}"


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        meta = None
    if meta is None or meta.identity != identity or set(meta.files) != {XML, BIN}:
        move_aside(folder)
        return None
    return meta


def _parse_meta(path: Path) -> ModelMeta:
    stored = read_json(path)
    fields = stored["meta"]
    if _meta_digest(fields) != stored["sha256"]:
        raise ValueError("the digest does not fit")
    return parse_record(ModelMeta, json.dumps(fields))


def _meta_digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


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
        move_aside(folder)
        raise CacheDamaged(
            "a converted model is damaged",
            where=folder,
            got=", ".join(wrong),
            next_step="It was moved aside and will be converted again.",
        )


def move_aside(folder: Path) -> None:
    """Rename a damaged model, so that it is never used and can be looked at."""
    if folder.name.startswith(DAMAGED_PREFIX):
        return
    target = folder.with_name(f"{DAMAGED_PREFIX}{folder.name}-{secrets.token_hex(4)}")
    try:
        folder.rename(target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, folder) from error


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
    fields = asdict(meta)
    content = json.dumps({"sha256": _meta_digest(fields), "meta": fields}, indent=1).encode()
    write_whole(folder / META, content, root=folder.parents[1])


def touch(folder: Path) -> None:
    """Note that a model was used; a read-only cache is no reason to fail."""
    try:
        (folder / USED).touch()
    except OSError:
        return


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def model_cache_entries(cache: Path) -> tuple[ModelCacheEntry, ...]:
    """Every converted model, damaged ones and leftovers of killed processes included, oldest use first."""
    folders = [path for path in (cache / "models").glob("*") if path.is_dir()]
    return tuple(sorted((_entry(path) for path in folders), key=lambda item: item.last_used))


def _entry(folder: Path) -> ModelCacheEntry:
    states = [path.stat() for path in folder.iterdir() if path.is_file()]
    try:
        identity = _parse_meta(folder / META).identity
        backbone, input_size = str(identity["backbone"]), int(identity["input_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        backbone, input_size = "", 0
    return ModelCacheEntry(
        path=folder,
        backbone=backbone,
        input_size=input_size,
        bytes=sum(state.st_size for state in states),
        last_used=max((state.st_mtime for state in states), default=folder.stat().st_mtime),
    )


def verify_model(entry: ModelCacheEntry) -> bool:
    """Whether a converted model is what its checksums say; a damaged one is moved aside."""
    try:
        meta = read_meta(entry.path, _parse_meta(entry.path / META).identity)
        if meta is None:
            return False
        check_files(entry.path, meta)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        move_aside(entry.path)
        return False
    except CacheDamaged:
        return False
    return True


def remove_model(entry: ModelCacheEntry) -> None:
    """Delete a converted model; the rename first makes sure that nobody finds half of it."""
    doomed = temporary_beside(entry.path)
    try:
        entry.path.rename(doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, entry.path) from error
    shutil.rmtree(doomed, ignore_errors=True)
