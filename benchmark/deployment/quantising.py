"""Full int8 TFLite files that keep their accuracy. Loads TensorFlow; runs in the worker process.

Three things go wrong when MobileNetV3 is quantised the documented way with TensorFlow 2.21, each measured on
a fine-tuned MobileNetV3Small_0.75, and each mended here:

- A squeeze-and-excite unit whose ReLU is never active gets the range 0..0, hence a scale of 1e-8 and a
  requantisation ratio of 2000, which XNNPACK (the interpreter's default delegate) refuses: the file does not
  load. A constant tensor gets the range 0..1 instead.
- The converter's calibrator reads tensors after later operators reused their memory, so that some ranges are
  those of other tensors. Ranges are therefore measured in the LiteRT interpreter with every tensor preserved.
- A few images with extreme activations stretch the ranges of all: clipping the ranges to a percentile of the
  per-image extremes (Krishnamoorthi, 2018, arXiv:1806.08342; Wu et al., 2020, arXiv:2004.09602) more than
  halves the mean probability difference. Which percentile is best differs by model and is not monotonous, so
  several are tried on the calibration images, and the file closest to the float model there is kept. The
  validation images play no part in that choice.

Inputs of a hard-swish may be cut at -3, below which it is zero (Howard et al., 2019, arXiv:1905.02244);
this too is a candidate. Where no wholly integer candidate is close enough, element-wise, depthwise and dense
operators stay in float, and so do the first convolutions, which hold few weights and whose rounding all later
layers inherit; the others are int8.
"""

# ruff: noqa: ANN401 - TensorFlow's models, functions and flatbuffer objects carry no types

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.util import modify_model_io_type
from tensorflow.lite.toco import types_pb2
from tensorflow.lite.tools import flatbuffer_utils

from benchmark.errors import ExportError
from benchmark.records import Float32, Float64, UInt8

_HARD_SWISH = "HARD_SWISH"
_FLOAT_OPERATORS = (
    _HARD_SWISH,
    "MUL",
    "ADD",
    "SUB",
    "MEAN",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "LOGISTIC",
    "SOFTMAX",
)
# A candidate this close to the float model on the calibration images ends the search.
_GOOD_ENOUGH = 0.002
# Above this mean probability difference the partly float candidates are tried as well.
_ACCEPTABLE = 0.01
_SMALLEST_RANGE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """One way to quantise."""

    percentile: float  # of the per-image extremes that a range keeps; 100 keeps all
    cut_hard_swish: bool = False  # cut ranges of hard-swish inputs at -3
    float_operators: tuple[str, ...] = ()  # that stay in float
    early_share: float = 0.0  # of the convolution weights that stays in float, from the first layer on

    def notes(self, difference: float) -> tuple[str, ...]:
        """How this departs from the plain conversion, for the reader."""
        ranges = (
            "activation ranges keep all calibration extremes"
            if self.percentile == 100
            else f"activation ranges clipped to the {self.percentile:g}th percentile of per-image extremes"
        )
        cut = ("hard-swish inputs cut at -3",) if self.cut_hard_swish else ()
        operators = f"in float: {', '.join(self.float_operators)}"
        early = f", and the convolutions that hold the first {self.early_share:.0%} of their weights"
        kept = operators + early * bool(self.early_share) if self.float_operators else "wholly int8"
        return ranges, *cut, kept, f"mean probability difference on the calibration images {difference:.4f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Extremes of the activations of a float model."""

    low: dict[int, Float64]  # tensor position -> (N,), the smallest value per calibration image
    high: dict[int, Float64]  # the largest
    probabilities: Float32  # (N, C) of the float model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A candidate that was tried."""

    difference: float  # mean difference of a probability on the calibration images
    content: bytes  # the TFLite file
    candidate: Quantisation


def _wholly_int8(cuts: Sequence[bool]) -> list[Quantisation]:
    return [
        Quantisation(percentile=percentile, cut_hard_swish=cut)
        for percentile in (100.0, 99.0, 98.0, 90.0, 80.0)
        for cut in cuts
    ]


def _partly_float(cuts: Sequence[bool]) -> list[Quantisation]:
    # Float neighbours take the harm out of cutting, so that it is always worth it.
    return [
        Quantisation(
            percentile=percentile,
            cut_hard_swish=cuts[-1],
            float_operators=_FLOAT_OPERATORS,
            early_share=share,
        )
        for share in (0.0, 0.02, 0.06, 0.15)
        for percentile in (100.0, 99.0)
    ]


def quantise(
    build: Callable[[str], Any], images: UInt8, *, integer_only: bool = False
) -> tuple[bytes, tuple[str, ...]]:
    """Quantise a model to int8 weights and activations, uint8 RGB in, float32 probabilities out.

    Args:
        build: dtype -> ConcreteFunction (1, S, S, 3) of that dtype, 0..255 -> (1, C), constant weights.
        images: uint8 (N, S, S, 3), the calibration images.
        integer_only: never keep an operator in float.

    Returns:
        The TFLite file, and what was done.

    Raises:
        ExportError: no candidate runs.
    """
    # A float input is what the converter can turn into a uint8 one; a CAST inside stays a float operator.
    best = _search(build("float32"), images, _wholly_int8, None)
    if not integer_only and (best is None or best.difference > _ACCEPTABLE):
        best = _search(build("uint8"), images, _partly_float, best)
    if best is None:
        raise ExportError("no int8 version of this model runs in LiteRT with its default delegate")
    return best.content, best.candidate.notes(best.difference)


def _search(
    function: Any, images: UInt8, make: Callable[[Sequence[bool]], list[Quantisation]], best: _Trial | None
) -> _Trial | None:
    """The closest of the candidates and of ``best``."""
    calibrated = _with_range_slots(function, images[:1])
    ranges = observe(calibrated, images)
    cuts = (False, True) if _HARD_SWISH in _operator_names(_parsed(calibrated)) else (False,)
    for candidate in make(cuts):
        content = _quantised(calibrated, ranges, candidate)
        difference = _difference(content, images, ranges.probabilities)
        if difference is not None and (best is None or difference < best.difference):
            best = _Trial(difference=difference, content=content, candidate=candidate)
        if best is not None and best.difference <= _GOOD_ENOUGH:
            break
    return best


def _with_range_slots(function: Any, images: UInt8) -> bytes:
    """The float model after the converter's own calibration, whose ranges are to be overwritten."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    dtype = function.inputs[0].dtype.as_numpy_dtype
    converter.representative_dataset = lambda: ([image[None]] for image in images.astype(dtype))
    converter._experimental_calibrate_only = True
    return bytes(converter.convert())


def _interpreter(content: bytes, **options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, **options)
    interpreter.allocate_tensors()
    return interpreter


def observe(model: bytes, images: UInt8) -> Ranges:
    """Run a float TFLite model over images uint8 (N, S, S, 3) and note the extremes of every tensor."""
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = _interpreter(
        model,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    taken = interpreter.get_input_details()[0]
    floats = [detail["index"] for detail in interpreter.get_tensor_details() if detail["dtype"] is np.float32]
    extremes: dict[int, list[tuple[float, float]]] = {}
    probabilities = []
    for image in images:
        probabilities.append(_answer(interpreter, image.astype(taken["dtype"])))
        for tensor in floats:
            values = _values(interpreter, tensor)
            if values is not None:
                extremes.setdefault(tensor, []).append((float(values.min()), float(values.max())))
    arrays = {tensor: np.array(pairs, np.float64) for tensor, pairs in extremes.items()}
    return Ranges(
        low={tensor: pairs[:, 0] for tensor, pairs in arrays.items()},
        high={tensor: pairs[:, 1] for tensor, pairs in arrays.items()},
        probabilities=np.array(probabilities, np.float32),
    )


def _values(interpreter: Any, tensor: int) -> Float32 | None:
    try:
        values: Float32 = interpreter.get_tensor(tensor)
    except ValueError:  # a temporary that holds nothing
        return None
    return values if values.size else None


def _quantised(calibrated: bytes, ranges: Ranges, candidate: Quantisation) -> bytes:
    content = mlir_quantize(
        _with_ranges(calibrated, ranges, candidate),
        fully_quantize=False,
        inference_type=types_pb2.QUANTIZED_INT8,
        input_data_type=tf.float32,
        output_data_type=tf.float32,
        denylisted_ops=list(candidate.float_operators) or None,
        denylisted_nodes=_first_convolutions(_parsed(calibrated), candidate.early_share) or None,
    )
    if candidate.float_operators:  # its input is uint8 already
        return bytes(content)
    return bytes(modify_model_io_type(content, tf.uint8, tf.float32))


def _parsed(content: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(content), 0))


def _operator_names(model: Any) -> list[str]:
    """Operator name of every operator of the main graph, in order."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names[codes[operator.opcodeIndex]] for operator in model.subgraphs[0].operators]


def _with_ranges(calibrated: bytes, ranges: Ranges, candidate: Quantisation) -> bytes:
    model = _parsed(calibrated)
    graph = model.subgraphs[0]
    cut = _hard_swish_inputs(model) if candidate.cut_hard_swish else set()
    for position, tensor in enumerate(graph.tensors):
        slot = tensor.quantization
        if slot is None or slot.min is None or len(slot.min) == 0 or position not in ranges.low:
            continue
        low = float(np.percentile(ranges.low[position], 100 - candidate.percentile))
        high = float(np.percentile(ranges.high[position], candidate.percentile))
        if position in graph.inputs:
            # Exactly this range makes a uint8 pixel its own quantised value: scale 1, zero point 0.
            low, high = 0.0, 255.0
        if high - low < _SMALLEST_RANGE:
            low, high = min(low, 0.0), max(high, 1.0)
        if position in cut:
            low, high = max(low, -3.0), max(high, 3.0)
        slot.min, slot.max = [low], [high]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _hard_swish_inputs(model: Any) -> set[int]:
    """Tensors that nothing but hard-swish reads."""
    readers: dict[int, set[str]] = {}
    for name, operator in zip(_operator_names(model), model.subgraphs[0].operators, strict=True):
        for tensor in operator.inputs:
            readers.setdefault(int(tensor), set()).add(name)
    return {tensor for tensor, names in readers.items() if names == {_HARD_SWISH}}


def _first_convolutions(model: Any, share: float) -> list[str]:
    """Names of the first convolutions that hold at most this share of all convolution weights."""
    graph = model.subgraphs[0]
    pairs = zip(_operator_names(model), graph.operators, strict=True)
    convolutions = [operator for name, operator in pairs if name == "CONV_2D"]
    weights = np.array([np.prod(graph.tensors[operator.inputs[1]].shape) for operator in convolutions], float)
    early = np.cumsum(weights) <= share * weights.sum()
    return [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator, chosen in zip(convolutions, early, strict=True)
        if chosen
    ]


def _difference(content: bytes, images: UInt8, wanted: Float32) -> float | None:
    """Mean probability difference under the default delegate; None where LiteRT refuses the file."""
    try:
        interpreter = _interpreter(content)
    except (RuntimeError, ValueError):
        return None
    taken = interpreter.get_input_details()[0]
    # Pixels must be their own quantised values: nobody who reads a photograph would think of scaling them.
    if taken["dtype"] is not np.uint8 or tuple(taken["quantization"]) not in ((1.0, 0), (0.0, 0)):
        return None
    answers = np.array([_answer(interpreter, image) for image in images], np.float32)
    return float(np.abs(answers - wanted).mean())


def _answer(interpreter: Any, image: UInt8 | Float32) -> Float32:
    """Probabilities float32 (C,) of one image (S, S, 3)."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    answer: Float32 = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].copy()
    return answer
