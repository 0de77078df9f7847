"""The backbones that can be asked for, and how a user asks; without TensorFlow.

What is known without building stands in one generated description per Keras version
(``python -m benchmark.backbones.describe`` writes it).
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import functools
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from benchmark.backbones.keras_models import build_model, preprocess_images
from benchmark.errors import ArgumentError
from benchmark.records import Backbone, PreprocessingMode, WeightsKind, WeightsSource
from benchmark.storage import read_json

DESCRIPTION_SCHEMA = 1
# Side in pixels at which floating-point operations are counted.
FLOPS_SIZE = 224
WEIGHTS_SUFFIX = ".weights.h5"


def keras_version() -> str:
    """The installed Keras, for example ``3.15.1``; nothing is imported."""
    return metadata.version("keras")


def shipped_descriptions() -> Path:
    """The folder of the descriptions that come with this package."""
    return Path(str(resources.files("benchmark.backbones"))) / "descriptions"


def user_descriptions() -> Path:
    """The folder for descriptions of Keras versions that this package does not know."""
    import pooch

    return Path(pooch.os_cache("backbone-benchmark")) / "descriptions"


def description_name(version: str) -> str:
    """File name of a Keras version's description: patch releases share one."""
    return f"keras-{'.'.join(version.split('.')[:2])}.json"


@functools.cache
def description() -> dict[str, dict[str, Any]]:
    """The description of the installed Keras: entries by backbone name, in registry order.

    Raises:
        ArgumentError: there is none for this Keras version; the message names the command that writes it.
    """
    name = description_name(keras_version())
    for folder in (shipped_descriptions(), user_descriptions()):
        if (folder / name).is_file():
            return _read_description(folder / name)
    raise ArgumentError(
        "no registry description for this Keras version",
        where=f"keras {keras_version()}",
        expected=", ".join(sorted(path.stem for path in shipped_descriptions().glob("keras-*.json"))),
        next_step=f"Run 'python -m benchmark.backbones.describe {user_descriptions()}' once (some minutes), "
        "or install a Keras version from the list.",
    )


def _read_description(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = read_json(path)
        if content["schema"] != DESCRIPTION_SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        return {entry["name"]: entry for entry in content["backbones"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            "the registry description cannot be read",
            where=path,
            expected=f"schema {DESCRIPTION_SCHEMA}",
            got=error,
            next_step=f"Run 'python -m benchmark.backbones.describe {path.parent}' to write it again.",
        ) from error


@functools.cache
def registry() -> tuple[Backbone, ...]:
    """Every backbone of the installed Keras, published variants included, in registry order."""
    return tuple(_backbone(entry) for entry in description().values())


def _backbone(entry: dict[str, Any]) -> Backbone:
    return Backbone(
        name=entry["name"],
        architecture=entry["name"],
        family=entry["family"],
        source="keras",
        module=entry["module"],
        constructor=entry["constructor"],
        arguments=entry["arguments"],
        preprocessing=PreprocessingMode(entry["preprocessing"]),
        default_size=entry["default_size"],
        min_size=entry["min_size"],
        embedding_dim=entry["embedding_dim"],
        params=entry["params"],
        flops=entry["flops"],
        build=functools.partial(build_model, constructor=entry["constructor"], arguments=entry["arguments"]),
        preprocess=functools.partial(preprocess_images, constructor=entry["constructor"]),
    )


def select(patterns: str, *, seed: int = 0, option: str = "backbones") -> tuple[Backbone, ...]:
    """The backbones that a user asks for.

    Args:
        patterns: comma-separated: ``all``, names, ``*`` wildcards, ``family:NAME``, each with an optional
            ``@imagenet``, ``@random`` or ``@PATH`` that overrides the run's weights.
        seed: of random weights given with ``@random``.
        option: that the patterns were given with.

    Returns:
        in registry order, without duplicates; one architecture may stand there with several weights.

    Raises:
        ArgumentError: nothing matches a pattern (close matches are named), or weights that do not exist.
    """
    parts = [part.strip() for part in patterns.split(",") if part.strip()]
    if not parts:
        raise ArgumentError("no backbone is named", where=f"`{option}`", expected="names, wildcards or 'all'")
    chosen = {item.name: item for part in parts for item in _matches(part, seed, option)}
    order = {item.name: position for position, item in enumerate(registry())}
    return tuple(sorted(chosen.values(), key=lambda item: order[item.architecture]))


def _matches(part: str, seed: int, option: str) -> list[Backbone]:
    pattern, at, weights = part.partition("@")
    found = [item for item in registry() if _is_match(item, pattern)]
    if not found:
        raise ArgumentError(
            f"no backbone matches '{pattern}'",
            where=f"`{option}`",
            next_step=_suggestion(pattern),
        )
    if not at:
        return found
    source = parse_weights(weights, seed)
    return [
        dataclasses.replace(item, name=f"{item.architecture}@{weights}", weights=source) for item in found
    ]


def _is_match(backbone: Backbone, pattern: str) -> bool:
    if pattern.startswith("family:"):
        return fnmatch.fnmatchcase(backbone.family, pattern.removeprefix("family:"))
    return pattern == "all" or fnmatch.fnmatchcase(backbone.name.lower(), pattern.lower())


def _suggestion(pattern: str) -> str:
    if pattern.startswith("family:"):
        names = sorted({item.family for item in registry()})
        close = difflib.get_close_matches(pattern.removeprefix("family:"), names, n=3, cutoff=0.4) or names
        return f"Families: {', '.join(close)}."
    lower = {item.name.lower(): item.name for item in registry()}
    close = [lower[name] for name in difflib.get_close_matches(pattern.lower(), lower, n=3, cutoff=0.5)]
    listing = "'backbones list' shows all names."
    return f"Did you mean {', '.join(close)}? {listing}" if close else listing


def parse_weights(text: str, seed: int = 0) -> WeightsSource:
    """What the option ``weights`` or the part after ``@`` means.

    Args:
        text: ``imagenet``, ``random``, a folder of ``<backbone>.weights.h5``, or one such file.
        seed: of random weights.

    Raises:
        ArgumentError: none of these, or a file of a format that is not loaded.
    """
    if text in (WeightsKind.IMAGENET, WeightsKind.RANDOM):
        return WeightsSource(kind=WeightsKind(text), seed=seed if text == WeightsKind.RANDOM else 0)
    path = Path(text).expanduser()
    if text and path.is_dir():
        return WeightsSource(kind=WeightsKind.DIRECTORY, path=path.absolute())
    if path.is_file() and path.name.endswith(WEIGHTS_SUFFIX):
        return WeightsSource(kind=WeightsKind.FILE, path=path.absolute())
    raise ArgumentError(
        _why_not_weights(path), where="`weights`", got=text or "nothing", expected=_ACCEPTED, next_step=_NEXT
    )


def backbone_row(backbone: Backbone, weights: str = "imagenet") -> dict[str, Any]:
    """What is known of a backbone, as a row of a table; ``weights`` are those of one that carries none."""
    return {
        "name": backbone.name,
        "family": backbone.family,
        "source": backbone.source,
        "module": backbone.module,
        "input_size": backbone.default_size,
        "min_size": backbone.min_size,
        "preprocessing": backbone.preprocessing.value,
        "embedding_dim": backbone.embedding_dim,
        "params": backbone.params,
        "size_bytes": backbone.float32_bytes,
        "gflops_224": round(backbone.flops / 1e9, 2),
        "weights": str(backbone.weights or parse_weights(weights)),
    }


_ACCEPTED = f"imagenet, random, a folder of <backbone>{WEIGHTS_SUFFIX} files, or one such file"
_NEXT = f"Save weights with model.save_weights('NAME{WEIGHTS_SUFFIX}'); whole models are not loaded."


def _why_not_weights(path: Path) -> str:
    if not path.exists():
        return "no such weights"
    return f"a '{path.suffix or path.name}' file is not a weights file"


def scaled_flops(backbone: Backbone, input_size: int) -> int:
    """Floating-point operations per image at an input size: convolutions grow with the area."""
    return round(backbone.flops * (input_size / FLOPS_SIZE) ** 2)
