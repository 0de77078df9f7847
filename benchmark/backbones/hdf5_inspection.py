"""Look into an HDF5 weights file before anything trusts it.

HDF5 can hang or crash on damaged bytes, follow links to other files and declare terabytes in a kilobyte.
This file is therefore run as a script, in a process of its own that can be killed; it reads the structure
only and prints it as JSON. It imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import json
import sys
import zipfile
from typing import Any

import h5py

_MOST_OBJECTS = 50_000
_KNOWN_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32: all built into HDF5
_MODEL_MARKS = ("model_config", "layer_names", "training_config")


class Refused(Exception):
    """The reason why a file is not loaded."""


def inspect(path: str, most_bytes: int, member: str = "") -> dict[str, Any]:
    """The structure of a weights file.

    Args:
        path: the file.
        most_bytes: most bytes that its arrays may take.
        member: its name in a ZIP archive, where ``path`` is one.

    Returns:
        ``legacy``: whether it is a Keras 2 file; ``datasets``: path -> shape.

    Raises:
        Refused: it holds something that weights do not need, or too much.
        OSError: it is not HDF5, or damaged.
    """
    datasets: dict[str, list[int]] = {}
    with contextlib.ExitStack() as opened:
        source: Any = path
        if member:
            archive = opened.enter_context(zipfile.ZipFile(path))
            source = opened.enter_context(archive.open(member))
        file = opened.enter_context(h5py.File(source, "r"))
        legacy = any(mark in file.attrs for mark in _MODEL_MARKS) or "model_weights" in file
        _walk(file, "", datasets, [0, most_bytes])
    return {"legacy": legacy, "datasets": datasets}


def _walk(group: h5py.Group, prefix: str, datasets: dict[str, list[int]], budget: list[int]) -> None:
    for name in group:
        where = f"{prefix}/{name}".lstrip("/")
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise Refused(f"'{where}' is a link to elsewhere ({type(link).__name__})")
        budget[0] += 1
        if budget[0] > _MOST_OBJECTS:
            raise Refused(f"more than {_MOST_OBJECTS} objects")
        item = group[name]
        if isinstance(item, h5py.Group):
            _walk(item, where, datasets, budget)
        elif isinstance(item, h5py.Dataset):
            datasets[where] = _checked_shape(item, where, budget)
        else:
            raise Refused(f"'{where}' is a {type(item).__name__}")


def _checked_shape(dataset: h5py.Dataset, where: str, budget: list[int]) -> list[int]:
    if dataset.is_virtual or dataset.external:
        raise Refused(f"'{where}' keeps its values in other files")
    if dataset.dtype.kind not in "fiu" and dataset.attrs.get("dtype") != "bfloat16":
        raise Refused(f"'{where}' holds {dataset.dtype}, not numbers")
    filters = dataset.id.get_create_plist()
    if any(filters.get_filter(i)[0] not in _KNOWN_FILTERS for i in range(filters.get_nfilters())):
        raise Refused(f"'{where}' needs a filter plug-in")
    budget[1] -= dataset.dtype.itemsize * dataset.size
    if budget[1] < 0:
        raise Refused("more bytes are declared than this network has parameters")
    return list(dataset.shape)


def main() -> int:
    """Print the structure, or the reason, as one JSON object."""
    try:
        answer = inspect(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    except Refused as error:
        answer = {"refused": str(error)}
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        RecursionError,
        zipfile.BadZipFile,
    ) as error:
        answer = {"refused": f"not a readable HDF5 file ({error})"}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
