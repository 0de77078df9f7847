"""Event files for TensorBoard, written without the tensorboard package. Loads TensorFlow."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.util import event_pb2

from benchmark.errors import TrainingError
from benchmark.storage import storage_error

_SERIES = {
    "train": {"epoch_loss": "loss", "epoch_accuracy": "accuracy", "epoch_learning_rate": "learning_rate"},
    "validation": {
        "epoch_loss": "val_loss",
        "epoch_accuracy": "val_accuracy",
        "epoch_precision": "val_precision",
        "epoch_recall": "val_recall",
        "epoch_f1": "val_f1",
    },
}


class EventLog:
    """One event file each for training and validation, with the tags that Keras's own callback uses.

    A run that goes on after an interruption adds its earlier epochs again, to new files.
    """

    def __init__(self, folder: Path, started: float) -> None:
        """Replace what stands in the folder ``tensorboard`` by files without an epoch.

        Args:
            folder: where they go.
            started: seconds since the epoch, part of the files' names.

        Raises:
            StorageError: they cannot be written.
        """
        self._folder = folder
        self._writers: dict[str, tf.io.TFRecordWriter] = {}
        try:
            shutil.rmtree(folder, ignore_errors=True)
            for name in _SERIES:
                (folder / name).mkdir(parents=True, exist_ok=True)
                path = folder / name / f"events.out.tfevents.{int(started)}.{socket.gethostname()}"
                self._writers[name] = tf.io.TFRecordWriter(str(path))
                self._write(name, event_pb2.Event(wall_time=started, file_version="brain.Event:2"))
        except OSError as error:
            raise storage_error(error, folder) from error

    def add(self, row: Mapping[str, float]) -> None:
        """Write one epoch's numbers.

        Raises:
            TrainingError: they cannot be written.
        """
        for name, tags in _SERIES.items():
            event = event_pb2.Event(wall_time=row["finished_at"], step=int(row["epoch"]))
            for tag, column in tags.items():
                event.summary.value.add(tag=tag, simple_value=row[column])
            self._write(name, event)

    def _write(self, name: str, event: event_pb2.Event) -> None:
        try:
            self._writers[name].write(event.SerializeToString())
            self._writers[name].flush()
        except tf.errors.OpError as error:
            raise TrainingError(
                "the TensorBoard files cannot be written",
                where=self._folder,
                got=error.message,
                next_step="Free some space, then run again; finished epochs are kept.",
            ) from error

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
