"""A backbone with its preprocessing before it and a head behind it. Loads TensorFlow."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from benchmark.drawing import derived_seed
from benchmark.errors import RecipeError
from benchmark.finetuning.recipe import Activation, Head, Pooling, UnfreezingPhase
from benchmark.finetuning.untyped import Layer, Model, SymbolicTensor, Variable
from benchmark.records import Preprocessing, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a network decides between."""

    task: Task
    classes: int  # their number
    positive: int | None  # position of the positive class for BINARY

    def softmax(self, activation: Activation) -> bool:
        """Whether the logits are C classes that exclude each other, rather than separate yes or no."""
        if self.task is Task.BINARY:
            return activation is Activation.SOFTMAX
        return self.task is Task.MULTICLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One set of layers, seen from several sides.

    ``model`` is what is saved, without optimizer or loss: RGB (B, S, S, 3) in 0..255, uint8 or float, to
    probabilities (B, C), C = 1 for BINARY.
    """

    model: Model
    base: Model  # the backbone without pooling; its layers are what recipes count
    body: Model  # images -> pooled vectors (B, D); what stays frozen in phase 1
    head: Model  # pooled vectors (B, D) -> logits (B, U)
    classify: Model  # pooled vectors (B, D) -> probabilities (B, C), as ``model`` gives them
    softmax: bool  # whether logits are exclusive classes (U = C) or separate (U = 1 or C labels)


def assemble(
    backbone: Model, preprocessing: Preprocessing, head: Head, outputs: Outputs, seed: int
) -> Network:
    """Put preprocessing before a backbone and a new head behind it.

    Args:
        backbone: keras.Model, pooled, with its weights; its layers are shared, not copied.
        preprocessing: what the backbone expects of its input.
        head: what stands on the feature map.
        outputs: what is decided.
        seed: of the head's first weights and of its dropout.

    Raises:
        RecipeError: a pooling that this backbone does not allow.
    """
    base, pooled = _split_pooling(backbone, head.pooling)
    inputs = keras.Input(tuple(base.inputs[0].shape[1:]), name="image")
    features = base(_preprocessed(inputs, preprocessing))
    for layer in pooled:
        features = layer(features)
    softmax = outputs.softmax(head.activation)
    units = 1 if outputs.task is Task.BINARY and not softmax else outputs.classes
    layers = _head_layers(head, units, seed)
    logits = _chain(layers, features)
    vector = keras.Input(tuple(features.shape[1:]), name="embedding")
    decided = _chain(layers, vector)
    return Network(
        model=keras.Model(inputs, _probabilities(logits, softmax, outputs), name="classifier"),
        base=base,
        body=keras.Model(inputs, features, name="body"),
        head=keras.Model(vector, decided, name="head"),
        classify=keras.Model(vector, _probabilities(decided, softmax, outputs), name="classify"),
        softmax=softmax,
    )


def _preprocessed(images: SymbolicTensor, preprocessing: Preprocessing) -> SymbolicTensor:
    """Preprocessing by layers that every Keras knows, so that the saved model needs nothing else."""
    if preprocessing.bgr:
        return _reversing_layer(preprocessing)(images)
    if str(preprocessing) == "identity":
        return images
    factor, offset = preprocessing.affine()
    return keras.layers.Rescaling(factor, offset=offset, name="preprocessing")(images)


def _reversing_layer(preprocessing: Preprocessing) -> Layer:
    """RGB -> BGR with shift and scale, as a fixed 1 x 1 convolution, which every export target can run.

    Products with 0 and 1 and sums with 0 are exact, so that this equals reversing the channels.
    """
    layer = keras.layers.Conv2D(3, 1, trainable=False, name="preprocessing")
    layer.build((None, None, None, 3))
    factor, offset = (np.asarray(values, np.float32) for values in preprocessing.affine())
    layer.set_weights([np.diag(factor)[:, ::-1].reshape(1, 1, 3, 3), offset[::-1]])
    return layer


def _split_pooling(backbone: Model, pooling: Pooling) -> tuple[Model, list[Layer]]:
    """The backbone up to its feature map (H, W, D), and the layers that pool it.

    ConvNeXt normalises after pooling: layers behind the pooling stay behind whatever takes its place.
    """
    position = _pooling_position(backbone)
    if position is None:
        if pooling is Pooling.AVG:
            return backbone, []
        raise RecipeError(
            f"{pooling.value} pooling needs a feature map",
            where=backbone.name,
            expected="a backbone that ends in global average pooling",
            next_step="Use `head=avg`.",
        )
    pool, *behind = backbone.layers[position:]
    base = keras.Model(backbone.inputs[0], pool.input, name=backbone.name)
    if pooling is Pooling.FLATTEN:
        return base, [*behind, keras.layers.Flatten(name="flatten")]
    kind = keras.layers.GlobalAveragePooling2D if pooling is Pooling.AVG else keras.layers.GlobalMaxPooling2D
    return base, [kind(name="pooling"), *behind]


def _pooling_position(backbone: Model) -> int | None:
    """Position of a global average pooling that ends a straight tail of the backbone."""
    tail = backbone.layers[-1]
    for position in range(len(backbone.layers) - 1, 0, -1):
        layer = backbone.layers[position]
        if layer is not tail:
            return None
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            return position if not layer.keepdims else None
        if not isinstance(layer, keras.layers.LayerNormalization):
            return None
        tail = backbone.layers[position - 1]
    return None


def _head_layers(head: Head, units: int, seed: int) -> list[Layer]:
    layers: list[Layer] = []
    if head.dropout:
        layers.append(keras.layers.Dropout(head.dropout, seed=derived_seed(seed, "dropout"), name="dropout"))
    if head.hidden:
        first = keras.initializers.GlorotUniform(seed=derived_seed(seed, "hidden"))
        layers.append(keras.layers.Dense(head.hidden, "relu", kernel_initializer=first, name="hidden"))
    last = keras.initializers.GlorotUniform(seed=derived_seed(seed, "logits"))
    return [*layers, keras.layers.Dense(units, kernel_initializer=last, name="logits")]


def _chain(layers: list[Layer], values: SymbolicTensor) -> SymbolicTensor:
    for layer in layers:
        values = layer(values)
    return values


def _probabilities(logits: SymbolicTensor, softmax: bool, outputs: Outputs) -> SymbolicTensor:
    # Probabilities stay float32 whatever the arithmetic of the layers before.
    kind = "softmax" if softmax else "sigmoid"
    probabilities = keras.layers.Activation(kind, dtype="float32", name="probabilities")(logits)
    if softmax and outputs.task is Task.BINARY and outputs.positive is not None:
        return probabilities[:, outputs.positive : outputs.positive + 1]
    return probabilities


def freeze(network: Network) -> None:
    """Phase 1: the head alone is trained."""
    network.base.trainable = False
    for layer in _pooling_tail(network):
        layer.trainable = False


def unfreeze(network: Network, phase: UnfreezingPhase) -> int:
    """Phase 2: the chosen layers are trained too, every BatchNormalization layer apart.

    ``base(x, training=False)`` would not do: Keras 3 hands the outer ``training=True`` down to nested
    layers, and moving statistics move. A BatchNormalization layer that is itself frozen keeps them.

    Returns:
        Number of backbone layers that are trained now.

    Raises:
        RecipeError: a layer that the backbone does not have.
    """
    start = first_trained(network.base, phase)
    network.base.trainable = True
    for layer in network.base.layers[:start]:
        layer.trainable = False
    for layer in _pooling_tail(network):
        layer.trainable = True
    for layer in _all_layers(network.model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return sum(bool(layer.trainable_variables) for layer in network.base.layers)


def layer_scales(network: Network, variables: list[Variable], phase: UnfreezingPhase) -> list[float]:
    """Each trained variable's share of the learning rate: ``layer_decay`` to 1 over the backbone's layers.

    Earlier layers hold what most images share, so they move less (discriminative fine-tuning: Howard and
    Ruder, Universal language model fine-tuning, 2018). Everything behind the backbone has all of the rate.
    """
    start, layers = first_trained(network.base, phase), network.base.layers
    span = max(len(layers) - 1 - start, 1)
    shares = {
        id(variable): phase.layer_decay ** (1 - (place - start) / span)
        for place, layer in enumerate(layers)
        if place >= start
        for variable in layer.trainable_variables
    }
    return [shares.get(id(variable), 1.0) for variable in variables]


def first_trained(base: Model, phase: UnfreezingPhase) -> int:
    """Position of the first trained layer in ``base.layers``.

    Raises:
        RecipeError: a layer that the backbone does not have.
    """
    count = len(base.layers)
    if phase.last_layers is not None:
        if phase.last_layers > count:
            raise _no_such_layer(base, f"the last {phase.last_layers} layers")
        return count - phase.last_layers
    if phase.from_layer is None:
        return 0
    if isinstance(phase.from_layer, int):
        if not -count <= phase.from_layer < count:
            raise _no_such_layer(base, f"layer {phase.from_layer}")
        return phase.from_layer % count
    names = [layer.name for layer in base.layers]
    if phase.from_layer not in names:
        raise _no_such_layer(base, phase.from_layer, difflib.get_close_matches(phase.from_layer, names, n=3))
    return names.index(phase.from_layer)


def _no_such_layer(base: Model, got: str, close: list[str] | None = None) -> RecipeError:
    layers = base.layers
    hint = f"Did you mean {' or '.join(close)}?" if close else "Choose one with `unfreeze_from`."
    span = f"one of its {len(layers)} layers, 0 {layers[0].name} to {len(layers) - 1} {layers[-1].name}"
    return RecipeError(
        "the backbone does not have this layer", where=base.name, expected=span, got=got, next_step=hint
    )


def _pooling_tail(network: Network) -> list[Layer]:
    """Layers of the body behind the backbone (ConvNeXt's last normalisation)."""
    layers = list(network.body.layers)
    return layers[layers.index(network.base) + 1 :]


def _all_layers(layer: Layer) -> Iterator[Layer]:
    """A layer and everything nested in it."""
    yield layer
    children = list(getattr(layer, "layers", None) or [])
    wrapped = getattr(layer, "layer", None)
    for child in [*children, *([wrapped] if isinstance(wrapped, keras.Layer) else [])]:
        yield from _all_layers(child)


def reseed(network: Network, *parts: object) -> None:
    """Set every dropout of the network to a state that depends on ``parts`` alone.

    An epoch then draws the same numbers whether it follows the epoch before or an interruption.
    """
    for position, layer in enumerate(_all_layers(network.model)):
        generator = getattr(layer, "seed_generator", None)
        if isinstance(generator, keras.random.SeedGenerator):
            generator.state.assign(np.asarray([derived_seed(*parts, position), 0], np.uint32))
