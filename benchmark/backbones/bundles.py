"""Folders of weights for machines without a network, with a checksum list that ``sha256sum -c`` reads."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path

from filelock import FileLock

from benchmark.backbones.downloads import Downloads
from benchmark.backbones.keras_models import LEGACY
from benchmark.backbones.registry import WEIGHTS_SUFFIX
from benchmark.backbones.source import FILE, KERAS, weights_file
from benchmark.backbones.weights import (
    CHECKSUMS,
    bundled_name,
    file_sha256,
    keras_file,
    load_weights,
    read_checksums,
)
from benchmark.errors import WeightsError
from benchmark.records import Backbone, WeightsKind, WeightsSource
from benchmark.storage import TEMPORARY_PREFIX, storage_error, write_whole

_IMAGENET = WeightsSource(kind=WeightsKind.IMAGENET)
# Weights do not depend on the input size; every network accepts this one.
_BUILD_SIZE = 224
_KERAS = {KERAS, LEGACY}
# Files of other libraries, which go into a bundle as they are.
_COPIED = (".safetensors", ".bin", ".pth")


class BundleState(StrEnum):
    """What became of one file of a bundle."""

    INTACT = "intact"
    DAMAGED = "damaged"  # its bytes differ from the checksum list
    MISSING = "missing"
    UNLISTED = "unlisted"


def fetch_weights(backbone: Backbone, *, downloads: Downloads | None = None) -> Path:
    """Download a backbone's published weights into its library's own folder, unless they are there.

    Raises:
        WeightsError: they cannot be had.
    """
    if backbone.source not in _KERAS:
        return weights_file(backbone, backbone.weights or _IMAGENET)
    return keras_file(backbone, _IMAGENET, downloads=downloads)


def bundle_weights(
    backbone: Backbone, folder: Path, *, cache: Path, downloads: Downloads | None = None
) -> Path:
    """Write a backbone's weights and their checksum into a bundle; an intact file there is kept.

    Args:
        backbone: whose weights; those given with its name, else ImageNet's.
        folder: of the bundle; created where missing.
        cache: folder that remembers digests.
        downloads: where ImageNet weights are fetched from.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
        StorageError: the folder cannot be written.
    """
    if backbone.source not in _KERAS:
        published = _published(backbone)
        return _placed(folder, _name_of(backbone, published), partial(shutil.copyfile, published))
    target = folder / bundled_name(backbone)
    listed = read_checksums(folder).get(target.name)
    if listed is not None and target.is_file() and file_sha256(target) == listed:
        return target
    model = backbone.build(_BUILD_SIZE)
    load_weights(backbone, model, _IMAGENET, cache=cache, downloads=downloads)
    return _placed(folder, target.name, model.save_weights)


def _published(backbone: Backbone) -> Path:
    """The file of a network of another library than Keras, downloaded where it is missing."""
    if backbone.source == FILE:
        raise WeightsError(
            "a network of one's own is in a file already",
            where=backbone.name,
            next_step="Copy that file; it needs no bundle.",
        )
    return weights_file(backbone, backbone.weights or _IMAGENET)


def _name_of(backbone: Backbone, published: Path) -> str:
    """What its source calls that file in a folder of weights."""
    if published.suffix not in _COPIED:
        raise WeightsError(
            "is not a file of a kind that bundles hold",
            where=published,
            expected=" or ".join(_COPIED),
            got=published.suffix or "no suffix",
        )
    return f"{backbone.constructor}{published.suffix}"


def _placed(folder: Path, name: str, write: Callable[[Path], object]) -> Path:
    """Write a file of a bundle, whole, and enter it into the checksum list."""
    target = folder / name
    # Keras wants the suffix.
    temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _list(folder, name, file_sha256(temporary))
        temporary.replace(target)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _list(folder: Path, name: str, digest: str) -> None:
    """Enter a file into the checksum list. Before the file itself: a listed file is never trusted unread."""
    with FileLock(folder / f"{TEMPORARY_PREFIX}{CHECKSUMS}.lock"):
        listing = {**read_checksums(folder), name: digest}
        lines = "".join(f"{listing[key]}  {key}\n" for key in sorted(listing))
        write_whole(folder / CHECKSUMS, lines.encode(), root=folder)


def verify_bundle(folder: Path) -> dict[str, BundleState]:
    """Compare every file of a bundle with its checksum; what became of each, by name.

    Raises:
        WeightsError: there is no checksum list, or a file cannot be read.
    """
    listed = read_checksums(folder)
    if not listed:
        raise WeightsError(
            "no checksum list",
            where=folder,
            expected=CHECKSUMS,
            next_step=f"Make the bundle with 'backbones weights bundle {folder}' on a connected machine.",
        )
    present = {
        path.name
        for path in folder.iterdir()
        if path.name.endswith((WEIGHTS_SUFFIX, *_COPIED)) and not path.name.startswith(".")
    }
    return {name: _state(folder / name, listed.get(name)) for name in sorted({*listed, *present})}


def _state(path: Path, digest: str | None) -> BundleState:
    if digest is None:
        return BundleState.UNLISTED
    if not path.is_file():
        return BundleState.MISSING
    return BundleState.INTACT if file_sha256(path) == digest else BundleState.DAMAGED
