"""Loaded networks of Keras and PyTorch, as sources return them; a library is imported by their methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmark.backbones.digests import variable_digest, weights_digest
from benchmark.backbones.frozen_graph import (
    INPUT_NAME,
    OUTPUT_NAME,
    GraphDefinition,
    Session,
    SessionConfig,
    freeze,
    open_session,
    run_once,
)
from benchmark.backbones.keras_models import KerasModel, Tensor
from benchmark.backbones.onnx_graphs import FEATURES, INPUT, OPSET
from benchmark.backbones.source import OpenVINOModel
from benchmark.records import Float32, Precision, Preprocessing, UInt8

TorchModule: TypeAlias = Any


class KerasNetwork:
    """A network of Keras: (S, S, 3) -> (D,).

    Attributes:
        weights_sha256: of its weights.
    """

    def __init__(
        self, model: KerasModel, preprocess: Callable[[Tensor], Tensor], weights_sha256: str = ""
    ) -> None:
        """Take a loaded network.

        Args:
            model: keras.Model, pooled.
            preprocess: tensor of RGB 0..255 -> what the network expects.
            weights_sha256: of its weights; computed where empty.
        """
        self._model = model
        self._preprocess = preprocess
        self.weights_sha256 = weights_sha256 or weights_digest(
            variable_digest(one.path, one.numpy()) for one in model.weights
        )

    def freeze(self, precision: Precision = Precision.FLOAT32) -> GraphDefinition:
        """The network as a TensorFlow graph of constants, preprocessing included."""
        return freeze(self._preprocess, self._model, precision)

    def open_session(
        self, precision: Precision, config: SessionConfig
    ) -> tuple[Session, Callable[[UInt8], Float32]]:
        """A session of TensorFlow for the frozen network, and the call: uint8 (n, S, S, 3) -> (n, D)."""
        return open_session(self.freeze(precision), config)

    def run(self, images: UInt8) -> Float32:
        """TensorFlow's own forward pass, uint8 (n, S, S, 3) -> float32 (n, D)."""
        return run_once(self.freeze(), images)

    def remarks(self, images: UInt8) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def convert(self, folder: Path) -> OpenVINOModel:
        """The network as an openvino.Model, by way of its frozen graph."""
        import openvino

        graph = folder / "graph.pb"
        graph.write_bytes(self.freeze().SerializeToString())
        # Reading the graph yields the same speed as convert_model does, in a third of the time, and does not
        # report to anybody that a model was converted.
        return openvino.Core().read_model(graph)

    def write_onnx(self, path: Path) -> None:
        """The network as ONNX, by way of its frozen graph."""
        write_graph_as_onnx(self.freeze(), path)


def write_graph_as_onnx(graph: GraphDefinition, path: Path) -> None:
    """Write a TensorFlow graph of constants (``frozen_graph.freeze``) as ONNX."""
    import tf2onnx

    proto, _ = tf2onnx.convert.from_graph_def(
        graph, name=FEATURES, input_names=[f"{INPUT_NAME}:0"], output_names=[f"{OUTPUT_NAME}:0"], opset=OPSET
    )
    path.write_bytes(proto.SerializeToString())


class TorchNetwork:
    """A network of PyTorch: preprocessed (n, 3, S, S) -> (n, D).

    Attributes:
        module: torch.nn.Module in evaluation mode, preprocessing inside: uint8 (n, S, S, 3) -> (n, D).
        weights_sha256: of its weights.
    """

    def __init__(self, network: TorchModule, preprocessing: Preprocessing, input_size: int) -> None:
        """Take a loaded network.

        Args:
            network: torch.nn.Module without preprocessing, (n, 3, S, S) -> (n, D).
            preprocessing: what it expects of its input.
            input_size: side S in pixels.
        """
        import torch

        self._input_size = input_size
        self.module = _with_preprocessing(network, preprocessing).eval().requires_grad_(requires_grad=False)
        with torch.inference_mode():
            named = network.state_dict().items()
            self.weights_sha256 = weights_digest(
                variable_digest(name, value.float().numpy() if value.is_floating_point() else value.numpy())
                for name, value in named
            )

    def run(self, images: UInt8) -> Float32:
        """PyTorch's own forward pass, uint8 (n, S, S, 3) -> float32 (n, D)."""
        import torch

        with torch.inference_mode():
            features: Float32 = self.module(torch.from_numpy(np.array(images))).float().numpy()
        return features

    def remarks(self, images: UInt8) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def convert(self, folder: Path) -> OpenVINOModel:
        """The network as an openvino.Model, straight from the traced module."""
        import torch
        from openvino import PartialShape, Type
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        side = self._input_size
        # Two images, because some networks are traced into others for a single one.
        example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
        with torch.no_grad(), warnings.catch_warnings():
            # Tracing is what OpenVINO's front end reads; conditions on shapes hold for every batch.
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(self.module, example_input=(example,))
            # The front end itself, because convert_model reports to somebody that a model was converted.
            front_end = FrontEndManager().load_by_framework("pytorch")
            model = front_end.convert(front_end.load(decoder))
        model.inputs[0].get_node().set_element_type(Type.u8)
        model.reshape(PartialShape([-1, side, side, 3]))
        return model

    def write_onnx(self, path: Path) -> None:
        """The network as ONNX, from the traced module."""
        import torch

        side = self._input_size
        with torch.no_grad(), warnings.catch_warnings():
            # The exporter that traces is called old: the new one needs packages of its own.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.module,
                (torch.zeros((2, side, side, 3), dtype=torch.uint8),),
                str(path),
                input_names=[INPUT],
                output_names=[FEATURES],
                dynamic_axes={INPUT: {0: "n"}, FEATURES: {0: "n"}},
                opset_version=OPSET,
                dynamo=False,
            )


def pooled(features: Tensor) -> Tensor:
    """One vector per image: tokens (n, T, D) and maps (n, D, H, W) by their mean, vectors as they are."""
    if features.ndim == 3:
        return features.mean(1)
    return features.mean((2, 3)) if features.ndim == 4 else features


def _with_preprocessing(network: TorchModule, preprocessing: Preprocessing) -> TorchModule:
    import torch

    class Embedding(torch.nn.Module):  # type: ignore[misc]
        """Preprocessing, then the network."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            factor, offset = (torch.tensor(values).view(1, 3, 1, 1) for values in preprocessing.affine())
            self.register_buffer("factor", factor)
            self.register_buffer("offset", offset)

        def forward(self, images: Tensor) -> Tensor:
            """Uint8 (n, S, S, 3) -> (n, D)."""
            pixels = images.permute(0, 3, 1, 2).to(self.factor.dtype) * self.factor + self.offset
            return pooled(self.network(pixels.flip(1) if preprocessing.bgr else pixels))

    return Embedding()
