"""The backbones of tf.keras.applications; without TensorFlow.

What is known without building stands in one generated description per Keras version
(``python -m benchmark.backbones.describe`` writes it).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from benchmark.backbones.keras_models import LEGACY, build_model, preprocess_images
from benchmark.backbones.source import KERAS
from benchmark.errors import ArgumentError
from benchmark.records import Backbone, Preprocessing
from benchmark.storage import read_json

DESCRIPTION_SCHEMA = 1
WEIGHTS_SUFFIX = ".weights.h5"


# family -> year of the design, licence of the weights as the documentation of Keras states it, else empty
PUBLISHED = {
    "convnext": (2022, ""),
    "densenet": (2016, "bsd-3-clause"),
    "efficientnet": (2019, ""),
    "efficientnet_v2": (2021, ""),
    "inception_resnet_v2": (2016, "apache-2.0"),
    "inception_v3": (2015, "apache-2.0"),
    "mobilenet": (2017, "apache-2.0"),
    "mobilenet_v2": (2018, "apache-2.0"),
    "mobilenet_v3": (2019, ""),
    "nasnet": (2017, "apache-2.0"),
    "regnet": (2020, ""),
    "resnet": (2015, "mit"),
    "resnet_rs": (2021, ""),
    "resnet_v2": (2016, ""),
    "vgg16": (2014, "cc-by-4.0"),
    "vgg19": (2014, "cc-by-4.0"),
    "xception": (2016, "mit"),
}


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


def description_name(version: str, library: str = "keras") -> str:
    """File name of the description of a version of Keras (or ``tf_keras``): patch releases share one."""
    return f"{library}-{'.'.join(version.split('.')[:2])}.json"


def published_file(backbone: Backbone) -> Mapping[str, str]:
    """Where the published weights of a Keras backbone are: ``file``, ``url`` and ``hash``."""
    held: Mapping[str, str] = description(backbone.source)[backbone.architecture.rpartition(":")[2]][
        "weights"
    ]
    return held


@functools.cache
def description(library: str = "keras") -> dict[str, dict[str, Any]]:
    """The description of the installed Keras: entries by backbone name, in registry order.

    Args:
        library: ``tf_keras`` for Keras 2; without it, the newest description there is.

    Raises:
        ArgumentError: there is none for this Keras version; the message names the command that writes it.
    """
    if library == LEGACY:
        return _legacy_description()
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


def _legacy_description() -> dict[str, dict[str, Any]]:
    """Tf_keras describes what no longer changes: that of another version is as good."""
    return _read_description(max(shipped_descriptions().glob(f"{LEGACY}-*.json")))


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
    return tuple(described_backbone(entry) for entry in description().values())


def described_backbone(
    entry: Mapping[str, Any],
    *,
    source: str = KERAS,
    build: Callable[..., Any] = build_model,
    preprocess: Callable[..., Any] = preprocess_images,
) -> Backbone:
    """A backbone as a description of Keras's constructors has it.

    Args:
        entry: of the description.
        source: the library; names of others than Keras begin with it.
        build: takes ``input_size``, ``constructor`` and ``arguments``.
        preprocess: takes pixels and ``constructor``.
    """
    name = entry["name"] if source == KERAS else f"{source}:{entry['name']}"
    year, licence = PUBLISHED[entry["family"]]
    which = {"constructor": entry["constructor"]}
    return Backbone(
        name=name,
        architecture=name,
        family=entry["family"],
        source=source,
        variables=entry["variables"],
        pretraining="ImageNet-1k",
        year=year,
        licence=licence,
        module=entry["module"],
        arguments=entry["arguments"],
        preprocessing=Preprocessing.parse(entry["preprocessing"]),
        default_size=entry["default_size"],
        min_size=entry["min_size"],
        embedding_dim=entry["embedding_dim"],
        params=entry["params"],
        flops=entry["flops"],
        build=functools.partial(build, **which, arguments=entry["arguments"]),
        preprocess=functools.partial(preprocess, **which),
        **which,
    )
