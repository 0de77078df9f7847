"""Every constructor of tf.keras.applications, with its published variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from benchmark.backbones.networks import KerasNetwork
from benchmark.backbones.registry import keras_version, registry
from benchmark.backbones.source import Pretrained, matching
from benchmark.backbones.weights import keras_file, load_weights, local_file
from benchmark.records import Backbone, Engine, WeightsSource


class KerasSource:
    """The zoo of the installed Keras."""

    engines = (Engine.TENSORFLOW, Engine.OPENVINO)

    def find(self, pattern: str) -> Sequence[Backbone]:
        """Those that a pattern means, by the description of the installed Keras."""
        return matching(registry(), pattern)

    def versions(self) -> Mapping[str, str]:
        """Of Keras and TensorFlow."""
        return {"keras": keras_version(), "tensorflow": metadata.version("tensorflow")}

    def weights_file(self, backbone: Backbone, weights: WeightsSource, *, download: bool) -> Path:
        """Keras's own file, ``<backbone>.weights.h5`` of a folder, or the file given."""
        return keras_file(backbone, weights) if download else local_file(backbone, weights)

    def load(self, backbone: Backbone, weights: WeightsSource, input_size: int, *, cache: Path) -> Pretrained:
        """Build the network, load its weights, and check that they are what was asked for."""
        model = backbone.build(input_size)
        digest = load_weights(backbone, model, weights, cache=cache)
        return KerasNetwork(model, backbone.preprocess, digest)


SOURCE = KerasSource()
