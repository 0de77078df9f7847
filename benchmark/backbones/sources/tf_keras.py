"""Every constructor of tf_keras.applications (Keras 2); ``all`` are those that Keras 3 has no longer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from benchmark.backbones.keras_models import LEGACY
from benchmark.backbones.legacy_models import LegacyNetwork, build_legacy, preprocess_legacy
from benchmark.backbones.registry import described_backbone, description, registry
from benchmark.backbones.source import Pretrained, matching
from benchmark.backbones.weights import keras_file, load_weights, local_file
from benchmark.errors import WeightsError
from benchmark.records import Backbone, Engine, WeightsKind, WeightsSource


class LegacyKerasSource:
    """The zoo of tf_keras."""

    engines = (Engine.TENSORFLOW, Engine.OPENVINO)

    def find(self, pattern: str) -> Sequence[Backbone]:
        """Those that a pattern means; ``all`` and families leave out what Keras has under the same name."""
        found = matching(_described(), pattern)
        if pattern != "all" and not pattern.startswith("family:"):
            return found
        current = {item.name for item in registry()}
        return [item for item in found if _plain(item) not in current]

    def versions(self) -> Mapping[str, str]:
        """Of tf_keras (``absent`` where it is not installed) and TensorFlow."""
        try:
            version = metadata.version(LEGACY)
        except metadata.PackageNotFoundError:
            version = "absent"
        return {LEGACY: version, "tensorflow": metadata.version("tensorflow")}

    def weights_file(self, backbone: Backbone, weights: WeightsSource, *, download: bool) -> Path:
        """Keras's own file, ``<name>.weights.h5`` of a folder, or the file given."""
        return keras_file(backbone, weights) if download else local_file(backbone, weights)

    def load(self, backbone: Backbone, weights: WeightsSource, input_size: int, *, cache: Path) -> Pretrained:
        """Build the network, load its weights, and check that they are what was asked for.

        A file of Keras 3 is understood, too, where Keras 3 has the network.
        """
        model = backbone.build(input_size)
        try:
            digest = load_weights(backbone, model, weights, cache=cache)
        except WeightsError:
            twin = next((item for item in registry() if item.name == _plain(backbone)), None)
            if twin is None or weights.kind in {WeightsKind.IMAGENET, WeightsKind.RANDOM}:
                raise
            current = twin.build(input_size)
            digest = load_weights(twin, current, weights, cache=cache)
            model.set_weights(current.get_weights())
        return LegacyNetwork(model, backbone.preprocess, digest)


def _plain(backbone: Backbone) -> str:
    return backbone.architecture.removeprefix(f"{LEGACY}:")


@functools.cache
def _described() -> tuple[Backbone, ...]:
    return tuple(
        described_backbone(entry, source=LEGACY, build=build_legacy, preprocess=preprocess_legacy)
        for entry in description(LEGACY).values()
    )


SOURCE = LegacyKerasSource()
