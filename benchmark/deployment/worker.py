"""Conversions and measurements in a process of their own, one after the other.

TFLite's converter and interpreters print a lot, hold memory and can abort the process they run in; here they
take down nothing but themselves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import load_keras_model
from benchmark.deployment.examples import check_example
from benchmark.deployment.opening import open_model
from benchmark.deployment.targets import GraphTarget, find_target, target_names
from benchmark.errors import BenchmarkError, ExportError, JobError, StorageError
from benchmark.execution import run_in_turn, thread_environment
from benchmark.machine import cores
from benchmark.options import ExportOptions
from benchmark.storage import NO_ROOM, storage_error

USUAL_SECONDS: float = ExportOptions.model_fields["timeout"].default
# Conversions and runtimes of the processor need no GPU, and must not take its memory.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Convert a model.

    Attributes:
        name: of the target.
        model: its file, .keras, or of another library .onnx or .xml.
        output: file or folder to write.
        calibration: .npy of uint8 (N, S, S, 3).
    """

    name: str
    model: Path
    output: Path
    calibration: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """Run a model or an export.

    Attributes:
        name: what a reader calls it; a target.
        folder: of the model or export.
        images: .npy of uint8 (N, S, S, 3).
        repeats: single images that are timed; 0 for none.
        photos: files to run the example on; none where there is no example.
    """

    name: str
    folder: Path
    images: Path
    repeats: int = 0
    photos: tuple[Path, ...] = ()


Work = Conversion | ModelRun


def carry_out(
    tasks: Sequence[Work], *, timeout_seconds: float = USUAL_SECONDS
) -> Generator[tuple[Work, dict[str, Any] | ExportError]]:
    """Have tasks done in order, each answered as it comes.

    One that ends the process or takes too long is answered with an ExportError, and costs no other.

    Args:
        tasks: what to do.
        timeout_seconds: for each task.

    Raises:
        StorageError: there was no room for what a task writes; the next one would fare no better.
    """
    environment = thread_environment() | _ENVIRONMENT
    answers = run_in_turn(work_task, tasks, cores(), environment=environment, timeout_seconds=timeout_seconds)
    with closing(answers):
        for task, answer in zip(tasks, answers, strict=True):
            told = {"failed": answer} if isinstance(answer, JobError) else answer
            if isinstance(told.get("failed"), StorageError):
                raise told["failed"]
            yield task, _failure(task, told["failed"]) if "failed" in told else told


def _failure(task: Work, error: BenchmarkError) -> ExportError:
    done = "converted" if isinstance(task, Conversion) else "compared"
    return ExportError(f"the model could not be {done}", where=task.name, got=error)


def work_task(task: Work, threads: int) -> dict[str, Any]:
    """Do one task with threads that this machine has.

    Returns:
        Of a conversion ``notes``, how it departs from the plain one; of a measurement ``probabilities``,
        float32 (N, C), ``latency_p50_ms`` and ``latency_p95_ms`` of one image in one call, nan where nothing
        is timed, and ``example_max_difference`` of a probability. Or ``failed``, the error: a StorageError
        where there was no room.
    """
    try:
        return _convert(task) if isinstance(task, Conversion) else _measure(task, threads)
    except BenchmarkError as error:
        return {"failed": error}
    except OSError as error:
        if isinstance(task, Conversion) and error.errno in NO_ROOM:
            return {"failed": storage_error(error, task.output.parents[1])}
        return {"failed": JobError(f"{type(error).__name__}: {error}")}


def _convert(task: Conversion) -> dict[str, Any]:
    if task.model.suffix != ".keras":
        return {"notes": list(_convert_graph(task.model, task.name, task.output))}
    import tensorflow as tf

    model = load_keras_model(task.model)
    images = np.load(task.calibration, mmap_mode="r")
    try:
        notes = find_target(task.name).convert(model, images, task.output)
    except (RuntimeError, ValueError, TypeError, tf.errors.OpError, ImportError) as error:
        # ConverterError derives from Exception alone; it reaches us as RuntimeError or ValueError from MLIR.
        raise _refusal(error, task.name) from error
    return {"notes": list(notes)}


def _convert_graph(path: Path, target: str, output: Path) -> Iterable[str]:
    """The same of a network that is not Keras's."""
    made = find_target(target)
    if not isinstance(made, GraphTarget):
        names = [name for name in target_names() if isinstance(find_target(name), GraphTarget)]
        raise ExportError(
            "is made of networks of Keras alone",
            where=target,
            expected=f"{' or '.join(names)} for this one",
            got=path.name,
        )
    try:
        return made.convert_graph(path, output)
    except (RuntimeError, ValueError) as error:
        raise _refusal(error, target) from error


def _refusal(error: Exception, target: str) -> ExportError | OSError:
    said = str(error)
    for number in NO_ROOM:  # converters tell it in words
        if os.strerror(number) in said:
            return OSError(number, os.strerror(number))
    return ExportError("the converter refuses this model", where=target, got=" ".join(said.split())[:400])


def _measure(task: ModelRun, threads: int) -> dict[str, Any]:
    predictor = open_model(task.folder, threads=threads)
    images = np.load(task.images, mmap_mode="r")
    found: dict[str, Any] = {"probabilities": predictor.predict(images)}
    median, high = math.nan, math.nan
    if task.repeats:
        median, high = predictor.latency_ms(np.asarray(images[0]), task.repeats)
    example = check_example(task.folder, predictor, task.photos) if task.photos else 0.0
    return found | {"latency_p50_ms": median, "latency_p95_ms": high, "example_max_difference": example}
