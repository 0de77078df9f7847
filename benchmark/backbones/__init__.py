"""Backbones: sources, what they describe, and their weights.

Importing this package imports no TensorFlow, Keras or PyTorch; building and loading do.
"""

from benchmark.backbones.bundles import BundleState, bundle_weights, fetch_weights, verify_bundle
from benchmark.backbones.keras_files import load_keras_model
from benchmark.backbones.keras_models import import_keras
from benchmark.backbones.networks import KerasNetwork, TorchNetwork
from benchmark.backbones.onnx_graphs import classifier_onnx
from benchmark.backbones.openvino_graphs import classifier_graph, open_graph
from benchmark.backbones.registry import keras_version
from benchmark.backbones.selection import backbone_row, chosen, parse_weights, select
from benchmark.backbones.source import (
    FILE,
    KERAS,
    Pretrained,
    Source,
    WritesOnnx,
    engines_of,
    is_pretrained,
    known_weights_sha256,
    library_version,
    load_network,
    matching,
    versions_of,
    weights_file,
)
from benchmark.backbones.weights import load_weights
