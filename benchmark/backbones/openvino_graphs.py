"""Graphs of OpenVINO as backbones: preprocessing before them, one vector per image behind, their cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmark.errors import WeightsError
from benchmark.records import Float32, Preprocessing, UInt8

OpenVINOModel: TypeAlias = Any
Node: TypeAlias = Any
Output: TypeAlias = Any


def embedding_graph(
    model: OpenVINOModel, preprocessing: Preprocessing, size: int, *, output: str, where: Path
) -> OpenVINOModel:
    """Put preprocessing before a network, and make one vector per image of its output.

    Args:
        model: openvino.Model with one input, (n, 3, S, S) or (n, S, S, 3); changed in place.
        preprocessing: what it expects of its input.
        size: side S in pixels.
        output: name of the output that holds the features; empty for its only one.
        where: the file, for messages.

    Returns:
        openvino.Model, uint8 (?, S, S, 3) -> float32 (?, D). Maps are averaged over their places.

    Raises:
        WeightsError: another number of inputs or outputs, or other shapes.
    """
    import openvino
    from openvino import Layout, Type
    from openvino.preprocess import ColorFormat, PrePostProcessor

    channels_last = is_channels_last(model, where)
    side = [size, size, 3] if channels_last else [3, size, size]
    chosen = _output(model, output, where)
    try:
        model.reshape([-1, *side])
    except RuntimeError as error:
        raise _unfit(where, f"a network for any number of images of {size} pixels", str(error)) from error
    features = _vector(chosen, channels_last, where)
    model = openvino.Model([features], model.get_parameters(), "backbone")
    ready = PrePostProcessor(model)
    colours = (ColorFormat.RGB, ColorFormat.BGR)[preprocessing.bgr]
    ready.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC")).set_color_format(
        ColorFormat.RGB
    )
    ready.input().model().set_layout(Layout("NHWC" if channels_last else "NCHW"))
    order = (2, 1, 0) if preprocessing.bgr else (0, 1, 2)
    steps = ready.input().preprocess().convert_element_type(Type.f32).convert_color(colours)
    steps.mean([preprocessing.mean[one] for one in order]).scale([preprocessing.scale[one] for one in order])
    ready.output().tensor().set_element_type(Type.f32)
    return ready.build()


def is_channels_last(model: OpenVINOModel, where: Path) -> bool:
    """Whether a network takes (n, S, S, 3) instead of (n, 3, S, S).

    Raises:
        WeightsError: another number of inputs, or another shape.
    """
    if len(model.inputs) != 1:
        raise _unfit(where, "one input", f"{len(model.inputs)} inputs")
    shape = model.inputs[0].partial_shape
    threes = [place for place, dim in enumerate(shape) if place and dim.is_static and dim.get_length() == 3]
    if len(shape) != 4 or threes not in ([1], [3]):
        raise _unfit(where, "an input (n, 3, S, S) or (n, S, S, 3)", str(shape))
    return threes == [3]


def yields_maps(model: OpenVINOModel, output: str, where: Path) -> bool:
    """Whether an output (the only one, where it has no name) is maps instead of vectors.

    Raises:
        WeightsError: there is no such output, or more than one.
    """
    return len(_output(model, output, where).partial_shape) == 4


def _output(model: OpenVINOModel, name: str, where: Path) -> Output:
    by_name = {any_name: output for output in model.outputs for any_name in output.names}
    if name:
        inside = {one: out for op in model.get_ops() for out in op.outputs() for one in out.names}
        if name not in inside:
            raise _unfit(where, f"an output of one of {', '.join(sorted(by_name))}", name)
        return inside[name]
    if len(model.outputs) != 1:
        raise _unfit(
            where, f"output=NAME with one of {', '.join(sorted(by_name))}", f"{len(model.outputs)} outputs"
        )
    node = model.outputs[0].get_node()
    return node.input_value(0)


def _vector(features: Output, channels_last: bool, where: Path) -> Output:
    """Features as (n, D): maps by their mean over places; other shapes are refused."""
    from openvino import opset13 as ops

    shape = features.partial_shape
    if len(shape) == 4:
        places = np.array([1, 2] if channels_last else [2, 3], np.int64)
        features = ops.reduce_mean(features, places, keep_dims=False).output(0)
    if len(features.partial_shape) != 2 or features.partial_shape[1].is_dynamic:
        raise _unfit(where, "an output (n, D), or maps (n, D, H, W), that are averaged", str(shape))
    return features


def _unfit(where: Path, expected: str, got: str) -> WeightsError:
    return WeightsError(
        "not a network that yields one vector per image", where=where, expected=expected, got=got[:200]
    )


def classifier_graph(
    model: OpenVINOModel, kernel: Float32, bias: Float32, *, exclusive: bool
) -> OpenVINOModel:
    """Put a head behind a network that yields embeddings.

    Args:
        model: openvino.Model, uint8 (?, S, S, 3) -> float32 (?, D).
        kernel: float32 (D, C).
        bias: float32 (C,).
        exclusive: softmax over the classes, else a sigmoid each.

    Returns:
        openvino.Model, uint8 (?, S, S, 3) -> probabilities float32 (?, C).
    """
    import openvino
    from openvino import opset13 as ops

    features = model.outputs[0].get_node().input_value(0)
    products = ops.matmul(features, ops.constant(kernel), False, False)
    logits = ops.add(products, ops.constant(bias))
    answer = ops.softmax(logits, 1) if exclusive else ops.sigmoid(logits)
    return openvino.Model([answer.output(0)], model.get_parameters(), "classifier")


def run_graph(model: OpenVINOModel, images: UInt8) -> Float32:
    """A graph in float32 on some images, uint8 (n, S, S, 3) -> float32 (n, D)."""
    return open_graph(model)(images)


def open_graph(model: OpenVINOModel | Path) -> Callable[[UInt8], Float32]:
    """A graph, or a file of one, in float32: uint8 (n, S, S, 3) -> float32 (n, D)."""
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: np.array(compiled(images)[0])


def graph_params(model: OpenVINOModel) -> int:
    """Numbers in the floating-point constants of a graph."""
    return sum(
        math.prod(op.get_output_shape(0))
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().is_real()
    )


def graph_flops(model: OpenVINOModel) -> int:
    """Operations of convolutions and matrix products of a graph of static shapes, a multiply-add as two."""
    return sum(_flops(op) for op in model.get_ops())


def _flops(op: Node) -> int:
    kind = op.get_type_name()
    if kind not in {"Convolution", "GroupConvolution", "MatMul"} or not op.output(0).partial_shape.is_static:
        return 0
    outputs = int(math.prod(op.get_output_shape(0)))
    if kind == "MatMul":
        shape = op.get_input_shape(0)
        return 2 * outputs * int(shape[-2] if op.get_attributes()["transpose_a"] else shape[-1])
    kernel = op.get_input_shape(1)  # (out, in, ...), of groups (groups, out, in, ...)
    return 2 * outputs * int(math.prod(kernel[1 if kind == "Convolution" else 2 :]))
