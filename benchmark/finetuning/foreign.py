"""A frozen network of any library with the board's head behind it, written as a model that OpenVINO runs.

ONNX where the network can be made such, because other formats come of it; OpenVINO's own format otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmark.backbones import Pretrained, WritesOnnx, classifier_graph, classifier_onnx, open_graph
from benchmark.errors import BenchmarkError, TrainingError
from benchmark.finetuning.manifest import FOREIGN_FILES
from benchmark.finetuning.pixels import Pixels
from benchmark.heads import FinalHead
from benchmark.records import Float32, Int64, UInt8

_MOST_DIFFERENCE = 1e-3
# A protocol buffer holds 2 GiB at most.
_MOST_BYTES = 2**31 - 1
_BATCH = 32
# What a network that has no form in ONNX raises on the way there.
_REFUSALS = (
    ArithmeticError,
    AttributeError,
    BenchmarkError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModel:
    """A written model.

    Attributes:
        folder: where it is.
        files: their names; the first is the model, uint8 (?, S, S, 3) -> probabilities float32 (?, C).
        note: why it is not ONNX; empty where it is.
    """

    folder: Path
    files: tuple[str, ...]
    note: str = ""

    def answers(self, pixels: Pixels, rows: Int64) -> Float32:
        """Probabilities float32 (n, C) of the images at int64 (n,) positions."""
        run = open_graph(self.folder / self.files[0])
        found, waiting = [], list[UInt8]()
        for image in pixels(rows):
            waiting.append(image)
            if len(waiting) == _BATCH:
                found.append(run(np.stack(waiting)))
                waiting = []
        return np.concatenate([*found, *([run(np.stack(waiting))] if waiting else [])])


def write_foreign(
    network: Pretrained, head: FinalHead, folder: Path, sample: Sequence[UInt8], *, exclusive: bool
) -> ForeignModel:
    """Write a loaded network with a head behind it into a folder.

    Each form is held to what the network's own library and the head say of a sample.

    Args:
        network: with its preprocessing.
        head: one dense layer on its embeddings.
        folder: of the model; created where missing.
        sample: some real images, uint8 (S, S, 3).
        exclusive: softmax over the classes, else a sigmoid each.

    Raises:
        TrainingError: no form says what the library says.
        OSError: the folder cannot be written.
    """
    import openvino

    folder.mkdir(parents=True, exist_ok=True)
    images = np.stack(sample)
    expected = head.probabilities(network.run(images), exclusive=exclusive)
    (onnx_file,), (graph_file, weights_file) = FOREIGN_FILES
    note = _why_not_onnx(network, head, folder / onnx_file, images, expected, exclusive=exclusive)
    if not note:
        return ForeignModel(folder=folder, files=(onnx_file,))
    (folder / onnx_file).unlink(missing_ok=True)
    path = folder / graph_file
    with TemporaryDirectory() as scratch:
        graph = classifier_graph(network.convert(Path(scratch)), head.kernel, head.bias, exclusive=exclusive)
        openvino.save_model(graph, path, compress_to_fp16=False)
    found = _difference(path, images, expected)
    if not found <= _MOST_DIFFERENCE:
        raise TrainingError(
            "the network with its head does not say in OpenVINO what it says in its own library",
            where=path,
            expected=f"probabilities that differ by at most {_MOST_DIFFERENCE}",
            got=f"{found:.3g}",
        )
    return ForeignModel(folder=folder, files=(graph_file, weights_file), note=note)


def _why_not_onnx(
    network: Pretrained, head: FinalHead, path: Path, images: UInt8, expected: Float32, *, exclusive: bool
) -> str:
    """Write the model as ONNX, or say why there is none."""
    if not isinstance(network, WritesOnnx):
        return "its source writes none"
    try:
        import onnx

        network.write_onnx(path)
        model = classifier_onnx(onnx.load(path), head.kernel, head.bias, exclusive=exclusive)
        if model.ByteSize() > _MOST_BYTES:
            return "one file of it would be too large"
        path.write_bytes(model.SerializeToString())
        found = _difference(path, images, expected)
    except _REFUSALS as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return "" if found <= _MOST_DIFFERENCE else f"its probabilities would differ by {found:.3g}"


def _difference(path: Path, images: UInt8, expected: Float32) -> float:
    return float(np.abs(open_graph(path)(images) - expected).max())
