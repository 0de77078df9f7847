"""Keras model -> one exported file or folder. Loads TensorFlow; runs in the worker process.

Every format but ``.keras`` and SavedModel is made from one frozen function (weights as constants) that takes
uint8 RGB: handed a function with variables, the TFLite converter of TensorFlow 2.21 wrote files of 0.17 MB
without weights that answer NaN, and no error.
"""

# ruff: noqa: ANN401 - TensorFlow's models, functions and flatbuffer objects carry no types

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmark.deployment.keras_files import load_keras_model
from benchmark.deployment.quantising import quantise
from benchmark.deployment.targets import Target
from benchmark.errors import ExportError

_OPSET = 17


def convert(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Convert one model.

    Args:
        arguments: ``model`` (.keras file), ``target``, ``output`` (file or folder to write), ``input_size``,
            ``calibration`` (.npy of uint8 (N, S, S, 3)) and ``integer_only`` for the full int8 target.

    Returns:
        ``notes``: how the conversion departs from the plain one.

    Raises:
        ExportError: the converter refuses the model.
        ManifestError: Keras refuses the model.
    """
    model = load_keras_model(Path(arguments["model"]))
    target = Target(arguments["target"])
    try:
        notes = _CONVERTERS[target](model, arguments)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        NotImplementedError,
        tf.errors.OpError,
        ImportError,
    ) as error:
        # ConverterError derives from Exception alone; it reaches us as RuntimeError or ValueError from MLIR.
        reason = " ".join(str(error).split())[:400]
        raise ExportError("the converter refuses this model", where=target, got=reason) from error
    return {"notes": list(notes)}


def frozen_function(model: Any, size: int, batch: int | None, *, dtype: Any = tf.uint8) -> Any:
    """The model as a ConcreteFunction ``images (batch, S, S, 3) -> probabilities`` with constant weights."""

    def probabilities(images: Any) -> Any:
        return tf.identity(model(tf.cast(images, tf.float32), training=False), name="probabilities")

    spec = tf.TensorSpec((batch, size, size, 3), dtype, name="images")
    return convert_variables_to_constants_v2(tf.function(probabilities).get_concrete_function(spec))


def _to_keras(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    # Loaded without compiling, so that no optimizer state travels.
    model.save(arguments["output"])
    return ()


def _to_savedmodel(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    size = int(arguments["input_size"])
    module: Any = tf.Module()
    module.model = model

    def serve(images: Any) -> Any:
        return {"probabilities": model(tf.cast(images, tf.float32), training=False)}

    module.serve = tf.function(
        serve, input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8, name="images")]
    )
    tf.saved_model.save(module, arguments["output"], signatures={"serving_default": module.serve})
    return ()


def _lite_converter(model: Any, arguments: Mapping[str, Any]) -> Any:
    # One image a call: phones send one, and a fixed shape lets the delegate take the whole graph.
    function = frozen_function(model, int(arguments["input_size"]), 1)
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())


def _to_tflite_float32(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    Path(arguments["output"]).write_bytes(_lite_converter(model, arguments).convert())
    return ()


def _to_tflite_float16(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    converter = _lite_converter(model, arguments)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    Path(arguments["output"]).write_bytes(converter.convert())
    return ()


def _to_tflite_dynamic(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    converter = _lite_converter(model, arguments)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    Path(arguments["output"]).write_bytes(converter.convert())
    return ()


def _to_tflite_int8(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    size = int(arguments["input_size"])

    def build(dtype: Any) -> Any:
        return frozen_function(model, size, 1, dtype=dtype)

    images = np.load(arguments["calibration"])
    content, notes = quantise(build, images, integer_only=bool(arguments["integer_only"]))
    Path(arguments["output"]).write_bytes(content)
    return notes


def _to_onnx(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    import tf2onnx

    function = frozen_function(model, int(arguments["input_size"]), None)
    proto, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(),
        name="model",
        input_names=[function.inputs[0].name],
        output_names=[function.outputs[0].name],
        opset=_OPSET,
    )
    Path(arguments["output"]).write_bytes(proto.SerializeToString())
    return ()


def _to_openvino(model: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    import openvino

    output = Path(arguments["output"])
    frozen = output.with_suffix(".pb")
    function = frozen_function(model, int(arguments["input_size"]), None)
    frozen.write_bytes(function.graph.as_graph_def().SerializeToString())
    try:
        openvino.save_model(openvino.convert_model(str(frozen)), str(output), compress_to_fp16=False)
    finally:
        frozen.unlink()
    return ()


_CONVERTERS: dict[Target, Callable[[Any, Mapping[str, Any]], tuple[str, ...]]] = {
    Target.KERAS: _to_keras,
    Target.SAVEDMODEL: _to_savedmodel,
    Target.TFLITE_FLOAT32: _to_tflite_float32,
    Target.TFLITE_FLOAT16: _to_tflite_float16,
    Target.TFLITE_DYNAMIC: _to_tflite_dynamic,
    Target.TFLITE_INT8: _to_tflite_int8,
    Target.ONNX: _to_onnx,
    Target.OPENVINO: _to_openvino,
}
