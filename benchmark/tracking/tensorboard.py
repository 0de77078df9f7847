"""TensorBoard: a folder per ranking or fine-tuning, and the winner's embeddings in the projector.

``TENSORBOARD_LOGDIR`` names the folder of all runs, ``tensorboard`` here without it. Files are written by the
``tensorboard`` package alone; nothing is sent anywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.cells import printable
from benchmark.errors import ArgumentError
from benchmark.records import Float32, UInt8

_FORBIDDEN = re.compile(r"[^\w\-.]")
_QUALITY = 85


class TensorBoardTracker:
    """Facts are a text, figures are scalars ``<backbone>/<column>``, embeddings a tab of their own."""

    def __init__(self) -> None:
        """Find the package.

        Raises:
            ArgumentError: it is not installed.
        """
        try:
            import tensorboard.compat.proto.event_pb2
            import tensorboard.summary.writer.record_writer
        except ImportError as error:
            raise ArgumentError(
                "TensorBoard is not installed",
                where="track",
                got=error,
                next_step="pip install 'backbone-benchmark[tensorboard]', or leave it out.",
            ) from error
        self._proto: Any = tensorboard.compat.proto.event_pb2
        self._writers: Any = tensorboard.summary.writer.record_writer
        self._folder = Path()
        self._records: Any = None

    def begin(self, dataset: str, facts: Mapping[str, str | int | float]) -> None:
        """Make the run's folder."""
        name = f"{facts.get('command', 'run')}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        place = Path(os.environ.get("TENSORBOARD_LOGDIR") or "tensorboard")
        self._folder = place / (_FORBIDDEN.sub("_", dataset).lstrip(".") or "_") / _FORBIDDEN.sub("_", name)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._records = self._writers.RecordWriter(path.open("xb"))
        self._write(self._proto.Event(file_version="brain.Event:2"))
        said = "\n".join(f"| {key} | {printable(str(value))} |" for key, value in facts.items())
        event = self._proto.Event()
        value = event.summary.value.add(tag="run")
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # strings
        value.tensor.string_val.append(f"| fact | value |\n| --- | --- |\n{said}".encode())
        self._write(event)

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        """Figures of the epoch, with its number as the step."""
        self._scalars(backbone, {k: v for k, v in row.items() if k != "epoch"}, int(row["epoch"]))

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        """Final figures."""
        self._scalars(backbone, scores, 0)

    def _scalars(self, backbone: str, values: Mapping[str, float], step: int) -> None:
        event = self._proto.Event(step=step)
        for name, value in values.items():
            if math.isfinite(value):
                event.summary.value.add(tag=f"{backbone}/{name}", simple_value=float(value))
        self._write(event)

    def _write(self, event: Any) -> None:  # noqa: ANN401 - protocol buffers carry no types
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def embeddings(
        self, backbone: str, vectors: Float32, facts: Mapping[str, Sequence[str]], pictures: UInt8
    ) -> None:
        """Write what the projector reads: vectors, facts of each, one picture of all pictures."""
        from PIL import Image

        count, side = len(vectors), pictures.shape[1]
        np.savetxt(self._folder / "vectors.tsv", vectors, fmt="%.6g", delimiter="\t")
        lines = [
            "\t".join(facts),
            *("\t".join(map(printable, row)) for row in zip(*facts.values(), strict=True)),
        ]
        (self._folder / "metadata.tsv").write_text("\n".join([*lines, ""]), encoding="utf-8")
        across = math.ceil(math.sqrt(count))  # the projector takes the sheet to be square
        sheet = np.zeros((across, across, side, side, 3), np.uint8)
        sheet.reshape(-1, side, side, 3)[:count] = pictures
        whole = sheet.swapaxes(1, 2).reshape(across * side, across * side, 3)
        Image.fromarray(whole).save(self._folder / "sprite.jpg", quality=_QUALITY)
        # JSON's strings are those of protocol buffers' text format.
        config = f"""embeddings {{
  tensor_name: {json.dumps(backbone)}
  tensor_shape: {count}
  tensor_shape: {vectors.shape[1]}
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{ image_path: "sprite.jpg" single_image_dim: {side} single_image_dim: {side} }}
}}
"""
        (self._folder / "projector_config.pbtxt").write_text(config, encoding="utf-8")

    def file(self, path: Path) -> None:
        """Files stay where they are: TensorBoard shows none."""

    def end(self, *, failed: bool) -> None:
        """Close the file."""
        if self._records is not None:
            self._records.close()


TRACKER = TensorBoardTracker
