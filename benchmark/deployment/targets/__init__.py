"""What a model can be exported to: one file a target, here or in a package that registers an entry point.

A file ``some_format.py`` of this folder makes the target ``some-format`` with its ``TARGET``; other packages
name such an object under the entry point group ``backbone_benchmark.targets`` (docs/extending.md).
Names are found without importing anything; a target is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from benchmark.errors import ArgumentError, ExportError
from benchmark.plugins import Registry
from benchmark.records import Float32, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an export may be from the Keras model on the validation images.

    A probability difference is measured per image and output. Formats that keep float32 must agree on
    everything; formats that round the weights are held to the decisions and to F1, because one probability
    near a steep part of the sigmoid may move far without consequence.

    Attributes:
        max_difference: largest probability difference; 1 never fails.
        mean_difference: mean probability difference; 1 never fails.
        label_agreement: smallest share of images with the same decision.
        f1_loss: largest F1 lost against the Keras model; gains do not fail.
    """

    max_difference: float = 1.0
    mean_difference: float = 1.0
    label_agreement: float = 0.0
    f1_loss: float = 0.01


EXACT = Tolerance(max_difference=1e-3, mean_difference=1e-4, label_agreement=1.0, f1_loss=0.0)
"""Of formats that keep float32."""
ROUNDED = Tolerance(mean_difference=0.05, label_agreement=0.95, f1_loss=0.01)
"""Of formats that round weights to integers."""


class Classify(Protocol):
    """One loaded model."""

    def __call__(self, images: UInt8) -> Float32:
        """Probabilities float32 (N, C) of uint8 (N, S, S, 3), RGB; N is at most the batch of the model."""


@runtime_checkable
class Target(Protocol):
    """A format that a fine-tuned model is exported to.

    Attributes:
        file: name of the model's file or folder. Files that belong to it have the same stem.
        about: what it is, one clause for the reader.
        runtime: the package to install, as pip names it, that runs it.
        requires: modules that must be there to convert and to run, beyond what every installation has.
        batch: images of one call; 0 takes any number.
        tolerance: how far it may be from the Keras model.
        example: code of ``example.py`` that loads ``here / info["model"]`` and defines ``run(pixels)``: uint8
            (1, S, S, 3) -> probabilities float32 (C,). It imports what it needs.
    """

    file: str
    about: str
    runtime: str
    requires: tuple[str, ...]
    batch: int
    tolerance: Tolerance
    example: str

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        """Write the export. Runs in a process of its own, and may load TensorFlow.

        Args:
            model: ``keras.Model``, images (N, S, S, 3) in 0..255 -> probabilities (N, C).
            images: uint8 (N, S, S, 3), training images to calibrate on.
            path: file or folder to write, in a folder that is there.

        Returns:
            How the conversion departs from the plain one, for the reader.

        Raises:
            RuntimeError, ValueError, TypeError, ImportError, ExportError: the model cannot be converted.
        """

    def load(self, path: Path, threads: int) -> Classify:
        """Load an export into its own runtime with so many threads.

        Raises:
            RuntimeError, ValueError, OSError: the runtime refuses the file.
            ImportError: the runtime is not installed.
        """


@runtime_checkable
class GraphTarget(Protocol):
    """A target that is made of networks of other libraries than Keras, too."""

    def convert_graph(self, model: Path, path: Path) -> Iterable[str]:
        """Write the export of a network of another library, as ``convert`` does for Keras.

        Args:
            model: an ONNX file, or an OpenVINO .xml with its .bin: images uint8 (?, S, S, 3) in 0..255 ->
                probabilities float32 (?, C).
            path: as for ``convert``.

        Returns:
            As ``convert``.

        Raises:
            RuntimeError, ValueError, ExportError: the model cannot be converted.
        """


TARGETS = Registry(
    kind="export target",
    package="benchmark.deployment.targets",
    attribute="TARGET",
    group="backbone_benchmark.targets",
    protocol=Target,
)


def target_names() -> tuple[str, ...]:
    """Names of all targets: those that come with this package, then those that others register."""
    return TARGETS.names


def find_target(name: str) -> Target:
    """The target of a name.

    Raises:
        ArgumentError: no such target, or another package registers it and it cannot be used.
    """
    return cast(Target, TARGETS.find(name))


def parse_targets(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of targets; ``all`` stands for every one, repeats are dropped.

    Raises:
        ArgumentError: an unknown target, or none, or one of another package that cannot be used.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if "all" in names:
        return target_names()
    if not names:
        raise ArgumentError("no export target given", where="target", expected=", ".join(target_names()))
    for name in names:
        find_target(name)
    return tuple(dict.fromkeys(names))


def require_packages(names: Iterable[str]) -> None:
    """Check before any work that everything the targets need is installed.

    Raises:
        ExportError: a package is missing.
    """
    for name in names:
        missing = [module for module in find_target(name).requires if util.find_spec(module) is None]
        if missing:
            raise missing_packages(name, missing) from ModuleNotFoundError(name=missing[0])


def missing_packages(target: str, missing: Iterable[str]) -> ExportError:
    """The error for modules that a target needs and that are not installed."""
    what = "a package that this format needs"
    return ExportError.not_installed(what, "export", where=target, got=f"no {', '.join(missing)}")
