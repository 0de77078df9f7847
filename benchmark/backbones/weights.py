"""Get weights into a network, and prove that they are the ones that were asked for."""

from __future__ import annotations

import difflib
import json
import math
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones.digests import value_digest, variable_digest, weights_digest
from benchmark.backbones.downloads import Downloads, imagenet_file
from benchmark.backbones.keras_models import KerasLayer, KerasModel, KerasVariable, import_library
from benchmark.backbones.registry import WEIGHTS_SUFFIX, published_file
from benchmark.backbones.source import remember_weights
from benchmark.drawing import derived_seed
from benchmark.errors import WeightsError
from benchmark.records import Backbone, WeightsKind, WeightsSource
from benchmark.storage import is_sha256, read_small, sha256_file

CHECKSUMS = "SHA256SUMS"
_INSPECTION = Path(__file__).with_name("hdf5_inspection.py")
_INSPECTION_SECONDS = 120
# Room for seeds of dropout layers, counters and HDF5's own idea of scalars.
_SPARE_BYTES = 1 << 20


def load_weights(
    backbone: Backbone,
    model: KerasModel,
    source: WeightsSource,
    *,
    cache: Path,
    downloads: Downloads | None = None,
) -> str:
    """Put weights into a freshly built network.

    Args:
        backbone: whose weights; its own ``weights`` override ``source``.
        model: as ``backbone.build`` returns it; changed in place.
        source: of the run.
        cache: folder that remembers digests.
        downloads: where ImageNet weights are fetched from; Keras's own addresses where None.

    Returns:
        SHA-256 over the paths, shapes and values of what was loaded.

    Raises:
        WeightsError: they cannot be had, are damaged or foreign, or belong to another network.
    """
    source = backbone.weights or source
    path: Path | None = None
    if source.kind is WeightsKind.RANDOM:
        _draw(backbone, model, source.seed)
    else:
        path = keras_file(backbone, source, downloads=downloads)
        _load_file(backbone, model, path, legacy=source.kind is WeightsKind.IMAGENET)
    digest = weights_digest(variable_digest(_path(item), item.numpy()) for item in model.weights)
    remember_weights(backbone, source, path, digest, cache=cache)
    return digest


def keras_file(backbone: Backbone, source: WeightsSource, *, downloads: Downloads | None = None) -> Path:
    """The file that holds a Keras backbone's weights; ImageNet weights are downloaded where missing.

    A published file that has no hash and is not whole is downloaded again, once: Keras itself downloads in
    place, and killed midway it leaves a part under the final name.

    Raises:
        WeightsError: there is none, or what was downloaded is none.
    """
    if source.kind is WeightsKind.IMAGENET:
        fetch, published = (downloads or Downloads.shared()).fetch, published_file(backbone)
        path = fetch(published)
        if not published["hash"]:
            most_bytes = backbone.float32_bytes + _SPARE_BYTES
            try:
                inspect_file(path, most_bytes)
            except WeightsError:
                path.unlink()
                inspect_file(fetch(published), most_bytes)
        return path
    path = local_file(backbone, source)
    if not path.is_file():
        raise _missing(backbone, path)
    return path


def local_file(backbone: Backbone, source: WeightsSource) -> Path:
    """Where the file of a Keras backbone's weights lies, or would lie."""
    if source.kind is WeightsKind.IMAGENET:
        return imagenet_file(published_file(backbone)["file"])
    assert source.path is not None, "directories and files have paths"
    if source.kind is WeightsKind.DIRECTORY:
        return source.path / bundled_name(backbone)
    return source.path


def bundled_name(backbone: Backbone) -> str:
    """The name of a Keras backbone's file in a folder of weights."""
    return f"{backbone.architecture.rpartition(':')[2]}{WEIGHTS_SUFFIX}"


def _missing(backbone: Backbone, path: Path) -> WeightsError:
    names = sorted(item.name for item in path.parent.glob(f"*{WEIGHTS_SUFFIX}"))
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    return WeightsError(
        "no weights file for this backbone",
        where=backbone.name,
        expected=path,
        got=f"near names: {', '.join(near)}" if near else f"{len(names)} other weights files there",
        next_step="Add the file ('backbones weights bundle DIR' on a connected machine writes it), "
        "or leave the backbone out.",
    )


def _path(variable: KerasVariable) -> str:
    """Layer and name of a variable. Keras 2 has no paths, and calls the kernel of a depthwise layer so."""
    if hasattr(variable, "path"):
        return str(variable.path)
    return str(variable.name).removesuffix(":0").replace("depthwise_kernel", "kernel")


# Random weights -----------------------------------------------------------------------------------


def _draw(backbone: Backbone, model: KerasModel, seed: int) -> None:
    """Draw every randomly initialised variable again, from the seed, the architecture and its position.

    Constants (batch statistics, biases, scales) keep what the constructor gave them.
    """
    keras = import_library(backbone.source)
    position = 0
    for layer in _leaves(model):
        for variable in layer.weights:
            position += 1
            initializer = _initializer(layer, _path(variable).rpartition("/")[2])
            if "seed" in initializer.get("config", {}):
                drawn = derived_seed(seed, backbone.architecture, position)
                seeded = {**initializer, "config": {**initializer["config"], "seed": drawn}}
                variable.assign(keras.initializers.get(seeded)(variable.shape, dtype="float32"))


def _leaves(network: KerasModel) -> Iterator[KerasLayer]:
    """The layers of a network and of the networks inside it (ConvNeXt's stem is one)."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer


def _initializer(layer: KerasLayer, name: str) -> dict[str, Any]:
    """The serialised initializer of a layer's variable; depthwise layers name theirs differently."""
    config = layer.get_config()
    candidates = [name, name.removesuffix("_kernel"), *(["depthwise"] if name == "kernel" else [])]
    found = (config.get(f"{candidate}_initializer") for candidate in candidates)
    return next((item for item in found if isinstance(item, dict)), {})


# Files --------------------------------------------------------------------------------------------


def _load_file(backbone: Backbone, model: KerasModel, path: Path, *, legacy: bool) -> None:
    check_listed(path)
    most_bytes = sum(4 * math.prod(item.shape) for item in model.weights) + _SPARE_BYTES
    structure = inspect_file(path, most_bytes)
    if structure["legacy"] and not legacy:
        raise _unfit(
            backbone,
            path,
            "a legacy Keras 2 file or a whole model, which is not loaded because it can carry code",
        )
    _check_shapes(backbone, model, path, structure["datasets"].values())
    try:
        with warnings.catch_warnings():
            # Keras only warns when it skips a layer; the check below makes that an error.
            warnings.simplefilter("ignore")
            model.load_weights(path)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _unfit(backbone, path, str(error).splitlines()[0][:300]) from error
    _check_assigned(backbone, model, path)
    if not all(np.isfinite(item.numpy()).all() for item in model.weights):
        raise _unfit(backbone, path, "weights that are not finite numbers (nan or inf)")


def _unfit(backbone: Backbone, path: Path, got: str) -> WeightsError:
    return WeightsError(
        f"not the weights of {backbone.architecture}",
        where=path,
        expected=f"a Keras 3 '{WEIGHTS_SUFFIX}' file of the top-less, average-pooled network",
        got=got,
        next_step="Save it again with model.save_weights, or take another file.",
    )


def inspect_file(path: Path, most_bytes: int, *, member: str = "") -> dict[str, Any]:
    """The structure of an HDF5 file, read by a process that may hang or crash without harm.

    Args:
        path: the file, or a ZIP archive that holds it.
        most_bytes: most that its arrays may take.
        member: name of the file in the archive.

    Raises:
        WeightsError: it is refused, damaged, or the process hung.
    """
    command = [sys.executable, str(_INSPECTION), str(path), str(most_bytes), *([member] if member else [])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_INSPECTION_SECONDS, check=True)
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError, ValueError) as error:
        answer = {"refused": f"HDF5 cannot read it ({type(error).__name__})"}
    if "refused" in answer:
        raise WeightsError(
            "not a usable weights file",
            where=path,
            expected=f"a Keras 3 '{WEIGHTS_SUFFIX}' file",
            got=answer["refused"],
            next_step="Copy or save the file again.",
        )
    return answer


def _check_shapes(backbone: Backbone, model: KerasModel, path: Path, shapes: Iterable[list[int]]) -> None:
    wanted = Counter(tuple(item.shape) for item in model.weights)
    found = Counter(tuple(shape) for shape in shapes)
    missing = wanted - found
    if missing:
        shape, count = next(iter(missing.items()))
        raise _unfit(
            backbone,
            path,
            f"{missing.total()} of {wanted.total()} arrays missing, e.g. {count} of shape {shape}",
        )
    # Dropout layers save their seeds (two integers) although a network without its top has no use for them.
    extra = [shape for shape in (found - wanted) if shape not in ((2,), ())]
    if extra:
        raise _unfit(backbone, path, f"arrays that the network does not have, e.g. of shape {extra[0]}")


def _check_assigned(backbone: Backbone, model: KerasModel, path: Path) -> None:
    """Every variable holds an array of the file, and each array went to one variable only.

    Keras can match layers by order or skip what it does not find; shapes alone would not show it.
    """
    import h5py

    found: Counter[str] = Counter()

    def add(_: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found[value_digest(item[()])] += 1

    with h5py.File(path, "r") as file:
        file.visititems(add)
    missing = Counter(value_digest(item.numpy()) for item in model.weights) - found
    if missing:
        raise _unfit(backbone, path, f"{missing.total()} variables did not get their values from it")


def check_listed(path: Path) -> None:
    """Compare a file with the checksum list beside it; where there is one, it must be on it.

    Raises:
        WeightsError: it is not, or has another content.
    """
    listed = read_checksums(path.parent)
    wanted = listed.get(path.name)
    if listed and wanted is None:
        raise WeightsError(
            "not on the checksum list beside it",
            where=path,
            expected=f"a line for it in {CHECKSUMS}",
            next_step="Add it with sha256sum, or take it out of this folder.",
        )
    if wanted is not None and file_sha256(path) != wanted:
        raise WeightsError(
            "damaged: it differs from the checksum beside it",
            where=path,
            expected=f"SHA-256 {wanted[:16]}...",
            next_step=f"Copy the bundle again; 'backbones weights verify {path.parent}' checks all of it.",
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a weights file.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return sha256_file(path)
    except OSError as error:
        raise WeightsError("cannot be read", where=path, got=error.strerror or error) from error


def read_checksums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of a bundle's checksum list; empty where there is none.

    Raises:
        WeightsError: it cannot be read, or a line is none of ``sha256sum``.
    """
    path = folder / CHECKSUMS
    listed: dict[str, str] = {}
    try:
        for line in filter(None, map(str.strip, read_small(path).decode().splitlines())):
            digest, _, name = line.partition(" ")
            if not is_sha256(digest.lower()) or not name.strip():
                raise ValueError(f"the line {line[:80]!r}")
            listed[name.strip().removeprefix("*")] = digest.lower()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(
            "not a list of checksums",
            where=path,
            expected="lines as sha256sum writes them",
            got=getattr(error, "strerror", None) or error,
            next_step="Copy the folder again, or remove the list to use its files unchecked.",
        ) from error
    return listed
