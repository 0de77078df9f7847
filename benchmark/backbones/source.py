"""What a source of backbones is, and which there are.

A source is a file of ``benchmark/backbones/sources/`` that ends in ``SOURCE = ...``, or an entry point of
another package. It lists and describes backbones without importing anything heavy, says where their weights
lie, and loads them as networks that engines execute.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from benchmark.backbones.digests import file_digest, recall, remember, stored_digest
from benchmark.plugins import Registry
from benchmark.records import Backbone, Engine, Float32, UInt8, WeightsKind, WeightsSource

OpenVINOModel: TypeAlias = Any

KERAS = "keras"
FILE = "file"


@runtime_checkable
class Pretrained(Protocol):
    """A backbone with its weights, in the library that it comes from.

    Attributes:
        weights_sha256: of the weights that were really loaded.
    """

    weights_sha256: str

    def run(self, images: UInt8) -> Float32:
        """The library's own forward pass in float32, uint8 (n, S, S, 3) -> float32 (n, D)."""

    def remarks(self, images: UInt8) -> tuple[str, ...]:
        """What a reader of the board should know, seen on real images, uint8 (n, S, S, 3)."""

    def convert(self, folder: Path) -> OpenVINOModel:
        """The network with its preprocessing as an openvino.Model, uint8 (?, S, S, 3) -> float32 (?, D).

        Args:
            folder: for files on the way.
        """


@runtime_checkable
class WritesOnnx(Protocol):
    """A loaded network that can be written as ONNX, too."""

    def write_onnx(self, path: Path) -> None:
        """Write it with its preprocessing, uint8 (n, S, S, 3) -> float32 (n, D), as one file.

        Raises:
            ImportError, OSError, RuntimeError, TypeError, ValueError: it cannot be written so.
        """


@runtime_checkable
class Source(Protocol):
    """Where backbones come from.

    Attributes:
        engines: what executes its networks; the first is its own library, which the others are compared with.
    """

    engines: tuple[Engine, ...]

    def find(self, pattern: str) -> Sequence[Backbone]:
        """The backbones that a user means by what follows ``source:``; nothing heavy is imported.

        Args:
            pattern: ``all``, a name, ``*`` wildcards, or ``family:NAME``; ``matching`` reads these.
        """

    def versions(self) -> Mapping[str, str]:
        """Packages that decide what a network yields, and their installed versions; its library first."""

    def weights_file(self, backbone: Backbone, weights: WeightsSource, *, download: bool) -> Path:
        """The file of a backbone's weights, which need not be there; never asked for random ones.

        Args:
            backbone: whose.
            weights: ``imagenet`` means the weights that its library publishes.
            download: fetch published weights where they are missing, and make sure that the file is there.

        Raises:
            WeightsError: ``download`` was asked for, and there is none.
        """

    def load(self, backbone: Backbone, weights: WeightsSource, input_size: int, *, cache: Path) -> Pretrained:
        """Build a network for an input side and put its weights in.

        Raises:
            WeightsError: they cannot be had or do not fit.
        """


SOURCES = Registry(
    kind="source",
    package="benchmark.backbones.sources",
    attribute="SOURCE",
    group="backbone_benchmark.sources",
    protocol=Source,
    underscore="_",  # sources are called as their libraries are
)


@functools.cache
def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        ArgumentError: there is none, or the package that registers it cannot be used.
    """
    return cast("Source", SOURCES.find(name))


def engines_of(backbone: Backbone) -> tuple[Engine, ...]:
    """What executes a backbone; the first is its own library."""
    return find_source(backbone.source).engines


def versions_of(backbone: Backbone) -> Mapping[str, str]:
    """Packages that decide what a backbone yields, and their versions; its library first."""
    return find_source(backbone.source).versions()


def library_version(backbone: Backbone) -> str:
    """The version of a backbone's library as in embedding keys: Keras's bare, others with their name."""
    library, version = next(iter(versions_of(backbone).items()))
    return version if backbone.source == KERAS else f"{library}-{version}"


def matching(backbones: Iterable[Backbone], pattern: str) -> list[Backbone]:
    """Those that a pattern means: ``all``, a name or wildcards in any case, or ``family:NAME``."""
    if pattern.startswith("family:"):
        family = pattern.removeprefix("family:")
        return [item for item in backbones if fnmatch.fnmatchcase(item.family, family)]
    wanted = pattern.lower()
    return [
        item
        for item in backbones
        if wanted == "all" or fnmatch.fnmatchcase(item.name.removeprefix(f"{item.source}:").lower(), wanted)
    ]


# Weights ------------------------------------------------------------------------------------------


def load_network(backbone: Backbone, weights: WeightsSource, input_size: int, *, cache: Path) -> Pretrained:
    """Build a backbone and load its weights; what was loaded is remembered.

    Args:
        backbone: which; its own ``weights`` override those of the run.
        weights: of the run.
        input_size: side in pixels.
        cache: folder that remembers digests.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    weights = backbone.weights or weights
    network = find_source(backbone.source).load(backbone, weights, input_size, cache=cache)
    path = _held_file(backbone, weights)
    remember_weights(backbone, weights, path, network.weights_sha256, cache=cache)
    return network


def remember_weights(
    backbone: Backbone, weights: WeightsSource, path: Path | None, sha256: str, *, cache: Path
) -> None:
    """Note the digest of weights that were loaded from a file; from None where they were drawn at random."""
    remember(cache, _remembered_as(backbone, weights, path, cache), sha256)


def is_pretrained(backbone: Backbone, weights: WeightsSource) -> bool:
    """Whether a backbone with these weights sees pictures as one does that learnt from very many.

    Random weights do not, and what a user's own file has learnt is known only where its description says it.
    """
    if weights.kind is WeightsKind.RANDOM:
        return False
    return backbone.source != FILE or bool(backbone.pretraining)


def known_weights_sha256(backbone: Backbone, weights: WeightsSource, *, cache: Path) -> str | None:
    """The digest of weights that were loaded before; None when they were not, or are not there.

    Neither the library nor the network is needed; nothing is downloaded.
    """
    weights = backbone.weights or weights
    try:
        path = _held_file(backbone, weights)
        return recall(cache, _remembered_as(backbone, weights, path, cache))
    except OSError:
        return None


def weights_file(backbone: Backbone, weights: WeightsSource) -> Path:
    """The file that holds a backbone's weights; published weights are downloaded where missing.

    Raises:
        WeightsError: there is none.
    """
    return find_source(backbone.source).weights_file(backbone, weights, download=True)


def _held_file(backbone: Backbone, weights: WeightsSource) -> Path | None:
    """The file of weights, where it is or would be; None of random ones."""
    if weights.kind is WeightsKind.RANDOM:
        return None
    return find_source(backbone.source).weights_file(backbone, weights, download=False)


def _remembered_as(backbone: Backbone, weights: WeightsSource, path: Path | None, cache: Path) -> str:
    """A name for a digest of weights: by seed, or by the bytes of their file."""
    library, version = next(iter(versions_of(backbone).items()))
    if path is None:
        return f"random:{backbone.architecture}:{weights.seed}:{library}-{version}"
    digest = stored_digest(path, functools.partial(file_digest, cache=cache))
    return f"weights:{backbone.architecture}:{digest}:{library}-{version}"
