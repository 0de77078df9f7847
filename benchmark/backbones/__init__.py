"""Backbones: the registry and their weights.

Importing this package imports no TensorFlow; building and loading do.
"""

from benchmark.backbones.bundles import BundleState, bundle_weights, fetch_weights, verify_bundle
from benchmark.backbones.keras_models import KerasModel, Tensor, TensorFlowGraph, for_inference
from benchmark.backbones.registry import (
    FLOPS_SIZE,
    backbone_row,
    description,
    keras_version,
    parse_weights,
    scaled_flops,
    select,
)
from benchmark.backbones.weights import (
    LoadedWeights,
    inspect_file,
    known_weights_sha256,
    load_weights,
    weights_file,
)
