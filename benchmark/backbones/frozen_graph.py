"""A loaded Keras network as a TensorFlow graph of constants, with preprocessing inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy.typing as npt

from benchmark.backbones.keras_models import KerasModel, Tensor, TensorFlowGraph, for_inference
from benchmark.records import Float32, Precision, UInt8

GraphDefinition: TypeAlias = Any
Session: TypeAlias = Any
SessionConfig: TypeAlias = Any

INPUT_NAME = "images"
OUTPUT_NAME = "embeddings"


def freeze(
    preprocess: Callable[[Tensor], Tensor], model: KerasModel, precision: Precision = Precision.FLOAT32
) -> GraphDefinition:
    """Trace a network once with its weights as constants, in inference mode.

    Args:
        preprocess: goes into the graph, too.
        model: as built and loaded; unchanged.
        precision: BFLOAT16 computes layer by layer in bfloat16, from float32 weights to float32 embeddings.

    Returns:
        GraphDef: placeholder ``images`` uint8 (?, S, S, 3) -> ``embeddings`` float32 (?, D).
    """
    import tensorflow as tf

    size = int(model.input_shape[1])
    network = for_inference(model, precision)
    trainable = _values(model.trainable_variables, network.trainable_variables)
    other = _values(model.non_trainable_variables, network.non_trainable_variables)

    def embed(images: Tensor) -> Tensor:
        constants = [tf.constant(value) for value in trainable], [tf.constant(value) for value in other]
        pixels = preprocess(tf.cast(images, tf.float32))
        features, _ = network.stateless_call(*constants, pixels, training=False)
        return tf.identity(tf.cast(features, tf.float32), name=OUTPUT_NAME)

    signature = tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT_NAME)
    traced = tf.function(embed, autograph=False).get_concrete_function(signature)
    return _without_captures(traced.graph)


def _without_captures(traced: TensorFlowGraph) -> GraphDefinition:
    """The graph with captured tensors (constants that layers keep outside their variables) put in."""
    import tensorflow as tf

    captured = {inside.op.name: outside.numpy() for outside, inside in traced.captures}
    definition = traced.as_graph_def()
    for node in definition.node:
        if node.name in captured:
            node.op = "Const"
            node.attr.clear()
            value = tf.make_tensor_proto(captured[node.name])
            node.attr["dtype"].type = value.dtype
            node.attr["value"].tensor.CopyFrom(value)
    return without_gradients(definition)


def without_gradients(definition: GraphDefinition) -> GraphDefinition:
    """The graph without what only gradients and callers need.

    Swish leaves a two-output identity for its gradient; converted to OpenVINO, each one would become an
    output of the model, in another layout, and take half the speed.
    """
    nodes = {node.name: node for node in definition.node}
    identities = {name: list(node.input) for name, node in nodes.items() if node.op == "IdentityN"}

    def source(reference: str) -> str:
        name, _, position = reference.removeprefix("^").partition(":")
        return source(identities[name][int(position or 0)]) if name in identities else reference

    needed, waiting = set(), [OUTPUT_NAME]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            inputs = [source(reference) for reference in nodes[name].input]
            nodes[name].ClearField("input")
            nodes[name].input.extend(inputs)
            waiting += [reference.removeprefix("^").partition(":")[0] for reference in inputs]
    for position in reversed(range(len(definition.node))):
        if definition.node[position].name not in needed | {INPUT_NAME}:
            del definition.node[position]
    return definition


def run_once(definition: GraphDefinition, images: UInt8) -> Float32:
    """Embed a few images on the processor exactly as the graph says: TensorFlow does not rewrite it.

    Args:
        definition: as ``freeze`` returns it.
        images: uint8 (n, S, S, 3).

    Returns:
        float32 (n, D).
    """
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    session, call = open_session(definition, config)
    with session:
        return call(images)


def open_session(
    definition: GraphDefinition, config: SessionConfig
) -> tuple[Session, Callable[[UInt8], Float32]]:
    """A session of its own for a graph, and the call in it: uint8 (n, S, S, 3) -> float32 (n, D)."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(definition, name="")
    session = tf.compat.v1.Session(graph=graph, config=config)
    return session, session.make_callable(f"{OUTPUT_NAME}:0", feed_list=[f"{INPUT_NAME}:0"])


def _values(variables: list[Tensor], like: list[Tensor]) -> list[npt.NDArray[Any]]:
    pairs = zip(variables, like, strict=True)
    return [variable.numpy().reshape(other.shape) for variable, other in pairs]
