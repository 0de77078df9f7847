"""SHA-256 of weights, and the memory of digests already computed; without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.backbones.onnx_files import external_files
from benchmark.storage import Memo, is_sha256, sha256_bytes, sha256_file

# Keras numbers unnamed layers per process (conv2d_94): the number says nothing about the network.
_COUNTER = re.compile(r"_\d+(?=/|$)")
# ONNX keeps weights in other files just where they are too many for one.
MOST_WEIGHTS_BYTES = 256 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableDigest:
    """One variable of a loaded network.

    Attributes:
        path: layer and variable name, without the process-wide counter of unnamed layers.
        value: digest of shape and values.
    """

    path: str
    value: str


def variable_digest(path: str, value: npt.NDArray[Any]) -> VariableDigest:
    """Digest of one variable; ``value``: any shape, any numeric dtype."""
    return VariableDigest(path=_COUNTER.sub("", path), value=value_digest(value))


def value_digest(value: npt.NDArray[Any]) -> str:
    """SHA-256 of shape and values; floats count as float32 and integers as int64."""
    floating = np.issubdtype(value.dtype, np.floating)
    canonical = np.ascontiguousarray(value, dtype="<f4" if floating else "<i8")
    digest = hashlib.sha256(json.dumps([list(value.shape), canonical.dtype.str]).encode())
    digest.update(canonical.data if canonical.size else b"")
    return digest.hexdigest()


def weights_digest(variables: Iterable[VariableDigest]) -> str:
    """SHA-256 over the paths, shapes and values of all variables, in the network's own order."""
    listing = [[position, item.path, item.value] for position, item in enumerate(variables)]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def file_digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered by its identity, size and times, so that a re-run reads nothing.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    times = f"{state.st_mtime_ns}:{state.st_ctime_ns}"
    name = f"file:{path.absolute()}:{state.st_dev}:{state.st_ino}:{state.st_size}:{times}"
    known = recall(cache, name)
    if known is None:
        known = _sha256(path)
        remember(cache, name, known)
    return known


def _sha256(path: Path) -> str:
    return sha256_file(path, most_bytes=MOST_WEIGHTS_BYTES)


def stored_digest(path: Path, digest: Callable[[Path], str] = _sha256) -> str:
    """SHA-256 of a file of weights; of one that keeps weights in files beside it, over the digests of all.

    Args:
        path: of the file.
        digest: SHA-256 of one file.

    Raises:
        OSError: a file cannot be read.
        WeightsError: it is a damaged file of ONNX, or names others outside of its folder.
    """
    digests = [digest(one) for one in (path, *external_files(path))]
    return digests[0] if len(digests) == 1 else sha256_bytes(" ".join(digests).encode())


def remember(cache: Path, name: str, digest: str) -> None:
    """Note a digest under a name."""
    _memo(cache).remember("sha256", name, digest)


def recall(cache: Path, name: str) -> str | None:
    """The digest noted under a name; None when there is none or the note cannot be trusted."""
    digest = _memo(cache).recall("sha256", name)
    return digest if digest and is_sha256(digest) else None


def _memo(cache: Path) -> Memo[str]:
    return Memo(folder=cache / "weights", kind=str)
