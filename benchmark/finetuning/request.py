"""What a caller asks of fine-tuning, and what it gets."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import KERAS, versions_of
from benchmark.finetuning.comparing import BoardComparison, BoardScore
from benchmark.finetuning.recipe import Recipe
from benchmark.finetuning.tables import PREDICTIONS_FILE, SPLIT_FILE
from benchmark.heads import FinalHead
from benchmark.memory import PackedStrings
from benchmark.options import FinetuneOptions
from benchmark.records import (
    Backbone,
    Float32,
    ImageSet,
    Manifest,
    Predictions,
    Resize,
    Task,
    ThresholdKind,
    WeightsKind,
    WeightsSource,
)
from benchmark.statistics import default_average
from benchmark.storage import MOST_LIST_BYTES, read_small

BUFFER_BYTES = 4 * 2**30
_STATE_SCHEMA = 3
ALREADY_DONE = "Already done"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardHead:
    """What a board found on a frozen backbone.

    Attributes:
        head: one dense layer on the pooled vectors: the board's last head, or one like it that was trained on
            the training part alone.
        part: whose images ``expected`` is about: ``test`` or ``val``.
        expected: float32 (n, C), what this head says of them from vectors of the engine that ranked.
        predictions: of heads that had not seen the image (validation), and of this one (test); None where
            training goes on from the head.
        features: float32 (N, D), the pooled vectors of all images by the engine that ranked; None where the
            network makes them again.
    """

    head: FinalHead
    part: str
    expected: Float32
    predictions: Predictions | None = None
    features: Float32 | None = None

    def digest(self) -> str:
        """SHA-256 of what a model gets from the board: the head and, where it ships, its validation."""
        head, said = self.head, self.predictions
        parts = [head.kernel, head.bias, np.array(head.threshold)]
        if said is not None:
            # Equal heads of two boards may have been validated differently, by more repeats for example.
            parts += [said.val_rows, said.val, said.val_thresholds]
        content = np.concatenate([part.ravel() for part in parts])
        return hashlib.sha256(content.astype("<f8").tobytes()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRequest:
    """What to fine-tune, how, and where the result goes.

    Attributes:
        backbone: which network; its own ``weights`` override those below.
        recipe: the protocol; its own ``backbone`` is not looked at.
        out: the model directory.
        options: of the command. What names data, backbone, recipe and weights there has been looked at.
        weights: source for a backbone that carries none of its own.
        buffer_bytes: most bytes of decoded pixels kept on disk; beyond, every epoch decodes anew.
        board: what the board says of this backbone, to compare with; changes nothing else.
        head: what a recipe that starts from the board puts on the backbone; None for the others.
        states: folder of its own that keeps how far a run has come, also for other machines, until the caller
            removes it; None: beside ``out``.
        token: of this one among equal ones: forced, it goes on only from a state of its own.
    """

    backbone: Backbone
    recipe: Recipe
    out: Path
    options: FinetuneOptions
    weights: WeightsSource = field(default_factory=lambda: WeightsSource(kind=WeightsKind.IMAGENET))
    buffer_bytes: int = BUFFER_BYTES
    board: BoardScore | None = None
    head: BoardHead | None = None
    states: Path | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def but(self, **changes: Any) -> FinetuneRequest:  # noqa: ANN401 - values of any option
        """The same request with other options."""
        return replace(self, options=self.options.but(**changes))

    @property
    def seed(self) -> int:
        """Of splits, training and random weights."""
        return self.options.drawing_seed

    @property
    def resize(self) -> Resize:
        """How images get the input size."""
        return self.options.resize or Resize.BILINEAR

    @property
    def source(self) -> WeightsSource:
        """The weights that the backbone gets."""
        return self.backbone.weights or self.weights

    def digest(self, images: ImageSet, weights_sha256: str) -> str:
        """SHA-256 of everything that changes the result; where it is and how fast it is do not enter."""
        parts = self._decisive(images.task, weights_sha256)
        parts |= {"schema": _STATE_SCHEMA, "data": images.fingerprint(), "versions": versions(self.backbone)}
        return _sha256(parts)

    def comparable_digest(self, images: ImageSet, weights_sha256: str) -> str:
        """SHA-256 of the same without groups and parts: runs that share it differ in their split alone."""
        parts = self._decisive(images.task, weights_sha256)
        content = hashlib.sha256(PackedStrings.of(images.image_ids).letters)
        content.update(np.ascontiguousarray(images.targets, "<i8").tobytes())
        parts |= {"images": content.hexdigest(), "classes": images.classes, "positive": images.positive}
        return _sha256(parts)

    @property
    def _way_of_reaching(self) -> tuple[int, ...]:
        """The version of how a threshold is found that is to reach a recall or precision."""
        reaching = (ThresholdKind.RECALL, ThresholdKind.PRECISION)
        return (2,) if self.options.threshold.kind in reaching else ()

    def _decisive(self, task: Task, weights_sha256: str) -> dict[str, object]:
        backbone, options = self.backbone, self.options
        return {
            "backbone": [
                backbone.architecture,
                sorted(backbone.arguments.items()),
                str(backbone.preprocessing),
            ],
            "weights": weights_sha256,
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "threshold": [options.threshold.kind, options.threshold.value, *self._way_of_reaching],
            "balanced": options.balanced,
            "abstain": str(options.abstain),
            "average": default_average(task, options.average),
            "cached_views": options.cached_views,
            "resize": self.resize,
        } | ({"head": self.head.digest()} if self.head else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuned:
    """A fine-tuned model.

    Attributes:
        backbone: its name on the board.
        model_dir: where it is, with all artefacts.
        manifest: as written there.
        phases: moment (before, phase1, phase2) -> part (val, test) -> metric -> value. A phase that the
            recipe leaves out, and the test part of a data set without one, are None.
        kept_phase: ``phase1`` or ``phase2``: whose best checkpoint the model is; ``before`` where nothing was
            trained, or nothing was shown to be better than what training started from.
        repeated: False when a finished run of the same request was found and nothing was trained.
        notes: remarks for the reader.
        comparison: the test F1 beside that of another split, and beside the board.
    """

    backbone: str
    model_dir: Path
    manifest: Manifest
    phases: Mapping[str, Mapping[str, Mapping[str, float] | None] | None]
    kept_phase: str
    notes: tuple[str, ...]
    repeated: bool = True
    comparison: BoardComparison = field(default_factory=BoardComparison)

    @property
    def val_f1(self) -> float:
        """Validation F1 of the kept model."""
        return float(self.manifest.metrics["val"]["f1"])

    def probabilities(self, images: ImageSet, part: str) -> Float32:
        """Probabilities float32 (n, C) of a part as ``predictions.csv`` has them, in today's image order.

        Raises:
            OSError: a file is gone.
            ValueError: the files are not of these images.
        """

        def lines(name: str) -> Iterable[list[str]]:
            content = read_small(self.model_dir / name, most_bytes=MOST_LIST_BYTES)
            return csv.reader(io.StringIO(content.decode()))

        try:
            ids = {line[0]: line[1] for line in lines(SPLIT_FILE)}
            found = {ids[line[0]]: line[4:] for line in lines(PREDICTIONS_FILE) if line[1] == part}
            rows = getattr(images.split, part)
            return np.array([found[images.image_ids[row]] for row in rows], np.float32)
        except LookupError as error:
            raise ValueError(f"{PREDICTIONS_FILE} is not of these images") from error


def _sha256(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def versions(backbone: Backbone) -> dict[str, str]:
    """Installed versions of what decides the result."""
    found = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    if backbone.source == KERAS:
        return found
    # Without the packages of ONNX, the model is written in another format.
    return found | dict(versions_of(backbone)) | {"onnx": _version_or_absent("onnx")}


def _version_or_absent(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def as_json(content: object) -> bytes:
    """Readable JSON, ending in a line break."""
    return (json.dumps(content, indent=1, sort_keys=False) + "\n").encode()
