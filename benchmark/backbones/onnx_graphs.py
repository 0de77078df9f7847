"""Networks as ONNX: preprocessing before them, one vector per image behind them, a head behind that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from benchmark.records import Float32, Preprocessing

OnnxModel: TypeAlias = Any
OnnxNode: TypeAlias = Any

INPUT, FEATURES, ANSWER = "images", "embeddings", "probabilities"
OPSET = 17
_OLDEST_OPSET = 7  # older ones do not broadcast
_REDUCES_BY_INPUT = 18
_PREFIX = "network/"  # no name of ours begins so


def embedding_onnx(
    model: OnnxModel,
    preprocessing: Preprocessing,
    size: int,
    *,
    output: str,
    channels_last: bool,
    maps: bool,
) -> OnnxModel:
    """Put preprocessing before a network, and make one vector per image of its output.

    Args:
        model: onnx.ModelProto with one input of images; changed in place.
        preprocessing: what it expects of its input.
        size: side S in pixels.
        output: name of the tensor with the features; empty for its only output.
        channels_last: the input is (n, S, S, 3), else (n, 3, S, S).
        maps: the features are maps, which are averaged over their places.

    Returns:
        The model, uint8 (n, S, S, 3) -> float32 (n, D).

    Raises:
        ValueError: it is of an opset without broadcasting, or has no single input.
    """
    from onnx import TensorProto, helper

    graph, opset = model.graph, _opset(model)
    if opset < _OLDEST_OPSET:
        raise ValueError(f"opset {opset} is older than {_OLDEST_OPSET}")
    _prefix_names(graph)
    held = {one.name for one in graph.initializer}
    (taken,) = (one.name for one in graph.input if one.name not in held)
    features = f"{_PREFIX}{output}" if output else graph.output[0].name
    before = list(_scaled(graph, preprocessing, taken, channels_last))
    behind = _pooled(graph, features, opset, channels_last) if maps else []
    last = behind[-1].output[0] if behind else features
    nodes = [*before, *graph.node, *behind, helper.make_node("Identity", [last], [FEATURES])]
    _replace(graph.node, _needed(nodes, FEATURES))
    read = {name for node in graph.node for name in _names_read(node)}
    _replace(graph.initializer, [one for one in graph.initializer if one.name in read])
    _replace(graph.input, [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", size, size, 3])])
    _replace(graph.output, [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", None])])
    _replace(graph.value_info, [])  # shapes may have been those of one image
    return model


def classifier_onnx(model: OnnxModel, kernel: Float32, bias: Float32, *, exclusive: bool) -> OnnxModel:
    """Put a head behind a network whose only output is its embeddings.

    Args:
        model: onnx.ModelProto, uint8 (n, S, S, 3) -> float32 (n, D); changed in place.
        kernel: float32 (D, C).
        bias: float32 (C,).
        exclusive: softmax over the classes, else a sigmoid each.

    Returns:
        The model, uint8 (n, S, S, 3) -> probabilities float32 (n, C).
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    graph.initializer.extend(
        [numpy_helper.from_array(kernel, "head_kernel"), numpy_helper.from_array(bias, "head_bias")]
    )
    activation: dict[str, Any] = {"op_type": "Softmax", "axis": 1} if exclusive else {"op_type": "Sigmoid"}
    graph.node.extend(
        [
            helper.make_node("MatMul", [graph.output[0].name, "head_kernel"], ["head_products"]),
            helper.make_node("Add", ["head_products", "head_bias"], ["head_logits"]),
            helper.make_node(inputs=["head_logits"], outputs=[ANSWER], **activation),
        ]
    )
    _replace(graph.output, [helper.make_tensor_value_info(ANSWER, TensorProto.FLOAT, ["n", len(bias)])])
    return model


def _opset(model: OnnxModel) -> int:
    return max((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), default=0)


def _scaled(
    graph: OnnxModel, preprocessing: Preprocessing, taken: str, channels_last: bool
) -> Iterator[OnnxNode]:
    """From bytes to what the network takes, under the name of its input."""
    from onnx import TensorProto, helper, numpy_helper

    mean, scale = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.scale))
    constants = {"pixels_mean": mean, "pixels_scale": scale, "pixels_order": np.array([2, 1, 0], np.int64)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    yield helper.make_node("Cast", [INPUT], ["pixels_float"], to=TensorProto.FLOAT)
    yield helper.make_node("Sub", ["pixels_float", "pixels_mean"], ["pixels_centred"])
    yield helper.make_node("Div", ["pixels_centred", "pixels_scale"], ["pixels_scaled"])
    order = ["pixels_scaled", "pixels_order"]
    yield (
        helper.make_node("Gather", order, ["pixels_ordered"], axis=3)
        if preprocessing.bgr
        else helper.make_node("Identity", order[:1], ["pixels_ordered"])
    )
    yield (
        helper.make_node("Identity", ["pixels_ordered"], [taken])
        if channels_last
        else helper.make_node("Transpose", ["pixels_ordered"], [taken], perm=[0, 3, 1, 2])
    )


def _pooled(graph: OnnxModel, features: str, opset: int, channels_last: bool) -> list[OnnxNode]:
    from onnx import helper, numpy_helper

    axes = [1, 2] if channels_last else [2, 3]
    if opset < _REDUCES_BY_INPUT:
        return [helper.make_node("ReduceMean", [features], ["pooled_maps"], axes=axes, keepdims=0)]
    graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "pooled_axes"))
    return [helper.make_node("ReduceMean", [features, "pooled_axes"], ["pooled_maps"], keepdims=0)]


def _prefix_names(graph: OnnxModel) -> None:
    """Call everything in a network so that none of it is called as what we put around it.

    ``onnx.compose.add_prefix`` leaves the names that graphs inside a node read from outside as they were.
    """
    for one in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        one.name = f"{_PREFIX}{one.name}"
    for sparse in graph.sparse_initializer:
        sparse.values.name = f"{_PREFIX}{sparse.values.name}"
    for noted in graph.quantization_annotation:
        noted.tensor_name = f"{_PREFIX}{noted.tensor_name}"
        for entry in noted.quant_parameter_tensor_names:
            entry.value = f"{_PREFIX}{entry.value}"
    for node in graph.node:
        # An empty name stands for an input or output that is left out.
        _replace(node.input, [f"{_PREFIX}{name}" if name else "" for name in node.input])
        _replace(node.output, [f"{_PREFIX}{name}" if name else "" for name in node.output])
        for attribute in node.attribute:
            for inner in _inner_graphs(attribute):
                _prefix_names(inner)


def _inner_graphs(attribute: Any) -> list[OnnxModel]:  # noqa: ANN401 - an attribute of a node
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _needed(nodes: list[OnnxNode], output: str) -> list[OnnxNode]:
    """The nodes that an output comes from, in their order; graphs inside them read names from outside."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(_names_read(node))
    return kept[::-1]


def _names_read(node: OnnxNode) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for inner in _inner_graphs(attribute):
            yield from (one.name for one in inner.output)  # may be a name from outside itself
            for one in inner.node:
                yield from _names_read(one)


def _replace(field: Any, values: list[Any]) -> None:  # noqa: ANN401 - a repeated field of a protocol buffer
    del field[:]
    field.extend(values)
