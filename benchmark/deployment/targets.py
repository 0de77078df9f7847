"""What a model can be exported to, which packages that needs, and how close it must stay to the original."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType

from benchmark.errors import ArgumentError, ExportError

INSTALL_EXPORT = "Install the export packages: pip install backbone-benchmark[export]."


class Target(StrEnum):
    """A format that a fine-tuned model is exported to."""

    KERAS = "keras"
    SAVEDMODEL = "savedmodel"
    TFLITE_FLOAT32 = "tflite-float32"
    TFLITE_FLOAT16 = "tflite-float16"
    TFLITE_DYNAMIC = "tflite-dynamic"
    TFLITE_INT8 = "tflite-int8"
    ONNX = "onnx"
    OPENVINO = "openvino"


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


_EXACT = Tolerance(max_difference=1e-3, mean_difference=1e-4, label_agreement=1.0, f1_loss=0.0)

TOLERANCES: Mapping[Target, Tolerance] = MappingProxyType(
    {
        Target.KERAS: _EXACT,
        Target.SAVEDMODEL: _EXACT,
        Target.TFLITE_FLOAT32: _EXACT,
        Target.ONNX: _EXACT,
        Target.OPENVINO: _EXACT,
        Target.TFLITE_FLOAT16: Tolerance(
            max_difference=0.05, mean_difference=5e-3, label_agreement=1.0, f1_loss=0.0
        ),
        Target.TFLITE_DYNAMIC: Tolerance(mean_difference=0.05, label_agreement=0.95, f1_loss=0.01),
        Target.TFLITE_INT8: Tolerance(mean_difference=0.05, label_agreement=0.95, f1_loss=0.01),
    }
)

# The modules that make a target and run it, beyond what every installation has.
_MODULES: Mapping[Target, tuple[str, ...]] = MappingProxyType(
    {
        Target.KERAS: (),
        Target.SAVEDMODEL: (),
        Target.TFLITE_FLOAT32: ("ai_edge_litert",),
        Target.TFLITE_FLOAT16: ("ai_edge_litert",),
        Target.TFLITE_DYNAMIC: ("ai_edge_litert",),
        Target.TFLITE_INT8: ("ai_edge_litert",),
        Target.ONNX: ("tf2onnx", "onnx", "onnxruntime"),
        Target.OPENVINO: ("openvino",),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How an export is made and judged.

    Attributes:
        calibration_images: most training images that the ranges of the full int8 export are measured on,
            stratified by label.
        integer_only: the full int8 export keeps no operator in float, even where that costs accuracy (for
            microcontrollers and accelerators without floating point).
        parity_images: most validation images that an export is compared on, stratified by label; 0 takes all.
        latency_repeats: timed single-image predictions.
        timeout_seconds: for one conversion or one comparison; a longer one is ended and failed.
        threads: of the runtimes; 0 uses all cores.
        tolerances: overrides of the documented tolerances.
        seed: of the stratified samples.
    """

    calibration_images: int = 200
    integer_only: bool = False
    parity_images: int = 2000
    latency_repeats: int = 30
    timeout_seconds: float = 900.0
    threads: int = 0
    tolerances: Mapping[Target, Tolerance] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("calibration_images", 1), ("parity_images", 0), ("latency_repeats", 1)):
            if getattr(self, name) < least:
                raise ArgumentError("too small", where=name, expected=f">= {least}", got=getattr(self, name))
        if not self.timeout_seconds > 0:
            raise ArgumentError("must be above 0", where="timeout_seconds", got=self.timeout_seconds)

    def tolerance(self, target: Target) -> Tolerance:
        """The tolerance that applies to a target."""
        return self.tolerances.get(target, TOLERANCES[target])


def parse_targets(text: str) -> tuple[Target, ...]:
    """Read a comma-separated list of targets; ``all`` stands for every one, repeats are dropped.

    Raises:
        ArgumentError: an unknown target, or none.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if "all" in names:
        return tuple(Target)
    if not names:
        raise ArgumentError("no export target given", where="--to", expected=", ".join(Target))
    return tuple(dict.fromkeys(_target(name) for name in names))


def _target(name: str) -> Target:
    try:
        return Target(name)
    except ValueError:
        close = get_close_matches(name, list(Target), n=1)
        raise ArgumentError(
            f"unknown export target {name!r}",
            where="--to",
            expected=", ".join(Target),
            next_step=f"Did you mean {close[0]}?" if close else "",
        ) from None


def require_packages(targets: Iterable[Target]) -> None:
    """Check before any work that everything the targets need is installed.

    Raises:
        ExportError: a package is missing.
    """
    for target in targets:
        missing = [name for name in _MODULES[target] if importlib.util.find_spec(name) is None]
        if missing:
            raise missing_packages(target, missing)


def missing_packages(target: str, missing: Iterable[str]) -> ExportError:
    """The error for a runtime that is not installed."""
    return ExportError(
        "a package that this format needs is not installed",
        where=target,
        got=f"no {', '.join(missing)}",
        next_step=INSTALL_EXPORT,
    )
