"""A loaded model of any format: probabilities of images, and the time they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.deployment.description import Deployment
from benchmark.deployment.targets import Classify, find_target, missing_packages
from benchmark.errors import ArgumentError, ExportError
from benchmark.finetuning import Familiar, TrainedOn
from benchmark.machine import cores
from benchmark.records import Bool, Float32, Float64, UInt8

_BATCH = 32


class Predictor:
    """A loaded model of any format.

    Attributes:
        description: labels, threshold, input and files.
        trained_on: the images that it has seen; None where the model does not say.
        familiar: what its training images look like; None where that is not known.
    """

    def __init__(self, description: Deployment, run: Classify, *, batch: int = _BATCH) -> None:
        self.description = description
        self.trained_on: TrainedOn | None = None
        self.familiar: Familiar | None = None
        self._run = run
        self._both: Callable[[UInt8], tuple[Float32, Float32]] | None = None
        self._batch = description.input_shape[0] or batch

    def know(self, familiar: Familiar, both: Callable[[UInt8], tuple[Float32, Float32]]) -> None:
        """Take what the training images look like, and what gives pooled vectors beside probabilities."""
        self.familiar, self._both = familiar, both

    def recognise(self, images: UInt8) -> tuple[Float32, Bool]:
        """Probabilities as of ``predict``, and bool (N,), which images are unlike the training images.

        None is where that is not known. Errors are those of ``predict``.
        """
        if self.familiar is None or self._both is None:
            return self.predict(images), np.zeros(len(images), bool)
        self._check_input(images)
        answers, strange = [np.zeros((0, self.description.outputs), np.float32)], [np.zeros(0, bool)]
        for start in range(0, len(images), self._batch):
            probabilities, vectors = self._both(images[start : start + self._batch])
            answers.append(self._checked(np.asarray(probabilities, np.float32), len(vectors)))
            strange.append(self.familiar.strange(vectors))
        return np.concatenate(answers), np.concatenate(strange)

    def predict(self, images: UInt8) -> Float32:
        """Probabilities of images.

        Args:
            images: uint8 (N, S, S, 3), RGB 0..255, already of the model's input size.

        Returns:
            float32 (N, C); for BINARY C is 1, the probability of the positive class.

        Raises:
            ArgumentError: another shape or dtype.
            ExportError: the model answers with another shape or with numbers that are not finite.
        """
        self._check_input(images)
        parts = [
            self._answer(images[start : start + self._batch]) for start in range(0, len(images), self._batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.description.outputs), np.float32)

    def _check_input(self, images: UInt8) -> None:
        size = self.description.input_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ArgumentError(
                "images of another kind",
                expected=f"uint8 (N, {size}, {size}, 3)",
                got=f"{images.dtype} {images.shape}",
            )

    def latency_ms(self, image: UInt8, repeats: int) -> tuple[float, float]:
        """Median and 95th percentile of the time for one image uint8 (S, S, 3), after three warm-up calls."""
        single = image[None]
        for _ in range(3):
            self._run(single)
        seconds: Float64 = np.array([_seconds(self._run, single) for _ in range(repeats)])
        return float(np.median(seconds) * 1e3), float(np.percentile(seconds, 95) * 1e3)

    def _answer(self, images: UInt8) -> Float32:
        return self._checked(np.asarray(self._run(images), np.float32), len(images))

    def _checked(self, probabilities: Float32, count: int) -> Float32:
        wanted = (count, self.description.outputs)
        if probabilities.shape != wanted:
            raise ExportError(
                "the model's answer has another shape",
                where=self.description.model,
                expected=wanted,
                got=probabilities.shape,
            )
        if not np.isfinite(probabilities).all():
            raise ExportError(
                "the model answers with numbers that are not finite",
                where=self.description.model,
                got="nan or inf",
            )
        return probabilities


def _seconds(run: Classify, images: UInt8) -> float:
    started = time.perf_counter()
    run(images)
    return time.perf_counter() - started


def load(folder: Path, description: Deployment, *, threads: int = 0) -> Predictor:
    """Load the model that ``description`` names from ``folder``; its files were checked before.

    Args:
        folder: of the description.
        description: what to load.
        threads: of the runtime; 0 uses all cores. Keras and SavedModel take TensorFlow's own setting.

    Raises:
        ExportError: the runtime's package is missing, or it refuses the file.
    """
    path = folder / description.model
    try:
        run = find_target(description.target).load(path, threads or cores())
    except ImportError as error:
        raise missing_packages(description.target, [error.name or str(error)]) from error
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError("the runtime refuses this file", where=path, got=reason) from error
    return Predictor(description, run)
