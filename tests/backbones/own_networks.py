"""Small networks of a user's own, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32


def kernel(scale: float = 1.0) -> np.ndarray:
    """float32 (4, 3, 3, 3)."""
    return (scale * np.random.default_rng(3).normal(size=(4, 3, 3, 3))).astype(np.float32)


def write_onnx(path: Path, *, scale: float = 1.0, pooled: bool = True, batch: int | str = "n") -> Path:
    """A convolution with ReLU; its maps, or their means as the only output."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
    ]
    shape: list[int | str] = [batch, 4, SIDE // 2, SIDE // 2]
    if pooled:
        nodes.append(helper.make_node("ReduceMean", ["r", "axes"], ["y"], keepdims=0))
        shape = [batch, 4]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y" if pooled else "r", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(kernel(scale), "w"), numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def write_onnx_apart(path: Path, *, scale: float = 1.0, location: str = "") -> Path:
    """The network of ``write_onnx``, with its kernel in a file beside it, as PyTorch writes it."""
    model = onnx.load(write_onnx(path, scale=scale))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location or f"{path.name}.data")
    (path.parent / f"{path.name}.data").unlink(missing_ok=True)  # it would be written behind what is there
    if location:  # whatever is said of it, nothing is written there
        model.graph.initializer[0].ClearField("raw_data")
    onnx.save(model, path)
    return path


def write_clashing_onnx(path: Path) -> Path:
    """The same, whose names are those that go around it; its weights are read inside a branch alone."""
    names = {"x": "images", "w": "pixels_mean", "c": "pixels_float", "r": "pixels_scaled", "y": "embeddings"}
    write_onnx(path)
    model = onnx.load(path)
    graph = model.graph
    conv, relu, mean = graph.node
    branches = []
    for branch in ("then", "else"):
        inner = onnx.NodeProto()
        inner.CopyFrom(conv)
        inner.output[0] = f"{branch}_c"
        result = helper.make_tensor_value_info(f"{branch}_c", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([inner], branch, [], [result]))
    choice = helper.make_node("If", ["on"], ["c"], then_branch=branches[0], else_branch=branches[1])
    del graph.node[:]
    graph.node.extend([choice, relu, mean])
    graph.initializer.append(numpy_helper.from_array(np.array(True), "on"))

    def rename(one: Any) -> None:  # noqa: ANN401 - a graph
        for each in (*one.input, *one.output, *one.initializer):
            each.name = names.get(each.name, each.name)
        for node in one.node:
            for field in (node.input, node.output):
                field[:] = [names.get(name, name) for name in field]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    rename(attribute.g)

    rename(graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def keras_model(scale: float = 1.0) -> Any:  # noqa: ANN401 - Keras carries no types
    import keras

    inputs = keras.Input((SIDE, SIDE, 3))
    layer = keras.layers.Conv2D(4, 3, strides=2, activation="relu", use_bias=False, name="conv")
    maps = layer(keras.layers.ZeroPadding2D(1)(inputs))
    layer.set_weights([kernel(scale).transpose(2, 3, 1, 0)])
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(maps)
    return keras.Model(inputs, keras.layers.Dense(2, name="classes")(pooled))
