"""Running an exported model in its own runtime. Nothing here but Keras and SavedModel imports TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmark.deployment.description import Deployment
from benchmark.deployment.keras_files import load_keras_model
from benchmark.deployment.targets import Target, missing_packages
from benchmark.errors import ArgumentError, ExportError
from benchmark.finetuning import TrainedOn
from benchmark.machine import cores
from benchmark.records import Float32, Float64, UInt8

_BATCH = 32


class Run(Protocol):
    """One loaded model."""

    def __call__(self, images: UInt8) -> Float32:
        """Probabilities float32 (N, C) of uint8 (N, S, S, 3), RGB; N is at most the batch of the model."""


class Predictor:
    """A loaded model of any format.

    Attributes:
        description: labels, threshold, input and files.
        trained_on: the images that it has seen; None where the model does not say.
    """

    def __init__(self, description: Deployment, run: Run, *, batch: int = _BATCH) -> None:
        self.description = description
        self.trained_on: TrainedOn | None = None
        self._run = run
        self._batch = description.input_shape[0] or batch

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
        size, columns = self.description.input_size, self.description.outputs
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ArgumentError(
                "images of another kind",
                expected=f"uint8 (N, {size}, {size}, 3)",
                got=f"{images.dtype} {images.shape}",
            )
        parts = [
            self._checked(images[start : start + self._batch]) for start in range(0, len(images), self._batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, columns), np.float32)

    def latency_ms(self, image: UInt8, repeats: int) -> tuple[float, float]:
        """Median and 95th percentile of the time for one image uint8 (S, S, 3), after three warm-up calls."""
        single = image[None]
        for _ in range(3):
            self._run(single)
        seconds: Float64 = np.array([_seconds(self._run, single) for _ in range(repeats)])
        return float(np.median(seconds) * 1e3), float(np.percentile(seconds, 95) * 1e3)

    def _checked(self, images: UInt8) -> Float32:
        probabilities = np.asarray(self._run(images), np.float32)
        wanted = (len(images), self.description.outputs)
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


def _seconds(run: Run, images: UInt8) -> float:
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
    return Predictor(description, _LOADERS[description.target](path, threads or cores()))


def _keras(path: Path, _threads: int) -> Run:
    import tensorflow as tf

    model = load_keras_model(path)
    # Tracing once is cheaper than Model.predict, and the padded batch keeps it at one trace per batch shape.
    call = tf.function(
        lambda images: model(tf.cast(images, tf.float32), training=False),  # type: ignore[operator]
        reduce_retracing=True,
    )
    return lambda images: np.asarray(call(tf.constant(images)))


def _savedmodel(path: Path, _threads: int) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]

    def run(images: UInt8) -> Float32:
        (answer,) = signature(images=tf.constant(images)).values()
        return np.asarray(answer, np.float32)

    run.loaded = loaded  # type: ignore[attr-defined]  # the signature does not keep its variables alive
    return run


def _tflite(path: Path, threads: int) -> Run:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise missing_packages("tflite", ["ai_edge_litert"]) from error
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _refused(path, error) from error
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(images: UInt8) -> Float32:
        interpreter.set_tensor(taken["index"], images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(given["index"]), np.float32)

    return run


def _onnx(path: Path, threads: int) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_packages("onnx", ["onnxruntime"]) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _onnx_refusals() as error:
        raise _refused(path, error) from error
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def _onnx_refusals() -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions, which share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    kinds = [kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)


def _openvino(path: Path, threads: int) -> Run:
    try:
        import openvino
    except ImportError as error:
        raise missing_packages("openvino", ["openvino"]) from error
    # Without the hint, processors with bfloat16 or float16 arithmetic leave float32.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise _refused(path, error) from error
    return lambda images: np.asarray(compiled(images)[0])


def _refused(path: Path, error: Exception) -> ExportError:
    reason = " ".join(str(error).split())[:300]
    return ExportError("the runtime refuses this file", where=path, got=reason)


_LOADERS: dict[Target, Callable[[Path, int], Run]] = {
    Target.KERAS: _keras,
    Target.SAVEDMODEL: _savedmodel,
    Target.TFLITE_FLOAT32: _tflite,
    Target.TFLITE_FLOAT16: _tflite,
    Target.TFLITE_DYNAMIC: _tflite,
    Target.TFLITE_INT8: _tflite,
    Target.ONNX: _onnx,
    Target.OPENVINO: _openvino,
}
