"""Phase 1 of fine-tuning on the embeddings of cached views against running the frozen network every epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.perf.children import ROOT, backbones_command, run
from tests.perf.figures import Figure, Target, Unit
from tests.perf.jobs import empty
from tests.perf.setting import Setting

_SHARED = ROOT.parent / "shared"
_NETWORK = "MobileNetV3Small_0.75"
_VIEWS = 8
_TARGET = Target(at_least=3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One fine-tuning: wall seconds of the command, and validation metrics after phase 1."""

    seconds: float
    metrics: dict[str, Any]

    @property
    def interval(self) -> str:
        low, high = self.metrics["f1_low"], self.metrics["f1_high"]
        return f"F1 {self.metrics['f1']:.3f} [{low:.3f}, {high:.3f}]"

    def agrees(self, other: Trained) -> bool:
        """Whether its F1 lies within the other's interval."""
        return bool(other.metrics["f1_low"] <= self.metrics["f1"] <= other.metrics["f1_high"])


def measure(setting: Setting) -> Iterator[Figure]:
    """Wall time of the whole command, start and building included; photographs and weights where they are."""
    bricks, weights = _SHARED / "data" / "brick_cracks", _SHARED / "weights"
    real = bricks.is_dir() and (weights / f"{_NETWORK}.weights.h5").is_file()
    data = bricks if real and not setting.tiny else setting.images(setting.pick(500, 200, 24))
    source = weights if real else "random"
    epochs = setting.pick(40, 20, 2)
    plain, cached = (
        _train(data, str(source), epochs, options, setting) for options in ((), ("--cached-views", _VIEWS))
    )
    same = "within" if cached.agrees(plain) else "OUTSIDE"
    yield Figure.of_pairs(
        (f"finetune phase 1, {_NETWORK}, {epochs} epochs, {_VIEWS} cached views", "every epoch through it"),
        Unit.SECONDS,
        [(cached.seconds, plain.seconds)],
        _TARGET,
        f"validation {cached.interval}, {same} the interval of {plain.interval}",
    )


def _train(data: Path, weights: str, epochs: int, options: tuple[object, ...], setting: Setting) -> Trained:
    folder = empty(setting.folder / f"views-{'cached' if options else 'plain'}")
    words = [
        "finetune",
        data,
        "--winner",
        _NETWORK,
        "--weights",
        weights,
        "--epochs",
        f"{epochs},0",
        *options,
    ]
    seconds = run(
        backbones_command(*words, "--cache", folder / "cache", "--results", folder / "results"), setting.log
    )
    metrics = json.loads(_artefact(folder, "metrics.json").read_text())
    return Trained(seconds=seconds, metrics=metrics["phase1"]["val"])


def _artefact(folder: Path, name: str) -> Path:
    return next((folder / "results").glob(f"*/finetune/*/*/{name}"))
