"""A part: some thousands of rows of one key as one immutable HDF5 file, built and opened in memory.

The file's name carries 64 bits of the SHA-256 of its bytes. They are compared before HDF5 sees a byte,
because HDF5 itself reads damaged files without complaint, or never returns. The digest protects against
accidents, not against somebody who may write to the cache: such a file meets the checks on structure below.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmark.embeddings.keys import MAX_KEY_BYTES, parse_key
from benchmark.errors import CacheDamaged, EmbeddingError
from benchmark.memory import PackedStrings
from benchmark.records import EmbeddingKey, Float32
from benchmark.storage import sha256_bytes

if TYPE_CHECKING:
    import h5py

Ids = npt.NDArray[np.bytes_]

# While a part is built, its rows are in memory several times over.
ROWS_PER_PART = 2048
SECONDS_PER_PART = 30.0
BYTES_PER_PART = 64 * 2**20
MAX_PART_BYTES = 512 * 2**20  # no writer of this program makes one of much more than an eighth of this
PART_NAME = re.compile(r"part-(?P<sha16>[0-9a-f]{16})\.h5")

ID_BYTES = 64
_ID_TYPE = np.dtype(f"S{ID_BYTES}")
_BLOCK_BYTES = 1 << 18  # looked at together: a million ids would take several times their size otherwise
_FEATURE_TYPE = np.dtype("<f4")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Only the versions whose metadata blocks each carry a checksum: older ones can lead HDF5 in circles.
_SUPERBLOCKS = {b"\x02", b"\x03"}
# Whatever HDF5 makes of bytes that it cannot read; h5py maps its errors to these.
_HDF5_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The content of one part.

    Attributes:
        key: whose vectors these are.
        image_ids: S64 (N,), ascending, distinct hexadecimal image ids.
        features: float32 (N, D); row i belongs to ``image_ids[i]``; finite.
    """

    key: EmbeddingKey
    image_ids: Ids
    features: Float32


def most_rows(dim: int) -> int:
    """How many rows with vectors of length ``dim`` make a part of 64 MiB, at least one."""
    return max(1, BYTES_PER_PART // (ID_BYTES + 4 * dim))


def as_ids(image_ids: object) -> Ids:
    """Image ids as an array.

    Args:
        image_ids: a sequence of N hexadecimal SHA-256 digests.

    Returns:
        S64 (N,).

    Raises:
        EmbeddingError: something else is among them.
    """
    if isinstance(image_ids, np.ndarray) and image_ids.dtype == _ID_TYPE:
        return image_ids
    if isinstance(image_ids, PackedStrings):
        packed = image_ids.as_bytes(ID_BYTES)
        if packed is not None and _hexadecimal(packed):
            return packed
    texts = list(image_ids)  # type: ignore[call-overload]
    bad = next((text for text in texts if not isinstance(text, str) or len(text) != ID_BYTES), None)
    try:
        ids = np.array(texts, dtype=_ID_TYPE)
    except (UnicodeEncodeError, ValueError, TypeError) as error:
        raise _not_an_id(bad) from error
    if bad is not None or not _hexadecimal(ids):
        raise _not_an_id(bad)
    return ids


def _not_an_id(bad: object) -> EmbeddingError:
    return EmbeddingError(
        "rows are addressed by image ids", expected="64 lower-case hexadecimal digits", got=repr(bad)[:80]
    )


def _hexadecimal(ids: Ids) -> bool:
    digits = np.ascontiguousarray(ids).view(np.uint8)
    blocks = (digits[at : at + _BLOCK_BYTES] for at in range(0, len(digits), _BLOCK_BYTES))
    return all(
        bool((((block >= 48) & (block <= 57)) | ((block >= 97) & (block <= 102))).all()) for block in blocks
    )


def part_name(content: bytes) -> str:
    """``part-<first 16 digits of the SHA-256 of its bytes>.h5``."""
    return f"part-{sha256_bytes(content)[:16]}.h5"


def build_part(key: EmbeddingKey, image_ids: Ids, features: Float32, *, generation: str = "") -> bytes:
    """The bytes of a part: the same rows make the same bytes (for one version of h5py).

    Args:
        key: whose vectors these are.
        image_ids: S64 (N,), N >= 1, distinct; stored ascending.
        features: float32 (N, D), D >= 1.
        generation: text that sets parts with equal rows apart (compaction needs that).
    """
    import h5py

    if (image_ids[1:] < image_ids[:-1]).any():
        order = np.argsort(image_ids, kind="stable")
        image_ids, features = image_ids[order], features[order]
    memory = io.BytesIO()
    with h5py.File(_new_hdf5(memory)) as file:
        file.attrs["key"] = np.bytes_(key.to_json().encode())
        file.attrs["schema"] = np.int64(key.schema)
        file.attrs["versions"] = np.bytes_(_versions().encode())
        file.attrs["generation"] = np.bytes_(generation.encode() or b"-")
        file.create_dataset("image_ids", data=image_ids)
        file.create_dataset("features", data=features.astype(_FEATURE_TYPE, copy=False))
    return memory.getvalue()


def _new_hdf5(memory: io.BytesIO) -> Any:  # noqa: ANN401 - h5py ships no types
    """A new HDF5 file in memory without times in it, its metadata checksummed."""
    from h5py import h5f, h5fd, h5p

    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
    access.set_fileobj_driver(h5fd.fileobj_driver, memory)
    return h5f.create(b"part", h5f.ACC_TRUNC, creation, access)


@cache
def _versions() -> str:
    import h5py

    from benchmark import __version__

    versions = {
        "backbone-benchmark": __version__,
        "h5py": h5py.version.version,
        "hdf5": h5py.version.hdf5_version,
        "numpy": np.__version__,
    }
    return json.dumps(versions, sort_keys=True)


def open_part(content: bytes, *, name: str, where: object) -> Part:
    """Read a part from its bytes.

    Args:
        content: the whole file.
        name: its name, which says what its bytes hash to.
        where: path named in the error.

    Raises:
        CacheDamaged: the bytes are not those that the name promises, or not a part of this program.
    """
    named = PART_NAME.fullmatch(name)
    digest = sha256_bytes(content)
    if named is None or named["sha16"] != digest[:16]:
        raise CacheDamaged(
            "the bytes are not those that were written",
            where=where,
            expected=f"SHA-256 {named['sha16'] if named else 'in the name'}",
            got=f"{digest[:16]} over {len(content)} bytes",
        )
    if content[:8] != _SIGNATURE or content[8:9] not in _SUPERBLOCKS:
        raise CacheDamaged(
            "is not a part of this program", where=where, got="no HDF5 of the expected version"
        )
    return _parse(content, where)


def _parse(content: bytes, where: object) -> Part:
    try:
        with _opened(content) as file:
            _check_structure(file, len(content))
            key = parse_key(_attribute(file, "key"), where=where)
            _check_schema(file, key)
            part = Part(key=key, image_ids=file["image_ids"][()], features=file["features"][()])
        _check_values(part)
    except _HDF5_ERRORS as error:
        raise CacheDamaged(
            "is not a part of this program",
            where=where,
            expected="datasets image_ids S64 (N,) and features float32 (N, D), and the key",
            got=f"{type(error).__name__}: {error}",
        ) from error
    return part


@contextmanager
def _opened(content: bytes) -> Iterator[h5py.File]:
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        yield file


def _check_structure(file: h5py.File, size: int) -> None:
    """Refuse everything that a part does not need, before any of it is read or allocated.

    Raises:
        ValueError: a foreign member, a link, or data that is not plainly inside these bytes.
    """
    import h5py

    members = set(file)
    if members != {"image_ids", "features"}:
        raise ValueError(f"members {sorted(members)[:5]}")
    for member in sorted(members):
        if not isinstance(file.get(member, getlink=True), h5py.HardLink):
            raise ValueError(f"{member} is a link to somewhere else")
        if not isinstance(file.get(member), h5py.Dataset):
            raise ValueError(f"{member} is not a dataset")
    image_ids, features = file["image_ids"], file["features"]
    _check_plain(image_ids, _ID_TYPE, size)
    _check_plain(features, _FEATURE_TYPE, size)
    if image_ids.ndim != 1 or features.ndim != 2 or len(image_ids) != len(features) or not features.size:
        raise ValueError(f"shapes {image_ids.shape} and {features.shape}")


def _check_plain(dataset: h5py.Dataset, dtype: np.dtype[Any], size: int) -> None:
    """Contiguous, unfiltered, internal, and no longer than the file that holds it."""
    from h5py import h5d

    creation = dataset.id.get_create_plist()
    if creation.get_layout() != h5d.CONTIGUOUS or creation.get_nfilters() or creation.get_external_count():
        raise ValueError(f"{dataset.name} is compressed, chunked, virtual or stored outside")
    if dataset.dtype != dtype:
        raise ValueError(f"{dataset.name} of type {dataset.dtype}")
    wanted = dataset.size * dtype.itemsize
    start = dataset.id.get_offset()
    if start is None or dataset.id.get_storage_size() != wanted or start + wanted > size:
        raise ValueError(f"{dataset.name} of shape {dataset.shape} in a file of {size} bytes")


def _attribute(file: h5py.File, name: str) -> bytes:
    """A scalar fixed-length text attribute, its length checked before it is read."""
    identity = file.attrs.get_id(name)
    if identity.shape != () or identity.dtype.kind != "S" or identity.dtype.itemsize > MAX_KEY_BYTES:
        raise ValueError(f"attribute {name} of type {identity.dtype} and shape {identity.shape}")
    return bytes(file.attrs[name])


def _check_schema(file: h5py.File, key: EmbeddingKey) -> None:
    identity = file.attrs.get_id("schema")
    if identity.shape != () or identity.dtype != np.int64 or int(file.attrs["schema"]) != key.schema:
        raise ValueError(f"another schema than its key's, {key.schema}")


def _check_values(part: Part) -> None:
    ids = part.image_ids
    if not _hexadecimal(ids) or not bool((ids[1:] > ids[:-1]).all()):
        raise ValueError("image ids that are not ascending digests")
    if not bool(np.isfinite(part.features).all()):
        raise ValueError("features that are not finite")
